"""Several right-hand sides at once: columns advance in step and end each by itself.

A matrix in CSR form passes through memory once for eight columns, and each vector operation is
one launch for all of them. What a column does is what it does alone, but for rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from krylearn import interface
from krylearn.cuda import arrays
from krylearn.cuda.arrays import download, empty, upload, zeros
from krylearn.cuda.operators import CudaCSR
from krylearn.cuda.solve import LOOK_SECONDS, CudaSolve, record
from krylearn.kernels.cuda import columns as on
from krylearn.kernels.cuda import scalars
from krylearn.kernels.cuda.launch import COUNT, HEAD, RING, STOP, accumulator, blocks_for
from krylearn.solvers.krylov.device import end_cg


class Columns:
    """The systems of all columns, with their arrays side by side.

    Attributes
    ----------
    solves : list of CudaSolve
    log, control, S, sums, x, r : arrays whose first axis are the columns
    """

    def __init__(self, A: Any, B: Any, X: Any, M: Any, settings: dict[str, Any]) -> None:
        k, n = B.shape
        accurate = accumulator(B.dtype)
        self.A, self.M, self.x, self.count = A, M, X, k
        self.log, self.control = zeros((k, HEAD + RING), np.float64), zeros((k, 3), np.float64)
        start = np.array([0, 1, -1] + [0] * (scalars.SLOTS - 3), accurate)
        self.S = upload(np.tile(start, (k, 1)))
        self.sums = zeros((k, blocks_for(n)), accurate)
        self.r = empty((k, n), B.dtype, "the residuals of all columns")
        self.solves = []
        for j in range(k):
            solve = CudaSolve(A, B[j], X[j], M, **settings)
            solve.log, solve.control, solve.S = self.log[j], self.control[j], self.S[j]
            solve.sums, solve.r = self.sums[j], self.r[j]
            self.solves.append(solve)
        self._alone = [] if isinstance(A, CudaCSR) else [A.fresh() for _ in range(k)]
        self._curvatures: Any = None
        self._graph: Any = None

    def empty(self) -> Any:
        return empty(self.x.shape, self.x.dtype, "a work array of all columns")

    def product_dot(self, p: Any, q: Any) -> Any:
        """Queue ``q = A @ p``; return where the sums of ``conj(p) @ q`` will be."""
        if not self._alone:
            A = self.A
            if self._curvatures is None:
                self._curvatures = zeros((self.count, A._count), self.sums.dtype)
            on.csr(self.log, A._lanes, A._unsigned, p, q, self._curvatures)
            return self._curvatures
        if self._curvatures is None:
            found = self._alone[0].apply_dot(self.log[0], p[0], q[0])
            self._curvatures = zeros((self.count, found.shape[0]), self.sums.dtype)
            for j, A in enumerate(self._alone):
                A._sums = self._curvatures[j]
        for j, A in enumerate(self._alone):
            A.apply_dot(self.log[j], p[j], q[j])
        return self._curvatures

    def precondition(self, r: Any, out: Any) -> Any:
        """Queue ``out = M @ r``; return `out`, or `r` where there is no M."""
        if self.M.identity:
            return r
        for j in range(self.count):
            self.M.apply(self.log[j], r[j], out[j])
        return out

    def begin(self) -> list[CudaSolve]:
        """Begin a pass of the columns that are not solved; return them."""
        going = []
        for j, solve in enumerate(self.solves):
            if solve.reason is None and solve.unsolved():
                solve.begin()
                going.append(solve)
            else:
                arrays.fill(self.log[j], 1)
        return going

    def repeat(self, iterate: Callable[[], None], going: list[CudaSolve]) -> list[int]:
        """Queue `iterate` until all columns have ended; return why each has."""
        recorded = self.A.captures and self.M.captures and not arrays.simulated()
        seen, units = [0] * len(going), 1
        places = [next(j for j, s in enumerate(self.solves) if s is solve) for solve in going]
        while True:
            started = time.perf_counter()
            for _ in range(units):
                self._run(iterate, recorded)
            logs = download(self.log)
            seconds = (time.perf_counter() - started) / units
            for i, (j, solve) in enumerate(zip(places, going)):
                for k in range(seen[i], int(logs[j, COUNT])):
                    solve.matvecs += 1
                    solve.precond_applies += not self.M.identity
                    solve.count(float(logs[j, HEAD + k % RING]))
                seen[i] = int(logs[j, COUNT])
            if all(logs[j, STOP] != 0 for j in places):
                return [int(logs[j, STOP]) for j in places]
            units = min(RING, 2 * units, max(1, round(LOOK_SECONDS / max(seconds, 1e-6))))

    def _run(self, iterate: Callable[[], None], recorded: bool) -> None:
        if not recorded or self._graph is None:
            iterate()
            self._graph = "compiled"
            return
        if self._graph == "compiled":
            self._graph = record(iterate, 1)
        self._graph.replay()


def cg(s: Columns) -> None:
    """Conjugate gradients: see `krylearn.solvers.krylov.device.cg`."""
    log, S, sums, x, r = s.log, s.S, s.sums, s.x, s.r
    q, p = s.empty(), s.empty()
    plain = s.M.identity
    buffer = r if plain else s.empty()

    def iterate() -> None:
        on.run(on.cg_curvature, log, S, s.product_dot(p, q))
        on.step(log, S, scalars.ALPHA, p, q, x, r, sums)
        on.run(on.cg_residual, log, s.control, S, plain, sums)
        z = s.precondition(r, buffer)
        if not plain:
            on.dot(log, r, z, sums)
            on.run(on.cg_beta, log, S, sums)
        on.xpby(log, S, z, scalars.BETA, p)

    while going := s.begin():
        z = s.precondition(r, buffer)
        for solve in going:
            solve.precond_applies += not plain
        on.copy(log, z, p)
        on.dot(log, r, z, sums)
        on.run(on.store, log, S, scalars.RZ, sums)
        for solve, stop in zip(going, s.repeat(iterate, going)):
            end_cg(solve, stop)


def solve(A: Any, B: Any, X: Any, M: Any, settings: dict[str, Any]) -> list[CudaSolve]:
    """Solve for all columns by conjugate gradients, X being the starts; return the solves."""
    columns = Columns(A, B, X, M, settings)
    for solve in columns.solves:
        if solve.bnorm == 0.0:
            interface.run_loop(lambda s: None, solve)
    cg(columns)
    return columns.solves
