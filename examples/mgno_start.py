"""
A neural operator against the exact solution
============================================

An MgNO predicts the pressure from the permeability (He, Liu and Xu, ICLR 2024). A very small one is
trained here, in seconds; then it stands beside the exact solution, and gives starting guesses.
``--large`` trains for minutes.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import krylearn as kl
from krylearn.learned.mgno.train import Config, Trainer

plt.style.use("tableau-colorblind10")
LARGE = "--large" in sys.argv
SIDE, TRAIN, EPOCHS = (64, 512, 100) if LARGE else (24, 64, 30)

# %%
# Data, training, and a card beside the weights that says where they come from. By the command
# line: ``krylearn generate`` and ``krylearn train mgno``.

folder = Path(tempfile.mkdtemp())
kl.generate("darcy", samples=TRAIN + 32, grid=SIDE, out=folder / "darcy.h5", solver="batch")
config = Config(name="tiny", data=str(folder / "darcy.h5"), train=TRAIN, valid=16, test=16,
                epochs=EPOCHS, rate=2e-3, loss="h1",
                model={"width": 8, "layers": 2, "levels": 3})  # fmt: skip
card = Trainer(config).run(folder / "run", say=lambda line: None)
print(card["test"])

# %%
# A field that it has not seen: prediction and solution. The residual of a prediction is known, so
# that nobody has to believe it.

model = kl.surrogate(folder / "run" / "tiny.safetensors")
P = kl.problems.darcy((SIDE, SIDE), seed=100_000)
a = P.params["coefficient"]
predicted, residual = model(a)
exact, info = kl.solve(P.A, P.b, rtol=1e-10)
exact = exact.reshape(SIDE, SIDE)
error = np.linalg.norm(predicted - exact) / np.linalg.norm(exact)
print(f"{model}: relative error {error:.3f}, relative residual {residual:.2f}")

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
# It begins lower; from there on an iteration brings what it always brings.

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for label, x0, dash in (("from zero", None, "-"), ("from the prediction", model, "--")):
    x, info = kl.cg(P.A, P.b, x0=x0, rtol=1e-8)
    print(f"{label:20}{info.iterations:5} iterations")
    ax.semilogy(info.residuals / np.linalg.norm(P.b), dash, label=label)
ax.set(xlabel="iteration of cg", ylabel="relative residual")
ax.legend()
plt.show()
