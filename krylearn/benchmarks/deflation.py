"""Deflated conjugate gradients with subdomains, on the host and on the device: a classical rival.

The space is spanned by the indicator vectors of boxes of cells. As a preconditioner of `kl.cg`,
with a start that has solved in the space, it is the deflation of Nicolaides.
"""

from __future__ import annotations

import copy
import itertools
import time
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from krylearn.cuda import arrays
from krylearn.cuda.arrays import shared
from krylearn.cuda.operators import CudaOperator

__all__ = ["CudaSubdomains", "Subdomains", "subdomains"]

MOST = 4096


class Subdomains:
    """What removes the components along the indicators of boxes: ``r - Q (A r - r)``.

    ``Q = W inv(W' A W) W'``, and ``Q b`` is the start from which it is ``P' r``, so that `cg` is
    deflated conjugate gradients.

    Parameters
    ----------
    A : GridOperator or CudaGridOperator
        Real.
    side : int, optional
        Cells along an edge of a box: by default 16, or twice that and so on where there would be
        more than 4096 boxes, whose matrix is a dense one.

    References
    ----------
    Nicolaides (1987), Deflation of conjugate gradients with applications to boundary value
    problems, SIAM Journal on Numerical Analysis 24, 355-365; Tang, Nabben, Vuik and Erlangga
    (2009), Comparison of two-level preconditioners, Journal of Scientific Computing 39, 340-370,
    "A-DEF2".
    """

    linear = True
    # On what is left after the start; of all vectors it is neither.
    symmetric = positive_definite = None

    def __init__(self, A: Any, side: int | None = None) -> None:
        started = time.perf_counter()
        if side is None:
            side = 16
            while np.prod([-(-n // side) for n in A.grid.shape]) > MOST:
                side *= 2
        self.A, self.shape, self.dtype, self.side = A, A.shape, A.dtype, side
        cuda = getattr(A, "on_cuda", False) and not arrays.simulated()
        self._device = "cuda" if cuda else "cpu"
        host, self._grid = getattr(A, "wrapped", A), A.grid.shape
        mask = np.ones(self._grid) if host.mask is None else host.mask.astype(float)
        self._boxes = tuple(-(-n // side) for n in self._grid)
        self._more = [k for n in reversed(self._grid) for k in (0, -n % side)]
        self._mask = torch.from_numpy(mask).to(self._device)
        self._inverse = torch.linalg.inv(self._coarse_matrix())
        if self._device == "cuda":
            torch.cuda.synchronize()
        self.setup_seconds = time.perf_counter() - started

    def start(self, b: Any) -> Any:
        """Return ``Q b``."""
        x = self._corrected(self._tensor(b))
        return x if self._device == "cuda" else x.numpy()

    def matvec(self, r: Any) -> Any:
        given = self._tensor(r)
        z = given - self._corrected(self._product(given) - given)
        return z if self._device == "cuda" else z.numpy()

    def _tensor(self, x: Any) -> torch.Tensor:
        return x if isinstance(x, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(x))

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        if self._device == "cuda":
            return self.A.matvec(x)
        return torch.from_numpy(getattr(self.A, "wrapped", self.A).matvec(x.numpy()))

    def _corrected(self, r: torch.Tensor) -> torch.Tensor:
        return self._spread(self._inverse @ self._sums(r))

    def _sums(self, r: torch.Tensor) -> torch.Tensor:
        """Return ``W' r``."""
        cells = F.pad(r.reshape(self._grid) * self._mask, self._more)
        parts = [k for n in self._boxes for k in (n, self.side)]
        axes = tuple(range(1, 2 * len(self._grid), 2))
        return cells.reshape(parts).sum(axes).flatten()

    def _spread(self, c: torch.Tensor) -> torch.Tensor:
        """Return ``W c``."""
        apart = c.reshape([k for n in self._boxes for k in (n, 1)])
        wide = apart.expand([k for n in self._boxes for k in (n, self.side)])
        x = wide.reshape([n * self.side for n in self._boxes])
        return (x[tuple(slice(0, n) for n in self._grid)] * self._mask).flatten()

    def _coarse_matrix(self) -> torch.Tensor:
        """Return ``W' A W`` from products with sums of boxes that lie three apart."""
        count = int(np.prod(self._boxes))
        E = torch.zeros(count, count, dtype=torch.float64, device=self._device)
        at = torch.stack(torch.meshgrid(
            *[torch.arange(n, device=self._device) for n in self._boxes], indexing="ij"))
        number = torch.arange(count, device=self._device)
        strides = [int(np.prod(self._boxes[d + 1 :])) for d in range(len(self._boxes))]
        for colour in itertools.product(range(3), repeat=len(self._boxes)):
            own: Any = sum((at[d] % 3 == c).flatten().to(torch.int8) for d, c in enumerate(colour))
            chosen = own == len(colour)
            found = self._sums(self._product(self._spread(chosen.double())))
            # The one box of this colour in reach of each: at most a step away along each axis.
            owner, there = number.clone(), torch.ones_like(chosen)
            for d, c in enumerate(colour):
                step = (c - at[d].flatten() + 1) % 3 - 1
                place = at[d].flatten() + step
                there &= (place >= 0) & (place < self._boxes[d])
                owner += step * strides[d]
            E[number[there], owner[there]] = found[there]
        # A box without an unknown.
        empty = E.diagonal() == 0
        E.diagonal()[empty] = 1.0
        return (E + E.T) / 2


class CudaSubdomains(CudaOperator):
    """The same as an operator on the device, which a graph of iterations may hold.

    Parameters
    ----------
    A : CudaGridOperator
    side : int, optional
    """

    def __init__(self, A: Any, side: int | None = None) -> None:
        super().__init__(A.shape, A.dtype)
        self._parts, self._A = Subdomains(A, side), A
        self._image = arrays.empty(A.shape[0], A.dtype)
        self.setup_seconds = self._parts.setup_seconds

    def start(self, b: Any) -> Any:
        """Return ``Q b``, in the kind that b has."""
        x = self._parts._corrected(torch.as_tensor(shared(b) if hasattr(b, "_ary") else b))
        return arrays.upload(x.numpy()) if arrays.simulated() else x

    def apply(self, log, x, out):
        self._A.apply(log, x, self._image)
        r, image = (torch.as_tensor(shared(array)) for array in (x, self._image))
        z = r - self._parts._corrected(image - r)
        shared(out)[...] = z.numpy() if arrays.simulated() else z

    def fresh(self):
        new = copy.copy(self)
        new._sums, new._image = None, arrays.empty(self.shape[0], self.dtype)
        new._A = self._A.fresh()
        return new


def subdomains(A: Any, side: int | None = None) -> Any:
    """Return the deflation for an operator, where that lies."""
    return (CudaSubdomains if getattr(A, "on_cuda", False) else Subdomains)(A, side)
