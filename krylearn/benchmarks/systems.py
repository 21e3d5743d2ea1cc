"""The systems that suites name, in memory."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

SOURCES = ("family", "example", "file", "stencil")
# Points along an edge, and unknowns, of the systems that are solved first, untimed.
_EDGE, _TINY = 12, 144


class Loaded:
    """A problem in memory: matrix-free where there is a grid operator, as a matrix when asked.

    Attributes
    ----------
    grid : GridOperator or None
    csr : csr_array
        Made at first use, so that a matrix-free method never holds it.
    b : (n,) ndarray
    nullspace : (n, k) ndarray or None
        Near-nullspace vectors that come with the problem.
    """

    def __init__(self, A: Any, b: Any = None, rhs: str | None = None, seed: int = 0,
                 nullspace: Any = None) -> None:  # fmt: skip
        import scipy.sparse as sp

        self.nullspace = nullspace

        self.grid = None if sp.issparse(A) or isinstance(A, np.ndarray) else A
        self._given = A
        dtype = np.result_type(A.dtype, np.float32)
        if rhs == "ones":
            b = A @ np.ones(A.shape[1], dtype)
        elif rhs == "random" or b is None:
            b = np.random.default_rng(seed).standard_normal(A.shape[0]).astype(dtype)
        self.b = np.asarray(b).reshape(-1)

    @cached_property
    def csr(self) -> Any:
        import scipy.sparse as sp

        return sp.csr_array(self._given if self.grid is None else self.grid.tocsr())


def load_problem(spec: dict[str, Any], small: bool = False) -> Loaded:
    """Make the system that a suite's ``problem`` table asks for.

    Parameters
    ----------
    spec : dict
        One of ``family`` (a function of `krylearn.problems`, with its arguments), ``example``
        (a matrix that pyamg installs; with ``symmetrise`` without rounding errors), ``file``
        (Matrix Market) or ``stencil`` (a shape: the 3-, 5- or 7-point Laplacian). ``rhs`` is
        'ones' (b = A @ ones), 'random', what else the family knows, or absent: then the family's
        own, or random. ``systems``, how many of a family `load_problems` makes, is left aside.
    small : bool
        Something of the kind with few unknowns, on which code is compiled and warmed up.

    Returns
    -------
    Loaded
    """
    spec = dict(spec)
    spec.pop("systems", None)
    rhs, seed, b, near = spec.pop("rhs", None), int(spec.get("seed", 0)), None, None
    if "family" in spec:
        from krylearn import registry

        family = registry.find("problem", spec.pop("family")).load()
        if isinstance(spec.get("shape"), list):
            spec["shape"] = tuple(min(_EDGE, k) if small else k for k in spec["shape"])
        if rhs not in (None, "ones"):  # a family draws its own, which suits it
            spec["rhs"], rhs = rhs, None
        problem = family(**spec)
        A, b, near = problem.A, problem.b, problem.nullspace
    elif "example" in spec:
        from pyamg.gallery import load_example

        example = load_example(spec["example"])
        A = _corner(example["A"], small)
        if spec.get("symmetrise"):
            A = (A + A.conj().T) / 2
        if "B" in example and example["B"].shape[1] > 1:
            near = example["B"][: A.shape[0]]
    elif "file" in spec:
        from krylearn.benchmarks.files import read_matrix

        A = _corner(read_matrix(spec["file"]), small)
    elif "stencil" in spec:
        A = stencil([min(_EDGE, k) if small else k for k in spec["stencil"]])
    else:
        raise ValueError(f"a problem needs one of {', '.join(SOURCES)}")
    return Loaded(A, b, rhs, seed, near)


def load_problems(spec: dict[str, Any], small: bool = False) -> list[Loaded]:
    """Make the systems of a ``problem`` table that asks for ``systems``, one a seed."""
    count, seed = int(spec.get("systems", 1)), int(spec.get("seed", 0))
    count = min(count, 4) if small else count
    return [load_problem(spec | {"seed": seed + k}, small) for k in range(count)]


def _corner(A: Any, small: bool) -> Any:
    """Return A as CSR, or its leading block, which is definite where A is."""
    import scipy.sparse as sp

    A = sp.csr_array(A)
    return A[:_TINY, :_TINY] if small and A.shape[0] > _TINY else A


def stencil(shape: list[int]) -> Any:
    """Return the Laplacian's 3-, 5- or 7-point matrix with Dirichlet sides, unit spacing."""
    import scipy.sparse as sp

    A: Any = sp.csr_array((1, 1))
    for size in shape:
        line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(size, size))
        A = sp.kron(A, sp.eye_array(size)) + sp.kron(sp.eye_array(A.shape[0]), line)
    return sp.csr_array(A)
