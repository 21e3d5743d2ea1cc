"""Training of the paper's network: ``krylearn train dcd CONFIG``, read from top to bottom.

Right-hand sides are combinations of Ritz vectors, the loss is what a step leaves of the residual.
Besides fresh right-hand sides the network sees what its own iteration makes of them: every sample
is a run that takes one step of the actual iteration (A-orthogonal to two directions before, exact
line search) at each training step, for up to `follow` steps. Or the loss is how fast several steps
of it reduce the residual, gradients passing through them (`unroll`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from krylearn.learned import training, weights
from krylearn.learned.dcd.paper import DirectionNet, PyramidNet
from krylearn.learned.dcd.systems import lanczos, obstacles, pressure_operator, ritz_basis
from krylearn.learned.unrolled import Systems, mean_rate, norms_along

NETWORKS: dict[str, Any] = {"paper": DirectionNet, "pyramid": PyramidNet}


@dataclass
class Config(training.Settings):
    """What a training run depends on; a TOML file names what differs from these.

    Attributes
    ----------
    network : {'paper', 'pyramid'}
        The family: `DirectionNet` or `PyramidNet`.
    stages : list of [shape, share of the epochs]
        Grids that training passes through, coarse ones first; the last one takes the rest.
    cycles : bool
        Whether each stage has a cycle of the learning rate of its own.
    begin : str
        Weights that training begins with: a shipped network, or a .safetensors file with its card.
    matrices : int
        Systems with other obstacles that a batch is shared out among.
    vectors : int
        Lanczos vectors of each matrix.
    follow : int
        Most steps of the iteration that a sample takes; 1 is the paper's training.
    unroll : int
        Steps that gradients pass through; where it is above 1, samples do not go on.
    valid, test : list of shapes
        Grids of the systems, with obstacles not trained on, that are watched, and looked at once.
    """

    name: str = "paper"
    kind: str = "paper"
    network: str = "paper"
    stages: list[Any] = field(default_factory=lambda: [[[64, 64, 64], 1.0]])
    cycles: bool = False
    begin: str = ""
    matrices: int = 1
    vectors: int = 1000
    follow: int = 1
    unroll: int = 1
    steps: int = 500
    model: dict[str, Any] = field(default_factory=dict)
    valid: list[Any] = field(default_factory=list)
    test: list[Any] = field(default_factory=list)

    @classmethod
    def folder(cls) -> Path:
        return Path(__file__).parent / "configs"

    def settle(self, beside: Path) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, not {self.network!r}")
        if self.batch % self.matrices:
            raise ValueError(f"batch {self.batch} is no multiple of matrices {self.matrices}")
        if self.begin.endswith(".safetensors"):
            self.begin = str(beside / self.begin)

    def kept(self) -> dict[str, Any]:
        return super().kept() | {"begin": Path(self.begin).name}


class Trainer(training.Trainer):
    """The network, its optimiser and its samples on one device.

    Parameters
    ----------
    config : Config
    device : str
    """

    watched = 1

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self.prepare(config)
        dimension = len(config.stages[0][0])
        model: Any = NETWORKS[config.network](**({"dimension": dimension} | config.model))
        if config.begin:
            weights.fill(model, weights.load(config.begin, "direction")[0], config.begin)
        layout: Any = torch.channels_last if dimension == 2 else torch.channels_last_3d
        super().__init__(config, model.to(memory_format=layout), config.steps, device)
        self._stage = -1

    # -- samples ---------------------------------------------------------------------------

    def _ends(self) -> list[int]:
        """Return the epochs that stages end with."""
        shares = np.cumsum([share for _, share in self.config.stages])[:-1]
        # Rounded, since shares are fractions: 0.29 of 100 is 28.999...
        within = [math.ceil(round(share * self.config.epochs, 6)) for share in shares]
        return [*within, self.config.epochs]

    def rate_now(self) -> float:
        if not self.config.cycles:
            return super().rate_now()
        ends = self._ends()
        first = ends[self._stage - 1] if self._stage else 0
        steps = (ends[self._stage] - first) * self.per_epoch
        return training.rate_at(self.config, self.step - first * self.per_epoch, steps)

    def draw_epoch(self, epoch: int) -> None:
        config = self.config
        stage = int(np.searchsorted(self._ends()[:-1], epoch, side="right"))
        if stage != self._stage:
            self._enter(stage)
        maker = torch.Generator(self.device).manual_seed(1000003 * (config.seed + 1) + epoch)
        count = (config.steps, config.batch)
        self._drawn = torch.randn(*count, self._Y.shape[1], generator=maker, device=self.device)
        lives = torch.randint(1, config.follow + 1, count, generator=maker, device=self.device)
        lives[:, ::2] = 1  # every other sample is as in the paper
        self._lives = lives.float().reshape(*count, *[1] * len(self.shape))
        self.age.fill_(0.0)  # all samples begin anew

    def _enter(self, stage: int) -> None:
        """Make the matrices and the Lanczos vectors of a stage."""
        config, device = self.config, self.device
        self._stage, self._graph = stage, None
        self.shape = tuple(config.stages[stage][0])
        self._V: Any = None
        operators = [
            pressure_operator(obstacles(self.shape, [config.seed, stage, k]) if k else
                              np.ones(self.shape, bool))
            for k in range(config.matrices)
        ]  # fmt: skip
        self.systems = Systems(operators, config.batch // config.matrices, device)
        n = int(np.prod(self.shape))
        V, Y = torch.zeros(config.matrices, config.vectors, n, device=device), []
        for k, A in enumerate(operators):
            one = Systems([A], 1, device)
            maker = torch.Generator(device).manual_seed(1000003 * (config.seed + 1) + k)
            start = torch.randn(1, *self.shape, generator=maker, device=device) * one.mask
            vectors, alpha, beta = lanczos(
                lambda v, one=one: one.apply(v.reshape(1, *self.shape)).ravel(), start.ravel(),
                config.vectors,
            )  # fmt: skip
            basis = ritz_basis(alpha, beta)
            missing = config.vectors - len(vectors)
            V[k, : len(vectors)] = vectors
            Y.append(torch.nn.functional.pad(basis, (0, missing, 0, missing)))
        self._V, self._Y = V, torch.stack(Y).to(device)
        batch = (config.batch, *self.shape)
        small = (config.batch, *[1] * len(self.shape))
        self.r, self.fresh = (torch.zeros(batch, device=device) for _ in range(2))
        self.past = [[torch.zeros(batch, device=device), torch.zeros(batch, device=device),
                      torch.zeros(small, device=device)] for _ in range(2)]  # fmt: skip
        self.age = torch.zeros(small, device=device)
        self.life = torch.zeros(small, device=device)
        self.z = torch.zeros(config.matrices, config.batch // config.matrices,
                             self._Y.shape[1], device=device)  # fmt: skip

    def draw(self, k: int) -> None:
        self.z.copy_(self._drawn[k].reshape(self.z.shape))
        self.life.copy_(self._lives[k])

    # -- the loss --------------------------------------------------------------------------

    def predict(self, r: torch.Tensor) -> torch.Tensor:
        """Return the network's directions for residuals of any size."""
        with self.autocast():
            return self.model(r).float()

    def _direction(self, r: torch.Tensor) -> torch.Tensor:
        return self.predict(r / self.systems.norm(r).clamp_min(1e-30))

    def loss(self) -> torch.Tensor:
        """Return the mean of ``|r - alpha A p|^2 / |r|^2``; the samples take that step.

        Where gradients pass through several steps: the mean logarithm of what a step leaves.
        """
        with torch.no_grad():
            fresh = ((self.z @ self._Y) @ self._V).reshape(self.r.shape)
        if self.config.unroll > 1:
            return mean_rate(norms_along(self.systems, self._direction, fresh, self.config.unroll))
        with torch.no_grad():
            new = self.age <= 0
            r = torch.where(new, fresh, self.r)
            r = r / self.systems.norm(r).clamp_min(1e-30)
            for past in self.past:
                past[2].masked_fill_(new, 0.0)
                for kept in past[:2]:
                    kept.masked_fill_(new, 0.0)
            self.age.copy_(torch.where(new, self.life, self.age) - 1)
        q = self.predict(r)
        p, image, curvature, left = self.systems.advance(q, r, self.past)
        self._new = [t.detach() for t in (p, image, curvature, left)]
        return self.systems.dot(left, left).mean()

    def go_on(self) -> None:
        if self.config.unroll > 1:
            return
        *direction, left = self._new
        for older, newer in zip(self.past[1], self.past[0]):
            older.copy_(newer)
        for kept, now in zip(self.past[0], direction):
            kept.copy_(now)
        self.r.copy_(left)

    # -- figures ---------------------------------------------------------------------------

    @torch.no_grad()
    def reductions(self, shapes: list[Any], steps: int, first: int) -> dict[str, float]:
        """Return the residual after so many steps on systems with obstacles not trained on."""
        found = {}
        for k, shape in enumerate(shapes):
            fluid = obstacles(shape, [77, first + k], 4)
            one = Systems([pressure_operator(fluid)], 1, self.device)
            r = torch.from_numpy(plume(fluid)).to(self.device)[None]
            past: list[Any] = []
            for _ in range(steps):
                q = self.predict(r / one.norm(r))
                *direction, r = one.advance(q, r, past)
                past = [direction, *past[:1]]
            found[f"{'x'.join(map(str, shape))}"] = float(one.norm(r))
        return found

    def watch(self) -> dict[str, float]:
        return self.reductions(self.config.valid, 20, 0)

    def report(self) -> dict[str, Any]:
        sizes = ", ".join("x".join(map(str, shape)) for shape, _ in self.config.stages)
        return {
            "kind": "direction", "family": self.config.network,
            "test": self.reductions(self.config.test, 20, 100),
            "data": f"pressure systems with an open top, {sizes}: {self.config.matrices} masks, "
            f"{self.config.vectors} Lanczos vectors each",
        }  # fmt: skip


def plume(fluid: np.ndarray) -> np.ndarray:
    """Return a right-hand side of norm one: sources below, noise of all scales in the fluid."""
    rng = np.random.default_rng(0)
    b = rng.standard_normal(fluid.shape)
    away = [p - n / 2 for p, n in zip(np.indices(fluid.shape), fluid.shape)]
    away[-1] = away[-1] + 0.35 * fluid.shape[-1]
    close = sum(d**2 for d in away) < (0.12 * min(fluid.shape)) ** 2
    b = (b + 30.0 * close * np.sign(away[-1])) * fluid
    return (b / np.linalg.norm(b)).astype(np.float32)
