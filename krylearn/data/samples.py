"""A file read back: as NumPy arrays, or as a torch data set."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from krylearn.data.store import open_file, read_attributes


class Samples:
    """The valid samples of a file that `generate` made; nothing is read before it is asked for.

    Parameters
    ----------
    path : str or Path
    dtype : dtype
        Of the fields that are returned.
    normalise : bool
        Shift and scale each channel to mean 0 and deviation 1 over the valid samples.
    inputs : sequence of str, optional
        Which inputs make the channels, all of one shape; by default those of the solution's
        shape, or where there are none, of the first one's.
    first, last : int, optional
        A range of valid samples, such as the first 1000 for training.

    Attributes
    ----------
    attributes : dict
        The provenance.
    inputs : tuple of str
        Names of the input channels.
    means, deviations : dict of str to float
        Of the inputs and of 'solution', over the valid samples of the range.
    coordinates : list of array
        Of the points along each axis.

    Raises
    ------
    ValueError
        If the file is of another kind, or there is no such input.

    Notes
    -----
    The file is opened in each process when it first reads, so that forked and spawned loaders
    are safe.

    Examples
    --------
    >>> import tempfile, pathlib, krylearn as kl
    >>> out = pathlib.Path(tempfile.mkdtemp()) / "darcy.h5"
    >>> _ = kl.generate("darcy", samples=3, grid=16, out=out, solver="cg", workers=1)
    >>> a, u = kl.data.Samples(out)[0]
    >>> a.shape, u.shape
    ((1, 16, 16), (1, 16, 16))
    """

    def __init__(self, path: Any, *, dtype: Any = np.float32, normalise: bool = False,
                 inputs: Any = None, first: int = 0, last: int | None = None) -> None:  # fmt: skip
        self.path, self.dtype, self.normalise = Path(path), np.dtype(dtype), bool(normalise)
        if not self.path.exists():
            raise FileNotFoundError(f"there is no file {path}")
        self.attributes = read_attributes(self.path)
        self._process, self._file = -1, None
        file = self._open()
        self.inputs = _channels_of(file, inputs, self.path)
        # Of an unfinished file the rows that are not there are zero, and so not valid.
        self._rows = np.flatnonzero(file["valid"][:])[first:last]
        self.coordinates = [x[:] for _, x in sorted(file.get("coordinates", {}).items())]
        self.means, self.deviations = {}, {}
        for name, data in file["statistics"].items():
            mean, square = data[:][self._rows].mean(axis=0) if len(self._rows) else (0.0, 1.0)
            self.means[name] = float(mean)
            self.deviations[name] = float(np.sqrt(max(square - mean**2, 0.0))) or 1.0
        self.close()

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of the family."""
        return json.loads(self.attributes["options"])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return input and solution, (channels, ...) each; complex values take two channels."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} samples, not {index}")
        row, file = self._rows[index], self._open()
        names = [f"inputs/{name}" for name in self.inputs]
        parts = [self._channels(name, file[name][row]) for name in names]
        return np.concatenate(parts), self._channels("solution", file["solution"][row])

    def _channels(self, name: str, values: np.ndarray) -> np.ndarray:
        if values.dtype.kind == "c":
            values = np.stack([values.real, values.imag])
        else:
            values = values[None]
        if self.normalise:
            key = name.removeprefix("inputs/")
            values = (values - self.means[key]) / self.deviations[key]
        return np.ascontiguousarray(values, self.dtype)

    def denormalise(self, solution: Any) -> Any:
        """Return a normalised solution, or a network's, in its own units."""
        return solution * self.deviations["solution"] + self.means["solution"]

    def read(self, name: str) -> np.ndarray:
        """Return an array of the file for all samples of the range: 'residual', 'solution', ..."""
        return self._open()[name][:][self._rows]

    def close(self) -> None:
        """Close the file; it is opened again where that is needed."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._process, self._file = -1, None

    def _open(self) -> Any:
        if self._file is None or self._process != os.getpid():
            self._file = open_file(self.path)
            self._process = os.getpid()
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_process": -1, "_file": None}

    def __repr__(self) -> str:
        return f"<{len(self)} samples of {self.attributes['family']}: {', '.join(self.inputs)}>"


def _channels_of(file: Any, names: Any, path: Path) -> tuple[str, ...]:
    """Return the inputs that make channels, all of one shape."""
    shapes = {name: data.shape[1:] for name, data in file["inputs"].items()}
    if names is None:
        wanted = file["solution"].shape[1:]
        if wanted not in shapes.values():
            wanted = next(iter(shapes.values()))
        return tuple(name for name, shape in shapes.items() if shape == wanted)
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in shapes:
            raise ValueError(f"{path} has no input {name!r}; it has {', '.join(shapes)}")
    if len({shapes[name] for name in names}) != 1:
        raise ValueError(f"inputs of different shapes do not make channels: {', '.join(names)}")
    return names


def dataset(path: Any, **options: Any) -> Any:
    """Return a file of `generate` as a map-style torch data set.

    Parameters
    ----------
    path : str or Path
    **options
        Of `Samples`: dtype, normalise, inputs, first, last.

    Returns
    -------
    data : torch.utils.data.Dataset
        Items are pairs of tensors, input and solution, (channels, ...) each. Safe with loaders
        that use processes.

    Raises
    ------
    ImportError
        If torch is not installed.
    """
    try:
        from krylearn.data.tensors import Tensors
    except ImportError:
        raise ImportError("a torch data set needs torch: pip install 'krylearn[learned]'; "
                          "krylearn.data.Samples reads the file without") from None  # fmt: skip
    return Tensors(path, **options)
