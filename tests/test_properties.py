"""For whatever system is drawn: converged means it, and no input is changed."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import example, given, note
from hypothesis import strategies as st

from krylearn import registry, testing
from krylearn.testing.examples import as_operator, freeze
from krylearn.testing.honesty import unchanged

METHODS = registry.entries("method")
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

SPECTRA = {
    "flat": lambda n, rng: 1 + rng.random(n),
    "clusters": lambda n, rng: rng.choice([1.0, 5.0, 80.0], n),
    "geometric": lambda n, rng: np.logspace(0, -rng.uniform(1, 16), n),
    "indefinite": lambda n, rng: np.where(rng.random(n) < 0.4, -1, 1) * (1 + rng.random(n)),
    "negative": lambda n, rng: -1 - rng.random(n),
    "singular": lambda n, rng: np.where(np.arange(n) < max(1, n // 4), 0.0, 1 + rng.random(n)),
    "one of a kind": lambda n, rng: np.full(n, 3.0),
}


def orthogonal(n, rng, dtype):
    Z = rng.standard_normal((n, n))
    if np.dtype(dtype).kind == "c":
        Z = Z + 1j * rng.standard_normal((n, n))
    return np.linalg.qr(Z)[0]


@st.composite
def systems(draw):
    """Draw A with a known spectrum, b, x0, and how they are stored."""
    n = draw(st.integers(1, 24), label="size")
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    dtype = draw(st.sampled_from("dfDF"), label="dtype")
    spectrum = draw(st.sampled_from(sorted(SPECTRA)), label="spectrum")
    shape = draw(st.sampled_from(["hermitian", "normal", "any", "diagonal"]), label="structure")
    scale = 10.0 ** draw(st.integers(-12, 12), label="scale")
    d = scale * SPECTRA[spectrum](n, rng)
    Q = orthogonal(n, rng, dtype)
    if shape == "diagonal":
        A = np.diag(d)
    elif shape == "hermitian":
        A = (Q * d) @ Q.conj().T
        A = (A + A.conj().T) / 2
    elif shape == "normal":
        A = (Q * d) @ Q.conj().T + 0.5 * scale * (np.eye(n, k=1) - np.eye(n, k=-1))
    else:
        A = (Q * d) @ orthogonal(n, rng, dtype)
    A = A.astype(dtype)
    b = testing.example_vector(n, dtype, int(rng.integers(1000)))
    if draw(st.booleans(), label="b in the range of A"):
        b = A @ b
    start = draw(st.sampled_from([None, 0.0, 1.0, 1e6]), label="size of x0")
    x0 = None if start is None else (start * rng.standard_normal(n)).astype(dtype)
    stored = draw(st.sampled_from(["csr", "csc", "dense", "operator"]), label="stored as")
    rtol = 10.0 ** draw(st.integers(-14, -1), label="rtol")
    return A, b, x0, stored, rtol


def store(A, how):
    if how == "dense":
        return A
    if how == "operator":
        return as_operator(A)
    return sp.csr_array(A) if how == "csr" else sp.csc_array(A)


@pytest.mark.parametrize("entry", METHODS, ids=[e.name for e in METHODS])
@given(system=systems())
@example(system=(np.diag([1.0, 1e-12]), np.ones(2), np.array([1e8, -1e8]), "csr", 1e-8))
@example(system=(np.array([[0.0, 1.0], [-1.0, 0.0]]), np.array([1.0, 0.0]), None, "dense", 1e-8))
def test_converged_means_it_and_inputs_stay(entry, system):
    A, b, x0, how, rtol = system
    stored = store(A, "csr" if entry.needs_entries and how == "operator" else how)
    inputs = [v for v in (stored, b, x0) if sp.issparse(v) or isinstance(v, np.ndarray)]
    freeze(*inputs)
    with unchanged("an input was changed", *inputs):
        try:
            x, info = entry.load()(stored, b, x0=x0, rtol=rtol)
        except (ValueError, ArithmeticError) as error:
            # Only what needs the entries sees at once that they will not do.
            assert entry.needs_entries and len(str(error)) > 10, error
        else:
            note(repr(info))
            assert x.dtype == A.dtype and x.shape == b.shape
            testing.require_honest(A, b, x, info, rtol)


EASY = [e for e in METHODS if not e.needs_entries]


@pytest.mark.parametrize("entry", EASY, ids=[e.name for e in EASY])
@given(n=st.integers(1, 30), seed=st.integers(0, 10**6), dtype=st.sampled_from("dfDF"),
       k=st.integers(1, 3))  # fmt: skip
def test_definite_and_well_conditioned_systems_are_solved(entry, n, seed, dtype, k):
    rng = np.random.default_rng(seed)
    Q = orthogonal(n, rng, dtype)
    A = (Q * (1 + 9 * rng.random(n))) @ Q.conj().T
    A = ((A + A.conj().T) / 2).astype(dtype)
    B = np.stack([testing.example_vector(n, dtype, seed + j) for j in range(k)], axis=1)
    rtol = 1e-4 if dtype in "fF" else 1e-9
    X, info = entry.load()(A, B, rtol=rtol, maxiter=10 * n + 10)
    note(repr(info))
    assert info == 0 and info.converged
    for column, b in zip(np.reshape(X, (n, k)).T, B.T):
        assert np.linalg.norm(b - A @ column) <= 1.01 * rtol * np.linalg.norm(b)
