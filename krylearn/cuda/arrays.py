"""Where arrays lie, how they come to the device and back, and what holds them there.

Users hold torch tensors, CuPy arrays or anything that speaks ``__cuda_array_interface__`` or
DLPack; kernels see Numba's view of memory that torch's allocator gave. Nothing here copies what
lies on the device already. Under Numba's simulator, NumPy stands in for the device.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np


class NoCUDA(RuntimeError):
    """There is no CUDA device, or a package for it is missing."""


def lies_on_cuda(value: Any) -> bool:
    """Return whether an operand lies on a CUDA device; imports nothing."""
    if type(value) is np.ndarray or value is None:
        return False
    if getattr(value, "on_cuda", False) or getattr(value, "is_cuda", False) is True:
        return True
    module = type(value).__module__
    if module.startswith(("cupy", "cupyx", "numba.cuda", "numba_cuda")):
        return True
    if module.startswith(("torch", "numpy", "scipy", "petsc4py")):
        return False
    if hasattr(value, "__dlpack_device__"):
        return int(value.__dlpack_device__()[0]) == 2
    return hasattr(value, "__cuda_array_interface__")


def simulated() -> bool:
    """Return whether Numba simulates the device."""
    from numba import config

    return bool(getattr(config, "ENABLE_CUDASIM", False))


def require_cuda() -> None:
    """Make sure that a device can be used.

    Raises
    ------
    NoCUDA
        The message says what is missing.
    """
    if simulated():
        return
    try:
        import torch
    except ImportError:
        raise NoCUDA("device='cuda' needs torch: pip install 'krylearn[cuda]'") from None
    if not torch.cuda.is_available():
        built = torch.version.cuda is None
        raise NoCUDA(
            "no CUDA device is found"
            + (": this torch was built without CUDA" if built else "; nvidia-smi says more")
            + ". Leave device out, or say device='cpu'"
        )
    from numba import cuda

    if not cuda.is_available():
        raise NoCUDA("torch finds a CUDA device and Numba does not: pip install numba-cuda")


# -- torch's tensors and Numba's view of them ---------------------------------------------------


def torch_dtype(dtype: Any) -> Any:
    """Return torch's name of a NumPy dtype."""
    import torch

    return getattr(torch, np.dtype(dtype).name)


def as_tensor(value: Any) -> Any:
    """Return a dense operand on the device as a tensor that shares its memory.

    Raises
    ------
    TypeError
        If `value` is no array of numbers on the device.
    """
    import torch

    if isinstance(value, torch.Tensor):
        tensor = value.detach()
    elif hasattr(value, "__cuda_array_interface__"):
        tensor = torch.as_tensor(value, device="cuda")
    else:
        tensor = torch.from_dlpack(value)
    if tensor.layout != torch.strided or not tensor.is_cuda:
        raise TypeError(f"a dense array on the device is needed, not {type(value).__name__}")
    if tensor.device.index != torch.cuda.current_device():
        raise ValueError(
            f"an operand lies on cuda:{tensor.device.index}; work runs on the current device, "
            f"cuda:{torch.cuda.current_device()}"
        )
    return tensor.resolve_conj() if tensor.is_complex() else tensor


def view(tensor: Any) -> Any:
    """Return Numba's view of a contiguous tensor; it keeps the tensor alive."""
    from numba import cuda

    return cuda.as_cuda_array(tensor, sync=False)


def tensor_of(array: Any) -> Any:
    """Return the tensor behind Numba's view."""
    import torch

    return torch.as_tensor(array, device="cuda")


def shared(array: Any) -> Any:
    """Return a tensor, or NumPy's array under the simulator, that shares an array's memory."""
    return array._ary if simulated() else tensor_of(array)


# -- what the solvers call, on the device and under the simulator -------------------------------


def empty(shape: Any, dtype: Any, what: str = "a work array") -> Any:
    """Return an uninitialised array on the device.

    Raises
    ------
    MemoryError
        If the device has not so much left; the message names the bytes.
    """
    from numba import cuda

    if simulated():
        kind = np.dtype(dtype).kind
        nothing = np.array(np.nan if kind in "fc" else -7).astype(dtype)
        return cuda.to_device(np.full(shape, nothing, dtype))
    import torch

    try:
        return view(torch.empty(shape, dtype=torch_dtype(dtype), device="cuda"))
    except torch.OutOfMemoryError:
        needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
        raise MemoryError(_too_little(f"{what} takes {needed:,} bytes")) from None


