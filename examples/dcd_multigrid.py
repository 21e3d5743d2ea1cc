"""
Deep conjugate directions beside CG and multigrid
=================================================

A network's step is a proposal: it is made conjugate to the last ones and followed to the minimum.
The baseline to beat is not plain CG but multigrid. `poisson2d` is a cycle whose stencils a network
makes from the walls; it is trained on small systems and takes any size.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import krylearn as kl

plt.style.use("tableau-colorblind10")
SIDES = (64, 128, 256, 512) if "--large" in sys.argv else (32, 64, 96)
direction = kl.learned.DCD("poisson2d")
methods = {
    "cg": lambda A, b: kl.cg(A, b, rtol=1e-8),
    "cg + multigrid": lambda A, b: kl.cg(A, b, rtol=1e-8, M=kl.multigrid(A)),
    "dcd": lambda A, b: kl.dcd(A, b, rtol=1e-8, model=direction),
    "cg + poisson2d": lambda A, b: kl.cg(A, b, rtol=1e-8, M=direction.precondition(A)),
}

DASHES = dict(zip(methods, ("-", "--", "-.", ":")))

# %%
# Iterations against size, on a plume past four balls; "cg + poisson2d" has the same cycle as M of
# plain conjugate gradients. An iteration of the network costs more than one of multigrid.

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
counts = {name: [] for name in methods}
for side in SIDES:
    P = next(kl.problems.smoke((side, side), obstacles=4, open_top=True, seed=5))
    for name, solve in methods.items():
        x, info = solve(P.A, P.b)
        assert info.converged
        counts[name].append(info.iterations)
        if side == SIDES[-1]:
            right.semilogy(info.residuals / np.linalg.norm(P.b), DASHES[name], label=name)
for (name, values), marker in zip(counts.items(), "os^x"):
    print(f"{name:16}", *(f"{v:6}" for v in values))
    left.loglog(SIDES, values, DASHES[name], marker=marker, markersize=7, label=name)
left.set(xlabel="cells along a side", ylabel="iterations to 1e-8", xticks=SIDES)
left.set_xticklabels(SIDES)
left.minorticks_off()
left.legend()
right.legend()
right.set(xlabel="iteration", ylabel="relative residual", title=f"{SIDES[-1]}²",
          xlim=(0, 3 * max(counts["dcd"])))  # fmt: skip
plt.show()

# %%
# What the card of the weights says about their making.

print(direction.card["data"])
print(direction.card["test"])
