"""Gaussian random fields by fast transforms, and the coefficients made from them.

The covariance is ``sigma^2 (-Laplace + tau^2)^-alpha`` with a boundary condition: `alpha` says how
smooth, ``1/tau`` how long the field is correlated. With sigma left out it is the usual
``tau^(alpha - d/2)``, which keeps the size of the field about the same for all tau.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft

_CONDITIONS = ("neumann", "dirichlet", "periodic")


def gaussian_random_field(shape: Any, *, alpha: float = 2.0, tau: float = 3.0,
                          sigma: float | None = None, boundary: str = "neumann",
                          lengths: Any = 1.0, modes: int | None = None,
                          seed: Any = None) -> np.ndarray:  # fmt: skip
    """Draw a Gaussian random field of mean zero at the cell centres of a box.

    Parameters
    ----------
    shape : int or tuple of int
        Cells along each of 1 to 3 axes.
    alpha, tau, sigma : float
        Of the covariance ``sigma^2 (-Laplace + tau^2 I)^-alpha``; ``alpha > d/2`` for a field
        that stays bounded as cells are refined.
    boundary : {'neumann', 'dirichlet', 'periodic'}
        Condition of the Laplacian: cosines, sines or waves are its eigenfunctions.
    lengths : float or tuple of float
        Edges of the box.
    modes : int, optional
        How many frequencies an axis take part. The same `modes` and `seed` give the same
        function at every resolution with more cells than modes; by default all frequencies of the
        grid take part (but for the highest of an even periodic axis, which has no partner).
    seed : int or Generator, optional

    Returns
    -------
    field : float64 array of `shape`

    Raises
    ------
    ValueError
        If a parameter is out of range.

    References
    ----------
    Lord, Powell and Shardlow (2014), An Introduction to Computational Stochastic PDEs, section
    7.4; Li et al. (2021), Fourier neural operator for parametric PDEs, appendix A.3, whose
    Darcy coefficients have alpha = 2, tau = 3 and Neumann conditions, without the mean.

    Examples
    --------
    >>> from krylearn.problems.fields import gaussian_random_field
    >>> coarse = gaussian_random_field((8, 8), modes=6, seed=1)
    >>> fine = gaussian_random_field((24, 24), modes=6, seed=1)
    >>> bool(abs(coarse - fine[1::3, 1::3]).max() < 1e-12)
    True
    """
    sizes = tuple(int(n) for n in np.atleast_1d(shape))
    ndim = len(sizes)
    if np.shape(lengths) not in ((), (ndim,)):
        raise ValueError(f"{np.size(lengths)} lengths are given for {ndim} axes")
    edges = tuple(float(e) for e in np.broadcast_to(lengths, ndim))
    if not 1 <= ndim <= 3 or min(sizes) < 1:
        raise ValueError(f"a field has 1 to 3 axes and at least one cell, not the shape {shape!r}")
    if not all(0 < e < math.inf for e in edges):
        raise ValueError(f"lengths must be positive, not {lengths!r}")
    if modes is not None and modes < 1:
        raise ValueError(f"modes must be at least 1, not {modes!r}")
    if boundary not in _CONDITIONS:
        raise ValueError(f"boundary must be one of {', '.join(_CONDITIONS)}, not {boundary!r}")
    if not (alpha > 0 and tau > 0 and (sigma is None or sigma > 0)):
        raise ValueError("alpha, tau and sigma must be positive")
    rng = np.random.default_rng(seed)
    scale = tau ** (alpha - ndim / 2) if sigma is None else sigma
    drawn = tuple(n if modes is None else int(modes) for n in sizes)
    noise = rng.standard_normal(drawn)
    cells = math.prod(sizes)
    # Orthonormal transforms turn coefficients of orthonormal functions on the box into values
    # when they are scaled by the root of cells over volume.
    scale *= math.sqrt(cells / math.prod(edges))
    if boundary == "periodic":
        return _periodic(noise, sizes, edges, alpha, tau, scale)
    first = 0 if boundary == "neumann" else 1
    coefficients = noise
    coefficients *= scale
    coefficients *= _decay(drawn, edges, first, float(alpha), float(tau))
    if boundary == "neumann":
        coefficients[(0,) * ndim] = 0.0  # the mean
    spectrum = coefficients
    if drawn != sizes:
        kept = tuple(slice(0, min(m, n)) for m, n in zip(drawn, sizes))
        spectrum = np.zeros(sizes)
        spectrum[kept] = coefficients[kept]
    transform = scipy.fft.idctn if boundary == "neumann" else scipy.fft.idstn
    return transform(spectrum, type=2, norm="ortho", overwrite_x=True)


def amplitudes(sizes: tuple[int, ...], alpha: float, tau: float) -> np.ndarray:
    """Return by what noise is multiplied before the cosine transform to a field in the unit box.

    Examples
    --------
    >>> import numpy as np, scipy.fft
    >>> from krylearn.problems.fields import amplitudes, gaussian_random_field
    >>> noise = np.random.default_rng(3).standard_normal((6, 5))
    >>> field = scipy.fft.idctn(noise * amplitudes((6, 5), 2.0, 3.0), norm="ortho")
    >>> bool(np.allclose(field, gaussian_random_field((6, 5), seed=3)))
    True
    """
    scale = tau ** (alpha - len(sizes) / 2) * math.sqrt(math.prod(sizes))
    factors = scale * _decay(sizes, (1.0,) * len(sizes), 0, float(alpha), float(tau))
    factors[(0,) * len(sizes)] = 0.0  # the mean
    return factors


@lru_cache(maxsize=2)  # a data set draws its fields from one covariance
def _decay(drawn: tuple[int, ...], edges: tuple[float, ...], first: int, alpha: float,
           tau: float) -> np.ndarray:  # fmt: skip
    """Return the roots of the covariance's eigenvalues, but for sigma."""
    square = _squares([np.pi / e * (np.arange(m) + first) for m, e in zip(drawn, edges)])
    return (square + tau**2) ** (-alpha / 2)


