"""The space that recycling methods carry from one solve to the next."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from krylearn.kernels.vector import all_finite

__all__ = ["RecycleSpace"]


def held_columns(A: Any) -> int:
    """Return how long the vectors are that this process holds of those which A takes."""
    return int(getattr(A, "held_columns", A.shape[1]))


class RecycleSpace:
    """Vectors near an invariant subspace of A, kept between calls of `gcrodr`, `recycled_cg`.

    Hand the same space to each solve of a sequence: it is read at the start and replaced by a
    better one at the end. It may outlive a change of A, of M, of b and of the precision, since the
    vectors lie in the space of solutions and their images under A are computed anew each time.

    Attributes
    ----------
    vectors : (k, n) array or None
        One vector a row; None while the space is empty.

    Raises
    ------
    ValueError
        If a solve has another size than the vectors (from the method), or `load` reads a file
        that holds no space.

    References
    ----------
    Parks, de Sturler, Mackey, Johnson and Maiti (2006), Recycling Krylov subspaces for sequences
    of linear systems, SIAM Journal on Scientific Computing 28, 1651-1674.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.poisson((20, 20))
    >>> space = kl.RecycleSpace()
    >>> _, first = kl.gcrodr(P.A, P.b, recycle=space)
    >>> _, second = kl.gcrodr(P.A, P.b[::-1], recycle=space)
    >>> space, second.iterations < first.iterations
    (<RecycleSpace of 20 vectors, n = 400>, True)
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all vectors."""
        self.vectors: np.ndarray | None = None
        self._work: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"vectors": self.vectors, "_work": {}}

    def borrow(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return a work array of arbitrary contents: that of the solve before, where it fits.

        Memory that is new to the process costs a small solve as much as its arithmetic.
        """
        held = self._work.pop(name, None)
        fits = held is not None and held.shape == shape and held.dtype == dtype
        return held if fits else np.empty(shape, dtype)  # type: ignore[return-value]

    def give_back(self, arrays: dict[str, np.ndarray]) -> None:
        """Keep work arrays that are no longer in use."""
        self._work.update(arrays)

    def __len__(self) -> int:
        return 0 if self.vectors is None else self.vectors.shape[0]

    def __bool__(self) -> bool:
        return True  # an empty space is a space

    def __repr__(self) -> str:
        if self.vectors is None:
            return "<RecycleSpace, empty>"
        k, n = self.vectors.shape
        return f"<RecycleSpace of {k} vectors, n = {n}>"

    def take(self, n: int, dtype: Any, most: int) -> np.ndarray:
        """Return up to `most` vectors in a solve's precision, not to be changed.

        Raises
        ------
        ValueError
            If the vectors do not have length `n`.
        """
        if self.vectors is None:
            return np.empty((0, n), dtype)
        self.require(n)
        return _converted(self.vectors, dtype)[:most]

    def require(self, n: int) -> None:
        """Raise ValueError unless the space is empty or holds vectors of length `n`."""
        if self.vectors is not None and self.vectors.shape[1] != n:
            raise ValueError(
                f"the recycle space holds vectors of length {self.vectors.shape[1]}, A has {n} "
                "columns: give each size a RecycleSpace of its own, or call its clear()"
            )

    def keep(self, vectors: np.ndarray) -> None:
        """Replace the vectors, one a row; none at all, or NaN, leave the space as it was."""
        if len(vectors) and all_finite(vectors):
            self.vectors = vectors

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the space to a file in NumPy's .npz format."""
        vectors = np.zeros((0, 0)) if self.vectors is None else self.vectors
        with open(path, "wb") as file:
            np.savez(file, vectors=vectors)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RecycleSpace:
        """Read a space that `save` wrote.

        Raises
        ------
        ValueError
            If the file holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                vectors = file["vectors"]
        except FileNotFoundError:
            raise
        except Exception:  # whatever zipfile and NumPy make of a broken file
            raise ValueError(f"{os.fspath(path)} holds no recycle space") from None
        if vectors.ndim != 2 or vectors.dtype.kind not in "fc" or not np.isfinite(vectors).all():
            raise ValueError(f"{os.fspath(path)} holds no recycle space")
        space = cls()
        space.keep(vectors)
        return space


def _converted(vectors: np.ndarray, dtype: Any) -> np.ndarray:
    if vectors.dtype.kind == "c" and np.dtype(dtype).kind != "c":
        # Real and imaginary parts span what a complex vector and its conjugate do.
        vectors = np.stack([vectors.real, vectors.imag], axis=1).reshape(-1, vectors.shape[1])
    return np.asarray(vectors, dtype=dtype, order="C")
