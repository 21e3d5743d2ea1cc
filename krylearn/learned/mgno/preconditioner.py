"""The linear MgNO cycle as a preconditioner."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from krylearn.kernels.vector import norm
from krylearn.learned import weights
from krylearn.learned.mgno.linear import LinearMgNO
from krylearn.operators import Preconditioner
from krylearn.solvers.multigrid.structured import as_grid_operator

__all__ = ["MgNOCycle", "seen_of"]

# Below this many unknowns there is nothing to gain from a lower precision.
SINGLE = 4096
# A reaction beyond what cycles are trained for counts as this one, over the couplings.
STRONGEST = 2.5
# What 'auto' takes on grids of so many axes.
SUITED = {2: "mgno-poisson2d"}


class MgNOCycle(Preconditioner):
    """A linear multigrid neural operator: a V-cycle of learned convolutions.

    Parameters
    ----------
    A : {GridOperator, sparse array, ndarray}
        Hermitian, of positive diagonal, coupling nearest neighbours on a grid. A matrix must have
        the unknowns in C order.
    model : str, path or LinearMgNO
        'auto', which chooses by the dimension of the grid; the name of a model that krylearn ships;
        a .safetensors file with its card beside it; or a network.

    Attributes
    ----------
    symmetric, positive_definite : bool
        True for a model with tied transposes; others need `fcg` or `fgmres`.

    Raises
    ------
    TypeError
        If A gives products only, or model is none of these.
    ValueError
        If A is no such matrix, there is no such model, or it knows another dimension.

    Notes
    -----
    Convolutions are the same everywhere. Of A they see the diagonal, by which residuals and
    directions are scaled unless it jumps, the sides and a reaction. So they suit coefficients that
    are constant or vary smoothly, and serve less where these jump: a poor cycle costs iterations
    and not the answer.

    References
    ----------
    He, Liu and Xu (2024), MgNO: efficient parameterization of linear operators via multigrid,
    ICLR, Algorithm 1.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = kl.problems.poisson((31, 40), seed=1)
    >>> x, info = kl.cg(P.A, P.b, rtol=1e-8, M=kl.MgNOCycle(P.A))
    >>> info.converged, info.iterations < 20
    (True, True)
    """

    name = "mgno"
    linear = True

    def __init__(self, A: Any, model: Any = "auto") -> None:
        started = time.perf_counter()
        A = as_grid_operator(A, self.name)
        super().__init__(A.shape, A.dtype)
        self.card: dict[str, Any] = {}
        network = self._network(model, A.grid.ndim)
        self.symmetric = network.tied
        self.positive_definite = True if network.tied else None
        real = self.dtype.type(0).real.dtype
        self.working = np.dtype("f") if A.shape[0] >= SINGLE else real
        single = self.working == np.dtype("f")
        settings: Any = network.settings
        made = LinearMgNO(**settings).to(torch.float32 if single else torch.float64)
        made.load_state_dict(network.state_dict())
        self.model = made.requires_grad_(False).eval()
        self._build(A)
        self.setup_seconds = time.perf_counter() - started

    def _network(self, model: Any, ndim: int) -> LinearMgNO:
        if isinstance(model, str) and model == "auto":
            if ndim not in SUITED:
                raise ValueError(f"no linear MgNO for grids of {ndim} axes is shipped; give a "
                                 "model, or use multigrid")  # fmt: skip
            model = SUITED[ndim]
        if isinstance(model, str | Path):
            tensors, self.card = weights.load(model, "cycle")
            model = weights.fill(LinearMgNO(**self.card["settings"]), tensors, model)
        if not isinstance(model, LinearMgNO):
            raise TypeError(f"model must be a name, a path or a LinearMgNO, not {model!r}")
        if model.dimension != ndim:
            raise ValueError(f"this model knows grids of {model.dimension} axes, A has {ndim}; "
                             "take another model, or multigrid")  # fmt: skip
        return model

    def _build(self, A: Any) -> None:
        self.grid = A.grid
        diagonal, self._shift = seen_of(A)
        # A multiple of A has a multiple of the scales: near 1, single precision serves.
        self._unit = float(np.median(diagonal))
        self._scale = np.sqrt(self._unit / diagonal).astype(self.working)

    def update(self, A: Any) -> MgNOCycle:
        """Take new coefficients on the same grid."""
        A = as_grid_operator(A, self.name)
        if A.grid.shape != self.grid.shape:
            raise ValueError(f"update needs an operator on a grid of shape {self.grid.shape}, not "
                             f"{A.grid.shape}; make a new one")  # fmt: skip
        self._build(A.astype(self.dtype))
        return self

    def apply(self, r: np.ndarray, out: np.ndarray) -> np.ndarray:
        size = norm(r)
        if not 0 < size < np.inf:
            out[:] = 0 if size == 0 else np.nan
            return out
        # A power of two, so that rounding does not depend on it.
        unit = 2.0 ** -float(np.round(np.log2(size)))
        parts = (r.real, r.imag) if self.dtype.kind == "c" else (r,)
        scaled = np.stack([(unit * part).astype(self.working).reshape(self.grid.shape)
                           for part in parts])  # fmt: skip
        scaled *= self._scale
        with torch.inference_mode():
            found = self.model(torch.from_numpy(scaled), self._shift, self.grid.boundary,
                               self.grid.centering == "node").numpy()  # fmt: skip
        found *= self._scale
        gain = 1 / (unit * self._unit)
        if self.dtype.kind == "c":
            out.real, out.imag = gain * found[0].ravel(), gain * found[1].ravel()
        else:
            np.multiply(found[0].ravel(), gain, out=out, casting="unsafe", dtype=float)
        return out


def seen_of(A: Any) -> tuple[np.ndarray, float]:
    """Return what a cycle sees of a grid operator.

    Returns
    -------
    diagonal : array of grid.shape
        As it would be if the grid went on beyond its sides, and no side held it; its mean where
        scaling with it would do harm.
    shift : float
        What the diagonal has beyond the couplings, relative to those, inside the grid.
    """
    grid = A.grid
    stack = np.abs(A._points()[: 1 + grid.ndim].astype(complex if A.dtype.kind == "c" else float))
    diagonal, couplings, missing = stack[0], np.zeros(grid.shape), np.zeros(grid.shape)
    for axis, upper in enumerate(stack[1:]):
        lower = np.roll(upper, 1, axis)
        couplings += upper + lower
        if not grid.periodic[axis]:
            for end, opposite in ((0, upper), (-1, lower)):
                place: Any = (*[slice(None)] * axis, end)
                missing[place] += opposite[place]
    excess = np.maximum(diagonal - couplings, 0)
    full = np.maximum(couplings + missing, 1e-6 * diagonal)
    inside: Any = tuple(slice(1, -1) if n > 2 else slice(None) for n in grid.shape)
    shift = float(np.median((excess / full)[inside]))
    # A side holds what is beside it by its coupling, or twice that where it is half as far.
    held = np.clip(excess - shift * full, 0, 2 * missing)
    seen = diagonal - held + missing
    logs = np.log(seen)
    jump = max(float(np.abs(np.diff(logs, axis=d)).max(initial=0.0)) for d in range(grid.ndim))
    # Unscaled, the condition is at most the contrast; scaled, a smooth function has jumps where
    # the diagonal does, whose energy grows with the number of points.
    if np.ptp(logs) < np.log1p(max(grid.shape) * jump**2):
        seen = np.full_like(seen, np.exp(np.mean(logs)))
    return seen, min(shift, STRONGEST)
