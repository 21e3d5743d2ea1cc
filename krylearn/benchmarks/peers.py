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
    """What a solve gave: x, and as much of the record as the method tells."""

    def __init__(self, x: Any, *, setup: float = 0.0, solve: float = 0.0,
                 iterations: int | None = None, matvecs: int | None = None,
                 residuals: Any = None, claimed: bool = True, reason: str = "",
                 chosen: str = "") -> None:  # fmt: skip
        self.x, self.setup, self.solve = x, setup, solve
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
    options, maxiter = dict(method["options"]), _cycles(method, maxiter)
    if method["base"] == "auto":
        started = _now()
        M = method["precond"] or "auto"
        x, info = choose.solve(A, problem.b, rtol=rtol, maxiter=maxiter, M=M, **options)
        solve, chosen = float(info.solve_seconds), info.method
        setup = _now() - started - solve  # to choose, and to make M
    else:
        function, setup, chosen = registry.find("method", method["base"]).load(), 0.0, ""
        if method["precond"]:
            started = _now()
            options["M"] = _make_preconditioner(A, method)
            setup = _now() - started
        started = _now()
        x, info = function(A, problem.b, rtol=rtol, maxiter=maxiter, **options)
        solve = _now() - started
    return Outcome(
        x, setup=setup, solve=solve, iterations=info.iterations,
        matvecs=info.matvecs, residuals=info.residuals, claimed=bool(info.converged),
        reason=info.reason.name.lower(), chosen=chosen,
    )  # fmt: skip


def _make_preconditioner(A: Any, method: dict[str, Any]) -> Any:
    from krylearn import registry

    return registry.preconditioner(method["precond"], A, **method["precond_options"])


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
        options["M"] = _make_preconditioner(A, method)
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
    kinds = {"rs": pyamg.ruge_stuben_solver, "sa": pyamg.smoothed_aggregation_solver}
    kind, _, accelerator = name.partition("-")
    if kind not in kinds:
        raise ValueError(f"pyamg has no method {name!r} here; use rs-cg, sa-cg or sa-fgmres")
    A = csr_matrix(problem.csr)
    norms: list[float] = []
    started = _now()
    symmetric = accelerator in ("", "cg") or kind == "rs"
    hierarchy = kinds[kind](A, **({} if symmetric else {"symmetry": "nonsymmetric"}))
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
    A, b = problem.csr, problem.b
    started = _now()
    matrix = PETSc.Mat().createAIJ(A.shape, csr=(A.indptr, A.indices, A.data))
    ksp = PETSc.KSP().create()
    ksp.setOperators(matrix)
    ksp.setType(name)
    ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    ksp.getPC().setType(method["precond"] or "none")
    if "restart" in method["options"]:
        ksp.setGMRESRestart(method["options"]["restart"])
    ksp.setTolerances(rtol=rtol, max_it=maxiter)
    ksp.setConvergenceHistory()
    ksp.setUp()
    setup = _now() - started
    x, rhs = matrix.createVecs()
    rhs.setArray(b)
    started = _now()
    ksp.solve(rhs, x)
    solve = _now() - started
    steps = ksp.getIterationNumber()
    # PETSc does not tell its products; cg makes one a step, from x = 0 none before.
    return Outcome(x.getArray().copy(), setup=setup, solve=solve, iterations=steps,
                   matvecs=steps if name == "cg" else None,
                   residuals=ksp.getConvergenceHistory(),
                   claimed=ksp.getConvergedReason() > 0)  # fmt: skip


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
