"""What a shipped surrogate predicts: errors, transfer to other grids and contrasts, its speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import krylearn as kl
from krylearn.benchmarks.papers.mgno import samples

# Bounds of the bands of integer frequencies, by their largest component.
BANDS = (0, 4, 8, 16, 32, 64, 128)
# Every so many-th point of a picture.
THIN = 3


def errors_of(u: np.ndarray, v: np.ndarray) -> dict[str, float]:
    """Return the mean relative errors in L2, in H1, and the paper's by frequencies."""
    import torch

    from krylearn.learned.mgno.loss import FrequencyLoss, relative_h1, relative_l2

    U, V = (torch.from_numpy(w)[:, None] for w in (u, v))
    found = {
        "l2": relative_l2(U, V), "h1": relative_h1(U, V, 1 / (u.shape[-1] + 1)),
        "frequency": FrequencyLoss(u.shape[1:]).double()(U, V),
    }  # fmt: skip
    return {name: float(values.mean()) for name, values in found.items()}


def by_band(u: np.ndarray, v: np.ndarray) -> list[dict[str, Any]]:
    """Return for each band of frequencies the error's and the solution's share of the norm."""
    axes = tuple(range(1, u.ndim))
    error, whole = (np.abs(np.fft.fftn(w, axes=axes)) ** 2 for w in (u - v, v))
    k = np.meshgrid(*[np.abs(np.fft.fftfreq(n, 1 / n)) for n in u.shape[1:]], indexing="ij")
    largest = np.max(k, axis=0)
    total = whole.sum(axis=axes)
    rows = []
    for low, high in zip(BANDS, BANDS[1:]):
        inside = (largest >= low) & (largest < high)
        if inside.any():
            e, w = (x[:, inside].sum(axis=1) for x in (error, whole))
            rows.append({"from": low, "to": high, "error": float(np.sqrt(e / total).mean()),
                         "solution": float(np.sqrt(w / total).mean()),
                         "relative": float(np.sqrt(e / w).mean())})  # fmt: skip
    return rows


def errors(name: str, count: int, say: Callable) -> dict[str, Any]:
    """Return the errors on held-out samples, and what the grid itself costs."""
    model = kl.surrogate(name, samples.device())
    a, v = samples.pairs(samples.recipe_of(model.card), count)
    u = model.fields(a)
    coarse = samples.solve(a)
    row = {"model": name, "samples": count, **errors_of(u, v), "bands": by_band(u, v),
           "card": {k: model.card[k] for k in ("l2", "h1", "frequency")},
           "coarse_grid": errors_of(coarse, v)}  # fmt: skip
    say(f"{name}: {row['l2']:.3e} in L2 on {count} samples")
    shown = [np.round(samples.thinned(w[:1], THIN)[0], 6).tolist() for w in (a, v, u)]
    return row | {"picture": dict(zip(("coefficient", "solution", "prediction"), shown))}


def transfer(name: str, count: int, say: Callable) -> list[dict[str, Any]]:
    """Return the errors on other grids, and with other contrasts than were trained on.

    Solutions are those of the grid itself, so that what a coarse grid costs is no part of them.
    """
    model = kl.surrogate(name, samples.device(), strict=False)
    recipe, trained = samples.recipe_of(model.card), model.card["grid"][0]
    low, high = model.card["input_range"]
    rows = []
    sizes = {trained // 4, trained // 2, 3 * trained // 4, trained, 2 * trained - 1}
    for n in sorted(n for n in sizes if n >= model.model.least):
        # The same media on all grids, drawn where they were for training.
        fine = 2 * trained - 1
        place = np.floor((np.arange(n) + 0.5) / n * fine).astype(int)
        a = samples.draw(recipe, count, grid=(fine, fine))[:, place][:, :, place]
        rows.append({"what": f"grid {n} x {n}", "trained": n == trained,
                     **errors_of(model.fields(a), samples.solve(a))})  # fmt: skip
        say(f"{rows[-1]}")
    a = samples.thinned(samples.draw(recipe, count), recipe["stride"])
    for factor in (0.25, 0.5, 0.8, 1.25, 2.0, 4.0):
        other = np.where(a > low, high * factor, low) if np.unique(a).size == 2 else (
            low + (a - low) * factor)  # fmt: skip
        rows.append({"what": f"contrast {other.max() / other.min():g}", "trained": False,
                     **errors_of(model.fields(other), samples.solve(other))})  # fmt: skip
        say(f"{rows[-1]}")
    return rows


def speed(name: str, count: int, say: Callable) -> list[dict[str, Any]]:
    """Return predictions a second, beside solutions a second of batched multigrid.

    Fields come from and go back to the host. Multigrid solves to 1e-8, and to residuals at which
    its error is that of the network at most.
    """
    model = kl.surrogate(name, samples.device())
    a = samples.thinned(samples.draw(samples.recipe_of(model.card), count),
                        samples.recipe_of(model.card)["stride"])  # fmt: skip
    exact = samples.solve(a, 1e-10)
    rows = []

    def record(what: str, work: Callable) -> None:
        work()  # compiles
        times = []
        for _ in range(3):
            started = time.perf_counter()
            found = work()
            times.append(time.perf_counter() - started)
        error = float(np.mean(np.linalg.norm((found - exact).reshape(count, -1), axis=1)
                              / np.linalg.norm(exact.reshape(count, -1), axis=1)))  # fmt: skip
        rows.append({"what": what, "a_second": count / statistics.median(times), "l2": error})
        say(f"{rows[-1]}")

    place = samples.device()
    for together in (1, 4, 16):
        record(f"MgNO, {together} at a time, {place}",
               lambda k=together: model.fields(a, together=k))  # fmt: skip
    for where in dict.fromkeys(("cpu", place)):
        for rtol in (1e-1, 1e-2, 1e-3, 1e-8):
            record(f"batched multigrid-CG to {rtol:g}, {where}",
                   lambda rtol=rtol, where=where: samples.solve(a, rtol, where))  # fmt: skip
    return rows
