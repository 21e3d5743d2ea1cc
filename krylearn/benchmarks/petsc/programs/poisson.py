"""Poisson's equation on a cube: time a KSP's set-up and solve on however many ranks there are."""

import json
import sys
import time

import petsc4py

petsc4py.init(sys.argv)

import numpy as np  # noqa: E402
from petsc4py import PETSc  # noqa: E402

import krylearn as kl  # noqa: E402
from krylearn.petsc.dmda import Box  # noqa: E402

options, comm = PETSc.Options(), PETSc.COMM_WORLD
side, runs = options.getInt("side", 64), options.getInt("runs", 3)
P = kl.problems.poisson((side,) * 3)
A, rhs, dm = P.A.tocsr(), np.random.default_rng(0).standard_normal(side**3), None
if options.getBool("dmda", False):
    dm = PETSc.DMDA().create(dim=3, sizes=(side,) * 3, dof=1, stencil_width=1, comm=comm)
    order = np.argsort(Box.of(dm, comm.getRank()).numbers([(0, side)] * 3).ravel())
    A, rhs = A[order][:, order].tocsr(), rhs[order]
    A.sort_indices()
    matrix = dm.createMatrix()
    low, high = matrix.getOwnershipRange()
    matrix.destroy()
    rows = A[low:high]
    matrix = PETSc.Mat().createAIJ(
        ((high - low, side**3), (high - low, side**3)),
        csr=(rows.indptr.astype(PETSc.IntType), rows.indices.astype(PETSc.IntType), rows.data),
    )  # fmt: skip
    matrix.setDM(dm)
else:
    matrix = kl.petsc.from_csr(A)
del A
b, x = matrix.createVecs()
low, high = b.getOwnershipRange()
b.setArray(rhs[low:high])
setup, solve = [], []
for _ in range(runs):
    ksp = PETSc.KSP().create(comm)
    ksp.setOperators(matrix)
    ksp.setType("cg")
    ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    ksp.setTolerances(rtol=1e-8)
    ksp.setFromOptions()
    comm.barrier()
    began = time.perf_counter()
    ksp.setUp()
    comm.barrier()
    ready = time.perf_counter()
    ksp.solve(b, x)
    comm.barrier()
    solve.append(time.perf_counter() - ready)
    setup.append(ready - began)
    iterations, reason = ksp.getIterationNumber(), ksp.getConvergedReason()
    compiles = ksp.getPC().getType() == "python"
    ksp.destroy()
    PETSc.garbage_cleanup()
    if setup[-1] + solve[-1] > 8 and not compiles:
        break
r = b.duplicate()
matrix.mult(x, r)
r.axpy(-1.0, b)
residual = r.norm() / b.norm()
assert reason > 0 and residual < 1.1e-8, (reason, residual)
if comm.getRank() == 0:
    print(json.dumps({"setup": setup, "solve": solve, "iterations": iterations,
                      "residual": residual}))  # fmt: skip
