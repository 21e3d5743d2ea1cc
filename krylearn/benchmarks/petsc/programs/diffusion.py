"""Diffusion whose coefficient depends on the solution: a SNES program that knows no krylearn.

    python diffusion.py -ksp_type python -ksp_python_type krylearn.petsc.GCRODR
"""

import json
import sys
import time

import petsc4py

petsc4py.init(sys.argv)

import numpy as np  # noqa: E402
import scipy.sparse as sp  # noqa: E402
from petsc4py import PETSc  # noqa: E402

options = PETSc.Options()
n, loads = options.getInt("n", 96), options.getInt("loads", 6)
comm = PETSc.COMM_WORLD
low, high = (n * n * r // comm.getSize() for r in (comm.getRank(), comm.getRank() + 1))
flux = sp.diags([np.ones(n + 1), -np.ones(n)], [0, -1], shape=(n + 1, n))
G = [sp.kron(flux, sp.eye(n)).tocsr(), sp.kron(sp.eye(n), flux).tocsr()]
mean = [abs(D) / 2 for D in G]
axis = (np.arange(n) + 1.0) / (n + 1)
X, Y = np.meshgrid(axis, axis, indexing="ij")
source = (np.sin(3 * np.pi * X) * np.sin(2 * np.pi * Y) + 0.5).ravel() * 40
load = [0.0]


def everywhere(u):
    scatter, whole = PETSc.Scatter.toAll(u)
    scatter.scatter(u, whole)
    return whole.getArray().copy()


def equations(v):
    """Return -div((1 + v^2) grad v) less the source, times the load."""
    return (n + 1) ** 2 * sum(
        D.T @ ((1 + (M @ v) ** 2) * (D @ v)) for D, M in zip(G, mean)
    ) - load[0] * source


def derivative(v):
    return (n + 1) ** 2 * sum(
        D.T @ (sp.diags(1 + (M @ v) ** 2) @ D + sp.diags(2 * (M @ v) * (D @ v)) @ M)
        for D, M in zip(G, mean)
    ).tocsr()


def rows(A):
    A = A[low:high].tocsr()
    A.sort_indices()
    return A.indptr.astype(PETSc.IntType), A.indices.astype(PETSc.IntType), A.data


J = PETSc.Mat().createAIJ(((high - low, n * n), (high - low, n * n)),
                          csr=rows(derivative(np.ones(n * n))))  # fmt: skip
J.assemble()
u, f = J.createVecs()


def residual(snes, u, f):
    f.setArray(equations(everywhere(u))[low:high])


def jacobian(snes, u, J, P):
    P.setValuesCSR(*rows(derivative(everywhere(u))))
    P.assemble()


snes = PETSc.SNES().create()
snes.setFunction(residual, f)
snes.setJacobian(jacobian, J)
snes.setTolerances(rtol=1e-8)
snes.getKSP().setTolerances(rtol=1e-8, max_it=5000)
snes.setFromOptions()
iterations = newton = 0
began = time.perf_counter()
for k in range(loads):
    load[0] = (k + 1) / loads
    snes.solve(None, u)
    assert snes.getConvergedReason() > 0, snes.getConvergedReason()
    iterations += snes.getLinearSolveIterations()
    newton += snes.getIterationNumber()
seconds, size = time.perf_counter() - began, u.norm()
if comm.getRank() == 0:
    print(json.dumps({"iterations": iterations, "newton": newton, "seconds": seconds,
                      "norm": size}))  # fmt: skip
