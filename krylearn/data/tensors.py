"""Samples as a torch data set; the only module here that imports torch."""

from __future__ import annotations

import torch
import torch.utils.data

from krylearn.data.samples import Samples


class Tensors(Samples, torch.utils.data.Dataset):
    """The samples of a file as pairs of tensors: see `Samples` for the parameters."""

    def __getitem__(self, index):
        return tuple(torch.from_numpy(values) for values in super().__getitem__(index))
