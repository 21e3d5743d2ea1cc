"""Training of the linear cycle: ``krylearn train mgno CONFIG`` with ``kind = "cycle"``.

Pools of matrices, with a reaction and coefficients that vary in some; the loss is what k steps of
the actual iteration leave of the residual, and gradients pass through them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from krylearn.grid import Grid, GridOperator
from krylearn.learned import training
from krylearn.learned.mgno.linear import LinearMgNO
from krylearn.learned.mgno.preconditioner import seen_of
from krylearn.learned.unrolled import Systems, mean_rate, norms_along, steps_to
from krylearn.problems.fields import gaussian_random_field, piecewise


@dataclass
class Config(training.Settings):
    """What a training run depends on; a TOML file names what differs from these.

    Attributes
    ----------
    stages : list of [shape, share of the epochs, batch, matrices]
        Grids that training passes through; the last one takes the rest.
    unroll : int
        Steps of the iteration that the loss looks at.
    shifted, varying : float
        Shares of the matrices with a reaction, and with coefficients 12 and 3.
    valid, test : list of shapes
        Grids of the systems, not trained on, that are watched, and looked at once.
    """

    name: str = "cycle"
    kind: str = "cycle"
    stages: list[Any] = field(default_factory=lambda: [[[32, 32], 1.0, 8, 32]])
    unroll: int = 6
    shifted: float = 0.25
    varying: float = 0.0
    steps: int = 100
    model: dict[str, Any] = field(default_factory=dict)
    valid: list[Any] = field(default_factory=list)
    test: list[Any] = field(default_factory=list)

    @classmethod
    def folder(cls) -> Path:
        return Path(__file__).parent / "configs"


def draw_operator(shape: Any, centering: str, seed: Any, shifted: float,
                  varying: float) -> GridOperator:  # fmt: skip
    """Draw a matrix: Dirichlet sides, with or without a reaction."""
    rng = np.random.default_rng(seed)
    more = 0 if centering == "cell" else 1
    # Spacing one, so that the diagonal is 2 d inside.
    grid = Grid(shape, [float(n + more) for n in shape], centering=centering)
    reaction = 10.0 ** rng.uniform(-4, 1) if rng.random() < shifted else 0.0
    if rng.random() >= varying:
        return GridOperator.diffusion(grid, 1.0, reaction)
    c = piecewise(gaussian_random_field(shape, alpha=2.0, tau=3.0, seed=rng)) / 6
    return GridOperator.diffusion(grid, c, reaction)


class Pool:
    """Matrices on grids of one shape, and what the cycle sees of them."""

    def __init__(self, operators: list[GridOperator], device: Any) -> None:
        self.systems = Systems(operators, 1, device)
        seen = [seen_of(A) for A in operators]

        def put(values: Any) -> torch.Tensor:
            return torch.from_numpy(np.stack(values).astype(np.float32)).to(device)

        self.scale = put([diagonal**-0.5 for diagonal, _ in seen])
        self.shift = put([shift for _, shift in seen])
        self.grid = operators[0].grid

    def directions(self, model: LinearMgNO, rows: Any = slice(None)) -> Any:
        """Return the map from residuals to directions in some of the systems."""
        scale, shift = self.scale[rows], self.shift[rows]
        more = (self.grid.boundary, self.grid.centering == "node")
        return lambda r: scale * model(scale * r, shift, *more)


def iterations_of(model: LinearMgNO, shape: Any, seed: int, varying: float = 0.0,
                  device: Any = "cpu") -> float:  # fmt: skip
    """Return the iterations to 1e-5, the worst of a few systems without a reaction."""
    found = []
    for centering in ("node", "cell"):
        pool = Pool([draw_operator(shape, centering, [77, seed, j], 0.0, varying)
                     for j in range(2)], device)  # fmt: skip
        r = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)).to(device)
        found.append(steps_to(norms_along(pool.systems, pool.directions(model), r, 30), 1e-5))
    return max(found)


class Trainer(training.Trainer):
    """The cycle, its optimiser and its pool of matrices on one device.

    Parameters
    ----------
    config : Config
    device : str
    """

    watched = 1

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self.prepare(config)
        dimension = len(config.stages[0][0])
        model = LinearMgNO(**({"dimension": dimension} | config.model))
        super().__init__(config, model, config.steps, device)
        self._stage = -1

    def draw_epoch(self, epoch: int) -> None:
        config = self.config
        ends = np.cumsum([share for _, share, *_ in config.stages]) * config.epochs
        stage = min(int(np.searchsorted(ends, epoch, side="right")), len(ends) - 1)
        if stage != self._stage:
            self._stage, self._graph = stage, None
            shape, _, batch, count = config.stages[stage]
            self.pools = [
                Pool([draw_operator(shape, centering, [config.seed, stage, k], config.shifted,
                                    config.varying) for k in range(count)], self.device)
                for centering in ("node", "cell")
            ]  # fmt: skip
            self.rows = torch.zeros(batch, dtype=torch.long, device=self.device)
            self.noise = torch.zeros(batch, *shape, device=self.device)
            self.rough = torch.zeros(batch, *[1] * len(shape), device=self.device)
        maker = torch.Generator(self.device).manual_seed(1000003 * (config.seed + 1) + epoch)
        self._maker = maker
        self._picked = torch.randint(0, len(self.pools[0].shift), (config.steps, len(self.rows)),
                                     generator=maker, device=self.device)  # fmt: skip

    def draw(self, k: int) -> None:
        self.rows.copy_(self._picked[k])
        self.noise.normal_(generator=self._maker)
        self.rough.uniform_(generator=self._maker)

    def loss(self) -> torch.Tensor:
        """Return the mean logarithm of what a step leaves, along runs of the iteration."""
        losses = []
        for pool in self.pools:
            systems = pool.systems.chosen(self.rows)
            # Half of the right-hand sides are noise, half of them A times noise.
            b = torch.where(self.rough < 0.5, self.noise, systems.apply(self.noise))
            direction = pool.directions(self.model, self.rows)
            losses.append(mean_rate(norms_along(systems, direction, b, self.config.unroll)))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def counts(self, shapes: list[Any], first: int) -> dict[str, float]:
        """Return the iterations to 1e-5, the worst of a few systems without a reaction."""
        return {"x".join(map(str, shape)): iterations_of(self.model, shape, first + k,
                                                         self.config.varying, self.device)
                for k, shape in enumerate(shapes)}  # fmt: skip

    def watch(self) -> dict[str, float]:
        return self.counts(self.config.valid, 0)

    def report(self) -> dict[str, Any]:
        config = self.config
        sizes = ", ".join("x".join(map(str, shape)) for shape, *_ in config.stages)
        matrices = sum(count for *_, count in config.stages)
        return {
            "kind": "cycle", "test": self.counts(config.test, 100),
            "data": f"Poisson with Dirichlet sides, nodes and cells, {sizes}: {2 * matrices} "
            f"matrices, {config.shifted:.0%} with a reaction, {config.varying:.0%} with "
            "coefficients 12 and 3",
        }  # fmt: skip
