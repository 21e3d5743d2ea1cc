"""Every method of a suite behind one call: ours, a library's, a third party's.

Set-up is what a user pays once for a matrix, solve what each right-hand side costs.
"""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from krylearn.benchmarks.systems import Loaded


class Absent(Exception):
    """What a method needs is not installed here; the message says what."""


class Outcome:
    """What a solve gave: x, and as much of the record as the method tells.

    `held` is the number of bytes in the preconditioner's arrays.
    """

    def __init__(self, x: Any, *, setup: float = 0.0, solve: float = 0.0,
                 iterations: int | None = None, matvecs: int | None = None,
                 residuals: Any = None, claimed: bool = True, reason: str = "",
                 chosen: str = "", held: int | None = None) -> None:  # fmt: skip
        self.x, self.setup, self.solve, self.held = x, setup, solve, held
        self.iterations, self.matvecs, self.residuals = iterations, matvecs, residuals
        self.claimed, self.reason, self.chosen = claimed, reason, chosen


Run = Callable[[Loaded, dict[str, Any], float, int], Outcome]
_now = time.perf_counter


def _require(module: str, install: str | None = None) -> Any:
    package = module.split(".")[0]
    try:
        importlib.import_module(package)
        return importlib.import_module(module)
    except Exception as error:  # a broken installation raises anything
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise Absent(f"{install or package} is not installed") from None
        raise Absent(f"{package} does not import: {error}") from None


def find_runner(base: str) -> Run:
    """Return the function that runs the method called `base`.

    Raises
    ------
    ValueError
        If nothing has this name.
    """
    if ":" in base:
        return _third_party
    if "." not in base:
        return _ours
    library, method = base.split(".", 1)
    runners = {"scipy": _scipy, "pyamg": _pyamg, "petsc": _petsc, "cupy": _cupy}
    if library not in runners:
        raise ValueError(f"no peer is called {library!r}; there are {', '.join(runners)}")
    return runners[library]


