"""The file: a complete HDF5 skeleton first, then every sample at its place.

All of HDF5's own structures are written once, when the file is made, with every array's space
set aside. Samples are then written over that space by plain writes at known offsets, each with a
checksum that is written last. So a process that is killed at any moment leaves a sound HDF5 file,
in which a sample is there if its checksum fits and is made again if not; nothing is copied or
assembled at the end; and the bytes do not depend on the order in which samples came.

The file is called ``NAME.part`` until all samples are there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from krylearn.data.layout import Array, Layout
from krylearn.data.plan import Plan, versions

FORMAT = 1


def part_of(out: Path) -> Path:
    """Return the name of a file that is not complete."""
    return out.with_name(out.name + ".part")


class Store:
    """An unfinished file, open for writing samples.

    Parameters
    ----------
    part : Path
        Made by `create`.
    layout : Layout
    """

    def __init__(self, part: Path, layout: Layout) -> None:
        self.part, self.layout = part, layout
        self._file = os.open(part, os.O_RDWR | os.O_CLOEXEC)
        self._offsets = _offsets(part, layout)

    def lock(self) -> None:
        """Keep other runs away from the file while this process lives.

        Raises
        ------
        BlockingIOError
            If another run holds it.
        """
        for attempt in range(20):
            try:
                return fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if attempt == 19:
                    raise
                time.sleep(0.1)  # workers of a run that was killed end within moments

    def __reduce__(self):
        return Store, (self.part, self.layout)

    def reopen(self) -> None:
        """Let go of a lock that was inherited by a fork."""
        os.close(self._file)
        self._file = os.open(self.part, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the file, and with it the lock."""
        os.close(self._file)

    def write(self, first: int, values: dict[str, np.ndarray]) -> None:
        """Write consecutive samples from the number `first` on.

        Parameters
        ----------
        values : dict of str to array
            One row a sample, for every array of the layout but the checksum.

        Raises
        ------
        OSError
            If the disk is full or fails; what was written before stays valid.
        """
        rows = {a.name: np.ascontiguousarray(values[a.name], a.dtype)
                for a in self.layout.arrays[:-1]}  # fmt: skip
        sums = [_checksum(rows[name][i : i + 1] for name in rows) for i in range(len(rows["seed"]))]
        rows["checksum"] = np.array(sums, np.uint32)
        for a in self.layout.arrays:
            _write(self._file, rows[a.name], self._offsets[a.name] + first * a.bytes)

    def copy(self, other: Store, i: int) -> None:
        """Take a sample over from another store of the same layout, its checksum last."""
        for a in self.layout.arrays:
            values = os.pread(other._file, a.bytes, other._offsets[a.name] + i * a.bytes)
            row = np.frombuffer(values, np.uint8)
            _write(self._file, row, self._offsets[a.name] + i * a.bytes)

    def found(self, samples: int) -> np.ndarray:
        """Return for each sample whether it is there: its checksum is that of its bytes."""
        arrays = self.layout.arrays
        sums = np.fromfile(self.part, np.uint32, samples, offset=self._offsets["checksum"])
        found = sums != 0
        for i in np.flatnonzero(found):
            rows = (os.pread(self._file, a.bytes, self._offsets[a.name] + int(i) * a.bytes)
                    for a in arrays[:-1])  # fmt: skip
            found[i] = _checksum(rows) == sums[i]
        return found

    def read(self, name: str, samples: int) -> np.ndarray:
        """Return a small array of all samples."""
        a = next(a for a in self.layout.arrays if a.name == name)
        values = np.fromfile(self.part, a.dtype, samples * int(np.prod(a.shape)),
                             offset=self._offsets[name])  # fmt: skip
        return values.reshape(samples, *a.shape)

    def finish(self, out: Path) -> None:
        """Give the complete file its name, once the disk has all of it."""
        os.fsync(self._file)
        os.replace(self.part, out)
        sync_folder(out.parent)


