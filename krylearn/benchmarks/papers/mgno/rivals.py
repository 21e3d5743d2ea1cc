"""A U-Net and a Fourier neural operator, trained as an MgNO is: same data, epochs and loss."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from krylearn.benchmarks.papers.mgno import samples
from krylearn.data.plan import recipes
from krylearn.learned.mgno.model import MgNO, Scaled
from krylearn.learned.mgno.train import Config, Trainer

# Layers and levels of the MgNO that the others are measured by.
LAYERS, LEVELS = 4, 5


class UNet(Scaled):
    """A U-Net (Ronneberger, Fischer and Brox 2015): two convolutions a level, halved and back.

    Parameters
    ----------
    inputs, outputs : int
    width : int
        Channels of the finest level, doubled on each coarser one.
    levels : int
    scaled_on
        As for `MgNO`.
    """

    def __init__(self, inputs: int = 1, outputs: int = 1, width: int = 8, levels: int = 4,
                 dimension: int = 2, scaled_on: Any = None) -> None:  # fmt: skip
        super().__init__(outputs, dimension, scaled_on)
        self.settings = {"inputs": inputs, "outputs": outputs, "width": width, "levels": levels,
                         "dimension": dimension, "scaled_on": scaled_on}  # fmt: skip
        sizes = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList(_pair(a, b) for a, b in zip([inputs, *sizes], sizes))
        self.rise = nn.ModuleList(nn.ConvTranspose2d(2 * a, a, 2, 2) for a in sizes[:-1])
        self.up = nn.ModuleList(_pair(2 * a, a) for a in sizes[:-1])
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, u: Tensor) -> Tensor:
        held: list[Tensor] = []
        for level, down in enumerate(self.down):
            u = down(F.avg_pool2d(u, 2, ceil_mode=True) if level else u)
            held.append(u)
        held.pop()
        for rise, up, fine in zip(reversed(list(self.rise)), reversed(list(self.up)),
                                  reversed(held)):  # fmt: skip
            wide = rise(u)[..., : fine.shape[-2], : fine.shape[-1]]
            u = up(torch.cat([fine, wide], dim=1))
        return self.scaled(self.head(u))


def _pair(a: int, b: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.GELU(),
                         nn.Conv2d(b, b, 3, padding=1), nn.GELU())  # fmt: skip


class FNO(Scaled):
    """neuraloperator's Fourier neural operator (Li et al. 2021), scaled as the others are."""

    def __init__(self, inputs: int = 1, outputs: int = 1, width: int = 16, modes: int = 8,
                 dimension: int = 2, scaled_on: Any = None) -> None:  # fmt: skip
        try:
            from neuralop.models import FNO as Theirs
        except ImportError:
            raise ImportError("the FNO is that of neuraloperator, which is not there: "
                              "pip install neuraloperator") from None  # fmt: skip
        super().__init__(outputs, dimension, scaled_on)
        self.settings = {"inputs": inputs, "outputs": outputs, "width": width, "modes": modes,
                         "dimension": dimension, "scaled_on": scaled_on}  # fmt: skip
        self.inner = Theirs(n_modes=(modes,) * dimension, in_channels=inputs,
                            out_channels=outputs, hidden_channels=width, n_layers=4)  # fmt: skip

    def forward(self, u: Tensor) -> Tensor:
        return self.scaled(self.inner(u))

    def state_dict(self, *args: Any, **more: Any) -> Any:  # theirs holds settings, too
        found = super().state_dict(*args, **more)
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def count(model: nn.Module) -> int:
    """Return the number of parameters, a complex one being two numbers."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in model.parameters())


def fitted(make: Callable[[int], nn.Module], wanted: int) -> int:
    """Return the width at which a network has nearest to so many parameters."""
    sizes = {width: abs(count(make(width)) - wanted) for width in range(2, 65)}
    return min(sizes, key=lambda width: sizes[width])


def compare(side: int, train: int, epochs: int, width: int, say: Callable) -> dict[str, Any]:
    """Return the errors of the three after equal training, on Darcy 12 / 3 at side x side."""
    recipe = recipes()["darcy-smooth"] | {"grid": [side, side], "stride": 1}
    valid = test = max(8, train // 10)
    a, u = samples.pairs(recipe, train + valid + test)
    wanted = count(MgNO(width=width, layers=LAYERS, levels=LEVELS))
    found: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        data = Path(folder) / "darcy.npz"
        np.savez(data, inputs=a, solution=u)
        for name, network, settings in _entrants(width, wanted):
            config = Config(name=name, data=str(data), train=train, valid=valid, test=test,
                            epochs=epochs, rate=1e-3, precision="tf32", pointwise=True,
                            model=settings())  # fmt: skip
            try:
                trainer = Trainer(config, samples.device(), network)
                trainer.captured = network is not FNO  # theirs does what graphs refuse
                card = trainer.run(Path(folder) / name, say=lambda line: None)
            except (ImportError, RuntimeError) as error:
                found.append({"network": name, "error": str(error)})
                say(f"{name}: {error}")
                continue
            assert card is not None
            found.append({"network": name, "parameters": count(trainer.model),
                          "l2": card["l2"], "h1": card["h1"], "frequency": card["frequency"],
                          "seconds": card["seconds"], "prediction_seconds": _pace(trainer),
                          "curve": card["curve"]})  # fmt: skip
            say(f"{name}: L2 {card['l2']:.3e} in {card['seconds']:.0f} s")
    return {"side": side, "train": train, "test": test, "epochs": epochs, "rows": found}


def _entrants(width: int, wanted: int) -> list[tuple[str, Any, Callable[[], dict[str, Any]]]]:
    return [
        ("MgNO", MgNO, lambda: {"width": width, "layers": LAYERS, "levels": LEVELS}),
        ("U-Net", UNet, lambda: {"width": fitted(lambda w: UNet(width=w), wanted)}),
        ("FNO", FNO, lambda: {"width": _fno_width(wanted)}),
    ]


def _fno_width(wanted: int) -> int:
    try:
        return fitted(lambda width: FNO(width=width), wanted)
    except ImportError:
        return 16


@torch.inference_mode()
def _pace(trainer: Trainer) -> float:
    """Return the seconds of one prediction."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        trainer.predict(trainer.a[:1]).cpu()
        times.append(time.perf_counter() - began)
    return float(np.median(times))
