"""Cycles as lists of steps: V, W, F and full multigrid are different lists, run by one kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from krylearn.kernels.multigrid import (
    BLEND,
    CLEAR,
    DOWN,
    LINES,
    PROLONG,
    RELAX,
    RESIDUAL,
    RESTRICT,
    SOLVE,
    START,
    UP,
    UPDATE,
)
from krylearn.kernels.multigrid_sweeps import ADDED, MORE, SWAPPED

Step = tuple[int, int, int, int, float, float]
# How often a level calls the next coarser one, and as what.
CYCLES = {"V": ("V",), "W": ("W", "W"), "F": ("F", "V"), "AMLI": ("AMLI",)}
# AMLI visits so many coarse levels three times. Those below cost little, and bring little.
REPEATED = 2
VISITS = 3
# Where it takes the eigenvalues of a coarse operator to lie, preconditioned by one visit. Joined
# cells correct up to twice too much.
BETWEEN = (0.3, 1.8)


def steps(cycle: str, levels: int, smooth: Callable[[int, bool, bool], Iterator[Step]]
          ) -> list[Step]:  # fmt: skip
    """Return the steps of a cycle over `levels` levels.

    Parameters
    ----------
    cycle : {'V', 'W', 'F', 'AMLI', 'FMG'}
        'AMLI' visits the first coarse levels three times, as three steps of Chebyshev's iteration.
    levels : int
    smooth : callable
        ``smooth(level, before, from_zero)`` yields the steps of a smoother before or after the
        correction.

    References
    ----------
    Trottenberg, Oosterlee and Schueller (2001), Multigrid, sections 2.4 and 2.6.
    Axelsson and Vassilevski (1990), Algebraic multilevel preconditioning methods II, SIAM J.
    Numer. Anal. 27, 1569-1590 (AMLI: a polynomial of several visits).
    """
    if cycle == "FMG":
        return list(_full(levels, smooth))
    return list(_cycle(cycle, 0, levels, smooth, True))


def fused(levels: int) -> list[Step]:
    """Return the steps of V(1, 1) with red-black sweeps, each half of it on a level being one."""
    ways = range(levels - 1)
    return [
        *(_step(DOWN, level) for level in ways), _step(SOLVE, levels - 1),
        *(_step(UP, level) for level in reversed(ways)),
    ]  # fmt: skip


def in_windows(cycle: str, levels: int, sweeps: int) -> list[Step]:
    """Return the steps of a V or AMLI cycle with red-black sweeps, as `fused`.

    The third number of a step is its sweeps, the fourth what visit it is; its factor scales the
    result.
    """

    def visit(level: int, kind: int, weight: float) -> Iterator[Step]:
        if level == levels - 1:
            yield _step(SOLVE, level)
            return
        yield _step(DOWN, level, sweeps, kind)
        weights = visits(cycle, level + 1, levels)
        for number, w in enumerate(weights):
            more = number + 1 < len(weights)
            bits = SWAPPED * (number % 2) | ADDED * (number > 0) | MORE * more
            yield from visit(level + 1, bits, w)
        yield _step(UP, level, sweeps, kind, weight)

    return list(visit(0, 0, 1.0))


def visits(cycle: str, level: int, levels: int) -> tuple[float, ...]:
    """Return the weights of the steps that the visits of a level are.

    The polynomial of an odd number of steps is positive for every positive eigenvalue, so that the
    cycle is positive definite whatever `BETWEEN` has missed; that of two is not.
    """
    # The coarsest level is solved exactly: again would bring nothing.
    if cycle == "AMLI" and level <= REPEATED and level + 1 < levels:
        return chebyshev_weights(*BETWEEN, VISITS)
    return (1.0,) * len(CYCLES[cycle])


def _step(op: int, level: int, colour: int = 0, box: int = 0, alpha: float = 0.0,
          beta: float = 0.0) -> Step:  # fmt: skip
    return (op, level, colour, box, alpha, beta)


def _cycle(cycle: str, level: int, levels: int, smooth: Any, from_zero: bool) -> Iterator[Step]:
    if level == levels - 1:
        yield _step(SOLVE, level)
        return
    yield from smooth(level, True, from_zero)
    yield _step(RESTRICT, level)
    weights = visits(cycle, level + 1, levels)
    for visit, weight in enumerate(weights):
        kind = CYCLES[cycle][visit % len(CYCLES[cycle])]
        yield from _cycle(kind, level + 1, levels, smooth, visit == 0)
        if level + 2 == levels:
            break
        if cycle == "AMLI" and len(weights) > 1:
            yield _step(BLEND, level + 1, alpha=weight, beta=1 - weight if visit else 0.0)
    yield _step(PROLONG, level)
    yield from smooth(level, False, False)


def _full(levels: int, smooth: Any) -> Iterator[Step]:
    for level in range(levels - 1):
        yield _step(CLEAR, level)
        yield _step(RESTRICT, level)
    yield _step(SOLVE, levels - 1)
    for level in reversed(range(levels - 1)):
        yield _step(CLEAR, level)
        yield _step(PROLONG, level)
        yield from _cycle("V", level, levels, smooth, False)


def red_black(sweeps: int, boxes: list[list[int]]) -> Callable[[int, bool, bool], Iterator[Step]]:
    """Return a smoother of red-black Gauss-Seidel sweeps; black-red after the correction."""

    def smooth(level: int, before: bool, from_zero: bool) -> Iterator[Step]:
        order = [(colour, box) for box in boxes[level] for colour in (0, 1)]
        count = sweeps
        if from_zero:
            if len(order) == 2:
                yield _step(START, level)
                yield _step(RELAX, level, 1)
                count -= 1
            else:
                yield _step(CLEAR, level)
        for _ in range(count):
            for colour, box in order if before else reversed(order):
                yield _step(RELAX, level, colour, box)

    return smooth


def zebra(sweeps: int, axes: list[list[int]]) -> Callable[[int, bool, bool], Iterator[Step]]:
    """Return a smoother of line relaxations along each of some axes (slots) of a level in turn."""

    def smooth(level: int, before: bool, from_zero: bool) -> Iterator[Step]:
        if from_zero:
            yield _step(CLEAR, level)
        order = [(colour, axis) for axis in axes[level] for colour in (0, 1)]
        for _ in range(sweeps):
            for colour, axis in order if before else reversed(order):
                yield _step(LINES, level, colour, axis)

    return smooth


def polynomial(factors: list[list[tuple[float, float]]]
               ) -> Callable[[int, bool, bool], Iterator[Step]]:  # fmt: skip
    """Return a smoother ``d = alpha inv(D) r + beta d; u += d``; Jacobi and Chebyshev are such.

    `factors` holds the pairs (alpha, beta) of each level. The polynomial is its own adjoint.
    """

    def smooth(level: int, before: bool, from_zero: bool) -> Iterator[Step]:
        if from_zero:
            yield _step(CLEAR, level)
        for alpha, beta in factors[level]:
            yield _step(RESIDUAL, level)
            yield _step(UPDATE, level, alpha=alpha, beta=beta)

    return smooth


def chebyshev_factors(degree: int, low: float, high: float) -> list[tuple[float, float]]:
    """Return (alpha, beta) of the Chebyshev iteration on eigenvalues between the bounds.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, Algorithm 12.1.
    """
    theta, delta = (high + low) / 2, (high - low) / 2
    sigma = theta / delta
    rho = 1 / sigma
    factors = [(1 / theta, 0.0)]
    for _ in range(degree - 1):
        rho, previous = 1 / (2 * sigma - rho), rho
        factors.append((2 * rho / delta, rho * previous))
    return factors


def chebyshev_weights(low: float, high: float, count: int) -> tuple[float, ...]:
    """Return the weights of some Richardson steps that suit eigenvalues between the bounds.

    References
    ----------
    Saad (2003), Iterative Methods for Sparse Linear Systems, section 12.3.
    """
    angles = np.pi * (np.arange(count) + 0.5) / count
    roots = (high + low) / 2 + (high - low) / 2 * np.cos(angles)
    return tuple((1 / roots).tolist())


def as_arrays(listed: list[Step]) -> tuple[np.ndarray, np.ndarray]:
    """Return the whole numbers and the factors of steps."""
    return (
        np.array([step[:4] for step in listed], np.int64).reshape(-1, 4),
        np.array([step[4:] for step in listed], float).reshape(-1, 2),
    )