def remove(part: Path) -> None:
    """Remove an unfinished file, if there is one and no run holds it.

    Raises
    ------
    BlockingIOError
        If a run holds it.
    """
    with contextlib.suppress(FileNotFoundError), open(part, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()


def create(part: Path, plan: Plan, layout: Layout, solver: str, configuration: dict) -> None:
    """Make the skeleton of a file; it appears under its name when it is complete."""
    import h5py

    draft = part.with_name(part.name + ".new")
    _try_size(draft, plan.samples, layout)
    with h5py.File(draft, "w", libver=("v110", "v110")) as file:
        for a in layout.arrays:
            _allocate(file, a, plan.samples)
        for name, value in layout.constants.items():
            file.create_dataset(f"constants/{name}", data=value, track_times=False)
        for axis, x in enumerate(layout.coordinates):
            file.create_dataset(f"coordinates/{axis}", data=x, track_times=False)
        for name, text in (
            ("residual", "norm(b - A x) / norm(b), recomputed in float64 before x was rounded"),
            ("valid", "1: the residual is within rtol; 0: it is not, and the solution is NaN"),
            ("checksum", "CRC-32 of the sample's bytes in all other arrays, in the order of "
                         "attribute 'arrays'; never 0"),
            ("seed", "what the problem was drawn from"),
            ("statistics", "mean and mean square of a sample, for normalisation"),
        ):  # fmt: skip
            file[name].attrs["description"] = text
        for name, value in attributes(plan, layout, solver, configuration).items():
            file.attrs[name] = value
    with open(draft, "rb") as made:
        os.fsync(made.fileno())
    os.replace(draft, part)
    sync_folder(part.parent)


def _try_size(draft: Path, samples: int, layout: Layout) -> None:
    """Raise OSError where the disk would not take the skeleton: HDF5 may crash then."""
    shared = sum(np.asarray(x).nbytes for x in (*layout.constants.values(), *layout.coordinates))
    written = 2**16 + shared + 64 * samples  # HDF5's own structures among it
    try:
        with open(draft, "wb") as file:
            file.write(bytes(written))
            file.flush()
            file.truncate(written + samples * sum(a.bytes for a in layout.arrays))
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def attributes(plan: Plan, layout: Layout, solver: str, configuration: dict) -> dict[str, Any]:
    """Return the provenance: all that the bytes depend on, and nothing else (no date)."""
    grid = [] if plan.grid is None else list(plan.grid)
    device = {}
    if plan.device == "cuda":
        from krylearn.data.cuda import device_name

        device = {"device": device_name(plan)}
    return {
        "made_by": "krylearn generate", "format": FORMAT, "family": plan.family,
        "options": json.dumps(plan.options, sort_keys=True), "grid": grid,
        "stride": plan.stride, "samples": plan.samples, "first_seed": plan.seed,
        "rtol": plan.rtol, "dtype": plan.dtype, "shard": plan.shard,
        "solver_asked_for": plan.solver, "solver": solver,
        "solver_configuration": json.dumps(configuration, sort_keys=True),
        "versions": json.dumps(versions(), sort_keys=True),
        "arrays": [a.name for a in layout.arrays], **device,
    }  # fmt: skip


def read_attributes(path: Path) -> dict[str, Any]:
    """Return the provenance of a file that `create` made.

    Raises
    ------
    ValueError
        If it is another kind of file.
    """
    try:
        with open_file(path) as file:
            found = {name: value.tolist() if isinstance(value, np.ndarray) else value
                     for name, value in file.attrs.items()}  # fmt: skip
    except OSError:
        found = {}
    if found.get("made_by") != "krylearn generate":
        raise ValueError(f"{path} exists and is not a file of krylearn generate")
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in found.items()}


def open_file(path: Path) -> Any:
    """Open a file for reading, even while a run holds and fills it."""
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError:
        return h5py.File(path, "r", locking=False)


def sync_folder(folder: Path) -> None:
    """Let the disk keep the names in a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system can
            os.fsync(handle)
    finally:
        os.close(handle)


def _allocate(file: Any, a: Array, samples: int) -> None:
    """Set space aside for all samples in one piece, without writing to it."""
    from h5py import h5d, h5p, h5s, h5t

    settings = h5p.create(h5p.DATASET_CREATE)
    settings.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5d.FILL_TIME_NEVER)
    settings.set_obj_track_times(False)
    if len(a.shape) > 0:
        # A chunk a sample: training reads samples in random order. The chunks lie side by side.
        settings.set_chunk((1, *a.shape))
    links = h5p.create(h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    space = h5s.create_simple((samples, *a.shape))
    h5d.create(file.id, a.name.encode(), h5t.py_create(a.dtype), space, settings, links)


def _offsets(part: Path, layout: Layout) -> dict[str, int]:
    """Return where in the file the first sample's values of each array lie."""
    found = {}
    with open_file(part) as file:
        for a in layout.arrays:
            data = file[a.name].id
            if len(a.shape) == 0:
                found[a.name] = data.get_offset()
                continue
            first, last = (data.get_chunk_info(i) for i in (0, data.get_num_chunks() - 1))
            distance = (data.get_num_chunks() - 1) * a.bytes
            if last.byte_offset - first.byte_offset != distance or first.size != a.bytes:
                raise OSError(f"this HDF5 library does not lay out {a.name} in one piece")
            found[a.name] = first.byte_offset
    return found


def _checksum(parts: Iterable[Any]) -> int:
    total = 0
    for part in parts:
        total = zlib.crc32(part, total)
    return total or 1  # 0: not there


def _write(file: int, values: np.ndarray, offset: int) -> None:
    left: Any = memoryview(values.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written
