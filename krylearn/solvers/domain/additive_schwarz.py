"""Additive Schwarz: overlapping blocks, each solved on its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import breadth_first_order, connected_components

from krylearn.operators import canonical_csr
from krylearn.solvers.relaxation.splitting import SplittingPreconditioner, Workspace

__all__ = ["AdditiveSchwarz"]

LOCAL = ("ilu0", "ic0", "exact")


class AdditiveSchwarz(SplittingPreconditioner):
    """The sum of the inverses of overlapping diagonal blocks, exact or incomplete.

    Parameters
    ----------
    A : {sparse array, ndarray, GridOperator}, shape (n, n)
    blocks : int or sequence of int arrays, optional
        How many, or the rows of each, every row in exactly one. By default blocks of some 1000.
    overlap : int
        How many times a block is widened by the neighbours of its rows.
    local : {'ilu0', 'ic0', 'exact'}
        How a widened block is solved. 'ic0' is for Hermitian positive definite A.
    variant : {'restricted', 'additive'}
        'restricted' takes from each widened block the rows of the block alone: as a rule fewer
        iterations, and not symmetric. 'additive' adds up the overlaps.
    partition : {'graph', 'index'}
        Blocks that are connected pieces of A's graph, by recursive bisection of breadth-first
        orders, or ranges of the numbering.

    Attributes
    ----------
    symmetric, positive_definite : bool or None
        True for 'additive' with 'ic0', or 'exact' on a Hermitian matrix; else False and None.
    sizes : tuple of int
        Rows of the widened blocks.
    setup_seconds : float
        What making it, or its last update, cost.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If A is not square, an option is unknown, or the blocks are no partition.
    ArithmeticError
        If a block cannot be factorised; the message says what to do.

    References
    ----------
    Dryja and Widlund (1987), An additive variant of the Schwarz alternating method; Cai and Sarkis
    (1999), A restricted additive Schwarz preconditioner for general sparse linear systems, SIAM
    Journal on Scientific Computing 21, 792-797.

    Notes
    -----
    The widened blocks stand beside one another in one block diagonal matrix, whose factors are
    swept by levels: the threads work on all blocks at once.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.convection_diffusion((32, 32))
    >>> M = kl.AdditiveSchwarz(P.A, blocks=4)
    >>> M.sizes
    (288, 288, 288, 288)
    >>> kl.gmres(P.A, P.b, M=M, restart=40)[1].converged
    True
    """

    name = "additive_schwarz"

    def __init__(self, A: Any, blocks: Any = None, overlap: int = 1, local: str = "ilu0",
                 variant: str = "restricted", partition: str = "graph") -> None:  # fmt: skip
        if local not in LOCAL:
            raise ValueError(f"local must be one of {', '.join(LOCAL)}, not {local!r}")
        if variant not in ("restricted", "additive"):
            raise ValueError(f"variant must be 'restricted' or 'additive', not {variant!r}")
        if partition not in ("graph", "index"):
            raise ValueError(f"partition must be 'graph' or 'index', not {partition!r}")
        if overlap != int(overlap) or overlap < 0:
            raise ValueError(f"overlap must be an integer >= 0, not {overlap!r}")
        single = blocks is not None and not hasattr(blocks, "__len__")
        if single and (blocks != int(blocks) or blocks < 1):
            raise ValueError(f"blocks must be an integer >= 1 or the rows of each, not {blocks!r}")
        self.blocks, self.overlap, self.partition = blocks, int(overlap), partition
        self.local, self.variant = local, variant
        self._work = Workspace()
        super().__init__(A)

    def _symbolic(self, A):
        n = A.shape[0]
        pattern = sp.csr_array((np.ones(A.nnz, bool), A.indices, A.indptr), shape=A.shape)
        graph = canonical_csr(pattern + pattern.T)
        inner = _partition(graph, self.blocks, self.partition)
        widened = [_widen(graph, rows, self.overlap) for rows in inner]
        self.sizes = tuple(len(rows) for rows in widened)
        # Where each row of the block diagonal matrix comes from, and where a result goes to.
        self._rows = np.concatenate(widened) if widened else np.zeros(0, int)
        owner = np.empty(n, int)
        for k, rows in enumerate(inner):
            owner[rows] = k
        block = np.repeat(np.arange(len(widened)), self.sizes)
        self._owned = np.flatnonzero(owner[self._rows] == block)
        self._targets = self._rows[self._owned]
        # The block diagonal matrix as a selection of A's entries.
        numbered = sp.csr_array((np.arange(1, A.nnz + 1), A.indices, A.indptr), shape=A.shape)
        pieces = [numbered[rows][:, rows] for rows in widened]
        diagonal = canonical_csr(sp.block_diag(pieces, format="csr") if pieces else numbered)
        self._taken = diagonal.data - 1
        self._local_pattern = diagonal.indices, diagonal.indptr, diagonal.shape
        self._solver = None

    def _numeric(self, A):
        indices, indptr, shape = self._local_pattern
        D = sp.csr_array((A.data[self._taken], indices, indptr), shape=shape)
        self._factorise(D)
        hermitian = self.local == "ic0"
        if self.local == "exact":
            from krylearn.kernels.relaxation import is_hermitian

            hermitian = is_hermitian(*self._pattern, A.data)
        self.symmetric = hermitian and (self.variant == "additive" or len(self.sizes) == 1)
        self.positive_definite = True if self.symmetric and self.local == "ic0" else None

    def _factorise(self, D):
        if self.local == "exact":
            from scipy.sparse.linalg import splu

            self._held = D
            try:
                self._solver = splu(D.tocsc())
            except RuntimeError:
                raise ArithmeticError(
                    "additive_schwarz: a block is singular; use local='ilu0' or other blocks"
                ) from None
        elif self._solver is not None:
            self._solver.update(D)
        else:
            from krylearn import registry

            self._solver = registry.preconditioner(self.local, D)

    def __getstate__(self):
        state = self.__dict__.copy()
        if self.local == "exact":
            state["_solver"] = None  # SuperLU's factors do not travel
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self.local == "exact":
            self._factorise(self._held)

    def apply(self, r, out):
        """Write the sum of the blocks' corrections for the residual `r` into `out`."""
        if self.local == "exact":
            local = self._solver.solve(r[self._rows])
        else:
            given, local = self._work.get(2, len(self._rows), self.dtype)
            np.take(r, self._rows, out=given)
            self._solver.apply(given, local)
        if self.variant == "restricted":
            out[self._targets] = local[self._owned]
        else:
            out[:] = 0
            np.add.at(out, self._rows, local)
        return out