@contextlib.contextmanager
def naming_bytes() -> Iterator[None]:
    """Turn what torch and the driver say where memory is short into a `MemoryError`.

    The message names the bytes that were asked for, where they are known.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        text = str(error)
        short = "out of memory" in text or "OUT_OF_MEMORY" in text or "ALLOC_FAILED" in text
        if type(error).__name__ != "OutOfMemoryError" and not (short and "CU" in text):
            raise
        asked = re.search(r"allocate ([\d.]+) ([KMGT]?)i?B", text)
        why = text.splitlines()[0] if text else "it said no more"
        if asked:
            size = float(asked[1]) * 1024 ** " KMGT".index(asked[2] or " ")
            why = f"a work array of torch's takes about {size:,.0f} bytes"
        raise MemoryError(_too_little(why)) from None


def _too_little(why: str) -> str:
    if "torch" not in sys.modules or not sys.modules["torch"].cuda.is_available():
        return f"the CUDA device has not enough memory: {why}"
    free, everything = sys.modules["torch"].cuda.mem_get_info()
    return (f"the CUDA device has not enough memory: {why}, and of {everything:,} bytes {free:,} "
            "are free")  # fmt: skip


def zeros(shape: Any, dtype: Any, what: str = "a work array") -> Any:
    """Return an array of zeros on the device."""
    array = empty(shape, dtype, what)
    fill(array, 0)
    return array


def fill(array: Any, value: Any) -> None:
    """Set all elements."""
    shared(array)[...] = value


def upload(values: np.ndarray, out: Any = None, what: str = "a copy of the operand") -> Any:
    """Copy an array to the device, into `out` where that is given."""
    values = np.ascontiguousarray(values)
    if out is None:
        out = empty(values.shape, values.dtype, what)
    if simulated():
        out._ary[...] = values
    else:
        import torch

        tensor_of(out).copy_(torch.from_numpy(values))
    return out


def download(array: Any) -> np.ndarray:
    """Copy an array to the host; waits for what is queued."""
    if simulated():
        return np.array(array._ary)
    return tensor_of(array).cpu().numpy()


def dtype_of(value: Any) -> np.dtype:
    """Return the NumPy dtype of an operand on the device."""
    dtype = value.dtype
    if type(dtype).__module__ == "torch":
        name = str(dtype).removeprefix("torch.")
        try:
            return np.dtype(name)
        except TypeError:
            raise TypeError(f"elements of type {name} have no counterpart here") from None
    return np.dtype(dtype)


def vector_on_device(value: Any, dtype: np.dtype, name: str) -> Any:
    """Return an operand as a contiguous (k, n) array on the device, row j being column j.

    It shares memory with what the user has where that fits.
    """
    if 0 in tuple(value.shape):
        raise ValueError(f"{name} of shape {tuple(value.shape)} holds nothing to solve for")
    if simulated():
        from numba import cuda

        values = value._ary if hasattr(value, "_ary") else np.asarray(value)
        columns = values.reshape(values.shape[0], -1).T
        return cuda.to_device(np.array(columns, dtype=dtype, order="C"))
    tensor = as_tensor(value)
    if dtype_of(tensor).kind not in "biufc":
        raise TypeError(f"{name} holds {tensor.dtype} elements; numbers are needed")
    columns = tensor.reshape(tensor.shape[0], -1).t()
    return view(columns.to(torch_dtype(dtype)).contiguous())


def columns(X: Any) -> Any:
    """Return the transpose of a (k, n) array, in C order."""
    if simulated():
        return upload(download(X).T)
    return view(tensor_of(X).t().contiguous())


def in_the_kind_of(array: Any, original: Any) -> Any:
    """Return an array on the device as what the user's `original` is: a tensor, CuPy, JAX, ..."""
    if simulated():
        return array
    tensor = tensor_of(array)
    module = type(original).__module__.split(".")[0]
    if module == "torch":
        return tensor
    if module in ("numba", "numba_cuda"):
        return view(tensor)
    if hasattr(original, "__array_namespace__"):
        return original.__array_namespace__().from_dlpack(tensor)
    if module == "cupy":
        return sys.modules["cupy"].from_dlpack(tensor)
    return tensor
