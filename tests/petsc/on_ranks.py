"""Solves one system in many ways on however many ranks there are; prints what came out."""

import json
import sys

import petsc4py

petsc4py.init(sys.argv)

import numpy as np  # noqa: E402
import scipy.sparse as sp  # noqa: E402
from petsc4py import PETSc  # noqa: E402

import krylearn as kl  # noqa: E402
from krylearn.kernels.parallel import get_num_threads  # noqa: E402
from krylearn.petsc.dmda import Box  # noqa: E402

comm = PETSc.COMM_WORLD
P = kl.problems.darcy((20, 20), seed=3)
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
for name in ("cg", "fcg", "cr", "gmres", "gcrodr", "recycled_cg", "bicgstab", "tfqmr",
             "minres", "idrs", "lsmr"):  # fmt: skip
    more = {"gmres": {"restart": 60}, "lsmr": {"conlim": 0, "maxiter": 2000}}.get(name, {})
    solution, info = getattr(kl, name)(A, b, rtol=1e-10, **more)
    assert info.converged and isinstance(solution, PETSc.Vec)
    note(name, solution, info.iterations)
solution, info = kl.cg(A, b, rtol=1e-10, M="ssor")
note("cg+ssor", solution, info.iterations)
try:
    kl.cg(A, b, M="ilu0")
except ValueError as refusal:
    found["refusal"] = str(refusal)
if comm.getSize() > 1:
    for name, call in (("dcd", kl.dcd), ("ic0", lambda A, b: kl.IC0(A))):
        try:
            call(A, b)
        except TypeError as refusal:
            found[f"{name} refuses"] = str(refusal)

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
for name in ("gcrodr", "fcg", "recycled_cg", "minres", "idrs"):
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

# More equations than unknowns.
tall = kl.petsc.from_csr(sp.vstack([P.A.tocsr(), sp.eye_array(400)]).tocsr())
x, right = tall.createVecs()
low, high = right.getOwnershipRange()
right.setArray(np.sin(np.arange(800.0))[low:high])
for damp in (0.0, 1.0):
    ksp = PETSc.KSP().create()
    ksp.setOperators(tall)
    kl.petsc.ksp(ksp, "lsmr", damp=damp)
    ksp.getPC().setType("none")
    ksp.setTolerances(rtol=1e-10)
    ksp.solve(right, x)
    found[f"tall {damp}"] = [int(ksp.getConvergedReason()), *kl.petsc.whole(x)[::37].tolist()]
    ksp.destroy()

# A grid that PETSc knows of: the ranks exchange their borders, nothing is cut.
def on_a_grid(Q, name):
    """Return a solver for a problem on a DMDA, and what came of numbers in PETSc's order."""
    shape = Q.grid.shape
    dm = PETSc.DMDA().create(dim=len(shape), sizes=shape[::-1], dof=1, stencil_width=1)
    order = np.argsort(Box.of(dm, comm.getRank()).numbers([(0, n) for n in shape]).ravel())
    G = Q.A.tocsr()[order][:, order].tocsr()
    G.sort_indices()
    low, high = dm.createGlobalVec().getOwnershipRange()
    own = G[low:high]
    A = PETSc.Mat().createAIJ(
        ((high - low, G.shape[0]), (high - low, G.shape[0])),
        csr=(own.indptr.astype(PETSc.IntType), own.indices.astype(PETSc.IntType), own.data),
    )  # fmt: skip
    b, x = A.createVecs()
    b.setArray(Q.b[order][low:high])
    ksp = PETSc.KSP().create()
    ksp.setOperators(A)
    ksp.setDM(dm)
    every = getattr(PETSc.KSP, "DMActive", None)  # later PETScs ask what the DM is not to make
    ksp.setDMActive(*([] if every is None else [every.ALL]), False)
    ksp.setType("cg")
    ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    ksp.setTolerances(rtol=1e-10)
    return ksp, kl.petsc.pc(ksp.getPC(), name), A, b, x, np.argsort(order)


shape = (20, 17, 14)
for name, Q in (("lattice", kl.problems.darcy(shape, seed=1)),
                ("jumps", kl.problems.diffusion(shape, contrast=1e4, seed=1))):  # fmt: skip
    ksp, context, A, b, x, back = on_a_grid(Q, "multigrid")
    for factor in (1.0, 4.0):
        A.scale(factor)
        ksp.solve(b, x)
    x.scale(4.0)
    A.scale(0.25)
    note(f"dmda {name}", x, ksp.getIterationNumber())
    found[f"dmda {name}"]["kind"] = type(context.M).__name__
    found[f"dmda {name}"]["x"] = kl.petsc.whole(x)[back][::97].tolist()
    ksp.destroy()

# So does a network, also where cells are masked, and where a cut is at an odd number.
for shape in ((33, 22), (20, 17, 14)):
    for name, Q in (("all", kl.problems.darcy(shape, seed=1)),
                    ("masked", list(kl.problems.smoke(shape, steps=2, seed=5))[-1])):  # fmt: skip
        ksp, context, A, b, x, back = on_a_grid(Q, "DCD")
        ksp.getPC().setUp()
        ksp.getPC().apply(b, x)
        one = kl.learned.DCD().precondition(Q.A) @ Q.b
        far = float(np.abs(kl.petsc.whole(x)[back] - one).max() / np.abs(one).max())
        A.scale(2.0)
        ksp.solve(b, x)
        x.scale(2.0)
        A.scale(0.5)
        key = f"network {len(shape)}-D {name}"
        note(key, x, ksp.getIterationNumber())
        found[key].update(kind=type(context.M).__name__, far=far,
                          x=kl.petsc.whole(x)[back][::37].tolist())  # fmt: skip
        ksp.destroy()

# Rigid motions on a mesh: near-nullspace vectors over ranks.
E = kl.problems.elasticity((16, 12))
A = kl.petsc.from_csr(E.A.tocsr())
b, x = A.createVecs()
low, high = b.getOwnershipRange()
b.setArray(E.b[low:high])
vectors = []
for column in np.linalg.qr(E.nullspace)[0].T:
    vectors.append(b.duplicate())
    vectors[-1].setArray(column[low:high])
A.setNearNullSpace(PETSc.NullSpace().create(vectors=vectors))
ksp = PETSc.KSP().create()
ksp.setOperators(A)
ksp.setType("cg")
kl.petsc.pc(ksp.getPC(), "multigrid")
ksp.setTolerances(rtol=1e-12)
ksp.solve(b, x)
note("elasticity", x, ksp.getIterationNumber())
ksp.destroy()

# The bandit hears other clocks on each rank, and yet they choose alike.
ksp = PETSc.KSP().create()
auto = kl.petsc.ksp(ksp, "Auto", arms="cg+bjacobi,cg+ssor,gcrodr+jacobi,cg+none", share=1.0)
ksp.setTolerances(rtol=1e-10)
for seed in range(7):
    P = kl.problems.darcy((16, 16), seed=seed)
    A = kl.petsc.from_csr(P.A.tocsr())
    b, x = A.createVecs()
    low, high = b.getOwnershipRange()
    b.setArray(P.b[low:high])
    ksp.setOperators(A)
    ksp.solve(b, x)
    assert ksp.getConvergedReason() > 0
note("auto", x, ksp.getIterationNumber())
pulls = [float(track.pulls) for track in auto.race.tracks.values()]
means = [track.mean for track in auto.race.tracks.values()]
every = kl.petsc.Ranks(comm).gather(np.array([*pulls, *means]))
found["alike"], found["pulls"] = bool((every == every[0]).all()), pulls
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
