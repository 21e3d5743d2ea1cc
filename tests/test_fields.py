"""Gaussian random fields: spectrum, variance, resolution, seeds."""

import numpy as np
import pytest
import scipy.fft

from krylearn.problems.fields import gaussian_random_field, piecewise, trigonometric


@pytest.mark.parametrize("boundary", ["neumann", "dirichlet", "periodic"])
@pytest.mark.parametrize("shape, lengths", [((24,), 1.0), ((16, 12), (1.0, 2.0)), ((8, 8, 6), 1.0)])
def test_variance_of_every_mode(shape, lengths, boundary):
    """The coefficients of orthonormal eigenfunctions have the variances of the covariance."""
    alpha, tau, sigma, samples = 1.7, 2.5, 3.0, 400
    rng = np.random.default_rng(0)
    options = dict(alpha=alpha, tau=tau, sigma=sigma, boundary=boundary, lengths=lengths, seed=rng)
    fields = np.array([gaussian_random_field(shape, **options) for _ in range(samples)])
    edges = np.broadcast_to(lengths, len(shape))
    axes = tuple(range(1, 1 + len(shape)))
    scale = np.sqrt(np.prod(shape) / np.prod(edges))
    if boundary == "periodic":
        found = scipy.fft.fftn(fields, axes=axes, norm="ortho") / scale
        k = [2 * np.pi / e * scipy.fft.fftfreq(n, 1 / n) for n, e in zip(shape, edges)]
    else:
        transform = scipy.fft.dctn if boundary == "neumann" else scipy.fft.dstn
        found = transform(fields, type=2, axes=axes, norm="ortho") / scale
        first = 0 if boundary == "neumann" else 1
        k = [np.pi / e * (np.arange(n) + first) for n, e in zip(shape, edges)]
    square = sum(f**2 for f in np.meshgrid(*k, indexing="ij"))
    expected = sigma**2 * (square + tau**2) ** -alpha
    ratio = (np.abs(found) ** 2).mean(axis=0) / expected
    known = np.ones(shape, bool)
    if boundary != "dirichlet":
        known[(0,) * len(shape)] = False
        assert np.abs(found[(slice(None), *(0,) * len(shape))]).max() < 1e-12
    if boundary == "periodic":  # the highest waves of even sizes are left out
        for axis, n in enumerate(shape):
            if n % 2 == 0:
                np.moveaxis(known, axis, 0)[n // 2] = False
    # Each is a mean of 400 squares: deviation 0.07; and so is their mean, far less.
    assert abs(ratio[known].mean() - 1) < 0.02
    assert np.abs(ratio[known] - 1).max() < 0.5


@pytest.mark.parametrize("boundary", ["neumann", "dirichlet", "periodic"])
def test_the_same_function_at_every_resolution(boundary):
    options = dict(modes=7, boundary=boundary, seed=4)
    coarse = gaussian_random_field((9, 10), **options)
    fine = gaussian_random_field((45, 50), **options)
    assert np.abs(fine[2::5, 2::5] - coarse).max() < 1e-12


def test_size_does_not_depend_on_tau():
    """The usual normalisation: the variance of a periodic field is nearly that for any tau."""
    size = [
        np.mean([gaussian_random_field((64, 64), tau=tau, boundary="periodic", seed=s).var()
                 for s in range(30)]) for tau in (20.0, 40.0)
    ]  # fmt: skip
    assert abs(size[0] / size[1] - 1) < 0.15


def test_seeds_and_refusals():
    one = gaussian_random_field((8, 8), seed=1)
    assert np.array_equal(one, gaussian_random_field((8, 8), seed=1))
    assert not np.array_equal(one, gaussian_random_field((8, 8), seed=2))
    assert one.dtype == np.float64 and abs(one.mean()) < 1e-14
    for bad in ({"boundary": "open"}, {"alpha": -1.0}, {"tau": 0.0}):
        with pytest.raises(ValueError):
            gaussian_random_field((8, 8), **bad)
    for bad in ({"lengths": -1.0}, {"lengths": (1.0, 1.0, 1.0)}, {"modes": 0}, {"tau": np.nan}):
        with pytest.raises(ValueError):
            gaussian_random_field((8, 8), **bad)
    for shape in ((2, 2, 2, 2), (0, 4)):
        with pytest.raises(ValueError, match="axes"):
            gaussian_random_field(shape)


@pytest.mark.parametrize("shape", [(8,), (8, 7), (4, 5, 6)])
def test_the_usual_sigma(shape):
    """Left out, sigma is tau^(alpha - d/2): tau in two axes for the literature's alpha = 2."""
    usual = gaussian_random_field(shape, alpha=2.0, tau=3.0, seed=1)
    given = gaussian_random_field(
        shape, alpha=2.0, tau=3.0, sigma=3 ** (2 - len(shape) / 2), seed=1
    )
    assert np.allclose(usual, given, rtol=1e-14)


def test_coefficients():
    field = gaussian_random_field((32, 32), seed=3)
    a = piecewise(field, 12, 3)
    assert set(np.unique(a)) == {3.0, 12.0} and np.all((a == 12) == (field >= 0))
    x = (np.arange(20) + 0.5) / 20
    t = trigonometric((x[:, None], x[None, :]), np.random.default_rng(0))
    assert t.shape == (20, 20) and t.min() > 0.5**12 and t.max() < 1.5**12
