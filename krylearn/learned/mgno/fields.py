"""Pairs of fields for training, from the files that people have them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

# The names under which inputs and solutions are looked for, in this order.
INPUTS = ("inputs", "coefficient", "coeff", "a", "x", "input")
SOLUTIONS = ("solution", "sol", "u", "y", "output")


def load_fields(path: str | Path, first: int = 0, last: int | None = None,
                stride: int = 1) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the inputs and solutions of samples `first` to `last` of a file.

    Parameters
    ----------
    path : path
        HDF5, as `krylearn generate` and MATLAB 7.3 write it; MATLAB's .mat; NumPy's .npz.
    first, last : int
    stride : int
        Keep every `stride`-th point along each axis.

    Returns
    -------
    inputs : (samples, channels, n, ...) float32 array
    solutions : (samples, 1, n, ...) float32 array

    Raises
    ------
    ValueError
        If the file holds no such arrays, or they do not fit each other.
    """
    path = Path(path)
    readers: dict[str, Any] = {".npz": np.load, ".mat": _read_mat}
    arrays = readers.get(path.suffix, _read_hdf5)(path)
    try:
        names = [next(n for n in wanted if n in arrays) for wanted in (INPUTS, SOLUTIONS)]
    except StopIteration:
        raise ValueError(f"{path} holds {', '.join(arrays)}, no inputs and solutions") from None
    a, u = (np.asarray(arrays[name][first:last], np.float32) for name in names)
    if u.ndim > 2 and a.ndim == u.ndim:
        a = a[:, None]
    u = u[:, None]
    if a.shape[0] != u.shape[0] or a.shape[2:] != u.shape[2:]:
        raise ValueError(f"{path}: inputs of shape {a.shape}, solutions of {u.shape}")
    points: Any = (..., *(slice(None, None, stride),) * (u.ndim - 2))
    return np.ascontiguousarray(a[points]), np.ascontiguousarray(u[points])


def _read_hdf5(path: Path) -> dict[str, Any]:
    import h5py

    with h5py.File(path) as file:
        arrays: dict[str, Any] = {
            name: item[...] for name, item in file.items() if isinstance(item, h5py.Dataset)
        }
        kept: Any = slice(None)
        if "valid" in arrays:  # ours: samples that could not be solved are left out
            count = len(arrays["valid"])
            kept = arrays.pop("valid").astype(bool)
            arrays = {n: v[kept] for n, v in arrays.items() if v.shape[:1] == (count,)}
        if isinstance(file.get("inputs"), h5py.Group):
            channels = [item[...][kept] for item in file["inputs"].values()]
            arrays["inputs"] = np.stack(channels, axis=1)
    return arrays


def _read_mat(path: Path) -> dict[str, Any]:
    import h5py

    if h5py.is_hdf5(path):  # version 7.3: with the axes reversed
        return {name: values.T for name, values in _read_hdf5(path).items()}
    return scipy.io.loadmat(path)
