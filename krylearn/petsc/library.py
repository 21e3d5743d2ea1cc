"""What petsc4py leaves out, called in the library that it is linked to."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

# PCFailedReason: something inside the preconditioner; nothing.
SUBPC_ERROR, NOERROR = 5, 0
_pointer, _by = ctypes.c_void_p, ctypes.byref


def petsc() -> Any:
    """Return ``petsc4py.PETSc``.

    Raises
    ------
    ImportError
        With how to install it.
    """
    try:
        from petsc4py import PETSc
    except ImportError as error:
        raise ImportError(
            f"petsc4py does not import ({error}): `make petsc` installs it, or pip install "
            "'krylearn[petsc]'"
        ) from None
    return PETSc


def in_petsc(*values: Any) -> bool:
    """Return whether one of the operands is a matrix or vector of PETSc; imports nothing."""
    return any(type(value).__module__ == "petsc4py.PETSc" for value in values)


@cache
def _library() -> ctypes.CDLL:
    # Symbols are looked for in whatever petsc4py's module is linked to.
    return ctypes.CDLL(petsc().__file__)


def call(name: str, *arguments: Any) -> None:
    """Call a PETSc function.

    Raises
    ------
    RuntimeError
        If it returns an error code.
    """
    code = getattr(_library(), name)(*arguments)
    if code:
        raise RuntimeError(f"{name} failed with PETSc error {code}")


def handle(thing: Any) -> ctypes.c_void_p:
    """Return the C pointer of a petsc4py object."""
    return ctypes.c_void_p(thing.handle)


class Memory:
    """Foreign memory, for NumPy to view without a copy; views keep its owner alive."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: Any, owner: Any) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "version": 3, "data": (address, False), "shape": shape,
            "typestr": np.dtype(dtype).str,
        }  # fmt: skip


def view(address: Any, size: int, dtype: Any, owner: Any = None) -> np.ndarray:
    """Return `size` numbers that begin at an address as an array."""
    where = getattr(address, "value", address)
    if not size or not where:
        return np.empty(0, dtype)
    return np.asarray(Memory(where, (size,), dtype, owner))


def writable(array: np.ndarray) -> np.ndarray:
    """Return a view of a contiguous array that kernels take: one kind of array, one compilation."""
    if array.flags.writeable:
        return array
    return view(array.ctypes.data, array.size, array.dtype, array)


def sequential_arrays(matrix: ctypes.c_void_p, rows: int, owner: Any
                      ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Return ``indptr, indices, data`` of a sequential AIJ matrix, as views of PETSc's memory."""
    PETSc = petsc()
    n, done = ctypes.c_int64(0), ctypes.c_int(0)
    ia, ja, values = _pointer(), _pointer(), _pointer()
    arguments = (matrix, _integer(0), 0, 0, _by(n), _by(ia), _by(ja), _by(done))
    call("MatGetRowIJ", *arguments)
    indptr = view(ia, rows + 1, PETSc.IntType, owner) if rows else np.zeros(1, PETSc.IntType)
    indices = view(ja, int(indptr[-1]), PETSc.IntType, owner)
    call("MatSeqAIJGetArrayRead", matrix, _by(values))
    data = view(values, int(indptr[-1]), PETSc.ScalarType, owner)
    # Restoring takes the pointers away and leaves the memory where it is.
    call("MatSeqAIJRestoreArrayRead", matrix, _by(values))
    call("MatRestoreRowIJ", *arguments)
    return indptr, indices, data


def _integer(value: int) -> Any:
    return (ctypes.c_int64 if petsc().IntType().itemsize == 8 else ctypes.c_int32)(value)


def parallel_parts(matrix: Any) -> tuple[ctypes.c_void_p, ctypes.c_void_p, np.ndarray]:
    """Return the two sequential parts of an MPIAIJ matrix, and the columns of the second.

    The first has the columns that this rank owns, the second those of other ranks, compressed.
    """
    inside, outside, columns = _pointer(), _pointer(), _pointer()
    call("MatMPIAIJGetSeqAIJ", handle(matrix), _by(inside), _by(outside), _by(columns))
    rows, count = ctypes.c_int64(0), ctypes.c_int64(0)
    call("MatGetSize", outside, _by(rows), _by(count))
    return inside, outside, view(columns, int(count.value), petsc().IntType)


def pattern_state(matrix: Any) -> int:
    """Return a number that changes with the pattern of a matrix."""
    state = ctypes.c_int64(0)
    call("MatGetNonzeroState", handle(matrix), _by(state))
    return int(state.value)


def set_failed(pc: Any, failed: bool = True) -> None:
    """Let PETSc know whether a preconditioner has failed on this rank."""
    call("PCSetFailedReason", handle(pc), SUBPC_ERROR if failed else NOERROR)


@cache
def one_thread_a_rank() -> None:
    """Let NumPy's and SciPy's OpenBLAS take one thread, unless the environment says otherwise.

    Its threads go on spinning for a while after each product with a dense matrix, such as that of
    the coarsest level, on cores where other ranks work.
    """
    if any(name in os.environ for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")):
        return
    with contextlib.suppress(OSError):
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        for path in {line.split()[-1] for line in maps if "openblas" in line}:
            if "numpy" not in path and "scipy" not in path:
                continue  # PETSc's own is the user's business
            blas = ctypes.CDLL(path)
            for prefix, suffix in itertools.product(("scipy_", ""), ("64_", "")):
                function = getattr(blas, f"{prefix}openblas_set_num_threads{suffix}", None)
                if function is not None:
                    function(1)


def abort() -> None:
    """End the program on all ranks."""
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(Exception):
        library = _library()
        world = ctypes.c_void_p.in_dll(library, "PETSC_COMM_WORLD")
        library.MPI_Abort(world, 1)
    os._exit(1)  # mpirun ends the others
