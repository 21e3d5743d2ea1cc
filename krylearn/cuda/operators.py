"""The operators that a loop on the device sees, and how a user's matrix becomes one.

``A.apply(log, x, out)`` queues a product; ``A.apply_dot(log, x, out)`` returns the array where the
sums of ``conj(x) @ out`` will be. Vectors are contiguous arrays on the device of A's dtype.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn.cuda import arrays
from krylearn.cuda.arrays import download, empty, lies_on_cuda, upload, zeros
from krylearn.kernels.cuda import csr, diagonals, scalars, stencil, vector
from krylearn.kernels.cuda.launch import HEAD, RING, accumulator, blocks_for
from krylearn.kernels.diagonals import MOST

# Places of diagonals over entries: more would be empty than indices take.
FULL = 1.3
# Rows from which a matrix is looked at for that, and how many tell.
LARGE, SAMPLE = 2**15, 2**12

_never: dict[int, Any] = {}


def never_stops() -> Any:
    """Return a log for products outside a loop."""
    device = 0
    if not arrays.simulated():
        import torch

        device = torch.cuda.current_device()
    if device not in _never:
        _never[device] = zeros(HEAD + RING, np.float64)
    return _never[device]


class CudaOperator:
    """A linear map on the device.

    Attributes
    ----------
    shape : (int, int)
    dtype : numpy.dtype
    captures : bool
        Whether a product may be recorded in a CUDA graph.
    symmetric, positive_definite : bool or None
        What is known of it.
    """

    on_cuda = True
    identity = False
    captures = True
    linear: bool | None = True
    symmetric: bool | None = None
    positive_definite: bool | None = None
    fuses = False
    fuses_with_cg = False
    setup_seconds = 0.0

    def __init__(self, shape: tuple[int, int], dtype: Any) -> None:
        self.shape = (int(shape[0]), int(shape[1]))
        self.dtype = np.dtype(dtype)
        if max(self.shape) >= 2**31:
            raise ValueError(f"an operator of shape {self.shape} needs more than 32-bit indices")
        self._sums: Any = None

    def _sums_of(self, count: int) -> Any:
        if self._sums is None:
            self._sums = zeros(count, accumulator(self.dtype))
        return self._sums

    def apply(self, log: Any, x: Any, out: Any) -> None:
        """Queue ``out = A @ x``."""
        self.apply_dot(log, x, out)

    def apply_dot(self, log: Any, x: Any, out: Any) -> Any:
        """Queue ``out = A @ x``; return where the sums of ``conj(x) @ out`` will be."""
        self.apply(log, x, out)
        sums = self._sums_of(blocks_for(self.shape[0]))
        vector.dot(log, x, out, sums)
        return sums

    def fresh(self) -> CudaOperator:
        """Return the operator with work arrays of its own: one for each solve and thread."""
        new = copy.copy(self)
        new._sums = None
        return new

    def astype(self, dtype: Any) -> CudaOperator:
        """Return the operator with entries of another type; itself where that is its own."""
        if np.dtype(dtype) == self.dtype:
            return self
        raise TypeError(f"{type(self).__name__} is of {self.dtype}; {dtype} is needed")

    def diagonal(self) -> Any:
        """Return the diagonal, an (n,) array on the device."""
        raise TypeError(f"{type(self).__name__} gives products only, not its diagonal")

    def matvec(self, x: Any) -> Any:
        """Return ``A @ x`` for a vector on the device, in the kind that x has."""
        own = arrays.vector_on_device(x, self.dtype, "x")
        if own.shape != (1, self.shape[1]):
            raise ValueError(f"x has shape {tuple(x.shape)}; A needs ({self.shape[1]},)")
        out = empty(self.shape[0], self.dtype)
        self.apply(never_stops(), own[0], out)
        return arrays.in_the_kind_of(out, x)

    __matmul__ = matvec

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of shape {self.shape}, dtype {self.dtype}>"


class CudaCSR(CudaOperator):
    """A square matrix in compressed sparse row form on the device.

    Parameters
    ----------
    shape : (int, int)
    indptr, indices : (n + 1,) and (nnz,) int32 arrays on the device
    data : (nnz,) array on the device
    """

    def __init__(self, shape: tuple[int, int], indptr: Any, indices: Any, data: Any) -> None:
        super().__init__(shape, arrays.dtype_of(data))
        if shape[0] != shape[1]:
            raise ValueError(f"a square matrix is needed on the device, not one of shape {shape}")
        self.arrays = (indptr, indices, data)
        self._unsigned = (indptr.view(np.uint32), indices.view(np.uint32), data)
        self._lanes = csr.lanes_for(self.shape[0], data.shape[0])
        self._count = csr.blocks_for(self.shape[0], self._lanes)

    def apply_dot(self, log, x, out):
        sums = self._sums_of(self._count)
        csr.apply(log, self._lanes, *self._unsigned, x, out, sums)
        return sums

    def astype(self, dtype):
        dtype = np.dtype(dtype)
        if dtype == self.dtype:
            return self
        indptr, indices, data = self.arrays
        converted = (
            upload(download(data).astype(dtype)) if arrays.simulated() else
            arrays.view(arrays.tensor_of(data).to(arrays.torch_dtype(dtype)))
        )  # fmt: skip
        return CudaCSR(self.shape, indptr, indices, converted)

    def diagonal(self):
        d = empty(self.shape[0], self.dtype)
        csr.diagonal(never_stops(), *self._unsigned, d)
        return d

    def to(self, device: str) -> Any:
        """Return the matrix on another device: 'cuda' or, as a scipy.sparse array, 'cpu'."""
        if device == "cuda":
            return self
        _check_name(device)
        indptr, indices, data = map(download, self.arrays)
        return sp.csr_array((data, indices, indptr), shape=self.shape)


class CudaDiagonals(CudaOperator):
    """A square matrix of few diagonals on the device; a third less to read than in rows.

    Parameters
    ----------
    offsets : (d,) int32 array on the host
        Ascending; a diagonal at offset k holds the entries ``A[i, i + k]``.
    values : (d, n) array on the device
    in_rows : CudaCSR
        The same, for several vectors at once.
    """

    def __init__(self, offsets: np.ndarray, values: Any, in_rows: CudaCSR) -> None:
        super().__init__(in_rows.shape, in_rows.dtype)
        self.offsets, self.values, self.in_rows = offsets, values, in_rows
        self._offsets = upload(offsets)

    @classmethod
    def of(cls, A: CudaCSR) -> Any:
        """Return a matrix in this form, or as it is where that would be larger."""
        indptr, indices, data = A.arrays
        n, count = A.shape[0], data.shape[0]
        indptr, indices, data = map(arrays.shared, (indptr, indices, data))
        library: Any = np
        if not arrays.simulated():
            import torch

            library = torch
        few = max(1, min(n, SAMPLE))  # rows that tell without reading them all
        for rows in (few, n):
            lengths, own = indptr[1 : rows + 1] - indptr[:rows], int(indptr[rows])
            if library is np:
                row: Any = np.repeat(np.arange(rows, dtype=np.int32), lengths)
            else:
                row = torch.arange(rows, dtype=torch.int32, device=indices.device)
                row = row.repeat_interleave(lengths)
            places = indices[:own] - row
            offsets = library.unique(places)
            if len(offsets) > MOST or len(offsets) * n > FULL * count:
                return A
        values = zeros((len(offsets), n), A.dtype, "the diagonals of the matrix")
        flat = library.searchsorted(offsets, places) * n + row
        if library is np:
            np.add.at(arrays.shared(values).reshape(-1), flat, data)
            return cls(offsets, values, A)
        arrays.shared(values).view(-1).index_add_(0, flat, data)
        return cls(offsets.cpu().numpy(), values, A)

    def apply_dot(self, log, x, out):
        sums = self._sums_of(blocks_for(self.shape[0]))
        diagonals.apply(log, self._offsets, self.values, x, out, sums)
        return sums

    def astype(self, dtype):
        if np.dtype(dtype) == self.dtype:
            return self
        in_rows = self.in_rows.astype(dtype)
        if arrays.simulated():
            values = upload(download(self.values).astype(dtype))
        else:
            values = arrays.view(arrays.tensor_of(self.values).to(arrays.torch_dtype(dtype)))
        return CudaDiagonals(self.offsets, values, in_rows)

    def diagonal(self):
        at = np.flatnonzero(self.offsets == 0)
        return self.values[int(at[0])] if len(at) else zeros(self.shape[0], self.dtype)

    def to(self, device: str) -> Any:
        """Return the matrix on another device: 'cuda' or, as a scipy.sparse array, 'cpu'."""
        return self if device == "cuda" else self.in_rows.to(device)


class CudaGridOperator(CudaOperator):
    """A `GridOperator` on the device: matrix-free.

    Parameters
    ----------
    A : GridOperator
    """

    def __init__(self, A: Any) -> None:
        super().__init__(A.shape, A.dtype)
        self.wrapped, self.grid = A, A.grid
        self.symmetric = A.symmetric
        geometry, *coefficients = A._stencil.arrays
        nz, ny, nx, _, shared, *wraps = (int(value) for value in geometry)
        self._geometry = (nz, ny, nx, *wraps)
        self._plan = stencil.Launch(nz, ny, nx, self.dtype.itemsize)
        self.fuses = A._stencil.constant
        if self.fuses:
            self._arrays: tuple = (upload(coefficients[0]),)
        else:
            rows, stack = coefficients
            rows = upload(rows.view(np.int64).astype(np.int32))
            self._arrays = (rows, shared, upload(stack))
        self._mask: Any = None

    @property
    def positive_definite(self) -> bool | None:  # type: ignore[override]
        """What is known of it: a pass over all entries on the host, where somebody asks."""
        return self.wrapped.positive_definite

    @property
    def entries(self) -> Any:
        """The diagonal, then the couplings along each axis, for all points: a flat array."""
        return self._arrays[2].reshape(-1)

    @property
    def mask(self) -> Any:
        """The mask, an array of bytes on the device, or None."""
        if self._mask is None and self.wrapped.mask is not None:
            self._mask = upload(self.wrapped.mask.ravel().view(np.uint8))
        return self._mask

    def apply_dot(self, log, x, out):
        sums = self._sums_of(self._plan.count)
        stencil.apply(self._plan, log, self._geometry, self._arrays, x, out, sums)
        return sums

    def direction(self, log: Any, S: Any, alpha: int, beta: int, r: Any, p: Any, x: Any,
                  p_new: Any, gain: int = scalars.ONE) -> Any:  # fmt: skip
        """Queue ``x += alpha * p; p_new = gain * r + beta * p``; return sums of ``p_new A p_new``.

        With `descend`, an iteration of conjugate gradients in eight vectors of traffic.
        """
        sums = self._sums_of(self._plan.count)
        (table,) = self._arrays
        stencil.direction(self._plan, log, S, alpha, beta, gain, self._geometry, table, r, p, x,
                          p_new, sums)  # fmt: skip
        return sums

    def descend(self, log: Any, S: Any, alpha: int, p: Any, r: Any, scale: int = -1,
                low: Any = None) -> Any:  # fmt: skip
        """Queue ``r -= alpha * (A @ p); low = scale * r``; return where the sums of r @ r will be.

        `low`, if given, may be of lower precision.
        """
        sums = self._sums_of(self._plan.count)
        (table,) = self._arrays
        stencil.descend(self._plan, log, S, alpha, self._geometry, table, p, r, sums, scale, low)
        return sums

    def astype(self, dtype):
        same = np.dtype(dtype) == self.dtype
        return self if same else CudaGridOperator(self.wrapped.astype(dtype))

    def diagonal(self):
        return upload(self.wrapped.diagonal())

    def to(self, device: str) -> Any:
        """Return the operator on another device: 'cuda' or 'cpu'."""
        _check_name(device)
        return self if device == "cuda" else self.wrapped


class CudaDense(CudaOperator):
    """A dense matrix on the device, applied by cuBLAS."""

    def __init__(self, matrix: Any) -> None:
        super().__init__(tuple(matrix.shape), arrays.dtype_of(matrix))
        self.matrix = matrix

    def apply(self, log, x, out):
        if arrays.simulated():
            out._ary[...] = self.matrix._ary @ x._ary
            return
        import torch

        torch.mv(self.matrix, arrays.tensor_of(x), out=arrays.tensor_of(out))

    def astype(self, dtype):
        if np.dtype(dtype) == self.dtype:
            return self
        if arrays.simulated():
            return CudaDense(upload(download(self.matrix).astype(dtype)))
        return CudaDense(self.matrix.to(arrays.torch_dtype(dtype)))

    def diagonal(self):
        if arrays.simulated():
            return upload(np.diagonal(download(self.matrix)))
        return arrays.view(self.matrix.diagonal().contiguous())


class CudaWrapped(CudaOperator):
    """Anything with ``shape`` and a ``matvec`` of vectors on the device; it sees a copy."""

    captures = False

    def __init__(self, A: Any, dtype: Any) -> None:
        super().__init__(A.shape, dtype)
        self.wrapped = A
        self.linear = getattr(A, "linear", None)
        self.symmetric = getattr(A, "symmetric", None)
        self.positive_definite = getattr(A, "positive_definite", None)

    def apply(self, log, x, out):
        if arrays.simulated():
            out._ary[...] = download(self.wrapped.matvec(upload(x._ary))).reshape(-1)
            return
        result = arrays.as_tensor(self.wrapped.matvec(arrays.tensor_of(x).clone()))
        arrays.tensor_of(out).copy_(result.reshape(-1))

    def astype(self, dtype):
        return self if np.dtype(dtype) == self.dtype else CudaWrapped(self.wrapped, dtype)


class CudaIdentity(CudaOperator):
    """No preconditioner."""

    identity = True


def _check_name(device: str) -> None:
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', not {device!r}")


def as_cuda_matrix(A: Any, name: str = "A") -> Any:
    """Return a matrix that lies on the device as a `CudaOperator`.

    Raises
    ------
    TypeError
        If it is none that is known, or holds no numbers.
    ValueError
        If it is not two-dimensional.
    """
    if isinstance(A, CudaOperator):
        return A
    if len(getattr(A, "shape", ())) != 2:
        raise ValueError(f"{name} must be two-dimensional, not of shape {getattr(A, 'shape', '')}")
    arrays.require_cuda()
    if arrays.simulated():
        return CudaDense(A)
    import torch

    if isinstance(A, torch.Tensor) and A.layout != torch.strided:
        A = A if A.layout == torch.sparse_csr else A.to_sparse_csr()
        A = A.detach()
        parts = (A.crow_indices(), A.col_indices(), A.values())
    elif hasattr(A, "indptr") or hasattr(A, "tocsr"):  # cupyx.scipy.sparse
        A = A.tocsr()
        parts = tuple(map(arrays.as_tensor, (A.indptr, A.indices, A.data)))
    elif hasattr(A, "matvec"):
        return CudaWrapped(A, arrays.dtype_of(A))
    else:
        tensor = arrays.as_tensor(A)
        if not tensor.is_floating_point() and not tensor.is_complex():
            tensor = tensor.to(torch.float64)
        return CudaDense(tensor.contiguous())
    indptr, indices, data = parts
    if data.shape[0] >= 2**31:
        raise ValueError(f"{name} has {data.shape[0]:,} entries; at most 2^31 - 1 fit")
    if not data.is_floating_point() and not data.is_complex():
        data = data.to(torch.float64)
    indptr, indices = (
        arrays.view(part.to(torch.int32).contiguous()) for part in (indptr, indices)
    )
    return CudaCSR(tuple(A.shape), indptr, indices, arrays.view(data.contiguous()))


def _banded(A: Any) -> Any:
    """Return a matrix by diagonals where that is worth while, and there is room for it."""
    if not isinstance(A, CudaCSR) or A.shape[0] < LARGE:
        return A
    try:
        return CudaDiagonals.of(A)
    except Exception as error:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return A
        raise


@arrays.naming_bytes()
def to_cuda(value: Any) -> Any:
    """Return an operand on the CUDA device, where solvers then run.

    Parameters
    ----------
    value : GridOperator, sparse array, preconditioner, or array
        What lies on the device already is handed back.

    Returns
    -------
    on_device : CudaOperator, or a torch tensor for an array
        A torch sparse or a cupyx matrix becomes a `CudaOperator`: the conversion of index types
        is then paid once and not a solve. A large matrix of few diagonals is kept by these.

    Raises
    ------
    NoCUDA
        If there is no device.
    TypeError
        If `value` has no counterpart on the device.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.poisson(shape=(64, 64, 64))
    >>> A, b = kl.to_cuda(P.A), kl.to_cuda(P.b)     # doctest: +SKIP
    >>> x, info = kl.cg(A, b, rtol=1e-8)            # doctest: +SKIP
    """
    arrays.require_cuda()
    if lies_on_cuda(value):
        sparse = hasattr(value, "indptr") or "sparse" in str(getattr(value, "layout", ""))
        return _banded(as_cuda_matrix(value)) if sparse else value
    if sp.issparse(value):
        value = value.tocsr()
        if value.ndim != 2 or max(value.nnz, *value.shape) >= 2**31:
            raise ValueError(f"a matrix of shape {value.shape} has no counterpart on the device")
        from krylearn.interface import solve_dtype

        if value.dtype.kind not in "biufc":
            raise TypeError(f"A holds {value.dtype} elements; numbers are needed")
        indptr, indices = (upload(part.astype(np.int32)) for part in (value.indptr, value.indices))
        data = upload(value.data.astype(solve_dtype(value.dtype), copy=False))
        return _banded(CudaCSR(value.shape, indptr, indices, data))
    if hasattr(value, "_stencil"):
        return CudaGridOperator(value)
    if hasattr(value, "to") and hasattr(value, "matvec"):
        return value.to("cuda")
    if hasattr(value, "matvec"):
        raise TypeError(f"{type(value).__name__} has no counterpart on the CUDA device")
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"an array of numbers is needed, not {type(value).__name__}")
    on_device = upload(array)
    return on_device if arrays.simulated() else arrays.tensor_of(on_device)