def _squares(frequencies: list[np.ndarray]) -> np.ndarray:
    """Return the sum over the axes of squared frequencies."""
    grids = np.meshgrid(*frequencies, indexing="ij", sparse=True)
    return np.asarray(sum(f**2 for f in grids))


def _periodic(noise: np.ndarray, sizes: tuple, edges: tuple, alpha: float, tau: float,
              scale: float) -> np.ndarray:  # fmt: skip
    # The transform of real white noise has the symmetry that a real field needs.
    waves = np.fft.fftshift(scipy.fft.fftn(noise, norm="ortho"))
    spectrum = np.zeros(sizes, complex)
    source, target, frequencies = [], [], []
    for m, n, e in zip(noise.shape, sizes, edges):
        half = (min(m, n) - 1) // 2
        k = np.arange(-half, half + 1)
        source.append(k + m // 2)
        target.append(k % n)
        frequencies.append(2 * np.pi / e * k)
    amplitude = scale * (_squares(frequencies) + tau**2) ** (-alpha / 2)
    amplitude[tuple(len(f) // 2 for f in frequencies)] = 0.0  # the mean
    # Waves that start at the first cell's centre: every resolution sees the same function there.
    phases = [np.exp(1j * f * e / n / 2) for f, e, n in zip(frequencies, edges, sizes)]
    for axis, phase in enumerate(phases):
        amplitude = amplitude * phase.reshape([-1 if d == axis else 1 for d in range(len(sizes))])
    spectrum[np.ix_(*target)] = amplitude * waves[np.ix_(*source)]
    return np.ascontiguousarray(scipy.fft.ifftn(spectrum, norm="ortho").real)


def piecewise(field: np.ndarray, high: float = 12.0, low: float = 3.0) -> np.ndarray:
    """Return `high` where a field is not negative and `low` where it is.

    Examples
    --------
    >>> import numpy as np
    >>> from krylearn.problems.fields import piecewise
    >>> piecewise(np.array([-0.1, 0.0, 2.0]))
    array([ 3., 12., 12.])
    """
    return np.where(field >= 0, float(high), float(low))


def trigonometric(points: tuple[np.ndarray, ...], rng: np.random.Generator,
                  scales: int = 6) -> np.ndarray:  # fmt: skip
    """Return a multiscale coefficient, a product of waves along two oblique directions.

    ``prod_k (1 + cos(a_k pi (x + y)) / 2) (1 + sin(a_k pi (y - 3 x)) / 2)`` with a_k drawn from
    [2^(k-1), 1.5 * 2^(k-1)].

    References
    ----------
    Owhadi (2017), Multigrid with rough coefficients and multiresolution operator decomposition
    from hierarchical information games; Liu, Xu and Zhang (2022), HT-Net, section 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(0, 1, 5)
    >>> a = trigonometric((x[:, None], x[None, :]), np.random.default_rng(0))
    >>> a.shape, bool(a.min() > 0)
    ((5, 5), True)
    """
    x, y = points
    a = np.ones(np.broadcast_shapes(x.shape, y.shape))
    for k in range(scales):
        frequency = 2.0**k * rng.uniform(1.0, 1.5) * np.pi
        a *= (1 + np.cos(frequency * (x + y)) / 2) * (1 + np.sin(frequency * (y - 3 * x)) / 2)
    return a
