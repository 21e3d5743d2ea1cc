"""Parameters of systems as points whose distances say how much the systems differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import scipy.fft


def features(params: Iterable[Any], modes: int | None = None) -> np.ndarray:
    """Return one row a system: its parameters, each kind scaled by its spread over the systems.

    Parameters
    ----------
    params : iterable of array, number, sequence of them, or dict
        One a system, alike in shape. Of dicts those entries count that all systems have, in the
        same shape.
    modes : int, optional
        Of each field only the Fourier coefficients below that frequency along every axis; all
        values by default. Distances between rows are then those of smoothed fields.

    Returns
    -------
    points : (systems, features) array

    Raises
    ------
    ValueError
        If the systems have no parameters in common.

    Examples
    --------
    >>> features([{"a": [0.0, 0.0], "c": 3}, {"a": [0.0, 2.0], "c": 3}]).round(2).tolist()
    [[0.0, 0.0], [0.0, 2.0]]
    """
    flattened = [_flatten(p) for p in params]
    if not flattened:
        return np.zeros((0, 0))
    names = [
        name for name, value in flattened[0].items()
        if all(name in p and p[name].shape == value.shape for p in flattened)
    ]  # fmt: skip
    columns = []
    for name in names:
        values = np.stack([p[name] for p in flattened])
        rows = _low_modes(values, modes) if modes else values.reshape(len(values), -1)
        if np.iscomplexobj(rows):
            rows = np.concatenate([rows.real, rows.imag], axis=1)
        spread = np.linalg.norm(rows - rows.mean(axis=0)) / np.sqrt(len(rows))
        if spread > 0:
            columns.append(rows / spread)
    if not names:
        raise ValueError(
            "the systems have no parameters in common to sort by: give (A, b, params), or "
            "sort=False"
        )
    if not columns:  # they are all the same
        return np.zeros((len(flattened), 1))
    return np.concatenate(columns, axis=1)


def _flatten(params: Any, name: str = "") -> dict[str, np.ndarray]:
    """Return the numeric arrays among parameters by name."""
    if isinstance(params, Mapping):
        named = {str(key): value for key, value in params.items()}
    elif isinstance(params, (tuple, list)) and not _numeric(params):
        named = {str(k): value for k, value in enumerate(params)}
    else:
        return {name: np.asarray(params) * 1.0} if _numeric(params) else {}
    found: dict[str, np.ndarray] = {}
    for key, value in named.items():
        found |= _flatten(value, f"{name}.{key}")
    return found


def _numeric(value: Any) -> bool:
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        return False
    return array.dtype.kind in "biufc" and bool(np.isfinite(array).all())


def _low_modes(values: np.ndarray, modes: int) -> np.ndarray:
    """Return the Fourier coefficients of low frequency of each field, as rows."""
    axes = tuple(range(1, values.ndim))
    if not axes or max(values.shape[1:]) <= modes:
        return values.reshape(len(values), -1)
    spectrum = scipy.fft.fftn(values, axes=axes, norm="ortho")
    for axis in axes:
        size = values.shape[axis]
        kept = [k for k in range(-modes + 1, modes) if -size // 2 < k <= size // 2]
        spectrum = np.take(spectrum, np.array(kept) % size, axis=axis)
    return spectrum.reshape(len(values), -1)


def distance(one: Any, other: Any) -> float:
    """Return how much two sets of parameters differ, each field relative to its size.

    Examples
    --------
    >>> distance({"a": [3.0, 4.0]}, {"a": [3.0, 3.0]})
    0.2
    """
    ours, theirs = _flatten(one), _flatten(other)
    total = 0.0
    for name, value in ours.items():
        if name in theirs and theirs[name].shape == value.shape:
            size = float(np.linalg.norm(value)) or 1.0
            total += (float(np.linalg.norm(value - theirs[name])) / size) ** 2
    return total**0.5
