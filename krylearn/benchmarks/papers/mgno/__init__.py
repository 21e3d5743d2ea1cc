"""Multigrid neural operators: errors, starts, the linear cycle, speed, transfer, and rivals.

All solvers are this library's. The surrogates are those that it ships, judged on samples that none
was trained on; the rivals are trained here.

References
----------
He, Liu and Xu (2024), MgNO: efficient parameterization of linear operators via multigrid, ICLR.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from krylearn.benchmarks.papers.mgno import predictions, sockets
from krylearn.benchmarks.papers.mgno.figures import draw, show
from krylearn.learned import weights

__all__ = ["TITLE", "draw", "parts", "show"]

TITLE = "Multigrid neural operators (MgNO)"


def parts(full: bool) -> dict[str, Callable]:
    """Return the experiments by name; `full` takes the paper's numbers of samples and epochs."""
    found: dict[str, Callable] = {}
    for name in weights.names("surrogate"):
        found[f"errors/{name}"] = partial(predictions.errors, name, 100 if full else 16)
        found[f"transfer/{name}"] = partial(predictions.transfer, name, 20 if full else 4)
        found[f"speed/{name}"] = partial(predictions.speed, name, 64 if full else 16)
        found[f"start/{name}"] = partial(
            sockets.start, name, 10 if full else 3, 200 if full else 100
        )
    found["cycle"] = partial(sockets.cycle, (64, 128, 256, 512) if full else (64, 128, 256))
    found["rivals"] = compare_full if full else compare_small
    found["seeds"] = seeds_full if full else seeds_small
    return found


def compare_small(say: Callable) -> dict:
    """Train MgNO, U-Net and FNO for a minute each on one core."""
    from krylearn.benchmarks.papers.mgno.rivals import compare

    return compare(32, 200, 20, (8,), (8,), 16, say)


def compare_full(say: Callable) -> dict:
    """Train them in two sizes at the paper's number of samples, 100 epochs: minutes on a GPU."""
    from krylearn.benchmarks.papers.mgno.rivals import compare

    return compare(106, 1000, 100, (24, 16), (16, 32), 32, say)


def seeds_small(say: Callable) -> dict:
    """Train two small models for a minute on one core."""
    from krylearn.benchmarks.papers.mgno.rivals import seeds

    return seeds("darcy-smooth", 63, 100, 10, 2, {"width": 8, "layers": 2, "levels": 4}, say)


def seeds_full(say: Callable) -> dict:
    """Train the paper's model three times, 100 epochs each: minutes on a GPU."""
    from krylearn.benchmarks.papers.mgno.rivals import seeds

    model = {"width": 24, "layers": 4, "levels": 6}
    return seeds("darcy-smooth", 421, 1000, 100, 3, model, say)
