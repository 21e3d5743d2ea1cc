"""What every training run does: configuration, schedule, CUDA graphs, checkpoints, the card.

A family of networks brings a `Trainer` of its own that says what a batch is and what it costs. A
step is captured in a CUDA graph, so that small batches do not wait for launches. A run that is cut
short goes on from its checkpoint along the same curve: what an epoch draws depends on seed and
epoch alone.
"""

from __future__ import annotations

import json
import math
import time
import tomllib
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from krylearn.learned import weights

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
# What a loss is multiplied by where gradients are in half precision: they would vanish. Half of it
# after each step that overflows, and twice that after so many that do not.
LOSS_SCALE, CLEAN = 2.0**14, 1000


@dataclass
class Settings:
    """What all training runs depend on; a TOML file names what differs from these.

    Attributes
    ----------
    rising : float
        The share of the steps in which the learning rate rises.
    precision : {'fp32', 'tf32', 'bf16', 'fp16'}
        The last two are what activations are kept in; fp16 has the digits of tf32.
    """

    name: str = "model"
    epochs: int = 500
    batch: int = 8
    rate: float = 5e-4
    decay: float = 1e-4
    rising: float = 0.2
    precision: str = "tf32"
    seed: int = 0

    @classmethod
    def read(cls, path: str | Path) -> Any:
        """Read a TOML file, or a configuration shipped beside the class's module by its name.

        Raises
        ------
        ValueError
            If it is neither, or names a setting that does not exist.
        """
        given, beside = cls._given(path)
        unknown = set(given) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"{path}: no setting is called {', '.join(sorted(unknown))}")
        config = cls(**given)
        if config.precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, not {config.precision!r}"
            )
        config.settle(beside)
        return config

    @classmethod
    def _given(cls, path: str | Path) -> tuple[dict[str, Any], Path]:
        """Return what a configuration says, and where the files that it names lie."""
        path = Path(path)
        if path.suffix == ".toml":
            return tomllib.loads(path.read_text(encoding="utf-8")), path.parent
        shipped = cls.folder() / f"{path}.toml"
        if not shipped.exists():
            names = ", ".join(sorted(p.stem for p in shipped.parent.glob("*.toml")))
            raise ValueError(f"no configuration is called {str(path)!r}; there are {names}")
        return tomllib.loads(shipped.read_text(encoding="utf-8")), Path.cwd()

    @classmethod
    def kind_of(cls, path: str | Path) -> str:
        """Return the kind of network that a configuration is for."""
        return str(cls._given(path)[0].get("kind", ""))

    @classmethod
    def folder(cls) -> Path:
        """Return where the shipped configurations of a family lie."""
        raise NotImplementedError

    def settle(self, beside: Path) -> None:
        """Check the settings of a family, and find the files that they name beside the file."""

    def kept(self) -> dict[str, Any]:
        """Return the settings that a checkpoint and the card hold: none that name this machine."""
        return asdict(self)


