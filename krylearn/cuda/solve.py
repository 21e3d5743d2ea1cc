"""One system on the device while a method works on it, and `solve_with` for operands there.

The loops stand in `krylearn.solvers.krylov.device`. An iteration is a function that queues
kernels; `CudaSolve.repeat` records it in a CUDA graph and replays that until the log on the device
says that the loop has ended. The host looks at the log every few iterations. That decides nothing:
the kernels test after each iteration themselves and do nothing once the loop has ended.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from krylearn import interface, registry
from krylearn.cuda import arrays
from krylearn.cuda.arrays import download, empty, fill, lies_on_cuda, shared, upload, zeros
from krylearn.cuda.operators import CudaIdentity, CudaWrapped, as_cuda_matrix, never_stops
from krylearn.interface import Reason, Solve, SolveInfo
from krylearn.kernels.cuda import scalars, vector
from krylearn.kernels.cuda.launch import COUNT, HEAD, RING, STOP, accumulator, blocks_for

# From this many unknowns on an iteration takes longer to do than to queue.
LARGE = 2**22
# What queueing the iterations of a graph may take: a replay from Python costs as much as a short
# iteration, and so several are recorded.
QUICK = 1e-3
# Between two looks the device shall have work for some milliseconds.
LOOK_SECONDS = 4e-3


class CudaSolve(Solve):
    """A `Solve` whose vectors lie on the device.

    Attributes
    ----------
    log, control, S : arrays on the device
        What ends a loop (see `kernels.cuda.launch`), what it is measured by, and its scalars.
    sums, pair : arrays on the device
        For one reduction over vectors, and for two at once.
    like : array
        The user's b: what x shall be like.
    watch : callable
        Called by the host after each look that saw new iterations.
    """

    on_cuda = True
    A: Any
    M: Any

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        n = arguments[2].shape[0]
        accurate = accumulator(arguments[2].dtype)
        self.log, self.control = zeros(HEAD + RING, np.float64), zeros(3, np.float64)
        self.S = upload(np.array([0, 1, -1] + [0] * (scalars.SLOTS - 3), accurate))
        self.sums, self.pair = zeros(blocks_for(n), accurate), zeros((2, blocks_for(n)), accurate)
        self._graphs: dict[Any, Any] = {}
        self._units: dict[Any, int] = {}  # iterations in a graph
        self.like: Any = None
        self.watch: Callable[[], None] | None = None
        super().__init__(*arguments, **settings)

    # -- what a loop does ------------------------------------------------------------------

    def empty(self, *shape: int) -> Any:
        return empty(shape or self.n, self.dtype, "a work array of this method")

    def product(self, x: Any, out: Any) -> None:
        """Queue ``out = A @ x``."""
        self.A.apply(self.log, x, out)

    def product_dot(self, x: Any, out: Any) -> Any:
        """Queue ``out = A @ x``; return where the sums of ``conj(x) @ out`` will be."""
        return self.A.apply_dot(self.log, x, out)

    def precondition(self, r: Any, out: Any) -> Any:
        """Queue ``out = M @ r``; return `out`, or `r` where there is no M."""
        if self.M.identity:
            return r
        self.M.apply(self.log, r, out)
        return out

    def scalar(self, slot: int) -> Any:
        """Return a scalar of the loop to the host."""
        value = download(self.S)[slot]
        return value if self.dtype.kind == "c" else float(value)

    def set_scalars(self, **values: Any) -> None:
        """Set scalars by the names that they have in `kernels.cuda.scalars`."""
        S = download(self.S)
        for name, value in values.items():
            S[getattr(scalars, name)] = value
        upload(S, self.S)

    def begin(self, most: int | None = None, bound: float = math.inf) -> None:
        """Begin a pass of at most so many iterations; it ends past `bound`, a residual."""
        left = self.maxiter - self.iterations
        fill(self.log, 0)
        upload(np.array([self.tolerance, min(bound, self._hopeless), left if most is None else
                         min(left, most)], np.float64), self.control)  # fmt: skip

    def repeat(self, iterate: Callable[[], None], period: int = 1, matvecs: int = 1,
               preconds: int = 1) -> int:  # fmt: skip
        """Queue `iterate` until the log says stop; return why, and keep the record.

        Parameters
        ----------
        iterate : callable
            Queues the kernels of an iteration.
        period : int
            After so many calls `iterate` queues the same kernels on the same arrays again.
        matvecs, preconds : int
            Products with A and M in an iteration.
        """
        unit = self._units.get(iterate, period)
        recorded = self.A.captures and self.M.captures and not arrays.simulated()
        seen, units = 0, 1
        while True:
            started = time.perf_counter()
            for _ in range(units):
                self._run(iterate, unit, recorded)
            if recorded and self.callback is None and iterate not in self._units:
                spent = time.perf_counter() - started
                if self.n >= LARGE:  # recorded while the device works
                    self._run(iterate, unit, recorded)
                elif spent < QUICK:
                    unit = period * max(1, min(8 // period, int(QUICK / spent)))
                self._units[iterate] = unit
            log = download(self.log)
            seconds = (time.perf_counter() - started) / units
            for k in range(seen, int(log[COUNT])):
                self.matvecs += matvecs
                self.precond_applies += 0 if self.M.identity else preconds
                self.count(float(log[HEAD + k % RING]))
            if int(log[COUNT]) > seen:
                (self.watch or self.show)()
            seen = int(log[COUNT])
            if log[STOP] != 0:
                return int(log[STOP])
            if self.reason is not None:  # the callback's
                return 0
            if recorded and self.callback is None:
                most = max(1, RING // unit)
                units = min(most, 2 * units, max(1, round(LOOK_SECONDS / max(seconds, 1e-6))))

    def forget(self) -> None:
        """Let go of the graphs, which hold on to this solve and it to them."""
        self._graphs.clear()
        self._units.clear()
        self.watch = None

    def _run(self, iterate: Callable[[], None], unit: int, recorded: bool) -> None:
        """Queue `unit` iterations: at first one by one, which compiles; then as a graph."""
        if not recorded:
            for _ in range(unit):
                iterate()
            return
        graph = self._graphs.get(iterate)
        if graph is None:
            for _ in range(unit):
                iterate()
            self._graphs[iterate] = "compiled"
            return
        if graph == "compiled":
            graph = self._graphs[iterate] = record(iterate, unit)
        graph.replay()

    # -- inside ----------------------------------------------------------------------------

    def _norm(self, x: Any) -> float:
        vector.dot(never_stops(), x, x, self.sums)
        return self._root(x)

    def _root(self, x: Any) -> float:
        """Return the norm of x, `sums` holding the sums of its squares."""
        square = float(download(self.sums).sum().real)
        if 1e-290 < square < 1e290 or square != square or self.n == 0:
            return math.sqrt(square)
        # At the ends of the exponent range: scale and redo.
        values = abs(shared(x))
        largest = float(values.max())
        if largest == 0.0 or not math.isfinite(largest):
            return largest
        values = values / largest
        return largest * float(values @ values) ** 0.5

    def _is_zero(self, x: Any) -> bool:
        return not bool(shared(x).any())

    def _read_only(self, x: Any) -> Any:
        return x

    def clear(self) -> None:
        fill(self.x, 0)

    def show(self) -> None:
        if self.callback is not None:
            copy = empty(self.n, self.dtype)
            vector.copy(never_stops(), self.x, copy)
            self.call_back(arrays.in_the_kind_of(copy, self.like))

    def _true_residual(self) -> float:
        if self._passes == 0 and self._start_is_zero:
            vector.copy(never_stops(), self.b, self.r)
            return self.bnorm
        return self.residual()

    def residual(self) -> float:
        """Do ``r = b - A @ x``, counted; return its norm to the host."""
        self.matvecs += 1
        self.A.apply(never_stops(), self.x, self.r)
        vector.subtract(never_stops(), self.b, self.r, self.r, self.sums)
        return self._root(self.r)

    def _diagnose(self) -> Reason:
        if not math.isfinite(self._norm(self.b)):
            return Reason.NONFINITE_RHS
        if self._passes <= 1 and not math.isfinite(self._norm(self.x)):
            return Reason.NONFINITE_START
        ones, out = empty(self.n, self.dtype), empty(self.n, self.dtype)
        fill(ones, 1)
        self.A.apply(never_stops(), ones, out)
        if not math.isfinite(self._norm(out)):
            return Reason.NONFINITE_OPERATOR
        if not self.M.identity:
            self.M.apply(never_stops(), ones, out)
            if not math.isfinite(self._norm(out)):
                return Reason.NONFINITE_PRECONDITIONER
        return Reason.OVERFLOW


def record(iterate: Callable[[], None], unit: int) -> Any:
    """Return a CUDA graph of `unit` iterations."""
    import torch

    graph = torch.cuda.CUDAGraph()
    current, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(current)
    # Garbage that holds memory of the device must not be freed under capture. torch.cuda.graph
    # would collect it first, which takes longer than many a solve.
    collects = gc.isenabled()
    gc.disable()
    try:
        with torch.cuda.stream(side):
            graph.capture_begin(capture_error_mode="thread_local")
            for _ in range(unit):
                iterate()
            graph.capture_end()
    finally:
        if collects:
            gc.enable()
    current.wait_stream(side)
    return graph


@arrays.naming_bytes()
def solve_on_cuda(loop: Callable[[Solve], None], A: Any, b: Any, x0: Any, M: Any, *,
                  method: str, needs: tuple[str, ...], limit: int, square: bool,
                  settings: dict[str, Any]) -> tuple[Any, SolveInfo]:  # fmt: skip
    """Do what `interface.solve_with` does, for operands on the device."""
    started = time.perf_counter()
    arrays.require_cuda()
    able = [entry.name for entry in registry.entries("method") if entry.cuda]
    if method not in able:
        raise TypeError(f"{method} does not run on CUDA; {', '.join(able)} do")
    A = _on_device(A, "A", b)
    for value, name in ((b, "b"), (x0, "x0")):
        if not (lies_on_cuda(value) or value is None or isinstance(value, str)):
            raise TypeError(f"A lies on the CUDA device, {name} does not: take kl.to_cuda({name})")
    if isinstance(M, str):
        from krylearn.cuda.preconditioners import by_name

        M = by_name(M, A)
    elif M is not None:
        M = _on_device(M, "M", b)
    if M is not None:
        M = interface.check_preconditioner(M, A.shape[1], method, needs)
    names = ("rtol", "atol", "maxiter")
    interface.check_arguments(method, A, b, square, *(settings[name] for name in names))
    interface.check_start(A.shape[1], b, x0)
    return _solve(loop, A, b, x0, M, method, limit, settings, started)


def _solve(loop: Callable, A: Any, b: Any, x0: Any, M: Any, method: str, limit: int,
           settings: dict[str, Any], started: float) -> tuple[Any, SolveInfo]:  # fmt: skip
    n, times_b = A.shape[0], isinstance(x0, str)
    given = None if times_b else x0
    dtypes = [arrays.dtype_of(operand) for operand in (A, b, given) if operand is not None]
    dtype = interface.solve_dtype(*dtypes)
    if M is not None and M.dtype.kind == "c":
        dtype = np.result_type(dtype, np.complex64)
    setup = 0.0 if M is None else float(M.setup_seconds)
    A = A.astype(dtype).fresh()
    M = CudaIdentity((n, n), dtype) if M is None else M.astype(dtype).fresh()
    B = arrays.vector_on_device(b, dtype, "b")
    count = B.shape[0]
    X = zeros(B.shape, dtype, "the solution")
    start = None if given is None else arrays.vector_on_device(given, dtype, "x0")
    maxiter = limit * n if settings["maxiter"] is None else int(settings["maxiter"])
    settings = {**settings, "maxiter": maxiter}
    for j in range(count):
        if start is not None:
            vector.copy(never_stops(), start[min(j, start.shape[0] - 1)], X[j])
        elif times_b and M.identity:
            vector.copy(never_stops(), B[j], X[j])
        elif times_b:
            M.apply(never_stops(), B[j], X[j])
    if count > 1 and method == "cg" and settings["callback"] is None:
        from krylearn.cuda.columns import solve as solve_together

        solves = solve_together(getattr(A, "in_rows", A), B, X, M, settings)
    else:
        solves = []
        for j in range(count):
            solve = CudaSolve(A, B[j], X[j], M, **settings)
            solve.like = b
            interface.run_loop(loop, solve)
            solve.forget()
            solves.append(solve)
    seconds = time.perf_counter() - started
    infos = [solve.info(method, setup, seconds) for solve in solves]
    x = X[0] if count == 1 else arrays.columns(X)
    return arrays.in_the_kind_of(x, b), infos[0] if count == 1 else interface.join_records(infos)


def _on_device(A: Any, name: str, b: Any) -> Any:
    """Return A, or M, as an operator on the device.

    Raises
    ------
    TypeError
        If it lies on the host.
    """
    if lies_on_cuda(A):
        return as_cuda_matrix(A, name)
    # A user's own object: its matvec takes what lies where b does.
    own = not type(A).__module__.startswith(("krylearn", "scipy", "numpy", "torch"))
    if own and hasattr(A, "matvec") and hasattr(A, "shape"):
        return CudaWrapped(A, arrays.dtype_of(A if hasattr(A, "dtype") else b))
    raise TypeError(f"b lies on the CUDA device, {name} does not: take kl.to_cuda({name})")
