"""Heat conduction while the material changes: a TS program that knows nothing of krylearn.

    python heat.py -ksp_type cg -pc_type python -pc_python_type krylearn.petsc.SSOR \\
        -pc_ssor_omega tsallis
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
n, steps = options.getInt("n", 96), options.getInt("steps", 60)
axis = (np.arange(n) + 1.0) / (n + 1)
X, Y = np.meshgrid(axis, axis, indexing="ij")
flux = sp.diags([np.ones(n + 1), -np.ones(n)], [0, -1], shape=(n + 1, n))
along, across = (sp.kron(flux, sp.eye(n)).tocsr(), sp.kron(sp.eye(n), flux).tocsr())


def conduction(t):
    """Return the matrix of -div(c grad u) at a time, c being a wave that wanders through."""
    c = np.exp(1.5 * np.sin(2 * np.pi * (3 * X + t)) * np.cos(2 * np.pi * (2 * Y - t)))
    edge = np.pad(c, 1, mode="edge")
    faces = [(edge[1:, 1:-1] + edge[:-1, 1:-1]) / 2, (edge[1:-1, 1:] + edge[1:-1, :-1]) / 2]
    A = sum(G.T @ sp.diags(f.ravel()) @ G for G, f in zip((along, across), faces))
    return ((n + 1) ** 2 * A).tocsr()


first = conduction(0.0)
comm = PETSc.COMM_WORLD
low, high = (n * n * r // comm.getSize() for r in (comm.getRank(), comm.getRank() + 1))


def rows(A):
    """Return this rank's rows as PETSc takes them, on one pattern for all times."""
    A = A[low:high].tocsr()
    A.sort_indices()
    return A.indptr.astype(PETSc.IntType), A.indices.astype(PETSc.IntType), A.data


J = PETSc.Mat().createAIJ(((high - low, n * n), (high - low, n * n)), csr=rows(first))
J.assemble()
K = J.duplicate(copy=True)
u = J.createVecRight()
source = u.duplicate()
bump = np.exp(-40 * ((X - 0.3) ** 2 + (Y - 0.6) ** 2))
source.setArray(100 * bump.ravel()[low:high])


def residual(ts, t, u, rate, f):
    K.setValuesCSR(*rows(conduction(t)))
    K.assemble()
    K.mult(u, f)
    f.axpy(1.0, rate)
    f.axpy(-1.0, source)


def jacobian(ts, t, u, rate, shift, J, P):
    P.setValuesCSR(*rows(conduction(t)))
    P.assemble()
    P.shift(shift)


ts = PETSc.TS().create()
ts.setType("beuler")
ts.setIFunction(residual, u.duplicate())
ts.setIJacobian(jacobian, J)
ts.setTimeStep(0.02)
ts.setMaxSteps(steps)
ts.setMaxTime(1e9)
ts.getSNES().setType("ksponly")
ksp = ts.getSNES().getKSP()
ksp.setTolerances(rtol=1e-8)
ts.setFromOptions()
counts = []
ts.setMonitor(lambda ts, step, t, u: counts.append(ts.getKSPIterations()))
began = time.perf_counter()
ts.solve(u)
seconds, size = time.perf_counter() - began, u.norm()
if comm.getRank() == 0:
    each = np.diff(np.maximum(counts, 0)).tolist()
    halves = [int(sum(half)) for half in (each[: len(each) // 2], each[len(each) // 2 :])]
    print(json.dumps({"iterations": sum(halves), "halves": halves, "seconds": seconds,
                      "norm": size}))  # fmt: skip
