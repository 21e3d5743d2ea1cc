"""
Many Darcy systems at once
==========================

`kl.solve_batch` solves one system for each coefficient field, threads sharing them, each with its
own record. It is what `krylearn generate` uses.
"""

import sys
import time

import matplotlib.pyplot as plt
import numpy as np

import krylearn as kl

plt.style.use("tableau-colorblind10")
SIDE, SYSTEMS = (128, 1000) if "--large" in sys.argv else (64, 48)
problems = list(kl.problems.sequence("darcy", SYSTEMS, shape=(SIDE, SIDE)))
operators = [P.A for P in problems]


def clock(solve):
    """Return what a second call takes; the first one compiles."""
    solve()
    start = time.perf_counter()
    found = solve()
    return time.perf_counter() - start, found


batched, (X, infos) = clock(lambda: kl.solve_batch(operators, [P.b for P in problems], rtol=1e-8))
single, _ = clock(lambda: [kl.cg(P.A, P.b, rtol=1e-8, M=kl.multigrid(P.A)) for P in problems])
direct, _ = clock(lambda: [kl.direct(P.A, P.b, rtol=1e-8) for P in problems[:8]])
direct *= SYSTEMS / 8
assert all(info.converged for info in infos)
for label, seconds in (("solve_batch", batched), ("cg + multigrid, one by one", single),
                       ("sparse direct, one by one", direct)):  # fmt: skip
    print(f"{label:28}{1e3 * seconds / SYSTEMS:8.2f} ms a system")

# %%
# Four of the fields, and how many iterations each system took.

fig = plt.figure(figsize=(9.5, 4.6), layout="constrained")
grid = fig.add_gridspec(2, 6)
for k in range(4):
    for row, field in enumerate((problems[k].params["coefficient"], X[k].reshape(SIDE, SIDE))):
        ax = fig.add_subplot(grid[row, k])
        ax.imshow(np.asarray(field).T, origin="lower", cmap=("cividis", "viridis")[row])
        ax.set(xticks=[], yticks=[])
ax = fig.add_subplot(grid[:, 4:])
counts = np.array([info.iterations for info in infos])
values = np.arange(counts.min(), counts.max() + 1)
ax.bar(values, [(counts == v).sum() for v in values])
ax.set(xlabel="iterations to 1e-8", ylabel="systems", xticks=values)
plt.show()
