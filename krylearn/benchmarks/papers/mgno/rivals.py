"""A U-Net and Fourier neural operators, trained as an MgNO is: same data, epochs and loss."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
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
from krylearn.learned.training import run_together

# Layers and levels of the MgNO that the others are measured by.
LAYERS, LEVELS = 4, 5
# One MgNO is trained for the true H1 norm, not for the paper's norm by frequencies.
IN_H1 = "MgNO, loss in H1"


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
        except ImportError as error:
            raise ImportError(f"the FNO is that of neuraloperator, which is not there ({error}): "
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
    first = bisect.bisect_left(range(2, 65), wanted, key=lambda width: count(make(width))) + 2
    return min((w for w in (first - 1, first) if w >= 2),
               key=lambda width: abs(count(make(width)) - wanted))  # fmt: skip


def compare(side: int, train: int, epochs: int, widths: Sequence[int], modes: Sequence[int],
            usual: int, say: Callable) -> dict[str, Any]:  # fmt: skip
    """Return the errors after equal training, on Darcy 12 / 3 at side x side.

    Parameters
    ----------
    side, train, epochs : int
    widths : sequence of int
        Of the MgNOs; each has a U-Net, and an FNO for each of `modes`, with as many parameters.
        The first one is also trained for the H1 norm.
    modes : sequence of int
        Frequencies that an FNO keeps along an axis, both signs counted.
    usual : int
        Channels of one more FNO with the most modes, of whatever size.
    say : callable
    """
    recipe = recipes()["darcy-smooth"] | {"grid": [side, side], "stride": 1}
    valid = test = max(8, train // 10)
    a, u = samples.pairs(recipe, train + valid + test)
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        data = Path(folder) / "darcy.npz"
        np.savez(data, inputs=a, solution=u)
        for k, (label, network, settings) in enumerate(_entrants(widths, modes, usual)):
            config = Config(name=network.__name__, data=str(data), train=train, valid=valid,
                            test=test, epochs=epochs, rate=1e-3, pointwise=True,
                            precision=_precision(network),
                            loss="h1" if label == IN_H1 else "frequency")  # fmt: skip
            try:
                config.model = settings()
                row = _trained(config, network, Path(folder) / str(k))
            except (ImportError, RuntimeError) as error:
                row = {"error": str(error)}
            rows.append({"network": label} | row)
            say(f"{rows[-1] | {'curve': '...'}}")
    return {"side": side, "train": train, "test": test, "epochs": epochs, "rows": rows}


def seeds(name: str, side: int, train: int, epochs: int, seeds: int, model: dict[str, int],
          say: Callable) -> dict[str, Any]:  # fmt: skip
    """Return the errors of a model trained with several seeds: other first weights and orders.

    Parameters
    ----------
    name : str
        A recipe.
    side, train, epochs, seeds : int
        Samples are solved on side x side, and thinned out as the recipe says.
    model : dict
        Settings of the MgNO.
    say : callable
    """
    valid = test = max(8, train // 10)
    recipe = recipes()[name] | {"grid": [side, side]}
    a, u = samples.pairs(recipe, train + valid + test)
    with TemporaryDirectory() as folder:
        data = Path(folder) / f"{name}.npz"
        np.savez(data, inputs=a, solution=u)
        trainers = [Trainer(Config(
            name=name, data=str(data), train=train, valid=valid, test=test, epochs=epochs,
            rate=8e-4, pointwise=True, precision=_precision(MgNO), model=model, seed=seed,
        ), samples.device()) for seed in range(seeds)]  # fmt: skip
        cards = run_together(trainers, [Path(folder) / str(k) for k in range(seeds)], say)
    rows = [{"seed": k, **{norm: card[norm] for norm in ("l2", "h1", "frequency")},
             "curve": card["curve"]} for k, card in enumerate(cards)]  # fmt: skip
    return {"model": name, "train": train, "test": test, "epochs": epochs, "rows": rows,
            "seconds": max(card["seconds"] for card in cards)}  # fmt: skip


def _entrants(widths: Sequence[int], modes: Sequence[int],
              usual: int) -> Iterator[tuple[str, Any, Callable[[], dict[str, Any]]]]:  # fmt: skip
    for width in widths:
        wanted = count(MgNO(width=width, layers=LAYERS, levels=LEVELS))
        own: Any = partial(dict, width=width, layers=LAYERS, levels=LEVELS)
        yield "MgNO", MgNO, own
        if width == widths[0]:
            yield IN_H1, MgNO, own
        yield "U-Net", UNet, partial(_settings, UNet, wanted)
        for m in modes:
            yield f"FNO, {m} modes", FNO, partial(_settings, FNO, wanted, modes=m)
    most = max(modes)
    yield f"FNO, {most} modes", FNO, partial(dict, modes=most, width=usual)


def _settings(network: Any, wanted: int, **more: int) -> dict[str, int]:
    return {"width": fitted(lambda width: network(width=width, **more), wanted), **more}


def _precision(network: Any) -> str:
    """Return the quickest precision that costs a network no accuracy: half only for an MgNO."""
    return "fp16" if samples.device() == "cuda" and network is MgNO else "tf32"


def _trained(config: Config, network: Any, folder: Path) -> dict[str, Any]:
    trainer = Trainer(config, samples.device(), network)
    try:
        trainer.capture()  # the search for convolutions is no part of its seconds
    except Exception:  # a step that no graph takes, whatever it raises
        trainer = Trainer(config, samples.device(), network)
        trainer.captured = False
    card = trainer.run(folder, say=lambda line: None)
    assert card is not None
    pace = {f"prediction_seconds{end}": _pace(trainer, together)
            for end, together in (("", 1), ("_of_16", 16))}  # fmt: skip
    return {"parameters": count(trainer.model), "captured": trainer.captured,
            **{norm: card[norm] for norm in ("l2", "h1", "frequency")},
            "seconds": card["seconds"], **pace, "curve": card["curve"]}  # fmt: skip


@torch.inference_mode()
def _pace(trainer: Trainer, together: int) -> float:
    """Return the seconds of a prediction, so many at a time."""
    times = []
    for _ in range(9):
        began = time.perf_counter()
        trainer.predict(trainer.a[:together]).cpu()
        times.append(time.perf_counter() - began)
    return float(np.median(times)) / together
