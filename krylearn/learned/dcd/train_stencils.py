"""Training of the geometry-aware model: ``krylearn train dcd CONFIG``, read from top to bottom.

Pools of matrices with random obstacles, open and closed boxes and varying coefficients; the loss
is what k steps of the actual iteration leave of the residual, and gradients pass through them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from krylearn.grid import GridOperator
from krylearn.learned import training
from krylearn.learned.dcd.geometry import coarsest_inverse, geometries, stack_of
from krylearn.learned.dcd.stencils import StencilCycle
from krylearn.learned.dcd.systems import obstacles, pressure_operator
from krylearn.learned.unrolled import Systems, mean_rate, norms_along, steps_to
from krylearn.problems.fields import gaussian_random_field

FIELDS = ("links", "ties", "active", "diagonal")


@dataclass
class Config(training.Settings):
    """What a training run depends on; a TOML file names what differs from these.

    Attributes
    ----------
    stages : list of [shape, share of the epochs, batch, matrices]
        Grids that training passes through; the last one takes the rest.
    unroll : int
        Steps of the iteration that the loss looks at.
    closed, varying : float
        Shares of the matrices whose top is closed, and whose coefficients vary.
    valid, test : list of shapes
        Grids of the systems, with obstacles not trained on, that are watched, and looked at once.
    """

    name: str = "stencils"
    kind: str = "stencils"
    stages: list[Any] = field(default_factory=lambda: [[[32, 32, 32], 1.0, 8, 64]])
    unroll: int = 6
    closed: float = 0.4
    varying: float = 0.25
    steps: int = 100
    model: dict[str, Any] = field(default_factory=dict)
    valid: list[Any] = field(default_factory=list)
    test: list[Any] = field(default_factory=list)

    @classmethod
    def folder(cls) -> Path:
        return Path(__file__).parent / "configs"


def draw_operator(shape: Any, seed: Any, closed: float, varying: float) -> GridOperator:
    """Draw a matrix: a box with obstacles, its top open or closed, its coefficients 1 or not."""
    rng = np.random.default_rng(seed)
    A = pressure_operator(obstacles(shape, rng), bool(rng.random() >= closed))
    if rng.random() >= varying:
        return A
    noise = gaussian_random_field(shape, alpha=2.0, tau=8.0, seed=rng)
    c = np.exp(rng.uniform(0.5, 3.0) * noise / noise.std())
    return GridOperator.diffusion(A.grid, c / np.median(c), mask=A.mask)


def as_tensors(operators: list[GridOperator], device: Any) -> tuple[list[dict], torch.Tensor]:
    """Return the levels of operators on one grid as batches, and the coarsest inverses."""
    with ThreadPoolExecutor() as threads:
        levels = list(threads.map(_levels, operators))

    def put(values: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack(values).to(device, torch.float32)

    batches = [{name: put([getattr(level, name) for level in same]) for name in FIELDS}
               for same in zip(*levels)]  # fmt: skip
    return batches, put([coarsest_inverse(own[-1]) for own in levels])


def _levels(A: GridOperator) -> list[Any]:
    return geometries(stack_of(A))


class Trainer(training.Trainer):
    """The model, its optimiser and its pool of matrices on one device.

    Parameters
    ----------
    config : Config
    device : str
    """

    watched = 1

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self.prepare(config)
        dimension = len(config.stages[0][0])
        model = StencilCycle(**({"dimension": dimension} | config.model))
        super().__init__(config, model, config.steps, device)
        self._stage = -1
        self._held: dict[Any, Any] = {}

    # -- samples ---------------------------------------------------------------------------

    def draw_epoch(self, epoch: int) -> None:
        config = self.config
        ends = np.cumsum([share for _, share, *_ in config.stages]) * config.epochs
        stage = min(int(np.searchsorted(ends, epoch, side="right")), len(ends) - 1)
        if stage != self._stage:
            self._enter(stage)
        maker = torch.Generator(self.device).manual_seed(1000003 * (config.seed + 1) + epoch)
        self._maker = maker
        self._picked = torch.randint(0, len(self.floating), (config.steps, len(self.rows)),
                                     generator=maker, device=self.device)  # fmt: skip

    def _enter(self, stage: int) -> None:
        """Make the matrices of a stage."""
        config = self.config
        self._stage, self._graph = stage, None
        shape, _, batch, count = config.stages[stage]
        operators = [draw_operator(shape, [config.seed, stage, k], config.closed, config.varying)
                     for k in range(count)]  # fmt: skip
        self.levels, self.inverse = as_tensors(operators, self.device)
        self.pool = Systems(operators, 1, self.device)
        floating = [float(A.nullspace is not None) for A in operators]
        small = (-1, *[1] * len(shape))
        self.floating = torch.tensor(floating, device=self.device).reshape(small)
        self.rows = torch.zeros(batch, dtype=torch.long, device=self.device)
        self.noise = torch.zeros(batch, *shape, device=self.device)
        self.rough = torch.zeros(batch, *[1] * len(shape), device=self.device)

    def draw(self, k: int) -> None:
        self.rows.copy_(self._picked[k])
        self.noise.normal_(generator=self._maker)
        self.rough.uniform_(generator=self._maker)

    # -- the loss --------------------------------------------------------------------------

    def loss(self) -> torch.Tensor:
        """Return the mean logarithm of what a step leaves, along runs of the iteration."""
        rows = self.rows
        systems = self.pool.chosen(rows)
        levels = [{name: level[name][rows] for name in FIELDS} for level in self.levels]
        b = self.noise * systems.mask
        # Half of the right-hand sides are noise, half of them A times noise.
        b = torch.where(self.rough < 0.5, b, systems.apply(b) * systems.mask)
        b = b - self.floating[rows] * systems.mask * systems.mean(b)
        direction = self._directions(levels, self.inverse[rows])
        return mean_rate(norms_along(systems, direction, b, self.config.unroll))

    def _directions(self, levels: Any, inverse: torch.Tensor) -> Any:
        stencils = self.model.make(levels)
        return lambda r: self.model(r, stencils, inverse)

    # -- figures ---------------------------------------------------------------------------

    @torch.no_grad()
    def counts(self, shapes: list[Any], first: int, bound: float = 1e-5) -> dict[str, float]:
        """Return the iterations to a bound on systems with obstacles not trained on."""
        found = {}
        for k, shape in enumerate(shapes):
            if (tuple(shape), first) not in self._held:
                operators = [draw_operator(shape, [77, first, k, j], 0.5, 0.0) for j in range(2)]
                self._held[tuple(shape), first] = (
                    Systems(operators, 1, self.device), *as_tensors(operators, self.device)
                )
            systems, levels, inverse = self._held[tuple(shape), first]
            maker = torch.Generator().manual_seed(k)
            r = torch.randn(2, *shape, generator=maker).to(self.device) * systems.mask
            r = r - systems.mask * systems.mean(r)
            norms = norms_along(systems, self._directions(levels, inverse), r, 25)
            found["x".join(map(str, shape))] = steps_to(norms, bound)
        return found

    def watch(self) -> dict[str, float]:
        return self.counts(self.config.valid, 0)

    def report(self) -> dict[str, Any]:
        sizes = ", ".join("x".join(map(str, shape)) for shape, *_ in self.config.stages)
        matrices = sum(count for *_, count in self.config.stages)
        return {
            "kind": "direction", "family": "stencils", "test": self.counts(self.config.test, 100),
            "data": f"pressure systems past random obstacles, {sizes}: {matrices} matrices, "
            f"{self.config.closed:.0%} closed, {self.config.varying:.0%} with coefficients that "
            "vary",
        }  # fmt: skip
