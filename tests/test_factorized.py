"""Incomplete factorisations against dense references."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import krylearn as kl
from krylearn.kernels import schedule, sweep

DTYPES = ("f", "d", "F", "D")


def poisson(m, d=2):
    K = sp.diags_array([-np.ones(m - 1), 2 * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])
    A = K
    for _ in range(d - 1):
        A = sp.kron(A, sp.eye_array(m)) + sp.kron(sp.eye_array(A.shape[0]), K)
    return sp.csr_array(A)


def matrix(n, dtype="d", hermitian=True, density=0.12):
    """Dominant, with many triangles in its graph, so that the factors differ from A's entries."""
    rng = np.random.default_rng(2)
    A = rng.standard_normal((n, n)) * (rng.random((n, n)) < density)
    if np.dtype(dtype).kind == "c":
        A = A * np.exp(2j * np.pi * rng.random((n, n)))
    if hermitian:
        A = (A + A.conj().T) / 2
    np.fill_diagonal(A, 0)
    return sp.csr_array((A + np.diag(np.abs(A).sum(axis=1) + 0.5)).astype(dtype))


def vector(n, dtype="d"):
    rng = np.random.default_rng(5)
    v = rng.standard_normal(n) + 1j * rng.standard_normal(n)
    return (v if np.dtype(dtype).kind == "c" else v.real).astype(dtype)


def dense_ilu0(A):
    """Algorithm 10.4 of Saad (2003), word for word."""
    A, pattern = A.copy(), A != 0
    for i in range(1, len(A)):
        for k in np.flatnonzero(pattern[i, :i]):
            A[i, k] /= A[k, k]
            for j in range(k + 1, len(A)):
                if pattern[i, j]:
                    A[i, j] -= A[i, k] * A[k, j]
    return np.tril(A, -1) + np.eye(len(A)), np.triu(A)


def dense_of(M):
    return np.column_stack([M @ e for e in np.eye(M.shape[0], dtype=M.dtype)])


def tolerance(dtype):
    return 2e-5 if np.dtype(dtype).char in "fF" else 1e-12


