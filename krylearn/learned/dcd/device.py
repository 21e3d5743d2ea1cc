"""Deep conjugate directions on the CUDA device."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import torch

from krylearn.cuda import arrays
from krylearn.cuda.arrays import empty, shared, upload, zeros
from krylearn.cuda.operators import CudaDense, CudaGridOperator, CudaOperator, never_stops
from krylearn.cuda.solve import record
from krylearn.kernels.cuda import scalars, stencil_cycle, vector
from krylearn.kernels.cuda.launch import accumulator, blocks_for
from krylearn.learned.dcd.account import (
    BESIDE,
    BESIDE_LAUNCHES,
    CYCLE,
    CYCLE_LAUNCHES,
    START_LAUNCHES,
    launched,
    work_on_device,
)
from krylearn.learned.dcd.cycle import SINGLE, tables
from krylearn.learned.dcd.direction import idle_cells
from krylearn.learned.dcd.geometry import stack_of
from krylearn.learned.dcd.stencils import StencilCycle
from krylearn.solvers.multigrid.structured import as_grid_operator


def precondition(network: Any, A: Any) -> Any:
    """Return the preconditioner that a network makes for a matrix on the device.

    Raises
    ------
    TypeError, ValueError
        If A is not a grid operator or none that the network knows.
    """
    if not isinstance(A, CudaGridOperator):
        raise TypeError(
            "on CUDA dcd needs a grid operator: kl.to_cuda(GridOperator); for a matrix use cg with "
            "M='smoothed_aggregation'"
        )
    if A.dtype.kind == "c":
        raise TypeError("on CUDA dcd needs a real operator; solve on the CPU")
    as_grid_operator(A.wrapped, "dcd")
    network = network.chosen(A.grid.ndim)
    if isinstance(network.model, StencilCycle):
        return CudaStencilCycle(A, network.model)
    return CudaNetwork(A, network.model)


def _stack(A: CudaGridOperator) -> torch.Tensor:
    """Return the diagonal and the upper couplings, on the device where there is one."""
    ndim, shape = A.grid.ndim, A.grid.shape
    if A.fuses or arrays.simulated():
        stack = stack_of(A.wrapped)
        return stack if arrays.simulated() else stack.cuda()
    return arrays.tensor_of(A._arrays[2]).reshape(-1, *shape)[: 1 + ndim]


def _array(tensor: torch.Tensor, dtype: Any) -> Any:
    if arrays.simulated():
        return upload(tensor.numpy().astype(dtype))
    return arrays.view(tensor.to(arrays.torch_dtype(dtype)).contiguous())


def _priced(M: Any, work: float) -> None:
    """Tell the account what a pass costs, a step beside it, and the start without a network."""
    n = M.shape[0]
    M.work, M.beside = work, max(BESIDE, launched(BESIDE_LAUNCHES, n))
    M.start = launched(START_LAUNCHES, n)


class _Level:
    """A table as the kernels take it."""

    def __init__(self, table: Any, dtype: Any) -> None:
        self.shape = table.shape
        self.size = int(np.prod(table.shape))
        self.index = _array(table.index, np.int32)
        for name in ("scale", "smooth", "restrict", "smooth_up"):
            setattr(self, name, _array(getattr(table, name), dtype))
        prolong = table.prolong.to(arrays.torch_dtype(dtype)) * table.gamma
        self.prolong = _array(prolong, dtype)


class CudaStencilCycle(CudaOperator):
    """The learned cycle on the device; its tables are made there, too.

    Parameters
    ----------
    A : CudaGridOperator
    model : StencilCycle
    """

    def __init__(self, A: CudaGridOperator, model: StencilCycle) -> None:
        started = time.perf_counter()
        super().__init__(A.shape, A.dtype)
        self.symmetric, self.positive_definite = model.tied, True if model.tied else None
        self._inside = np.dtype("f") if A.shape[0] >= SINGLE else A.dtype
        stack = _stack(A)
        middle = stack[0].flatten()[:: max(1, stack[0].numel() // 4096)].median()
        if not arrays.simulated():
            model = copy.deepcopy(model).to("cuda")
        found, inverse = tables(model, stack / middle)
        self._unit = 1 / float(middle)
        self._levels = [_Level(table, self._inside) for table in found]
        coarsest = upload(np.ascontiguousarray(inverse.cpu().numpy().astype(self._inside)))
        self._coarsest = CudaDense(coarsest if arrays.simulated() else arrays.tensor_of(coarsest))
        self._allocate()
        if not arrays.simulated():
            torch.cuda.synchronize()
        self.largest = 2 * float(stack[0].max())
        _priced(self, max(CYCLE, launched(CYCLE_LAUNCHES, A.shape[0])))
        self.setup_seconds = time.perf_counter() - started

    def _allocate(self) -> None:
        # What a level works on, t, and the result.
        sizes = [level.size for level in self._levels] + [self._coarsest.shape[0]]
        self._work = [[empty(n, self._inside) for _ in range(3)] for n in sizes]
        accurate = accumulator(self.dtype)
        self._T, self._squares = zeros(2, accurate), zeros(blocks_for(self.shape[0]), accurate)

    def fresh(self):
        new = copy.copy(self)
        new._allocate()
        return new

    def apply(self, log, x, out):
        r, _, u = self._work[0]
        # Scaled, since single precision has few exponents.
        vector.dot(log, x, x, self._squares)
        scalars.run(scalars.scale_to_one, log, self._T, self._unit, self._squares)
        vector.cast(log, self._T, 0, x, r)
        for depth, level in enumerate(self._levels):
            r, t, _ = self._work[depth]
            stencil_cycle.down(log, level, r, t, self._work[depth + 1][0])
        self._coarsest.apply(log, self._work[-1][0], self._work[-1][2])
        for depth in reversed(range(len(self._levels))):
            r, t, u = self._work[depth]
            stencil_cycle.up(log, self._levels[depth], r, t, self._work[depth + 1][2], u)
        vector.cast(log, self._T, 1, self._work[0][2], out)

    def astype(self, dtype):
        if np.dtype(dtype) == self.dtype:
            return self
        raise TypeError(f"this cycle is of {self.dtype}; make one of a {dtype} operator")


class CudaNetwork(CudaOperator):
    """A network as a map from residuals to directions, on the device.

    Parameters
    ----------
    A : CudaGridOperator
    model : torch.nn.Module
    """

    linear = False
    captures = False

    def __init__(self, A: CudaGridOperator, model: Any) -> None:
        started = time.perf_counter()
        super().__init__(A.shape, A.dtype)
        self._shape, self._place = A.grid.shape, "cpu" if arrays.simulated() else "cuda"
        self._model = copy.deepcopy(model).to(self._place)
        if model.dimension == 3 and not arrays.simulated():
            self._model = self._model.to(memory_format=torch.channels_last_3d)
        idle = idle_cells(A.wrapped)
        self.largest = 2 * float(_stack(A)[0].max())
        _priced(self, work_on_device(model, self._shape))
        self._idle = None if idle is None else torch.from_numpy(idle).to(self._place)
        self.setup_seconds = time.perf_counter() - started

    def apply(self, log, x, out):
        r = torch.as_tensor(shared(x))
        size = float(r.norm())
        held = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = True
        with torch.inference_mode():
            unit = (r / (size or 1.0)).float().reshape(1, *self._shape)
            q = size * self._model(unit).flatten().to(r.dtype)
            if self._idle is not None:
                q[self._idle] = r[self._idle]
        torch.backends.cudnn.allow_tf32 = held
        shared(out)[...] = q.numpy() if arrays.simulated() else q


class Vectors:
    """The vector operations of the loop, led by the host: an iteration is many kernels long."""

    def __init__(self, s: Any, network: Any) -> None:
        self.s, self.network = s, network.fresh()
        # A pass of many short kernels is queued once, which compiles it, and then recorded.
        self._pass: Any = "queued" if network.captures and not arrays.simulated() else None

    def rows(self, count: int) -> Any:
        return [self.s.empty() for _ in range(count)]

    @property
    def spare(self) -> Any:
        """Room for a direction and A times it, made at first use."""
        if not hasattr(self, "_spare"):
            self._spare = self.rows(2)
        return self._spare

    def propose(self, r: Any, z: Any) -> None:
        self.s.precond_applies += 1
        if self._pass is None:
            return self.network.apply(never_stops(), r, z)
        if self._pass == "queued":
            self._ends = self.s.empty(), self.s.empty()
        x, y = self._ends
        self.copy(r, x)
        if self._pass == "queued":
            self.network.apply(never_stops(), x, y)
            self._pass = "compiled"
        else:
            if self._pass == "compiled":
                self._pass = record(lambda: self.network.apply(never_stops(), x, y), 1)
            self._pass.replay()
        self.copy(y, z)

    def copy(self, x: Any, y: Any) -> None:
        shared(y)[...] = shared(x)

    def dot(self, x: Any, y: Any) -> float:
        return float(shared(x) @ shared(y))

    def square(self, x: Any) -> float:
        return self.dot(x, x)

    def axpy(self, alpha: float, x: Any, y: Any) -> None:
        values = shared(y)
        values += alpha * shared(x)

    def product_dot(self, x: Any, out: Any) -> float:
        self.s.matvecs += 1
        self.s.A.apply(never_stops(), x, out)
        return self.dot(x, out)

    def left(self, alpha: float, rnorm: float, r: Any, q: Any) -> float:
        """Return the norm of ``r - alpha q``."""
        square = rnorm**2 - 2 * alpha * self.dot(q, r) + alpha**2 * self.dot(q, q)
        return max(0.0, square) ** 0.5

    def step(self, alpha: float, p: Any, q: Any, x: Any, r: Any) -> float:
        self.axpy(alpha, p, x)
        self.axpy(-alpha, q, r)
        return self.dot(r, r) ** 0.5

    def conjugate_gradients(self) -> None:
        """Go on without the network."""
        from krylearn.solvers.krylov import device

        self.s.forget_pass()
        device.cg(self.s)