def _partition(graph: Any, blocks: Any, how: str) -> list[np.ndarray]:
    """Return the rows of each block, sorted."""
    n = graph.shape[0]
    if hasattr(blocks, "__len__"):
        given = [np.unique(np.asarray(rows, dtype=int)) for rows in blocks]
        everything = np.concatenate(given) if given else np.zeros(0, int)
        if len(everything) != n or not np.array_equal(np.sort(everything), np.arange(n)):
            raise ValueError("blocks must hold every row in exactly one block")
        return [rows for rows in given if len(rows)]
    count = max(1, min(n, round(n / 1000) if blocks is None else int(blocks)))
    if how == "index":
        return np.array_split(np.arange(n), count)
    return _bisect(graph, np.arange(n), count)


def _bisect(graph: Any, rows: np.ndarray, count: int) -> list[np.ndarray]:
    """Cut a set of rows in `count` pieces of like size, each time across its longest extent."""
    if count <= 1 or len(rows) <= 1:
        return [np.sort(rows)]
    part = graph[rows][:, rows]
    path = _far_order(part)
    left = count // 2
    cut = len(rows) * left // count
    return [
        *_bisect(graph, rows[path[:cut]], left), *_bisect(graph, rows[path[cut:]], count - left)
    ]  # fmt: skip


def _far_order(part: Any) -> np.ndarray:
    """Return a breadth-first order of a symmetric graph from an end, component by component."""
    orders = []
    _, labels = connected_components(part, directed=False)
    for first, size in zip(*np.unique(labels, return_index=True, return_counts=True)[1:]):
        order = np.array([first])
        if size > 1:  # of single nodes there may be many: a search passes over the whole graph
            for _ in range(3):  # to one end, to the other, and from there
                order = breadth_first_order(part, order[-1], return_predecessors=False)
        orders.append(order)
    return np.concatenate(orders)


def _widen(graph: Any, rows: np.ndarray, overlap: int) -> np.ndarray:
    """Return `rows` and their neighbours, `overlap` times, sorted."""
    inside = np.zeros(graph.shape[0], bool)
    inside[rows] = True
    for _ in range(overlap):
        inside[graph[np.flatnonzero(inside)].indices] = True
    return np.flatnonzero(inside)
