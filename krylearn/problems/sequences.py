"""Any family as a sequence of related systems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from krylearn.problems.problem import Problem


def sequence(family: str | Callable, count: int, *, seed: int = 0,
             **options: Any) -> Iterator[Problem]:  # fmt: skip
    """Yield `count` problems of a family.

    Parameters
    ----------
    family : str or callable
        A registered name, or a function like those of `krylearn.problems`. One that evolves
        (`heat`, `smoke`) gives its steps; of the others each problem has a seed of its own.
    count : int
    seed : int
        The first seed; the others follow.
    **options
        Arguments of the family.

    Yields
    ------
    P : Problem

    Raises
    ------
    ValueError
        If there is no such family.

    Examples
    --------
    >>> import krylearn as kl
    >>> [P.seed for P in kl.problems.sequence("darcy", 3, shape=(8, 8), seed=5)]
    [5, 6, 7]
    >>> [round(P.params["time"], 3) for P in kl.problems.sequence("heat", 2, shape=(8, 8))]
    [0.001, 0.002]
    """
    if isinstance(family, str):
        from krylearn import registry

        family = registry.find("problem", family).load()
    if count < 1:
        return
    first = family(seed=seed, **options)
    if not isinstance(first, Problem):
        if "steps" not in options:
            first = family(seed=seed, steps=count, **options)
        yield from islice(first, count)
        return
    yield first
    for k in range(1, count):
        yield family(seed=seed + k, **options)
