"""
Darcy samples for a neural operator
===================================

Pairs of a permeability and the pressure that it gives, drawn, solved, verified and written to one
HDF5 file. ``python examples/darcy_data.py 10000`` makes ten thousand of them on 128² points; on
this page there are 32.
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import krylearn as kl

plt.style.use("tableau-colorblind10")
samples = int(sys.argv[1]) if len(sys.argv) > 1 else 32
side = 128 if samples >= 1000 else 48
path = Path("darcy.h5") if len(sys.argv) > 1 else Path(tempfile.mkdtemp()) / "darcy.h5"

# %%
# The same by the command line: ``krylearn generate darcy --samples 32 --grid 48 --out darcy.h5``.
# A run that is killed goes on where it was.

report = kl.generate("darcy", samples=samples, grid=side, out=path, solver="batch")
print(f"{report.valid} of {report.samples} valid, by {report.solver}")

# %%
# Every sample carries the residual that was recomputed from the system it was drawn from.

data = kl.data.Samples(path)
print(data)
print(f"largest relative residual {data.read('residual').max():.1e}")

fig, axes = plt.subplots(2, 4, figsize=(9, 4.6), layout="constrained")
for k, (above, below) in enumerate(axes.T):
    a, u = data[k]
    above.imshow(a[0].T, origin="lower", cmap="cividis")
    below.imshow(u[0].T, origin="lower", cmap="viridis")
    above.set_title(f"sample {k}")
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
axes[0, 0].set_ylabel("permeability")
axes[1, 0].set_ylabel("pressure")
plt.show()
