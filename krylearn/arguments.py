"""The arguments of a method: what they may be, checked, and what they are made into."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.operators import matrix_like


def solve_dtype(*dtypes: Any) -> np.dtype:
    """Return the one of the four floating dtypes in which operands of such dtypes are solved."""
    dtype = np.result_type(np.float32, *map(np.dtype, dtypes))
    if dtype in (np.float32, np.float64, np.complex64, np.complex128):
        return dtype
    return np.dtype(np.complex128 if dtype.kind == "c" else np.float64)


def numbers(values: Any, name: str) -> np.ndarray:
    """Return an operand as an array; raise TypeError where it holds no numbers."""
    if sp.issparse(values):
        raise TypeError(f"{name} is a sparse array; use {name}.toarray()")
    values = np.asarray(values)
    if values.dtype.kind not in "biufc":
        raise TypeError(f"{name} holds {values.dtype} elements; numbers are needed")
    return values


def as_rows(b: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the columns of b as rows of their own; b itself where loops may read it as it is."""
    # Kernels are compiled anew for what is read-only, and fail on what is not aligned.
    as_it_is = b.shape[1] == 1 and b.dtype == dtype and b.flags.carray
    return b.T if as_it_is else np.array(b.T, dtype=dtype, order="C")


def not_negative(**settings: Any) -> None:
    """Raise ValueError unless all settings are numbers that are not negative."""
    for name, value in settings.items():
        if not (isinstance(value, (int, float, np.number)) and value >= 0):
            raise ValueError(f"{name} must be a number >= 0, not {value!r}")


def check_count(least: int = 0, **settings: Any) -> None:
    """Raise ValueError unless all settings are whole numbers, `least` or more, or None."""
    for name, value in settings.items():
        number = isinstance(value, (int, float, np.number))
        if value is not None and not (number and value >= least and float(value).is_integer()):
            raise ValueError(f"{name} must be an integer >= {least} or None, not {value!r}")


def check_arguments(method: str, A: Any, b: Any, square: bool, rtol: Any, atol: Any,
                    maxiter: Any) -> None:  # fmt: skip
    """Raise ValueError unless the arguments of a method fit each other."""
    rows, n = (int(size) for size in A.shape)
    if square and rows != n:
        raise ValueError(f"{method} needs a square matrix, not {rows} x {n}; use lsmr")
    if b.shape not in ((rows,), (rows, 1)) and not (len(b.shape) == 2 and b.shape[0] == rows):
        raise ValueError(f"b has shape {tuple(b.shape)}; A needs ({rows},) or ({rows}, k)")
    not_negative(rtol=rtol, atol=atol)
    check_count(maxiter=maxiter)


def check_start(n: int, b: Any, x0: Any) -> None:
    """Raise ValueError unless x0 is None, 'Mb', or of a shape that fits."""
    if isinstance(x0, str):
        if x0 != "Mb":
            raise ValueError(f"x0 must be an array or 'Mb', not {x0!r}")
    elif x0 is not None and x0.shape not in ((n,), (n, *b.shape[1:])) and not (
        tuple(x0.shape) == (n, 1) and len(b.shape) == 1
    ):
        raise ValueError(f"x0 has shape {tuple(x0.shape)}; expected ({n},) or the shape of x")


def check_preconditioner(M: Any, n: int, method: str, needs: tuple[str, ...]) -> Any:
    """Return M as `matrix_like` does; raise ValueError where it does not suit the method."""
    M = matrix_like(M, "M")
    if tuple(M.shape) != (n, n):
        raise ValueError(f"M has shape {tuple(M.shape)}; A needs ({n}, {n})")
    check_traits(M, method, needs)
    return M


def check_traits(M: Any, method: str, needs: tuple[str, ...]) -> None:
    """Raise ValueError where M lacks a trait that the method needs."""
    # None: the trait is not known, which is the caller's promise to keep.
    advice = {
        "linear": "is not linear: use fcg (symmetric A) or fgmres",
        "symmetric": "is not symmetric: use gmres or bicgstab, or fcg",
        "positive_definite": "is not positive definite: use gmres",
    }
    for trait in needs:
        if getattr(M, trait, None) is False:
            needed = trait.replace("_", " ")
            raise ValueError(f"{method} needs a {needed} M; this one {advice[trait]}")