def _cycles(method: dict[str, Any], maxiter: int) -> int:
    """Return maxiter as scipy counts it: in cycles for gmres."""
    if method["base"].split(".")[-1] not in ("gmres", "fgmres"):
        return maxiter
    return max(1, -(-maxiter // int(method["options"].get("restart", 20))))


def _ours(problem: Loaded, method: dict[str, Any], rtol: float, maxiter: int) -> Outcome:
    from krylearn import choose, registry

    A = problem.csr if method["form"] == "csr" else problem.grid
    if A is None:
        raise Absent("the problem has no matrix-free form")
    options, maxiter, b = dict(method["options"]), _cycles(method, maxiter), problem.b
    on_host, on_cuda = A, method.get("device") == "cuda"
    if on_cuda:
        A, b = _to_cuda(A), _to_cuda(b)
    if method["base"] == "auto":
        started = _now()
        M = method["precond"] or "auto"
        x, info = choose.solve(A, b, rtol=rtol, maxiter=maxiter, M=M, **options)
        solve, chosen = float(info.solve_seconds), info.method
        setup = _now() - started - solve  # to choose, and to make M
    else:
        function, setup, chosen = registry.find("method", method["base"]).load(), 0.0, ""
        if method["precond"]:
            started = _now()
            M = _make_preconditioner(on_host, method, problem.nullspace, on_cuda)
            options["M"] = _to_cuda(M) if on_cuda else M
            setup = _now() - started
        started = _now()
        x, info = function(A, b, rtol=rtol, maxiter=maxiter, **options)
        solve = _now() - started
    if on_cuda:
        x = x.cpu().numpy() if hasattr(x, "cpu") else np.array(x)
    return Outcome(
        x, setup=setup, solve=solve, iterations=info.iterations,
        matvecs=info.matvecs, residuals=info.residuals, claimed=bool(info.converged),
        reason=info.reason.name.lower(), chosen=chosen, held=_held(options.get("M")),
    )  # fmt: skip


def _to_cuda(operand: Any) -> Any:
    """Return an operand on the device, where a user's data lies: the copy is in no time."""
    from krylearn.cuda.arrays import NoCUDA
    from krylearn.cuda.operators import to_cuda

    try:
        return to_cuda(operand)
    except (NoCUDA, TypeError) as error:
        raise Absent(str(error)) from None


def _held(M: Any) -> int | None:
    from krylearn.benchmarks.machine import held_bytes

    return None if M is None else held_bytes(M)


def _make_preconditioner(A: Any, method: dict[str, Any], nullspace: Any = None,
                         on_cuda: bool = False) -> Any:  # fmt: skip
    from krylearn import registry

    make = registry.find("preconditioner", method["precond"]).load()
    options = dict(method["precond_options"])
    if on_cuda and "order" in inspect.signature(make).parameters:  # the only one it has
        options["order"] = "multicolour"
    if nullspace is not None and "B" in inspect.signature(make).parameters:
        options.setdefault("B", nullspace)
    return make(A, **options)


def run_batch(problems: list[Loaded], method: dict[str, Any], rtol: float,
              maxiter: int) -> list[Outcome]:  # fmt: skip
    """Solve all of them in one call; each outcome has its share of the time."""
    from krylearn import solve_batch

    operators = [problem.grid for problem in problems]
    if any(A is None for A in operators):
        raise Absent("a batch is made of operators on grids")
    B = np.stack([problem.b for problem in problems])
    options = dict(method["options"])
    if "device" in method:
        options["device"] = method["device"]
    started = _now()
    X, infos = solve_batch(operators, B, rtol=rtol, maxiter=maxiter, **options)
    seconds = (_now() - started) / len(problems)
    return [
        Outcome(x, solve=seconds, iterations=info.iterations, matvecs=info.matvecs,
                claimed=bool(info.converged), reason=info.reason.name.lower())
        for x, info in zip(X, infos)
    ]  # fmt: skip


def _third_party(problem: Loaded, method: dict[str, Any], rtol: float, maxiter: int) -> Outcome:
    module, name = method["base"].split(":", 1)
    function = getattr(_require(module), name, None)
    if function is None:
        raise ValueError(f"{module} has no function {name!r}")
    started = _now()
    x, info = function(problem.csr, problem.b, rtol=rtol, maxiter=maxiter, **method["options"])
    solve = _now() - started
    return Outcome(x, solve=solve, iterations=getattr(info, "iterations", None),
                   claimed=int(info) == 0)  # fmt: skip


def _scipy(problem: Loaded, method: dict[str, Any], rtol: float, maxiter: int) -> Outcome:
    import scipy.sparse.linalg as sla

    name, A, b = method["base"].split(".", 1)[1], problem.csr, problem.b
    if name == "spsolve":
        started = _now()
        factors = sla.splu(A.tocsc())
        setup = _now() - started
        started = _now()
        x = factors.solve(b)
        return Outcome(x, setup=setup, solve=_now() - started)
    if name not in ("cg", "gmres", "bicgstab", "minres"):
        raise ValueError(f"scipy has no method {name!r} here")
    count, setup = [0], 0.0

    def counted(_: Any) -> None:
        count[0] += 1

    options = dict(method["options"], callback=counted)
    if name == "gmres":
        options["callback_type"] = "pr_norm"
    if method["precond"]:  # one of ours, inside scipy's loop
        started = _now()
        options["M"] = _make_preconditioner(A, method, problem.nullspace)
        setup = _now() - started
    started = _now()
    x, info = getattr(sla, name)(A, b, rtol=rtol, maxiter=_cycles(method, maxiter), **options)
    return Outcome(x, setup=setup, solve=_now() - started, iterations=count[0],
                   claimed=info == 0)  # fmt: skip


def observe_scipy(problem: Loaded, method: dict[str, Any], rtol: float,
                  maxiter: int) -> tuple[int | None, list[float] | None]:  # fmt: skip
    """Run a scipy method once more, untimed, to count its products and see its residuals."""
    import scipy.sparse.linalg as sla

    name, A, b = method["base"].split(".", 1)[1], problem.csr, problem.b
    if name == "spsolve":
        return None, None
    count, norms = [0], [float(np.linalg.norm(b))]

    def product(x: np.ndarray) -> np.ndarray:
        count[0] += 1
        return A @ x

    def look(x: Any) -> None:
        value = x * norms[0] if name == "gmres" else np.linalg.norm(b - A @ x)
        norms.append(float(value))

    options = dict(method["options"], callback=look)
    if name == "gmres":
        options["callback_type"] = "pr_norm"
    if method["precond"]:
        options["M"] = _make_preconditioner(A, method)
    counted = sla.LinearOperator(A.shape, matvec=product, dtype=A.dtype)
    getattr(sla, name)(counted, b, rtol=rtol, maxiter=_cycles(method, maxiter), **options)
    return count[0], norms


def _pyamg(problem: Loaded, method: dict[str, Any], rtol: float, maxiter: int) -> Outcome:
    pyamg = _require("pyamg")
    from scipy.sparse import csr_matrix

    name = method["base"].split(".", 1)[1]
    kinds = {"rs": pyamg.ruge_stuben_solver, "sa": pyamg.smoothed_aggregation_solver,
             "evolution": pyamg.smoothed_aggregation_solver}  # fmt: skip
    kind, _, accelerator = name.partition("-")
    if kind not in kinds:
        raise ValueError(
            f"pyamg has no method {name!r} here; use rs-cg, sa-cg, evolution-cg or sa-fgmres"
        )
    A = csr_matrix(problem.csr)
    norms: list[float] = []
    options: dict[str, Any] = dict(method["options"])
    if kind == "evolution":
        options["strength"] = "evolution"
    if accelerator not in ("", "cg") and kind != "rs":
        options["symmetry"] = "nonsymmetric"
    block = 1
    if problem.nullspace is not None and kind != "rs":
        options["B"] = problem.nullspace
        block = {3: 2, 6: 3}.get(problem.nullspace.shape[1], 1)  # rigid motions
    started = _now()
    if block > 1 and A.shape[0] % block == 0:
        A = A.tobsr((block, block))
    hierarchy = kinds[kind](A, **options)
    setup = _now() - started
    started = _now()
    # Its fgmres does not restart and makes room for maxiter vectors: no more than its default.
    x, info = hierarchy.solve(problem.b, tol=rtol, maxiter=min(maxiter, 100), residuals=norms,
                              accel=accelerator or None, return_info=True)  # fmt: skip
    solve = _now() - started
    # pyamg does not tell the products with A inside a cycle.
    return Outcome(x, setup=setup, solve=solve, iterations=len(norms) - 1, residuals=norms,
                   claimed=info == 0)  # fmt: skip


def _petsc(problem: Loaded, method: dict[str, Any], rtol: float, maxiter: int) -> Outcome:
    PETSc = _require("petsc4py.PETSc", "petsc4py")
    name = method["base"].split(".", 1)[1]
    A, comm = problem.csr, PETSc.COMM_WORLD
    n, rank, ranks = A.shape[0], comm.getRank(), comm.getSize()
    low, high = n * rank // ranks, n * (rank + 1) // ranks
    rows = A if ranks == 1 else A[low:high]
    pattern = (rows.indptr.astype(PETSc.IntType), rows.indices.astype(PETSc.IntType))
    database = PETSc.Options()
    for key, value in method["precond_options"].items():
        database[key] = value
    comm.barrier()
    started = _now()
    matrix = PETSc.Mat().createAIJ(
        ((high - low, n), (high - low, n)), csr=(*pattern, rows.data), comm=comm
    )
    if problem.nullspace is not None:
        _tell_nullspace(PETSc, matrix, problem.nullspace[low:high])
    ksp = PETSc.KSP().create(comm)
    ksp.setOperators(matrix)
    ksp.setType(name)
    ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    ksp.getPC().setType(method["precond"] or "none")
    if "restart" in method["options"]:
        ksp.setGMRESRestart(method["options"]["restart"])
    ksp.setTolerances(rtol=rtol, max_it=maxiter)
    ksp.setConvergenceHistory()
    ksp.setFromOptions()
    ksp.setUp()
    comm.barrier()
    setup = _now() - started
    x, rhs = matrix.createVecs()
    rhs.setArray(problem.b[low:high])
    comm.barrier()
    started = _now()
    ksp.solve(rhs, x)
    comm.barrier()
    solve = _now() - started
    steps = ksp.getIterationNumber()
    if ranks > 1:
        scatter, whole = PETSc.Scatter.toAll(x)
        scatter.scatter(x, whole)
        x = whole
    # PETSc does not tell its products; cg makes one a step, from x = 0 none before.
    return Outcome(x.getArray().copy(), setup=setup, solve=solve, iterations=steps,
                   matvecs=steps if name == "cg" else None,
                   residuals=ksp.getConvergenceHistory(),
                   claimed=ksp.getConvergedReason() > 0)  # fmt: skip


def _tell_nullspace(PETSc: Any, matrix: Any, rows: np.ndarray) -> None:
    """Give GAMG the near-nullspace, orthonormal as PETSc wants it."""
    vectors: list[Any] = []
    for column in rows.T:
        v = matrix.createVecLeft()
        v.setArray(column)
        for u in vectors:
            v.axpy(-u.dot(v), u)
        v.normalize()
        vectors.append(v)
    matrix.setNearNullSpace(PETSc.NullSpace().create(vectors=vectors, comm=matrix.comm))


def _cupy(problem: Loaded, method: dict[str, Any], rtol: float, maxiter: int) -> Outcome:
    cupy = _require("cupy")
    if not cupy.is_available():
        raise Absent("cupy finds no CUDA device")
    sparse = _require("cupyx.scipy.sparse", "cupy")
    linalg = _require("cupyx.scipy.sparse.linalg", "cupy")
    function = getattr(linalg, method["base"].split(".", 1)[1])
    # CuPy took over scipy's new name of the tolerance in version 14.
    tolerance = "rtol" if "rtol" in inspect.signature(function).parameters else "tol"
    started = _now()
    A = sparse.csr_matrix(problem.csr)
    b = cupy.asarray(problem.b)
    cupy.cuda.Device().synchronize()
    setup, count = _now() - started, [0]

    def counted(_: Any) -> None:
        count[0] += 1

    started = _now()
    x, info = function(A, b, maxiter=_cycles(method, maxiter), callback=counted,
                       **{tolerance: rtol}, **method["options"])  # fmt: skip
    cupy.cuda.Device().synchronize()
    return Outcome(cupy.asnumpy(x), setup=setup, solve=_now() - started, iterations=count[0],
                   claimed=int(info) == 0)  # fmt: skip
