"""
In a PETSc program
==================

Every preconditioner is a PETSc preconditioner of type python, every Krylov method a PETSc method:
by options alone, in programs that know nothing of krylearn. Without petsc4py this example says so
and ends.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import krylearn as kl

plt.style.use("tableau-colorblind10")
try:
    from petsc4py import PETSc
except ImportError:
    PETSc = None
    print("left out: petsc4py is not installed (`make petsc` installs it)")

# %%
# A program as there are many: matrix, vectors, a solver that reads its options.


def solve(A, b, options):
    database = PETSc.Options()
    for name, value in options.items():
        database[name] = value
    ksp = PETSc.KSP().create()
    ksp.setOperators(A)
    ksp.setTolerances(rtol=1e-8)
    ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    ksp.setConvergenceHistory()
    ksp.setFromOptions()
    x = b.duplicate()
    ksp.solve(b, x)
    history = np.array(ksp.getConvergenceHistory())
    ksp.destroy()
    for name in options:
        database.delValue(name)
    return history


# %%
# The same program with PETSc's own preconditioners and with ours.

choices = {
    "PETSc: icc": {"ksp_type": "cg", "pc_type": "icc"},
    "PETSc: gamg": {"ksp_type": "cg", "pc_type": "gamg"},
    "krylearn.petsc.SSOR": {"ksp_type": "cg", "pc_type": "python",
                            "pc_python_type": "krylearn.petsc.SSOR", "pc_ssor_omega": "young"},
    "krylearn.petsc.Multigrid": {"ksp_type": "cg", "pc_type": "python",
                                 "pc_python_type": "krylearn.petsc.Multigrid"},
}  # fmt: skip
if PETSc:
    side = 256 if "--large" in sys.argv else 64
    P = kl.problems.darcy((side, side), seed=3)
    A = kl.petsc.from_csr(P.A.tocsr())
    b = A.createVecRight()
    b.setArray(P.b)
    fig, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for (label, options), marker in zip(choices.items(), "os^D"):
        history = solve(A, b, options)
        print(f"{label:26}{len(history) - 1:5} iterations")
        ax.semilogy(history / history[0], marker=marker, markevery=5, label=label)
    ax.set(xlabel="iteration", ylabel="relative residual")
    ax.legend()
    plt.show()
