"""The families of systems, with what their tables hold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import krylearn as kl
from krylearn.problems.fields import gaussian_random_field
from krylearn.problems.problem import Problem

# Vectors that GCRO-DR keeps, as in the paper.
KEPT = 20

@dataclass(frozen=True)
class Family:
    """A family, the preconditioners and tolerances of its table, and what else can solve it."""

    make: Callable[[int], list]
    preconditioners: tuple[str | None, ...]
    tolerances: tuple[float, ...]
    symmetric: bool = False
    definite: bool = False
    kept: int = KEPT
    others: tuple[str, ...] = ("direct",)
    more: dict[str, Any] = field(default_factory=dict)


EVERY = (None, "jacobi", "block_jacobi", "sor", "additive_schwarz", "ic0", "ilu0")
NOT_SPD = tuple(M for M in EVERY if M != "ic0")


def sequence(name: str, **options: Any) -> Callable[[int], list]:
    return lambda count: list(kl.problems.sequence(name, count, **options))


def waves(shape: tuple[int, ...], wavenumber: float, damping: float) -> Callable[[int], list]:
    """Return a family of Helmholtz problems whose wave number varies by two per cent."""

    def make(count: int) -> list:
        factors = 1 + 0.02 * np.random.default_rng(0).uniform(-1, 1, count)
        return [
            kl.problems.helmholtz(shape, wavenumber=float(wavenumber * factor), roughness=0.02,
                                  damping=damping, seed=seed, rhs="smooth")
            for seed, factor in enumerate(factors)
        ]  # fmt: skip

    return make


def changing(shape: tuple[int, ...], wavenumber: float, roughness: float, damping: float,
             ) -> Callable[[int], list]:  # fmt: skip
    """Return a family of waves in a medium that goes round a circle, in an order that does not."""

    def make(count: int) -> list:
        grid, rng = kl.Grid(shape), np.random.default_rng(0)
        first, second = (
            field / field.std()
            for field in (gaussian_random_field(shape, tau=5.0, seed=rng) for _ in range(2))
        )
        b = np.random.default_rng(5).standard_normal(math.prod(shape)).astype(complex)
        found = []
        for turn in rng.permutation(np.linspace(0, 2 * np.pi, 4 * count)):
            medium = roughness * (np.cos(turn) * first + np.sin(turn) * second)
            k = wavenumber * np.exp(medium)
            A = kl.GridOperator.diffusion(grid, reaction=-(1 + 1j * damping) * k**2)
            found.append(Problem(A, b, {"wavenumber": k}, grid, None, name="helmholtz", seed=0))
        return found

    return make


def rock(shape: tuple[int, ...], wavenumber: float, contrast: float, change: float, count: int,
         seed: int = 0) -> list:  # fmt: skip
    """Return problems ``-div(c grad u) - k^2 u``: log c is a rock and what turns.

    Each system has a source of its own, so that no solution is a start for the next.
    """
    grid, rng = kl.Grid(shape), np.random.default_rng(seed)
    fixed, first, second = (
        field / field.std()
        for field in (gaussian_random_field(shape, tau=5.0, seed=rng) for _ in range(3))
    )
    found = []
    turns = rng.permutation(np.linspace(0, 2 * np.pi, count, endpoint=False))
    for number, turn in enumerate(turns):
        log = contrast * fixed + change * (np.cos(turn) * first + np.sin(turn) * second)
        A = kl.GridOperator.diffusion(grid, np.exp(log), np.full(shape, -(wavenumber**2)))
        b = np.random.default_rng(100 + number).standard_normal(math.prod(shape))
        found.append(Problem(A, b, {"log c": log}, grid, None, name="helmholtz", seed=number))
    return found


def without_waves(family: list, kind: str) -> Callable:
    """Return what makes M of ``-div(c grad u)`` by multigrid, or of c = 1 by fast transforms."""
    fields = {id(P.A): np.exp(P.params["log c"]) for P in family}

    def make(A: Any) -> Any:
        if kind == "multigrid":
            return kl.multigrid(kl.GridOperator.diffusion(A.grid, fields[id(A)]))
        return kl.FastPoisson(kl.GridOperator.diffusion(A.grid))

    return make


def families(full: bool) -> dict[str, Family]:
    """Return the families by name; `full` for the paper's sizes and tolerances."""
    tight = (1e-5, 1e-8, 1e-11) if full else (1e-5, 1e-8)
    side = 98 if full else 80
    box = 267 if full else 98
    spd: dict[str, Any] = dict(symmetric=True, definite=True, others=("direct", "AMG"))
    return {
        "darcy, published": Family(
            sequence("darcy", shape=(48, 48), variant="published"), NOT_SPD, (1e-5,)),
        "darcy": Family(sequence("darcy", shape=(side, side)), EVERY, tight, **spd),
        "poisson": Family(
            sequence("poisson", shape=(box, box), rhs="smooth"), EVERY, tight[:1], **spd),
        "thermal": Family(sequence("thermal", shape=(150, 150)), EVERY, tight[-1:], **spd),
        "helmholtz": Family(
            waves((100, 100), 12.0, 0.0), NOT_SPD, (1e-7,), symmetric=True),
        "convection": Family(
            sequence("convection_diffusion", shape=(side, side)), NOT_SPD, (1e-8,),
            others=("direct", "AMG")),
        "damped waves in 3-D": Family(
            waves((32, 32, 32) if full else (24, 24, 24), 9.0, 0.01), (None, "jacobi", "ilu0"),
            (1e-6,), kept=10),
        "waves in a changing medium": Family(
            changing((20, 20, 20), 9.0, 0.25, 0.01), ("ilu0",), (1e-6,)),
        "waves in changing rock": Family(
            lambda count: rock((20, 20, 20), 9.0, 0.7, 0.15, 6 * count), ("ilu0",), (1e-8,),
            symmetric=True, others=("direct", "multigrid of div", "fast transforms")),
    }  # fmt: skip
