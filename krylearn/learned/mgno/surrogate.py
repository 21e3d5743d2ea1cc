"""A trained MgNO as a user meets it: a prediction with an error estimate, or a starting guess."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from krylearn.grid import Grid, GridOperator
from krylearn.learned import weights
from krylearn.learned.mgno.model import MgNO

__all__ = ["Prediction", "Surrogate", "surrogate"]

# Shapes of which a surrogate keeps graphs.
GRAPHS = 8


class Prediction(NamedTuple):
    """A predicted field.

    Attributes
    ----------
    field : array of the grid's shape
    residual : float
        ``norm(b - A @ field) / norm(b)`` in the system that the field ought to solve.
    """

    field: np.ndarray
    residual: float


class Surrogate:
    """A network that predicts the solution of ``-div(a grad u) = f`` on a box from the field a.

    Parameters
    ----------
    model : MgNO
    card : dict
        The model card that training wrote.
    strict : bool
        Refuse grids, ranges of a and boundary conditions that the model was not trained on.

    Notes
    -----
    As ``x0`` of any solver it is the **start** socket: it cannot make an answer wrong, for the
    solver checks the true residual.
    """

    def __init__(self, model: MgNO, card: dict[str, Any], strict: bool = True) -> None:
        self.model, self.card, self.strict = model.eval(), card, strict
        self._place = next(model.parameters()).device
        # What a model was tested in; on the CPU single precision is quicker.
        self._half = self._place.type == "cuda" and card["config"]["precision"] == "fp16"
        self._recorded: dict[tuple[int, ...], Any] = {}

    def __repr__(self) -> str:
        grid = " x ".join(map(str, self.card["grid"]))
        return f"<Surrogate {self.card['name']}, trained at {grid}, L2 error {self.card['l2']:.2e}>"

    def __call__(self, a: Any, source: float = 1.0) -> Prediction:
        """Predict the solution for a coefficient field.

        Parameters
        ----------
        a : array of the grid's shape
        source : float
            f, a constant.

        Raises
        ------
        ValueError
            If the field is complex, or if the model was not trained for such a field and the
            surrogate is strict.
        """
        a = self._real(a)
        A = GridOperator.diffusion(Grid(a.shape, centering="cell"), a)
        b = np.full(A.shape[0], float(source))
        field = self._predict(a, float(source))
        residual = np.linalg.norm(b - A @ field.ravel()) / (np.linalg.norm(b) or 1.0)
        return Prediction(field, float(residual))

    def start(self, A: Any, b: np.ndarray) -> np.ndarray:
        """Return a starting guess for ``A x = b``; solvers call this when they get it as x0.

        Raises
        ------
        ValueError
            If A is no diffusion operator with a coefficient field, or not one of those that the
            model was trained on and the surrogate is strict.
        """
        a = getattr(A, "coefficient", None)
        if a is None or A.mask is not None:
            raise ValueError(
                f"{self!r} starts solves with GridOperator.diffusion(grid, a), a being an array; "
                "give x0 as an array instead"
            )
        grid: Grid = A.grid
        sides = {side for pair in grid.boundary for side in pair}
        if self.strict and (grid.centering != "cell" or sides != {"dirichlet"}):
            raise ValueError(f"{self!r} knows Dirichlet sides and cells, not {grid}")
        if self.strict and np.ptp(b) > 1e-12 * np.abs(b).max(initial=0.0):
            raise ValueError(f"{self!r} knows constant sources; b varies. Use strict=False")
        columns = [self._predict(a, float(np.mean(c))).ravel() for c in b.reshape(len(b), -1).T]
        return np.stack(columns, axis=1).reshape(b.shape).astype(np.result_type(b, A.dtype))

    def fields(self, a: Any, source: float = 1.0, together: int = 8) -> np.ndarray:
        """Predict the solutions for many coefficient fields, so many at a time.

        Parameters
        ----------
        a : (count, n, ...) array
        source : float
        together : int

        Returns
        -------
        (count, n, ...) array

        Raises
        ------
        ValueError
            As for one.
        """
        a, card = self._real(a), self.card
        low, high = card["input_range"]
        slack = 1e-6 * (high - low)
        if self.strict and list(a.shape[1:]) != list(card["grid"]):
            raise ValueError(f"{self!r} got a field of shape {a.shape[1:]}. Use strict=False")
        if self.strict and not (low - slack <= a.min() and a.max() <= high + slack):
            raise ValueError(
                f"{self!r} was trained on coefficients from {low:g} to {high:g}, not "
                f"{a.min():g} to {a.max():g}. Use strict=False"
            )
        scaled = torch.from_numpy(a).to(self._place, torch.float32)[:, None]
        scaled = (scaled - card["input_mean"]) / card["input_std"]
        with torch.inference_mode():
            made = torch.cat([self._run(part)[:, 0] for part in scaled.split(together)])
        return made.double().cpu().numpy() * (source / card["source"])

    def _real(self, a: Any) -> np.ndarray:
        if np.iscomplexobj(a):
            raise ValueError(f"{self!r} knows real coefficients; these are complex")
        return np.asarray(a, dtype=float)

    def _predict(self, a: np.ndarray, source: float) -> np.ndarray:
        return self.fields(a[None], source)[0]

    def _run(self, given: Any) -> Any:
        """Apply the model; on a CUDA device a shape that comes again is recorded as a graph."""
        shape = tuple(given.shape)
        if shape not in self._recorded:
            # None is for one that came once, False for one that is not recorded.
            few = self._place.type == "cuda" and len(self._recorded) < GRAPHS
            self._recorded[shape] = None if few else False
            return self._plain(given)
        if self._recorded[shape] is None:
            try:
                self._recorded[shape] = self._record(given)
            except RuntimeError:  # no memory for it, for one
                self._recorded[shape] = False
        if not self._recorded[shape]:
            return self._plain(given)
        graph, place, made = self._recorded[shape]
        place.copy_(given)
        graph.replay()
        return made.clone()

    def _plain(self, given: Any) -> Any:
        with torch.autocast(self._place.type, torch.float16, enabled=self._half,
                            cache_enabled=False):  # fmt: skip
            return self.model(given).float()

    def _record(self, given: Any) -> tuple[Any, Any, Any]:
        place, graph, side = given.clone(), torch.cuda.CUDAGraph(), torch.cuda.Stream()
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):  # finds the fastest convolutions
                    self._plain(place)
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(graph):
                made = self._plain(place)
        return graph, place, made


def surrogate(name: str | Path, device: str = "cpu", strict: bool = True) -> Surrogate:
    """Load a trained surrogate.

    Parameters
    ----------
    name : str or path
        Of a model that krylearn ships, or a .safetensors file with its card beside it.
    device : str
        Where it runs.
    strict : bool
        As for `Surrogate`.

    Raises
    ------
    ValueError
        If there is no such model, or the file is not the one that its card describes.
    """
    tensors, card = weights.load(name, "surrogate")
    if card["settings"]["inputs"] != 1 or card["settings"]["boundary"] != "dirichlet":
        raise ValueError(f"{name} maps other fields than a to u of -div(a grad u) = f with "
                         "Dirichlet sides; take MgNO(**card['settings']) itself")  # fmt: skip
    model = weights.fill(MgNO(**card["settings"]), tensors, name)
    model = model.to(device)
    if model.settings["dimension"] == 2 and torch.device(device).type == "cuda":
        model = model.to(memory_format=torch.channels_last)
    return Surrogate(model, card, strict)