def rate_at(config: Settings, step: int, steps: int) -> float:
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
    """A model and its optimiser on one device.

    A family sets `per_epoch` and defines `draw_epoch`, `draw`, `loss`, `watch` and `report`.

    Parameters
    ----------
    config : Settings
    model : torch.nn.Module
    per_epoch : int
        Steps an epoch.
    device : str
    """

    # Epochs between two looks at the validation samples, each followed by a checkpoint.
    watched = 10
    # Whether a device records steps as a graph.
    captured = True

    def __init__(self, config: Any, model: Any, per_epoch: int, device: str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        self.model = model.to(self.device)
        cuda = self.device.type == "cuda"
        self.rate = torch.tensor(config.rate, device=self.device)
        # One kernel for all weights, which knows how to pass over gradients that overflowed.
        real = not any(p.is_complex() for p in self.model.parameters())
        fused = real and (cuda or config.precision == "fp16")
        self._masters = list(self.model.parameters())
        # The weights that `network` works with, rounded once a step and not each at its place.
        self._rounded = [p.detach().to(self._kind).requires_grad_() for p in self._masters
                         if self._half and real]  # fmt: skip
        self._ways: dict[str, Any] = {"capturable": cuda, "fused": fused}
        self.optimiser: Any = torch.optim.Adam(self.model.parameters(), lr=self.rate,
                                               weight_decay=config.decay, **self._ways)  # fmt: skip
        self.per_epoch, self.steps = per_epoch, config.epochs * per_epoch
        self.step, self.seconds = 0, 0.0
        self.curve: list[dict[str, float]] = []
        self._graph: Any = None
        self._last = torch.zeros((), device=self.device)
        self._sum = torch.zeros((), device=self.device)
        self._passed = torch.zeros((), device=self.device)
        self._scale = torch.tensor(LOSS_SCALE, device=self.device)
        self._clean = torch.zeros((), device=self.device)

    @staticmethod
    def prepare(config: Any) -> None:
        """Seed torch and set its precision: before a model is made."""
        torch.manual_seed(config.seed)
        torch.backends.cudnn.allow_tf32 = config.precision != "fp32"
        torch.backends.cuda.matmul.allow_tf32 = config.precision != "fp32"
        torch.backends.cudnn.benchmark = True  # shapes stay the same from step to step

    # -- what a family defines -------------------------------------------------------------

    def rate_now(self) -> float:
        """Return the learning rate of the present step."""
        return rate_at(self.config, self.step, self.steps)

    def draw_epoch(self, epoch: int) -> None:
        """Draw what the steps of an epoch train on: it depends on seed and epoch alone."""

    def draw(self, k: int) -> None:
        """Bring what step k of the epoch trains on to where `loss` reads it."""

    def loss(self) -> torch.Tensor:
        """Return the loss of what was drawn."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Do what follows a step, where samples go on from what it has made of them."""

    def watch(self) -> dict[str, float]:
        """Return the figures on the validation samples, by name."""
        raise NotImplementedError

    def report(self) -> dict[str, Any]:
        """Return what the card shall say: figures on the test samples, data, settings."""
        raise NotImplementedError

    # -- one step --------------------------------------------------------------------------

    @property
    def _half(self) -> bool:
        return self.config.precision in ("bf16", "fp16")

    @property
    def _kind(self) -> torch.dtype:
        return torch.float16 if self.config.precision == "fp16" else torch.bfloat16

    def autocast(self) -> Any:
        """Return the context in which the model runs."""
        return torch.autocast(self.device.type, self._kind, enabled=self._half,
                              cache_enabled=False)  # fmt: skip

    def network(self, *given: Any) -> Any:
        """Return what the model makes of something, in half precision where that is set.

        Once a step: gradients of a second call would be added to in half precision, too.
        """
        with self.autocast():
            if not (self._rounded and torch.is_grad_enabled()):
                return self.model(*given)
            names = (name for name, _ in self.model.named_parameters())
            return torch.func.functional_call(self.model, dict(zip(names, self._rounded)), given)

    def _train_step(self) -> None:
        if self._rounded:
            with torch.no_grad():
                torch._foreach_copy_(self._rounded, self._masters)
        loss = self.loss()
        scaled = self.config.precision == "fp16"
        for p in (*self._rounded, *self._masters):
            p.grad = None  # what is left by the last step would be added to, one by one
        (self._scale * loss if scaled else loss).backward()
        self._gather()
        if scaled:
            self._watch_overflow()
        self.optimiser.step()
        self.go_on()
        self._last.copy_(loss.detach())
        self._sum += self._last

    def _gather(self) -> None:
        """Bring the gradients of rounded weights to the weights themselves."""
        pairs = [(p, q.grad) for p, q in zip(self._masters, self._rounded) if q.grad is not None]
        for p, _ in pairs:
            p.grad = torch.empty_like(p)
        if pairs:
            torch._foreach_copy_([p.grad for p, _ in pairs], [grad for _, grad in pairs])

    def _watch_overflow(self) -> None:
        """Let the optimiser scale gradients back, and pass over a step in which they overflowed."""
        gradients = [p.grad for p in self._masters if p.grad is not None]
        size = torch.stack(torch._foreach_norm(gradients)).sum()
        found = ~torch.isfinite(size)
        self.optimiser.grad_scale = self._scale.clone()
        self.optimiser.found_inf = found.to(size.dtype)
        self._passed += self.optimiser.found_inf
        self._clean.copy_(torch.where(found, 0.0, self._clean + 1))
        grown = self._clean >= CLEAN
        self._clean.masked_fill_(grown, 0.0)
        self._scale.mul_(torch.where(found, 0.5, 1.0 + grown)).clamp_(max=LOSS_SCALE)

    def _capture(self) -> None:
        """Record a step as a CUDA graph; the weights end where they began."""
        held = {k: v.clone() for k, v in self.model.state_dict().items()}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        started = bool(self.optimiser.state_dict()["state"])
        scale = self._scale.clone(), self._clean.clone()
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
            self._scale.copy_(scale[0])
            self._clean.copy_(scale[1])

    def capture(self) -> None:
        """Record a step where the device does that, and this has not been done."""
        if self.device.type == "cuda" and self.captured and self._graph is None:
            self.draw_epoch(self.step // self.per_epoch)
            self.draw(0)
            self._capture()

    def train_epoch(self) -> float:
        """Pass over an epoch's samples; return the mean loss."""
        return _result(self._steps_of_epoch())

    def _steps_of_epoch(self) -> Generator[None, None, float]:
        self.capture()
        self.draw_epoch(self.step // self.per_epoch)  # capturing has worked on what was drawn
        self._sum.zero_()
        self._passed.zero_()
        for k in range(self.per_epoch):
            self.rate.fill_(self.rate_now())
            self.draw(k)
            if self._graph is not None:
                self._graph.replay()
            else:
                self._train_step()
            self.step += 1
            yield
        return float(self._sum) / self.per_epoch

    # -- a run -----------------------------------------------------------------------------

    def run(self, folder: str | Path, seconds: float = math.inf,
            say: Callable[[str], None] = print) -> dict[str, Any] | None:  # fmt: skip
        """Train to the end, or for so many seconds, from the checkpoint in `folder` if any.

        Returns
        -------
        dict or None
            The model card, which is written beside the weights; None where time ran out first.
        """
        return _result(self.steps_of_run(folder, seconds, say))

    def steps_of_run(self, folder: str | Path, seconds: float = math.inf,
                     say: Callable[[str], None] = print,
                     ) -> Generator[None, None, dict[str, Any] | None]:  # fmt: skip
        """Do a `run`, and pause after each step."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint = folder / "checkpoint.pt"
        if checkpoint.exists():
            self.load(checkpoint)
        before, started = self.seconds, time.perf_counter()
        while self.step < self.steps:
            loss = yield from self._steps_of_epoch()
            self.seconds = before + time.perf_counter() - started
            epoch = self.step // self.per_epoch
            if epoch % self.watched == 0 or self.step == self.steps:
                figures = self.watch()
                self.curve.append({"epoch": epoch, "loss": loss, **figures})
                pace = self.seconds / self.step
                said = "  ".join(f"{name} {value:.3e}" for name, value in figures.items())
                left = (self.steps - self.step) * pace
                if passed := int(self._passed):
                    said += f"  {passed} steps of the last epoch overflowed"
                say(f"epoch {epoch}/{self.config.epochs}  loss {loss:.3e}  valid {said}  "
                    f"{pace * 1e3:.2f} ms a step, {left:.0f} s left")  # fmt: skip
                self.save(checkpoint)  # what is killed loses no more than these epochs
            if self.seconds - before > seconds:
                self.save(checkpoint)
                break
        return self.finish(folder) if self.step == self.steps else None

    def finish(self, folder: Path) -> dict[str, Any]:
        """Look at the test samples, write the weights and the model card."""
        gpu = self.device.type == "cuda"
        card = {
            "name": self.config.name, "licence": "MIT", **self.report(),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "seconds": self.seconds, "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if gpu else "CPU",
            "config": self.config.kept(), "settings": self.model.settings, "curve": self.curve,
        }  # fmt: skip
        path = folder / f"{self.config.name}.safetensors"
        card["sha256"] = weights.save(path, self.model.state_dict())
        path.with_suffix(".json").write_text(json.dumps(card, indent=1), encoding="utf-8")
        return card

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        part = path.with_suffix(".part")
        torch.save({
            "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(),
            "step": self.step, "seconds": self.seconds, "curve": self.curve,
            "config": self.config.kept(), "scale": [float(self._scale), float(self._clean)],
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
        if held["config"] != self.config.kept():
            raise ValueError(f"{path} belongs to another configuration; name another folder")
        self.model.load_state_dict(held["model"])
        self.optimiser.load_state_dict(held["optimiser"])
        for place, value in zip((self._scale, self._clean), held.get("scale", (LOSS_SCALE, 0.0))):
            place.fill_(value)
        self._graph = None  # it knows the state that was there before
        # Loading puts a copy of the rate in the place of ours, and the ways of the run before.
        for group in self.optimiser.param_groups:
            group.update(lr=self.rate, foreach=None, **self._ways)
        self.step, self.seconds, self.curve = held["step"], held["seconds"], held["curve"]


def _result(steps: Generator[None, None, Any]) -> Any:
    """Go through all steps; return what the generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def run_together(trainers: list[Any], folders: list[Path],
                 say: Callable[[str], None] = print) -> list[dict[str, Any]]:  # fmt: skip
    """Train several to their ends on one device, each on a stream of its own, a step in turn.

    Steps of small batches leave most of a device idle. The seconds that a card names are those of
    all together.

    Returns
    -------
    list of dict
        The cards.
    """
    cards: list[Any] = [None] * len(trainers)
    streams: list[Any] = [None] * len(trainers)  # which torch.cuda.stream takes for "as it is"
    if all(trainer.device.type == "cuda" for trainer in trainers):
        for trainer in trainers:
            trainer.capture()  # before they disturb each other's choice of convolutions
        torch.cuda.synchronize()
        streams = [torch.cuda.Stream() for _ in trainers]
    runs = {k: trainer.steps_of_run(folder, say=lambda line, k=k: say(f"{k}: {line}"))
            for k, (trainer, folder) in enumerate(zip(trainers, folders))}  # fmt: skip
    while runs:
        for k in list(runs):
            with torch.cuda.stream(streams[k]):
                try:
                    next(runs[k])
                except StopIteration as end:
                    cards[k] = end.value
                    del runs[k]
    return cards


def trainer_of(family: str, config: str | Path) -> tuple[Any, Any]:
    """Return the trainer and the settings of a family of networks for `krylearn train`.

    Raises
    ------
    ValueError
        If there is no such family or configuration.
    """
    if family == "mgno":
        from krylearn.learned.mgno import train, train_linear

        module: Any = train_linear if train.Config.kind_of(config) == "cycle" else train
        return module.Trainer, module.Config.read(config)
    if family == "dcd":
        from krylearn.learned.dcd import train_paper, train_stencils

        kinds: dict[str, Any] = {"paper": train_paper, "stencils": train_stencils}
        kind = train_stencils.Config.kind_of(config)
        if kind not in kinds:
            raise ValueError(f"{config}: kind must be paper or stencils, not {kind!r}")
        return kinds[kind].Trainer, kinds[kind].Config.read(config)
    raise ValueError(f"no family of networks is called {family!r}; there are mgno and dcd")
