"""What a file shall hold: a plan says everything that its numbers depend on."""

from __future__ import annotations

import inspect
import json
import platform
import tomllib
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

import krylearn
from krylearn import registry
from krylearn.problems import Problem

DTYPES = {"float32": np.complex64, "float64": np.complex128}
# The libraries that a result's last digits depend on.
LIBRARIES = ("numpy", "scipy", "numba", "h5py")


@cache
def recipes() -> dict[str, dict[str, Any]]:
    """Return the data sets of the literature by name."""
    text = (Path(__file__).parent / "recipes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def recipe_names() -> list[str]:
    """Return the names of the data sets of the literature.

    Examples
    --------
    >>> from krylearn.data import recipe_names
    >>> "darcy-smooth" in recipe_names()
    True
    """
    return list(recipes())


@dataclass(frozen=True)
class Plan:
    """A data set before it is made: sample i is the problem with seed ``seed + i``.

    Attributes
    ----------
    family : str
        A registered problem.
    options : dict
        Arguments of the family, but for its shape and seed.
    grid : tuple of int or None
        The shape; None for a family that has none.
    samples, seed : int
    rtol : float
        Bound of every sample's true relative residual.
    stride : int
        Every how many-th point of an axis is kept.
    dtype : {'float64', 'float32'}
        Of what is kept; systems are solved and verified in float64.
    solver : str
        As the user asked: see `krylearn.data.solvers`.
    shard : int
        Samples that are solved together; a solver may carry what it learns within a shard only.
    device : {'cpu', 'cuda'}
        Where samples are drawn and solved.
    """

    family: str
    samples: int
    grid: tuple[int, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    rtol: float = 1e-8
    stride: int = 1
    dtype: str = "float64"
    solver: str = "auto"
    shard: int = 1
    device: str = "cpu"

    @classmethod
    def make(cls, family: str, *, samples: int, grid: Any = None,
             options: dict[str, Any] | None = None, stride: int | None = None,
             **settings: Any) -> Plan:  # fmt: skip
        """Return a checked plan; `family` may be the name of a recipe.

        Raises
        ------
        ValueError
            If something is unknown or out of range.
        """
        preset = recipes().get(family)
        if preset is not None:
            family = preset["family"]
            grid = preset["grid"] if grid is None else grid
            stride = preset["stride"] if stride is None else stride
            options = {**preset["options"], **(options or {})}
        try:
            make = registry.find("problem", family).load()
        except ValueError as error:
            raise ValueError(f"{error}; data sets of the literature are "
                             f"{', '.join(recipes())}") from None  # fmt: skip
        plan = cls(family, samples, _shape(make, family, grid), dict(options or {}),
                   stride=1 if stride is None else stride, **settings)  # fmt: skip
        plan._check(make)
        return plan

    def sharded(self, step: int) -> Plan:
        """Return the plan with shards of a multiple of `step` samples.

        A shard takes a second or so, fits in memory, and leaves every worker some to do.
        """
        if self.device == "cuda":
            from krylearn.data.cuda import shard_of

            return replace(self, shard=shard_of(self))
        size = sum(P.A.shape[0] for P in self.systems(0))
        wanted = min(32, 2**23 // max(size, 1), -(-self.samples // 16))
        return replace(self, shard=max(1, -(-wanted // step)) * step)

    def _check(self, make: Any) -> None:
        for name, least in (("samples", 1), ("seed", 0), ("stride", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer >= {least}, not {value!r}")
        if self.samples > 2**31:
            raise ValueError(f"{self.samples} samples are more than a file holds")
        if not 0 < self.rtol < 1:
            raise ValueError(f"rtol must be between 0 and 1, not {self.rtol!r}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be float32 or float64, not {self.dtype!r}")
        known = [name for name in inspect.signature(make).parameters
                 if name not in ("shape", "seed")]  # fmt: skip
        if self.device not in ("cpu", "cuda"):
            raise ValueError(f"device must be 'cpu' or 'cuda', not {self.device!r}")
        for name, value in self.options.items():
            if name not in known:
                raise ValueError(f"{self.family} has no option {name!r}; it has "
                                 f"{', '.join(known)}")  # fmt: skip
            try:
                json.dumps(value)
            except TypeError:
                raise ValueError(f"option {name} must be a number, a text or a list") from None

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.samples // self.shard)

    def members(self, shard: int) -> range:
        """Return the samples of a shard."""
        return range(shard * self.shard, min((shard + 1) * self.shard, self.samples))

    @cached_property
    def _family(self) -> Any:
        return registry.find("problem", self.family).load()

    def systems(self, sample: int) -> list[Problem]:
        """Return the systems of a sample: one, or the steps of a family that evolves.

        Raises
        ------
        ValueError
            If the family refuses its options.
        """
        shape = {} if self.grid is None else {"shape": self.grid}
        try:
            made = self._family(**shape, **self.options, seed=self.seed + sample)
            return [made] if isinstance(made, Problem) else list(made)
        except (TypeError, IndexError, OSError) as error:
            raise ValueError(f"{self.family}: {error}") from None

    def as_dict(self) -> dict[str, Any]:
        """Return what is kept in the file and compared when a run goes on."""
        return json.loads(json.dumps(asdict(self)))


def parse_grid(text: str | None) -> Any:
    """Return the grid of '128' or '96x96x64'.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> from krylearn.data.plan import parse_grid
    >>> parse_grid("128"), parse_grid("96x64")
    (128, (96, 64))
    """
    if text is None:
        return None
    parts = text.lower().replace(",", "x").split("x")
    if not all(part.strip().isdigit() for part in parts):
        raise ValueError(f"a grid is 128, or 96x96x64 for axes that differ; not {text!r}")
    sizes = tuple(int(part) for part in parts)
    return sizes[0] if len(sizes) == 1 else sizes


def parse_options(texts: list[str]) -> dict[str, Any]:
    """Return the options in texts like 'contrast=1e6'; values are JSON, or else plain text.

    Raises
    ------
    ValueError
        If a text has no '='.

    Examples
    --------
    >>> from krylearn.data.plan import parse_options
    >>> parse_options(["contrast=1e6", "kind=walls", "velocity=[1, 0]"])
    {'contrast': 1000000.0, 'kind': 'walls', 'velocity': [1, 0]}
    """
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"an option is NAME=VALUE, not {text!r}")
        try:
            options[name.strip()] = json.loads(value)
        except ValueError:
            options[name.strip()] = value.strip()
    return options


def versions() -> dict[str, str]:
    """Return the versions of krylearn, Python and the libraries."""
    found = {"krylearn": krylearn.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        found[name] = __import__(name).__version__
    return found


def _shape(make: Any, family: str, grid: Any) -> tuple[int, ...] | None:
    parameter = inspect.signature(make).parameters.get("shape")
    if parameter is None:
        if grid is not None:
            raise ValueError(f"{family} has no grid to choose")
        return None
    if grid is None:
        grid = parameter.default
    # One number stands for all axes that the family has by default.
    sizes = tuple(grid) if np.ndim(grid) else (grid,) * max(2, np.size(parameter.default))
    if not sizes or not all(isinstance(n, int | np.integer) and n >= 1 for n in sizes):
        raise ValueError(f"a grid is one or more sizes of at least 1, not {grid!r}")
    return tuple(int(n) for n in sizes)
