"""The eigenvalues of a sum of matrices, one along each axis of a box."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np


class Spectrum:
    """All sums of one eigenvalue along each axis; those within `slack` count as zero.

    Where none is negative the least one tells what there is to tell, so that nobody needs the
    array of all of them but who divides by it.

    Parameters
    ----------
    values : list of (n,) array
        Of each axis.
    start : number
        Added to each sum.
    slack : float
    dtype : dtype
        Of the inverse; complex where that is and `dtype` is not.
    """

    def __init__(self, values: list[np.ndarray], start: Any, slack: float, dtype: Any) -> None:
        self.values, self.start, self.slack, self._dtype = values, start, slack, np.dtype(dtype)

    @cached_property
    def _made(self) -> tuple[np.ndarray, bool]:
        sums: Any = self.start
        for values in self.values:
            sums = np.asarray(sums)[..., None] + values
        with np.errstate(all="ignore"):
            zero = np.abs(sums) <= self.slack
            inverse = np.where(zero, 0, 1 / sums)
            wide = np.iscomplexobj(inverse) and bool(np.any(inverse.imag))
            kind = np.result_type(self._dtype, np.complex64) if wide else self._dtype.char.lower()
            return (inverse if wide else inverse.real).astype(kind), bool(zero.any())

    @property
    def inverse(self) -> np.ndarray:
        """One over each eigenvalue, and zero for zero."""
        return self._made[0]

    @cached_property
    def least(self) -> float | None:
        """The least eigenvalue, or None where one is negative or complex."""
        parts = [np.asarray(self.start), *self.values]
        if any(np.iscomplexobj(part) or not part.min() >= 0 for part in parts):
            return None
        total = self.start  # rounded as in `inverse`: rounding keeps the order
        for values in self.values:
            total = total + values.min()
        return float(total)

    @property
    def wide(self) -> bool:
        """Whether the inverse is complex in earnest."""
        return self.least is None and np.iscomplexobj(self.inverse)

    @cached_property
    def singular(self) -> bool:
        """Whether an eigenvalue is zero."""
        if self.least is not None:
            return self.least <= self.slack
        return self._made[1]

    @property
    def negative(self) -> bool:
        """Whether an eigenvalue is negative; not to be asked where they are complex."""
        return self.least is None and bool(self.inverse.min() < 0)

    @property
    def finite(self) -> bool:
        """Whether no inverse overflows."""
        if self.least is None:
            return bool(np.isfinite(self.inverse).all())
        smallest, parts = self.least, [np.asarray(self.start), *self.values]
        if self.least <= self.slack:  # the least that counts, or what is below it
            positive = [part[part > 0].min(initial=np.inf) for part in parts]
            smallest = self.slack or min(positive)
        largest = sum(float(part.max()) for part in parts)
        with np.errstate(all="ignore"):
            tiny = np.asarray(1 / np.float64(smallest)).astype(self._dtype.char.lower())
        return bool(np.isfinite(tiny) and largest < np.inf)
