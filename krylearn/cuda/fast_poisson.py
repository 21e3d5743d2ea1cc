"""Fast solvers for constant coefficients on boxes: transforms as products with dense matrices.

On the host a sine transform is made by FFT. Here a product with the matrix of sines is quicker up
to some thousand points along an axis: it takes n operations an element and passes memory once,
and the device makes more than ten of them in double precision in the time that it reads a byte.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from krylearn.cuda import arrays
from krylearn.cuda.arrays import empty, shared, upload
from krylearn.cuda.operators import CudaOperator
from krylearn.solvers.direct.spectrum import Spectrum
from krylearn.solvers.direct.transforms import matrices

# Points along an axis up to which its matrix is kept.
LONGEST = 8192


class CudaFastPoisson(CudaOperator):
    """The inverse of a separable operator on a box: see `krylearn.FastPoisson`.

    Parameters
    ----------
    M : FastPoisson

    Raises
    ------
    ValueError
        If an axis is very long, or the inverse is complex and A is not.
    """

    captures = False  # few applications do, which a graph would not repay

    def __init__(self, M: Any) -> None:
        super().__init__(M.shape, M.dtype)
        if max(M.shape_of_box) > LONGEST:
            raise ValueError(f"fast_poisson on CUDA takes up to {LONGEST} points along an axis")
        self.symmetric, self.positive_definite = M.symmetric, M.positive_definite
        self.singular, self.setup_seconds = M.singular, M.setup_seconds
        self.shape_of_box = M.shape_of_box
        # Forward and backward matrix of each axis; None where that has no couplings.
        sent: dict[int, Any] = {}
        self._pairs: list[Any] = []
        for pair in matrices(M._transforms):
            if pair is None:
                self._pairs.append(None)
                continue
            for matrix in pair:
                if id(matrix) not in sent:
                    sent[id(matrix)] = shared(upload(matrix.astype(self.dtype)))
            self._pairs.append(tuple(sent[id(matrix)] for matrix in pair))
        # The host leaves out half of a periodic axis, which a real matrix does not.
        axes = [axis.values for axis in M._transforms.axes]
        spectrum = Spectrum(axes, M.spectrum.start, M.spectrum.slack, self.dtype)
        if spectrum.wide and self.dtype.kind != "c":
            raise ValueError("fast_poisson on CUDA: a real matrix with a complex inverse")
        self._inverse = _inverse(spectrum, self.dtype)
        self._before, self._after = (
            [shared(upload(scale.astype(self.dtype))) for scale in scales]
            for scales in (M._before, M._after)
        )
        self._room: list[Any] = []

    def apply(self, log, x, out):
        if not self._room:
            self._room = [empty(self.shape[0], self.dtype) for _ in range(2)]
        rooms = [shared(room) for room in self._room]
        here = rooms[0].reshape(self.shape_of_box)
        here[...] = shared(x).reshape(self.shape_of_box)
        for scale in self._before:
            here *= scale
        at = 0
        for d, pair in enumerate(self._pairs):
            if pair is not None:
                self._multiply(pair[0], rooms[at], rooms[1 - at], d)
                at = 1 - at
        here = rooms[at].reshape(self.shape_of_box)
        here *= self._inverse
        for d, pair in reversed(list(enumerate(self._pairs))):
            if pair is not None:
                self._multiply(pair[1], rooms[at], rooms[1 - at], d)
                at = 1 - at
        here = rooms[at].reshape(self.shape_of_box)
        for scale in self._after:
            here *= scale
        shared(out)[...] = here.reshape(-1)

    def _multiply(self, Q: Any, x: Any, out: Any, axis: int) -> None:
        """Multiply the lines of x along an axis by Q."""
        shape = self.shape_of_box
        n, before, after = shape[axis], math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        if arrays.simulated():
            out[...] = np.matmul(Q, x.reshape(before, n, after)).reshape(-1)
            return
        import torch

        if after == 1:
            torch.mm(x.view(before, n), Q.t(), out=out.view(before, n))
        elif before == 1:
            torch.mm(Q, x.view(n, after), out=out.view(n, after))
        else:
            torch.bmm(Q.expand(before, n, n), x.view(before, n, after),
                      out=out.view(before, n, after))  # fmt: skip

    def fresh(self):
        new = super().fresh()
        new._room = []
        return new


def _inverse(spectrum: Spectrum, dtype: np.dtype) -> Any:
    """Return one over each eigenvalue, made on the device where no look at all of them is due."""
    if spectrum.least is None or arrays.simulated():
        return shared(upload(spectrum.inverse.astype(dtype)))
    import torch

    sums = torch.full((), float(spectrum.start), dtype=torch.float64, device="cuda")
    for values in spectrum.values:
        sums = sums[..., None] + shared(upload(np.asarray(values, np.float64)))
    zero = sums <= spectrum.slack if spectrum.singular else None
    sums.reciprocal_()
    if zero is not None:
        sums.masked_fill_(zero, 0.0)
    return sums.to(arrays.torch_dtype(dtype))
