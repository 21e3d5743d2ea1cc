"""Training of an MgNO: ``krylearn train mgno CONFIG``, read from top to bottom.

A step is captured in a CUDA graph, so that small batches do not wait for launches. A run that is
cut short goes on from its checkpoint along the same curve: the order of the samples depends on
seed and epoch alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from krylearn.learned.mgno.fields import load_fields
from krylearn.learned.mgno.loss import FrequencyLoss, relative_h1, relative_l2
from krylearn.learned.mgno.model import MgNO


@dataclass
class Config:
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
    model: dict[str, Any] = field(default_factory=dict)
    epochs: int = 500
    batch: int = 8
    rate: float = 5e-4
    decay: float = 1e-4
    rising: float = 0.2
    precision: str = "tf32"
    loss: str = "frequency"
    pointwise: bool = False
    seed: int = 0

    @classmethod
    def read(cls, path: str | Path) -> Config:
        """Read a TOML file, or a shipped configuration by its name.

        Raises
        ------
        ValueError
            If it is neither, or names a setting that does not exist.
        """
        shipped = Path(__file__).parent / "configs" / f"{path}.toml"
        if Path(path).suffix != ".toml":
            if not shipped.exists():
                names = ", ".join(sorted(p.stem for p in shipped.parent.glob("*.toml")))
                raise ValueError(f"no configuration is called {str(path)!r}; there are {names}")
            given = tomllib.loads(shipped.read_text(encoding="utf-8"))
            given["data"] = str(Path.cwd() / given["data"])
        else:
            given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        unknown = set(given) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"{path}: no setting is called {', '.join(sorted(unknown))}")
        config = cls(**given)
        config.data = str(Path(path).parent / config.data)
        if config.precision not in ("fp32", "tf32", "bf16"):
            raise ValueError(f"precision must be fp32, tf32 or bf16, not {config.precision!r}")
        if config.loss not in ("frequency", "h1"):
            raise ValueError(f"loss must be frequency or h1, not {config.loss!r}")
        return config


def rate_at(config: Config, step: int, steps: int) -> float:
    """Return the learning rate of the one-cycle rule (Smith and Topin 2019), cosine branches.

    It starts at half the full rate and ends at a hundredth of the start.
    """
    start, end = config.rate / 2, config.rate / 200
    top = config.rising * steps - 1
    if step <= top:
        low, high, share = start, config.rate, step / max(top, 1)
    else:
        low, high, share = config.rate, end, (step - top) / max(steps - 1 - top, 1)
    return low + (high - low) * (1 - math.cos(math.pi * share)) / 2


class Trainer:
    """A model, its optimiser and its data on one device.

    Parameters
    ----------
    config : Config
    device : str
    """

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        torch.manual_seed(config.seed)
        torch.backends.cudnn.allow_tf32 = config.precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = config.precision != "fp32"
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
        self.a = self._put((a - self.scales["input_mean"]) / self.scales["input_std"])
        self.u = self._put(u)
        settings = {"inputs": a.shape[1], "dimension": a.ndim - 2} | config.model
        if config.pointwise:
            settings["scaled_on"] = u.shape[2:]
        self.model = MgNO(**settings)
        over = 0 if config.pointwise else None
        self.model.set_scale(*(torch.from_numpy(np.asarray(part)) for part in
                               (u[seen].mean(over), u[seen].std(over))))  # fmt: skip
        if a.ndim == 4:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.to(self.device)
        self.rate = torch.tensor(config.rate, device=self.device)
        cuda = self.device.type == "cuda"
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=self.rate,
                                          weight_decay=config.decay, capturable=cuda,
                                          foreach=cuda)  # fmt: skip
        self.spacing = 1 / (u.shape[-1] + 1)
        self.frequency = FrequencyLoss(tuple(u.shape[2:])).to(self.device)
        self.per_epoch = config.train // config.batch
        self.steps = config.epochs * self.per_epoch
        self.step, self.seconds = 0, 0.0
        self.curve: list[dict[str, float]] = []
        self._graph: Any = None
        self._rows = torch.zeros(config.batch, dtype=torch.long, device=self.device)
        self._last = torch.zeros((), device=self.device)
        self._sum = torch.zeros((), device=self.device)

    def _put(self, values: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(values).to(self.device)
        return tensor.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else tensor

    # -- one step --------------------------------------------------------------------------

    def predict(self, a: torch.Tensor) -> torch.Tensor:
        """Return the fields that the model makes of inputs in its units."""
        half = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            return self.model(a).float()

    def loss(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return the mean over samples of the error that is minimised."""
        if self.config.loss == "h1":
            return relative_h1(u, v, self.spacing).mean()
        return self.frequency(u, v).mean()

    def _train_step(self) -> None:
        loss = self.loss(self.predict(self.a[self._rows]), self.u[self._rows])
        self.optimiser.zero_grad(set_to_none=False)
        loss.backward()
        self.optimiser.step()
        self._last.copy_(loss.detach())
        self._sum += self._last

    def _capture(self) -> None:
        """Record a step as a CUDA graph; the weights end where they began."""
        held = {k: v.clone() for k, v in self.model.state_dict().items()}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        state = self.optimiser.state_dict()
        started = bool(state["state"])
        kept = [{k: v.clone() for k, v in s.items()} for s in self.optimiser.state.values()]
        with torch.cuda.stream(side):
            for _ in range(3):
                self._train_step()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._train_step()
        with torch.no_grad():
            for k, v in self.model.state_dict().items():
                v.copy_(held[k])
            for n, s in enumerate(self.optimiser.state.values()):
                for k, v in s.items():
                    v.copy_(kept[n][k]) if started else v.zero_()
        self._sum.zero_()

    def train_epoch(self) -> float:
        """Pass over the training data once; return the mean loss."""
        if self.device.type == "cuda" and self._graph is None:
            self._capture()
        order = torch.from_numpy(
            np.random.default_rng([self.config.seed, self.step // self.per_epoch])
            .permutation(self.config.train)
        ).to(self.device)  # fmt: skip
        self._sum.zero_()
        for k in range(self.per_epoch):
            self.rate.fill_(rate_at(self.config, self.step, self.steps))
            self._rows.copy_(order[k * self.config.batch : (k + 1) * self.config.batch])
            if self._graph is not None:
                self._graph.replay()
            else:
                self._train_step()
            self.step += 1
        return float(self._sum) / self.per_epoch

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

    # -- a run -----------------------------------------------------------------------------

    def run(self, folder: str | Path, seconds: float = math.inf,
            say: Callable[[str], None] = print) -> dict[str, Any] | None:  # fmt: skip
        """Train to the end, or for so many seconds, from the checkpoint in `folder` if any.

        Returns
        -------
        dict or None
            The model card, which is written beside the weights; None where time ran out first.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = folder / "checkpoint.pt"
        if checkpoint.exists():
            self.load(checkpoint)
        before, started = self.seconds, time.perf_counter()
        while self.step < self.steps:
            loss = self.train_epoch()
            self.seconds = before + time.perf_counter() - started
            epoch = self.step // self.per_epoch
            if epoch % 10 == 0 or self.step == self.steps:
                valid = self.errors(self.config.train, self.config.train + self.config.valid)
                self.curve.append({"epoch": epoch, "loss": loss} | valid)
                pace = self.seconds / self.step
                say(f"epoch {epoch}/{self.config.epochs}  loss {loss:.3e}  valid L2 "
                    f"{valid['l2']:.3e}  H1 {valid['h1']:.3e}  by frequencies "
                    f"{valid['frequency']:.3e}  {pace * 1e3:.2f} ms a step, "
                    f"{(self.steps - self.step) * pace:.0f} s left")  # fmt: skip
                self.save(checkpoint)  # what is killed loses no more than these epochs
            if self.seconds - before > seconds:
                self.save(checkpoint)
                break
        return self.finish(folder) if self.step == self.steps else None

    def finish(self, folder: Path) -> dict[str, Any]:
        """Look at the test samples, write the weights and the model card."""
        from safetensors.torch import save_file

        first = self.config.train + self.config.valid
        test = self.errors(first, first + self.config.test)
        weights = {k: v.contiguous() for k, v in self.model.state_dict().items()}
        path = folder / f"{self.config.name}.safetensors"
        save_file(weights, path)
        gpu = self.device.type == "cuda"
        card = {
            "name": self.config.name, "licence": "MIT", **test,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "seconds": self.seconds, "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if gpu else "CPU",
            "grid": list(self.u.shape[2:]), "source": self.config.source, **self.scales,
            "config": asdict(self.config) | {"data": Path(self.config.data).name},
            "settings": self.model.settings, "curve": self.curve,
        }  # fmt: skip
        (folder / f"{self.config.name}.json").write_text(json.dumps(card, indent=1))
        return card

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        part = path.with_suffix(".part")
        torch.save({
            "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(),
            "step": self.step, "seconds": self.seconds, "curve": self.curve,
            "config": asdict(self.config) | {"data": ""},
        }, part)  # fmt: skip
        part.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        ValueError
            If it belongs to another configuration.
        """
        held = torch.load(path, map_location=self.device, weights_only=True)
        if held["config"] != asdict(self.config) | {"data": ""}:
            raise ValueError(f"{path} belongs to another configuration; name another folder")
        self.model.load_state_dict(held["model"])
        self.optimiser.load_state_dict(held["optimiser"])
        # Loading puts a copy of the rate in the place of ours.
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate
        self.step, self.seconds, self.curve = held["step"], held["seconds"], held["curve"]
