"""Training of an MgNO: ``krylearn train mgno CONFIG``, read from top to bottom."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from krylearn.learned import training
from krylearn.learned.mgno.fields import load_fields
from krylearn.learned.mgno.loss import FrequencyLoss, relative_h1, relative_l2
from krylearn.learned.mgno.model import MgNO
from krylearn.learned.training import rate_at

__all__ = ["Config", "Trainer", "rate_at"]


@dataclass
class Config(training.Settings):
    """What a training run depends on; a TOML file names what differs from these.

    Attributes
    ----------
    data : str
        The file with the samples, beside the configuration unless absolute. The first `train`
        samples are trained on, the next `valid` watched, the next `test` looked at once, at the
        end.
    source : float
        The constant f of the data.
    loss : {'frequency', 'h1'}
        What is minimised: the paper's `FrequencyLoss`, which leaves gradients beyond mode 20 free,
        or the relative error in H1, gradients being differences of neighbours.
    pointwise : bool
        Scale outputs with the mean and the deviation of the solutions at each point, not over all.
    """

    name: str = "mgno"
    data: str = ""
    train: int = 1000
    valid: int = 100
    test: int = 100
    stride: int = 1
    source: float = 1.0
    loss: str = "frequency"
    pointwise: bool = False
    model: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def folder(cls) -> Path:
        return Path(__file__).parent / "configs"

    def settle(self, beside: Path) -> None:
        self.data = str(beside / self.data)
        if self.loss not in ("frequency", "h1"):
            raise ValueError(f"loss must be frequency or h1, not {self.loss!r}")

    def kept(self) -> dict[str, Any]:
        return asdict(self) | {"data": Path(self.data).name}


class Trainer(training.Trainer):
    """A model, its optimiser and its data on one device.

    Parameters
    ----------
    config : Config
    device : str
    network : type
        What is trained: a `Scaled` that takes ``config.model``.
    """

    def __init__(self, config: Config, device: str = "cpu", network: Any = MgNO) -> None:
        self.prepare(config)
        count = config.train + config.valid + config.test
        a, u = load_fields(config.data, 0, count, config.stride)
        if len(a) < count:
            raise ValueError(f"{config.data} holds {len(a)} samples; {count} are needed")
        seen = slice(0, config.train)
        # The network works in units of its training data.
        self.scales: dict[str, Any] = {
            "input_mean": float(a[seen].mean()), "input_std": float(a[seen].std()),
            "input_range": [float(a[seen].min()), float(a[seen].max())],
        }  # fmt: skip
        settings = {"inputs": a.shape[1], "dimension": a.ndim - 2} | config.model
        if config.pointwise:
            settings["scaled_on"] = u.shape[2:]
        model: Any = network(**settings)
        over = 0 if config.pointwise else None
        model.set_scale(*(torch.from_numpy(np.asarray(part)) for part in
                          (u[seen].mean(over), u[seen].std(over))))  # fmt: skip
        if a.ndim == 4:
            model = model.to(memory_format=torch.channels_last)
        super().__init__(config, model, config.train // config.batch, device)
        self.a = self._put((a - self.scales["input_mean"]) / self.scales["input_std"])
        self.u = self._put(u)
        self.spacing = 1 / (u.shape[-1] + 1)
        self.frequency = FrequencyLoss(tuple(u.shape[2:])).to(self.device)
        self._rows = torch.zeros(config.batch, dtype=torch.long, device=self.device)

    def _put(self, values: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(values).to(self.device)
        return tensor.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else tensor

    def draw_epoch(self, epoch: int) -> None:
        rng = np.random.default_rng([self.config.seed, epoch])
        self._order = torch.from_numpy(rng.permutation(self.config.train)).to(self.device)

    def draw(self, k: int) -> None:
        self._rows.copy_(self._order[k * self.config.batch : (k + 1) * self.config.batch])

    def loss(self) -> torch.Tensor:
        u, v = self.predict(self.a[self._rows]), self.u[self._rows]
        if self.config.loss == "h1":
            return relative_h1(u, v, self.spacing).mean()
        return self.frequency(u, v).mean()

    def predict(self, a: torch.Tensor) -> torch.Tensor:
        """Return the fields that the model makes of inputs in its units."""
        return self.network(a).float()

    @torch.no_grad()
    def errors(self, first: int, last: int) -> dict[str, float]:
        """Return the mean relative errors over samples: L2, H1, and the paper's by frequencies."""
        parts = []
        for k in range(first, last, self.config.batch):
            part = slice(k, min(k + self.config.batch, last))
            u, v = self.predict(self.a[part]), self.u[part]
            parts.append(torch.stack(
                [relative_l2(u, v), relative_h1(u, v, self.spacing), self.frequency(u, v)]
            ))
        means = torch.cat(parts, dim=1).mean(dim=1).tolist()
        return dict(zip(("l2", "h1", "frequency"), means))

    def watch(self) -> dict[str, float]:
        return self.errors(self.config.train, self.config.train + self.config.valid)

    def report(self) -> dict[str, Any]:
        first = self.config.train + self.config.valid
        test = self.errors(first, first + self.config.test)
        return {"kind": "surrogate", **test, "test": {"L2": test["l2"], "H1": test["h1"]},
                "grid": list(self.u.shape[2:]), "source": self.config.source,
                **self.scales}  # fmt: skip
