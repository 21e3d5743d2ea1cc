"""Systems from Matrix Market files."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse as sp

from krylearn.problems.problem import Problem

_BESIDE = tuple(f"_{name}.mtx{packed}" for packed in ("", ".gz") for name in ("b", "rhs", "rhs1"))


def matrix_market(path: Any, rhs: Any = None, *, seed: int | None = None) -> Problem:
    """Read a system from a Matrix Market file.

    Parameters
    ----------
    path : str or Path
        The matrix, ``.mtx`` or ``.mtx.gz``.
    rhs : str or Path, optional
        The file of the right-hand side, or 'random': ``A @ x`` for a normally distributed x. By
        default a file beside the matrix, ``NAME_b.mtx``, ``NAME_rhs.mtx`` or ``NAME_rhs1.mtx`` as
        collections call it; where there is none, ``A @ ones``.
    seed : int, optional
        Draws x: where it is given, `rhs` is 'random' by default. A sequence has one matrix and
        as many right-hand sides as seeds.

    Returns
    -------
    P : Problem
        A is CSR; ``P.exact`` is known where b was made from it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file is not Matrix Market, b does not fit A, or both a file and a seed are given.

    References
    ----------
    Boisvert, Pozo and Remington (1996), The Matrix Market exchange formats.

    Examples
    --------
    >>> import tempfile, pathlib, scipy.io, scipy.sparse as sp
    >>> import krylearn as kl
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "A.mtx"
    >>> scipy.io.mmwrite(path, sp.eye_array(3))
    >>> kl.problems.matrix_market(path).b
    array([1., 1., 1.])
    """
    if rhs is None and seed is not None:
        rhs = "random"
    drawn = isinstance(rhs, str) and rhs == "random"
    if seed is not None and not drawn:
        raise ValueError("give a file as rhs or a seed, not both")
    path = Path(path)
    A = sp.csr_array(read(path))
    if A.ndim != 2:
        raise ValueError(f"{path.name} holds no matrix")
    name = path.name.removesuffix(".gz").removesuffix(".mtx")
    if rhs is None:
        beside = [path.with_name(name + end) for end in _BESIDE]
        rhs = next((file for file in beside if file.exists()), None)
    if rhs is None or drawn:
        exact = np.ones(A.shape[1], A.dtype if A.dtype.kind in "fc" else float)
        if drawn:
            seed = 0 if seed is None else seed
            exact *= np.random.default_rng(seed).standard_normal(exact.shape)
        params = {"path": str(path)}
        return Problem(A, A @ exact, params, exact=exact, name="matrix_market", seed=seed)
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

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "x.mtx"
    >>> _ = path.write_text("%%MatrixMarket matrix array real general\\n2 1\\n3.0\\n4.0\\n")
    >>> read(path).ravel()
    array([3., 4.])
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return scipy.io.mmread(path, spmatrix=False)
    except (ValueError, OverflowError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path.name} is not a Matrix Market file: {error}") from None
