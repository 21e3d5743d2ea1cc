"""
AutoSolver: what has it learned?
================================

A bandit over whole configurations, method, preconditioner, reuse and start, paid in seconds with
all set-up. It learns from the systems that it solves anyway, and says what it has learned.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import krylearn as kl

plt.style.use("tableau-colorblind10")
SIDE, SYSTEMS = (128, 200) if "--large" in sys.argv else (48, 60)

# Without a list it takes all arms that suit the traits of A.
ARMS = ["cg", "cg+ic0", "cg+ssor", "cg+multigrid", "direct"]

solver = kl.AutoSolver(ARMS, rtol=1e-8)
seconds, names = [], []
for P in kl.problems.sequence("darcy", SYSTEMS, shape=(SIDE, SIDE)):
    x, info = solver.solve(P.A, P.b)
    assert info.converged
    seconds.append(info.setup_seconds + info.solve_seconds)
    names.append(info.method)

# %%
# Two runs may choose differently where configurations are close: times are measured.

solver.explain()

# %%
# Time of each system, by who solved it. Trials of other configurations come in between; the first
# of a kind on a machine takes seconds, in which it is compiled.

fig, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
seconds, names = np.array(seconds), np.array(names)
markers = "os^DvPX*<>hdp"
for k, name in enumerate(dict.fromkeys(names)):
    mine = np.flatnonzero(names == name)
    ax.semilogy(mine + 1, 1e3 * seconds[mine], markers[k % len(markers)], label=name)
ax.set(xlabel="system", ylabel="ms, set-up included")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
plt.show()
