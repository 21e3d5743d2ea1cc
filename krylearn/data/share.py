"""Shares of a data set that several jobs make, each in a file of its own, and how they join.

A share's file is that of the whole set with the other samples missing; whoever makes the whole
takes over what the shares hold, checksum by checksum, and makes what is still missing.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from krylearn.data.store import Store

# Who numbers the processes of one run: MPI libraries, Slurm's tasks, Slurm's job arrays.
_NUMBERED = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", ""),
    ("PMI_RANK", "PMI_SIZE", ""),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("SLURM_PROCID", "SLURM_NTASKS", ""),
)


@dataclass(frozen=True)
class Share:
    """One of `count` jobs, the one with this `index` from 0 on."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Return the share of '2/8', or of 'auto': what MPI or Slurm say of this process.

        Raises
        ------
        ValueError
            If it is none.

        Examples
        --------
        >>> from krylearn.data.share import Share
        >>> Share.parse("2/8")
        Share(index=2, count=8)
        """
        if text == "auto":
            for rank, size, least in _NUMBERED:
                if rank in os.environ and size in os.environ:
                    first = int(os.environ.get(least, "0") or 0) if least else 0
                    return cls(int(os.environ[rank]) - first, int(os.environ[size]))
            raise ValueError("neither mpirun nor a job array has started this: give shards as 2/8")
        index, slash, count = text.partition("/")
        if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
            raise ValueError(f"shards is INDEX/COUNT, from 0/8 to 7/8, or auto; not {text!r}")
        return cls(int(index), int(count))

    def file(self, out: Path) -> Path:
        """Return the name of the share's own file."""
        return out.with_name(f"{out.name}.{self.index}of{self.count}")

    def has(self, shard: int) -> bool:
        """Return whether a shard of samples belongs to it."""
        return shard % self.count == self.index


def files_of(out: Path) -> list[Path]:
    """Return the files of shares, finished or not, that lie beside a data set."""
    return sorted(Path(p) for p in glob.glob(f"{glob.escape(str(out))}.*of*")
                  if re.search(r"\.\d+of\d+(\.part)?$", p))  # fmt: skip


def take_over(store: Store, paths: list[Path], samples: int, layout: Any) -> None:
    """Copy what shares have made and the store has not."""
    found = store.found(samples)
    for path in paths:
        share = Store(path, layout)
        try:
            there: np.ndarray = share.found(samples) & ~found
            for i in np.flatnonzero(there):
                store.copy(share, int(i))
            found |= there
        finally:
            share.close()
