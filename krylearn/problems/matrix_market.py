"""Systems from Matrix Market files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse as sp

from krylearn.problems.problem import Problem


def matrix_market(path: Any, rhs: Any = None) -> Problem:
    """Read a system from a Matrix Market file.

    Parameters
    ----------
    path : str or Path
        The matrix, ``.mtx`` or ``.mtx.gz``.
    rhs : str or Path, optional
        The right-hand side. By default a file beside the matrix, ``NAME_b.mtx`` or
        ``NAME_rhs1.mtx`` as collections call it; where there is none, ``A @ ones``.

    Returns
    -------
    P : Problem
        A is CSR; ``P.exact`` is known where b was made from it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file is not Matrix Market, or b does not fit A.

    Examples
    --------
    >>> import tempfile, pathlib, scipy.io, scipy.sparse as sp
    >>> import krylearn as kl
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "A.mtx"
    >>> scipy.io.mmwrite(path, sp.eye_array(3))
    >>> kl.problems.matrix_market(path).b
    array([1., 1., 1.])
    """
    path = Path(path)
    A = sp.csr_array(read(path))
    if A.ndim != 2:
        raise ValueError(f"{path.name} holds no matrix")
    name = path.name.removesuffix(".gz").removesuffix(".mtx")
    if rhs is None:
        beside = [path.with_name(name + end) for end in ("_b.mtx", "_rhs1.mtx", "_b.mtx.gz")]
        rhs = next((file for file in beside if file.exists()), None)
    if rhs is None:
        exact = np.ones(A.shape[1], A.dtype if A.dtype.kind in "fc" else float)
        return Problem(A, A @ exact, {"path": str(path)}, exact=exact, name="matrix_market")
    b = read(Path(rhs))
    b = b.toarray() if sp.issparse(b) else np.asarray(b)
    b = b.ravel() if 1 in b.shape else b
    if b.shape[0] != A.shape[0]:
        raise ValueError(f"{Path(rhs).name} has {b.shape[0]} rows, the matrix {A.shape[0]}")
    return Problem(A, b, {"path": str(path)}, name="matrix_market")


def read(path: Path) -> Any:
    """Return what a Matrix Market file holds, a sparse array or an ndarray.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not Matrix Market.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return scipy.io.mmread(path, spmatrix=False)
    except (ValueError, OverflowError, OSError, UnicodeDecodeError, EOFError) as error:
        raise ValueError(f"{path.name} is not a Matrix Market file: {error}") from None