def in_small_pieces(monkeypatch):
    monkeypatch.setattr(sweep, "SMALL", 0)
    for name, value in (("SMALL", 0), ("LONGEST", (5,)), ("ABREAST", 0), ("TASK", 2)):
        monkeypatch.setattr(schedule, name, value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_ilu0_is_that_of_the_textbook(dtype, in_pieces, monkeypatch):
    if in_pieces:
        in_small_pieces(monkeypatch)
    A = matrix(60, dtype, hermitian=False)
    L, U = dense_ilu0(A.toarray().astype("D"))
    M, r = kl.ILU0(A), vector(60, dtype)
    assert (M @ r).dtype == np.dtype(dtype)
    assert np.abs(M @ r - np.linalg.solve(L @ U, r)).max() < tolerance(dtype)
    assert np.abs((L @ U - A.toarray())[A.toarray() != 0]).max() < 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_ic0_is_that_of_the_textbook(dtype, in_pieces, monkeypatch):
    if in_pieces:
        in_small_pieces(monkeypatch)
    A = matrix(60, dtype)
    M, r = kl.IC0(A), vector(60, dtype)
    product = np.linalg.inv(dense_of(M).astype("D"))
    # L D L^H = A on the pattern, and L has no fill.
    inside = A.toarray() != 0
    assert np.abs(product - A.toarray())[inside].max() < 10 * tolerance(dtype)
    assert np.abs(product - A.toarray())[~inside].max() > 1e-3
    L, U = dense_ilu0(A.toarray().astype("D"))
    assert np.abs(M @ r - np.linalg.solve(L @ U, r)).max() < tolerance(dtype)
    assert M.shift == 0


@pytest.mark.parametrize("name", ["IC0", "ILU0"])
def test_multicolour_is_natural_after_renumbering(name):
    A, r = matrix(120, density=0.05), vector(120)
    M = getattr(kl, name)(A, order="multicolour")
    p = M._plan.rows
    renumbered = getattr(kl, name)(A[p][:, p])
    assert np.allclose((M @ r)[p], renumbered @ r[p], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["IC0", "ILU0"])
@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_factors_of_badly_scaled_matrices(name, scale):
    A = matrix(60)
    expected, M = getattr(kl, name)(A) @ vector(60), getattr(kl, name)(scale * A)
    assert np.allclose((M @ vector(60)) * scale, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_without_fill(dtype):
    n = 50
    side = (0.8 * np.exp(1j * np.arange(n - 1))).astype(dtype) if np.dtype(dtype).kind == "c" \
        else np.full(n - 1, -0.9, dtype)  # fmt: skip
    A = sp.diags_array([side, np.full(n, 2.0), side.conj()], offsets=[-1, 0, 1]).astype(dtype)
    A, x = sp.csr_array(A), vector(n, dtype)
    for name in ("ic0", "ilu0"):
        M = getattr(kl, name.upper())(A)
        assert np.abs(M @ (A @ x) - x).max() < 10 * tolerance(dtype)
        _, info = getattr(kl, name)(A, A @ x, rtol=1e-5)
        assert info == 0 and info.iterations == 1


def test_ic0_is_symmetric_to_the_last_digits():
    A = poisson(12, 3)
    M, x, y = kl.IC0(A), vector(12**3), np.cos(np.arange(12**3))
    assert M.symmetric and M.positive_definite
    assert abs(x @ (M @ y) - y @ (M @ x)) < 1e-13 * np.linalg.norm(x) * np.linalg.norm(y)


def test_ic0_shifts_where_it_breaks_down():
    # Kershaw (1978): positive definite, but the incomplete factorisation meets a negative pivot.
    A = np.array([[3.0, -2, 0, 2], [-2, 3, -2, 0], [0, -2, 3, -2], [2, 0, -2, 3]])
    assert np.linalg.eigvalsh(A)[0] > 0 and np.diag(dense_ilu0(A)[1]).min() < 0
    M = kl.IC0(A)
    assert 0 < M.shift < 2
    assert np.linalg.eigvalsh(dense_of(M))[0] > 0
    product = np.linalg.inv(dense_of(M))
    assert np.allclose(np.diag(product), 3 * (1 + M.shift))
    x, info = kl.cg(A, np.ones(4), rtol=1e-10, M=M)
    assert info == 0 and np.allclose(A @ x, 1)
    # An update starts from the matrix as it is.
    assert M.update(A + 5 * np.eye(4)).shift == 0


def test_ic0_of_a_singular_matrix_is_shifted():
    # All row sums are zero (Neumann): the last pivot would vanish but for rounding.
    A = poisson(20)
    A = sp.csr_array(A - sp.diags_array(A.sum(axis=1)))
    M = kl.IC0(sp.csr_array(A[:20, :20] - sp.diags_array(A[:20, :20].sum(axis=1))))
    assert M.shift > 0 and np.abs(dense_of(M)).max() < 1e6
    assert np.all(np.isfinite(kl.IC0(A) @ vector(400)))


def test_refusals():
    A = matrix(30, hermitian=False)
    with pytest.raises(ValueError, match="Hermitian matrix; use ilu0"):
        kl.IC0(A)
    with pytest.raises(ValueError, match="row 2"):
        kl.IC0(np.diag([1.0, 2.0, -3.0]))
    with pytest.raises(ArithmeticError, match="pivot of row 1"):
        kl.ILU0(np.array([[1.0, 1.0], [1.0, 1.0]]))
    with pytest.raises(ValueError, match="row 0"):
        kl.ILU0(np.array([[0.0, 1.0], [1.0, 1.0]]))


def test_stored_zeros_do_not_break_symmetry():
    A = matrix(40).tolil()
    A = sp.csr_array(A)
    rows, columns = A.nonzero()
    extra = sp.coo_array((np.append(A.data, 0.0), (np.append(rows, 39), np.append(columns, 0))))
    if A.toarray()[39, 0] == 0:
        assert extra.nnz == A.nnz + 1
    P = dense_of(kl.IC0(sp.csr_array(extra)))
    assert np.abs(P - P.T).max() < 1e-15


def test_in_krylov_methods():
    A, b = poisson(30), vector(900)
    plain, ic0 = kl.cg(A, b, rtol=1e-9)[1], kl.cg(A, b, rtol=1e-9, M="ic0")[1]
    assert ic0 == 0 and ic0.iterations < 0.5 * plain.iterations
    wind = sp.diags_array([np.full(899, 0.5)], offsets=[1])
    B = sp.csr_array(A + wind)
    x, info = kl.gmres(B, b, rtol=1e-9, M=kl.ILU0(B))
    assert info == 0 and np.linalg.norm(b - B @ x) <= 1e-9 * np.linalg.norm(b)
    assert info.iterations < 0.6 * kl.gmres(B, b, rtol=1e-9)[1].iterations
