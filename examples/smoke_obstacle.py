"""
Smoke past an obstacle
======================

A plume rises past balls that move. Each step projects the velocities with a pressure whose
Poisson system has walls where the balls are, so that the matrix changes from step to step.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import krylearn as kl

plt.style.use("tableau-colorblind10")
SHAPE, STEPS = ((128, 192), 120) if "--large" in sys.argv else ((48, 72), 60)
SEED = 11

# %%
# Three ways to solve each system: plain conjugate gradients, with a multigrid cycle, and with the
# shipped stencil network, whose cycle is made from the walls (the direction socket). `dcd`
# reckons what the network costs beside "cg", and would give it up here: `limit` lets it go on.

methods = {
    "cg": lambda A, b, x0: kl.cg(A, b, x0, rtol=1e-6),
    "cg + multigrid": lambda A, b, x0: kl.cg(A, b, x0, rtol=1e-6, M=kl.multigrid(A)),
    "dcd, poisson2d": lambda A, b, x0: kl.dcd(A, b, x0, rtol=1e-6, model="poisson2d", limit=np.inf),
}
counts = {name: [] for name in methods}
frames = []
for P in kl.problems.smoke(SHAPE, steps=STEPS, open_top=True, obstacles=2, seed=SEED):
    for name, solve in methods.items():
        x, info = solve(P.A, P.b, P.params["previous"])
        assert info.converged
        counts[name].append(info.iterations)
    frames.append(np.where(P.params["mask"], P.params["smoke"], np.nan))

# %%
# The plume; the balls are hatched.

fig, axes = plt.subplots(1, 4, figsize=(9, 3.8), layout="constrained")
for ax, step in zip(axes, np.linspace(STEPS // 4, STEPS - 1, 4).astype(int)):
    ax.set_facecolor("0.75")
    ax.patch.set_hatch("///")
    ax.imshow(frames[step].T, origin="lower", cmap="cividis", vmin=0, vmax=1)
    ax.set(title=f"step {step + 1}", xticks=[], yticks=[])
plt.show()

# %%
# Iterations of the pressure solves. They are not seconds: an iteration of the network costs more
# than one with multigrid, and the page of the paper has both.

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for (name, values), marker in zip(counts.items(), "os^"):
    ax.semilogy(range(1, STEPS + 1), values, marker=marker, markevery=6, label=name)
    print(f"{name:16}{np.mean(values):7.1f} iterations a step")
ax.set(xlabel="step", ylabel="iterations to 1e-6")
ax.legend()
plt.show()
