"""Solves one system in many ways on however many ranks there are; prints what came out."""

import json
import sys

import petsc4py

petsc4py.init(sys.argv)

import numpy as np  # noqa: E402
from petsc4py import PETSc  # noqa: E402

import krylearn as kl  # noqa: E402
from krylearn.kernels.parallel import get_num_threads  # noqa: E402

comm = PETSc.COMM_WORLD
P = kl.problems.darcy((24, 24), seed=3)
A = kl.petsc.from_csr(P.A.tocsr())
b, x = A.createVecs()
low, high = b.getOwnershipRange()
b.setArray(P.b[low:high])
found = {"ranks": comm.getSize(), "threads": get_num_threads()}


def note(name, x, iterations):
    r = b.duplicate()
    A.mult(x, r)
    r.axpy(-1.0, b)
    found[name] = {"iterations": iterations, "residual": r.norm() / b.norm(),
                   "x": kl.petsc.whole(x)[::37].tolist()}  # fmt: skip


# The methods, called from Python.
for name in ("cg", "fcg", "cr", "gmres", "gcrodr", "recycled_cg", "bicgstab", "tfqmr"):
    solution, info = getattr(kl, name)(A, b, rtol=1e-10)
    assert info.converged and isinstance(solution, PETSc.Vec)
    note(name, solution, info.iterations)
solution, info = kl.cg(A, b, rtol=1e-10, M="ssor")
note("cg+ssor", solution, info.iterations)
try:
    kl.cg(A, b, M="ilu0")
except ValueError as refusal:
    found["refusal"] = str(refusal)

# Preconditioners under PETSc's methods, methods under its preconditioners.
for outer, inner in (("python", "multigrid"), ("python", "ssor"), ("bjacobi", "ic0"),
                     ("asm", "chebyshev")):  # fmt: skip
    ksp = PETSc.KSP().create()
    ksp.setOptionsPrefix(f"{outer}_{inner}_")
    ksp.setOperators(A)
    ksp.setType("gmres" if outer == "asm" else "cg")
    if outer == "python":
        kl.petsc.pc(ksp.getPC(), inner)
    else:
        ksp.getPC().setType(outer)
        class_ = {"ic0": "IC0", "chebyshev": "Chebyshev"}[inner]
        PETSc.Options()[f"{outer}_{inner}_sub_pc_type"] = "python"
        PETSc.Options()[f"{outer}_{inner}_sub_pc_python_type"] = f"krylearn.petsc.{class_}"
        ksp.setFromOptions()
    ksp.setTolerances(rtol=1e-11)
    ksp.solve(b, x)
    assert ksp.getConvergedReason() > 0
    note(f"{outer}+{inner}", x, ksp.getIterationNumber())
    ksp.destroy()
for name in ("gcrodr", "fcg", "recycled_cg"):
    ksp = PETSc.KSP().create()
    ksp.setOptionsPrefix(f"{name}_")
    ksp.setOperators(A)
    context = kl.petsc.ksp(ksp, name)
    ksp.getPC().setType("jacobi")
    ksp.setTolerances(rtol=1e-10)
    ksp.setConvergenceHistory(reset=True)
    counts = []
    for _ in range(3):
        x.set(0.0)
        ksp.solve(b, x)
        counts.append(ksp.getIterationNumber())
    assert ksp.getConvergedReason() > 0 and ksp.getResidualNorm() == context.info.residual
    assert len(ksp.getConvergenceHistory()) == counts[-1] + 1
    note(f"ksp {name}", x, counts)
    ksp.destroy()

# More ranks than some levels have unknowns, and ranks that own nothing.
tiny = kl.petsc.from_csr(kl.problems.poisson((3,)).A.tocsr())
one = tiny.createVecLeft()
one.set(1.0)
solution, info = kl.gcrodr(tiny, one, rtol=1e-12)
found["tiny"] = kl.petsc.whole(solution).tolist()
for vector in (np.nan, 0.0):
    one.set(vector)
    solution, info = kl.cg(tiny, one)
    found[f"b = {vector}"] = info.reason.name
if comm.getRank() == 0:
    print(json.dumps(found))
