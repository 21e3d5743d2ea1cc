"""Flows on a torus: frames of the vorticity of the Navier-Stokes equations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.fft import irfft2, rfft2

from krylearn.problems.fields import gaussian_random_field

__all__ = ["navier_stokes"]


def navier_stokes(samples: int, out: str | Path | None = None, *, n: int = 64,
                  viscosity: float = 1e-5, frames: int = 20, known: int = 10, step: float = 0.02,
                  seed: int = 0) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Make frames of a forced flow on the unit torus, one at each full time from 1 on.

    Parameters
    ----------
    samples : int
        Flows; sample i starts from the field of seed ``seed + i``.
    out : path, optional
        Of a .npz file that `krylearn train mgno` takes.
    n : int
        Points along each axis.
    viscosity : float
    frames, known : int
        Frames of a flow; how many of them a network is given to predict the next one.
    step : float
        Of time, one over an integer.
    seed : int

    Returns
    -------
    inputs : (samples (frames - known), known, n, n) float32 array
    solution : (samples (frames - known), n, n) float32 array
        The frame that follows. All those of one flow lie side by side.

    Raises
    ------
    ValueError
        If there are too few frames, or the step is too long: what is not finite is not kept.

    Notes
    -----
    Pseudo-spectral, dealiased by the 2/3 rule; viscosity is exact (an integrating factor), the
    rest classical Runge-Kutta.

    References
    ----------
    Li et al. (2021), Fourier neural operator for parametric PDEs, section 5.3: the forcing and the
    initial vorticity, a random field of covariance ``7^1.5 (-Laplace + 49)^-2.5``.

    Examples
    --------
    >>> import krylearn as kl
    >>> inputs, solution = kl.data.navier_stokes(1, n=16, frames=4, known=2, viscosity=1e-3)
    >>> inputs.shape, solution.shape
    ((2, 2, 16, 16), (2, 16, 16))
    """
    if not 0 < known < frames:
        raise ValueError(f"known must be between 0 and frames, not {known} of {frames}")
    steps = round(1 / step)
    if steps < 1 or abs(steps * step - 1) > 1e-9:
        raise ValueError(f"step must be one over an integer, not {step!r}")
    flow = _Torus(n, viscosity, 1 / steps)
    w = np.stack([
        gaussian_random_field((n, n), alpha=2.5, tau=7.0, boundary="periodic", seed=seed + i)
        for i in range(samples)
    ])  # fmt: skip
    state, kept = rfft2(w), []
    for _ in range(frames):
        for _ in range(steps):
            state = flow.step(state)
        kept.append(irfft2(state, s=(n, n)))
        if not np.all(np.isfinite(kept[-1])):
            raise ValueError(f"a time step of {step:g} is too long on {n} x {n} points")
    w = np.stack(kept, axis=1).astype(np.float32)
    inputs = np.concatenate([
        np.stack([flow_[k : k + known] for k in range(frames - known)]) for flow_ in w
    ])  # fmt: skip
    solution = w[:, known:].reshape(-1, n, n)
    if out is not None:
        np.savez(out, inputs=inputs, solution=solution)
    return inputs, solution


class _Torus:
    """The right-hand side of the vorticity equation, on Fourier coefficients, and a step."""

    def __init__(self, n: int, viscosity: float, step: float) -> None:
        self.n, self.dt = n, step
        k = 2 * np.pi * np.fft.fftfreq(n, 1 / n)[:, None]
        l = 2 * np.pi * np.fft.rfftfreq(n, 1 / n)[None]
        self.k, self.l = k, l
        squares = k**2 + l**2
        bound = 2 * np.pi * (n / 3)  # of frequencies up to n / 2
        self.kept = (np.abs(k) < bound) & (l < bound)
        self.inverse = np.divide(1, squares, out=np.zeros_like(squares), where=squares > 0)
        self.half = np.exp(-viscosity * squares * step / 2)
        x = np.arange(n) / n
        phase = 2 * np.pi * (x[:, None] + x)
        self.force = rfft2(0.1 * (np.sin(phase) + np.cos(phase)))

    def rate(self, w: np.ndarray) -> np.ndarray:
        """Return ``f - u . grad w``, u being the flow of vorticity w."""

        def field(coefficients: np.ndarray) -> Any:
            return irfft2(coefficients, s=(self.n, self.n))

        stream = w * self.inverse
        carried = field(1j * self.l * stream) * field(1j * self.k * w) - (
            field(1j * self.k * stream) * field(1j * self.l * w))  # fmt: skip
        return self.force - self.kept * rfft2(carried)

    def step(self, w: np.ndarray) -> np.ndarray:
        """Take a step of Runge and Kutta's in coordinates that viscosity does not change."""
        dt, half = self.dt, self.half
        a = self.rate(w)
        b = self.rate(half * (w + dt / 2 * a))
        c = self.rate(half * w + dt / 2 * b)
        d = self.rate(half**2 * w + dt * half * c)
        return half**2 * w + dt / 6 * (half**2 * a + 2 * half * (b + c) + d)
