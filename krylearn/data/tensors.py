"""Samples as a torch data set; the only module here that imports torch."""

from __future__ import annotations

import torch
import torch.utils.data

from krylearn.data.samples import Samples


class Tensors(Samples, torch.utils.data.Dataset):
    """The samples of a file as pairs of tensors: see `Samples` for the parameters.

    Examples
    --------
    >>> import tempfile, pathlib, krylearn as kl
    >>> out = pathlib.Path(tempfile.mkdtemp()) / "darcy.h5"
    >>> _ = kl.generate("darcy", samples=3, grid=16, out=out, solver="cg", workers=1)
    >>> import torch
    >>> a, u = next(iter(torch.utils.data.DataLoader(kl.dataset(out), batch_size=3)))
    >>> a.shape, u.dtype
    (torch.Size([3, 1, 16, 16]), torch.float32)
    """

    def __getitem__(self, index):
        return tuple(torch.from_numpy(values) for values in super().__getitem__(index))
