"""The direction socket: trained networks by name, and preconditioners made of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from krylearn.kernels.vector import norm
from krylearn.learned import weights
from krylearn.learned.dcd.account import HOST_RATE, bound, work_of
from krylearn.learned.dcd.cycle import StencilPreconditioner
from krylearn.learned.dcd.paper import DirectionNet, PyramidNet
from krylearn.learned.dcd.stencils import StencilCycle
from krylearn.operators import Preconditioner
from krylearn.solvers.multigrid.structured import as_grid_operator

__all__ = ["DCD", "NetworkPreconditioner"]

FAMILIES: dict[str, Any] = {
    "paper": DirectionNet, "pyramid": PyramidNet, "stencils": StencilCycle,
}  # fmt: skip
# What 'auto' takes on grids of so many axes.
SUITED = {2: "poisson2d", 3: "poisson3d"}


class DCD:
    """A trained network that turns residuals into search directions.

    Parameters
    ----------
    model : str, path or torch.nn.Module
        'auto', which chooses by the dimension of the grid; the name of a model that krylearn
        ships; a .safetensors file with its card beside it; or a `DirectionNet` or `StencilCycle`.

    Attributes
    ----------
    card : dict
        The model card; empty for a module.

    Raises
    ------
    ValueError
        If there is no such model, or the file is not the one that its card describes.

    References
    ----------
    Kaneda et al. (2023), A deep conjugate direction method for iteratively solving linear systems,
    ICML.

    Examples
    --------
    >>> import krylearn as kl
    >>> P = next(kl.problems.smoke((40, 40), open_top=True, seed=5))
    >>> M = kl.learned.DCD("poisson2d").precondition(P.A)
    >>> x, info = kl.cg(P.A, P.b, rtol=1e-8, M=M)
    >>> info.converged, info.iterations < 20
    (True, True)
    """

    def __init__(self, model: Any = "auto") -> None:
        self.card: dict[str, Any] = {}
        self.model: Any = None
        if isinstance(model, torch.nn.Module):
            self.model = model
        elif isinstance(model, str | Path):
            if str(model) != "auto":
                self._load(model)
        else:
            raise TypeError(f"model must be a name, a path or a network, not {model!r}")
        self.name = str(self.card.get("name", model if self.model is None else "network"))

    def _load(self, name: str | Path) -> None:
        tensors, self.card = weights.load(name, "direction")
        family = FAMILIES.get(self.card.get("family", ""))
        if family is None:
            raise ValueError(f"{name} is of a family that is not known here")
        self.model = weights.fill(family(**self.card["settings"]), tensors, name).eval()

    def __repr__(self) -> str:
        return f"<DCD {self.name}>"

    def precondition(self, A: Any) -> Any:
        """Return the preconditioner that the network makes for a matrix.

        Parameters
        ----------
        A : {GridOperator, sparse array, ndarray, CudaGridOperator}
            Hermitian, of positive diagonal, coupling nearest neighbours on a grid.

        Returns
        -------
        M : Preconditioner
            Linear, symmetric and positive definite for "poisson2d" and "poisson3d": `cg` takes it.
            Others need `fcg` or `dcd`. On the device for a matrix that lies there.

        Raises
        ------
        TypeError, ValueError
            If A is no such matrix, or the network knows another dimension.
        """
        if getattr(A, "on_cuda", False):
            from krylearn.learned.dcd import device

            return device.precondition(self, A)
        A = as_grid_operator(A, "dcd")
        return self.chosen(A.grid.ndim).on_host(A)

    def chosen(self, ndim: int) -> DCD:
        """Return the network for grids of so many axes.

        Raises
        ------
        ValueError
            If there is none.
        """
        if self.model is None:
            if ndim not in SUITED:
                raise ValueError(f"no network knows grids of {ndim} axis; use kl.multigrid(A), or "
                                 "kl.direct")  # fmt: skip
            return DCD(SUITED[ndim])
        if self.model.dimension != ndim:
            raise ValueError(
                f"{self!r} knows grids of {self.model.dimension} axes, A has {ndim}; take another "
                "model, or kl.multigrid(A)"
            )
        return self

    def on_host(self, A: Any) -> Preconditioner:
        """Return the preconditioner for a grid operator on the host."""
        if isinstance(self.model, StencilCycle):
            return StencilPreconditioner(A, self.model)
        return NetworkPreconditioner(A, self.model)


class NetworkPreconditioner(Preconditioner):
    """A network as a map from residuals to directions: neither linear nor symmetric.

    Parameters
    ----------
    A : {GridOperator, sparse array, ndarray}
    model : torch.nn.Module
        From residuals of norm one, (batch, n, ...), to directions.
    """

    name = "dcd"
    linear = False
    symmetric = False

    def __init__(self, A: Any, model: Any) -> None:
        started = time.perf_counter()
        super().__init__(A.shape, A.dtype)
        self.model, self.grid = model, A.grid
        self.idle = idle_cells(A)
        self.largest, self.work = bound(A), work_of(model, HOST_RATE)
        self.setup_seconds = time.perf_counter() - started

    def update(self, A: Any) -> NetworkPreconditioner:
        """Take another operator on the same grid: the network looks at residuals alone."""
        A = as_grid_operator(A, self.name)
        if A.grid.shape != self.grid.shape:
            raise ValueError(f"update needs an operator on a grid of shape {self.grid.shape}, not "
                             f"{A.grid.shape}; make a new one")  # fmt: skip
        self.idle, self.largest = idle_cells(A), bound(A)
        return self

    def apply(self, r: np.ndarray, out: np.ndarray) -> np.ndarray:
        if self.dtype.kind == "c":
            for part, result in ((r.real, out.real), (r.imag, out.imag)):
                result[:] = self._directions(np.ascontiguousarray(part))
        else:
            out[:] = self._directions(r)
        return out

    def _directions(self, r: np.ndarray) -> np.ndarray:
        size = norm(r)
        if not 0 < size < np.inf:
            return np.zeros_like(r) if size == 0 else np.full_like(r, np.nan)
        with torch.inference_mode():
            unit = torch.from_numpy((r / size).astype(np.float32)).reshape(1, *self.grid.shape)
            q = size * self.model(unit).numpy().ravel().astype(r.dtype)
        if self.idle is not None:
            q[self.idle] = r[self.idle]
        return q


def idle_cells(A: Any) -> np.ndarray | None:
    """Return the flat numbers of cells that are coupled with no other, None if there are none."""
    links = A._points()[1 : 1 + A.grid.ndim]
    coupled = np.zeros(A.grid.shape, bool)
    for d, k in enumerate(links):
        coupled |= (k != 0) | (np.roll(k, 1, d) != 0)
    idle = np.flatnonzero(~coupled)
    return idle if len(idle) else None
