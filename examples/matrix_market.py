"""
A Matrix Market file from the command line
==========================================

``krylearn solve FILE`` reads a matrix, chooses a method, solves, and says what it did. Here the
file holds the stiffness matrix of an unstructured mesh.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import scipy.io

import krylearn as kl

folder = Path(tempfile.mkdtemp())
P = kl.problems.mesh((40, 40), seed=1)
scipy.io.mmwrite(folder / "stiffness.mtx", P.A)

# %%
# In a shell: ``krylearn solve stiffness.mtx --method cg --precond ic0 --plot history.png``.


def krylearn(*arguments):
    command = [sys.executable, "-m", "krylearn.cli", *arguments]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    print("$ krylearn", *arguments)
    print(run.stdout)


krylearn("solve", "stiffness.mtx")
krylearn("solve", "stiffness.mtx", "--method", "cg", "--precond", "ic0", "--plot", "history.png")

# %%
# The picture that it drew.

fig, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
ax.imshow(plt.imread(folder / "history.png"))
ax.axis("off")
plt.show()
