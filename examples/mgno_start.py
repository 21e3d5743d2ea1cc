"""
A neural operator against the exact solution
============================================

An MgNO predicts the pressure from the permeability (He, Liu and Xu, ICLR 2024). Here the
shipped weights stand beside the exact solution of a field that they have not seen, and give a
starting guess.
"""

import matplotlib.pyplot as plt
import numpy as np

import krylearn as kl

plt.style.use("tableau-colorblind10")
model = kl.surrogate("darcy-smooth")
print(model)

# %%
# As in the paper's data, the field is drawn and solved on 421² points; every second one is kept.

P = kl.problems.darcy((421, 421), seed=100_000)
exact, info = kl.solve(P.A, P.b, rtol=1e-10)
a, exact = (np.reshape(field, (421, 421))[::2, ::2] for field in (P.params["coefficient"], exact))

# %%
# A prediction comes with the residual that it leaves, so that nobody has to believe it. Smooth as
# the error is, the residual is large: it weighs what oscillates.

predicted, residual = model(a)
error = np.linalg.norm(predicted - exact) / np.linalg.norm(exact)
print(f"relative error {error:.4f}, relative residual {residual:.2f}")

fig, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
parts = {"permeability": a, "exact": exact, "MgNO": predicted, "difference": predicted - exact}
for ax, (title, field) in zip(axes, parts.items()):
    low, high = (exact.min(), exact.max()) if title in ("exact", "MgNO") else (None, None)
    picture = ax.imshow(field.T, origin="lower", vmin=low, vmax=high,
                        cmap="cividis" if title == "permeability" else "viridis")  # fmt: skip
    fig.colorbar(picture, ax=ax, shrink=0.75)
    ax.set(title=title, xticks=[], yticks=[])
plt.show()

# %%
# The start socket: the prediction is a starting guess, and the solver checks the true residual.

A = kl.GridOperator.diffusion(kl.Grid(a.shape, centering="cell"), a)
b = np.ones(a.size)
fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for M, label, marker in ((None, "cg", ""), (kl.multigrid(A), "cg + multigrid", "o")):
    for x0, start, dash in ((None, "zero", "-"), (model, "the prediction", "--")):
        x, info = kl.cg(A, b, x0=x0, rtol=1e-8, M=M)
        print(f"{label} from {start}: {info.iterations} iterations")
        ax.loglog(1 + np.arange(len(info.residuals)), info.residuals / np.linalg.norm(b), dash,
                  marker=marker, label=f"{label}, from {start}")  # fmt: skip
ax.set(xlabel="iteration, from 1", ylabel="relative residual")
ax.legend(loc="lower left")
plt.show()
