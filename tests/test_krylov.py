"""What each Krylov method promises beyond the common contract."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla

import krylearn as kl
from krylearn.interface import Reason

HERMITIAN = ("cg", "fcg", "cr", "minres")
GENERAL = ("gmres", "fgmres", "bicgstab", "idrs", "tfqmr")


def system(kind, n=80, dtype=np.float64, seed=0, condition=100.0):
    """Return A, b and the Hermitian definite part H of A (a preconditioner's inverse)."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, n))
    if np.dtype(dtype).kind == "c":
        Z = Z + 1j * rng.standard_normal((n, n))
    Q, _ = np.linalg.qr(Z)
    spectrum = np.geomspace(1.0, condition, n)
    if kind == "indefinite":
        spectrum = spectrum * np.where(np.arange(n) % 3 == 0, -1, 1)
    A = (Q * spectrum) @ Q.conj().T
    A = (A + A.conj().T) / 2
    if kind == "general":
        A = A + 0.3 * (Z - Z.conj().T)
    b = rng.standard_normal(n)
    if np.dtype(dtype).kind == "c":
        b = b + 1j * rng.standard_normal(n)
    H = np.diag(rng.uniform(0.5, 2.0, n))
    return A.astype(dtype), b.astype(dtype), H.astype(dtype)


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("name", HERMITIAN + GENERAL)
def test_history_is_the_true_residual(name, dtype, preconditioned):
    kind = "spd" if name in HERMITIAN else "general"
    A, b, M = system(kind, dtype=dtype)
    seen = [np.linalg.norm(b)]
    options = {"M": M} if preconditioned else {}
    if name in ("gmres", "fgmres"):
        options.update(callback_type="x", restart=1000)
    x, info = getattr(kl, name)(
        A, b, rtol=1e-9, callback=lambda xk: seen.append(np.linalg.norm(b - A @ xk)), **options
    )
    assert info.converged and np.linalg.norm(b - A @ x) <= 1e-9 * np.linalg.norm(b)
    if name in ("gmres", "fgmres"):  # x is formed at the end of a cycle alone
        assert np.isclose(seen[-1], info.residuals[-1])
    else:
        assert len(seen) == len(info.residuals) == info.iterations + 1
        assert np.allclose(seen, info.residuals, rtol=1e-4)


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_minres_indefinite(dtype, preconditioned):
    A, b, H = system("indefinite", dtype=dtype, seed=3)
    M = H if preconditioned else None
    seen = [np.linalg.norm(b)]
    x, info = kl.minres(A, b, rtol=1e-8, M=M,
                        callback=lambda xk: seen.append(np.linalg.norm(b - A @ xk)))  # fmt: skip
    assert info.converged
    assert np.allclose(seen, info.residuals, rtol=1e-5)
    if not preconditioned:
        assert np.all(np.diff(info.residuals) <= 1e-12)
    expected = np.linalg.solve(A, b)
    assert np.linalg.norm(x - expected) < 1e-6 * np.linalg.norm(expected)


def test_minres_shift_show_check(capsys):
    A, b, _ = system("indefinite")
    x, info = kl.minres(A, b, shift=0.37, rtol=1e-9, show=True)
    assert info.converged
    shifted = A - 0.37 * np.eye(len(b))
    assert np.linalg.norm(b - shifted @ x) <= 1.1e-9 * np.linalg.norm(b)
    for form in (sp.csr_array(A), spla.aslinearoperator(A)):
        assert np.allclose(kl.minres(form, b, shift=0.37, rtol=1e-9)[0], x, atol=1e-7)
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == len(info.residuals) + 1 and "converged" in printed
    with pytest.raises(ValueError, match="A is not Hermitian"):
        kl.minres(A + np.triu(np.ones_like(A)), b, check=True)
    with pytest.raises(ValueError, match="M is not Hermitian"):
        kl.minres(A, b, M=np.triu(np.ones_like(A)), check=True)


@pytest.mark.parametrize("name", ["cr", "minres", "cg", "fcg"])
def test_singular_compatible_and_not(name):
    A = np.diag([0.0, 1.0, 2.0, 3.0, 4.0])
    x, info = getattr(kl, name)(A, np.array([0.0, 1, 1, 1, 1]), rtol=1e-10)
    assert info.converged and np.allclose(x, [0, 1, 1 / 2, 1 / 3, 1 / 4])
    x, info = getattr(kl, name)(A, np.ones(5), rtol=1e-10)
    assert not info.converged and info != 0
    assert info.residual >= 1.0 - 1e-12
    assert np.isclose(info.residual, np.linalg.norm(1 - A @ x))


def test_gmres_singular():
    A = np.diag([0.0, 1.0, 2.0])
    x, info = kl.gmres(A, np.array([0.0, 1.0, 1.0]), rtol=1e-10)
    assert info.converged
    x, info = kl.gmres(A, np.ones(3), rtol=1e-10)
    assert info < 0 and info.reason in (Reason.SINGULAR, Reason.BREAKDOWN)
    assert np.isclose(info.residual, np.linalg.norm(1 - A @ x))


def test_gmres_restart_and_orthogonality():
    """Without restart the count is bounded by the degree of the minimal polynomial."""
    n = 60
    rng = np.random.default_rng(1)
    V = rng.standard_normal((n, n)) + 5 * np.eye(n)
    A = V @ np.diag(np.repeat([1.0, 2.0, -3.0, 0.5], n // 4)) @ np.linalg.inv(V)
    b = rng.standard_normal(n)
    _, info = kl.gmres(A, b, rtol=1e-9, restart=n)
    assert info.converged and info.iterations == 4
    A, b, _ = system("general")
    full = kl.gmres(A, b, rtol=1e-9, restart=len(b))[1]
    short = kl.gmres(A, b, rtol=1e-9, restart=5)[1]
    assert full.converged and short.converged and full.iterations < short.iterations
    _, info = kl.gmres(A, b, rtol=1e-12, restart=5, maxiter=3)
    assert info.iterations == 15 and info > 0 and info.reason is Reason.MAXITER


def test_gmres_callback_types():
    A, b, _ = system("general")
    norms: list[float] = []
    kl.gmres(A, b, rtol=1e-6, restart=7, callback=norms.append, callback_type="pr_norm")
    _, info = kl.gmres(A, b, rtol=1e-6, restart=7)
    assert len(norms) == info.iterations
    assert np.isclose(norms[0], info.residuals[1] / np.linalg.norm(b))
    with pytest.warns(DeprecationWarning, match="callback_type"):
        _, info = kl.gmres(A, b, rtol=1e-6, restart=7, callback=norms.append, maxiter=3)
    assert info.iterations == 3  # legacy: maxiter counts steps


def test_flexible_methods_take_a_changing_preconditioner():
    A, b, _ = system("spd")
    calls = 0

    def apply(r):
        nonlocal calls
        calls += 1
        return r * (1.0 + 0.5 * np.sin(calls + np.arange(len(r))))

    M = spla.LinearOperator(A.shape, matvec=apply, dtype=float)
    M.linear = False
    for name in ("fcg", "fgmres"):
        x, info = getattr(kl, name)(A, b, M=M, rtol=1e-8, **(
            {"restart": 100} if name == "fgmres" else {"truncate": 10}))  # fmt: skip
        assert info.converged and info.precond_applies == calls
        assert np.linalg.norm(b - A @ x) <= 1e-8 * np.linalg.norm(b)
        calls = 0


def test_idrs_is_near_gmres_for_a_large_shadow_space():
    A, b, _ = system("general", n=120, condition=50)
    full = kl.gmres(A, b, rtol=1e-8, restart=120)[1].iterations
    counts = [kl.idrs(A, b, rtol=1e-8, s=s)[1].iterations for s in (1, 4, 16)]
    assert counts[2] <= counts[0]
    assert full <= counts[2] <= 1.6 * full
    with pytest.raises(ValueError, match="s must be"):
        kl.idrs(A, b, s=0)


def test_bicgstab_counts_a_half_step():
    # b is an eigenvector: the first half step solves the system.
    A = np.diag([2.0, 3.0, 5.0])
    _, info = kl.bicgstab(A, np.array([0.0, 1.0, 0.0]), rtol=1e-12)
    assert info.converged and info.iterations == 1 and info.matvecs == 2


def test_skew_symmetric_systems():
    """r is orthogonal to A r: bicgstab cannot move, and no method may claim to have solved it."""
    n = 20
    A = np.diag(np.arange(1.0, n), 1)
    A = A - A.T
    b = np.ones(n)
    for name in GENERAL:
        x, info = getattr(kl, name)(A, b, rtol=1e-9, maxiter=2000)
        residual = np.linalg.norm(b - A @ x)
        assert info.converged == (residual <= 1e-9 * np.linalg.norm(b))
        assert np.isclose(info.residual, residual, rtol=1e-3, atol=1e-12)
    assert kl.gmres(A, b, rtol=1e-9)[1].converged


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("shape", [(90, 40), (40, 90), (50, 50)])
def test_lsmr(shape, dtype):
    rng = np.random.default_rng(5)
    A = sp.random_array(shape, density=0.3, rng=rng, dtype=np.float64).tocsr()
    if np.dtype(dtype).kind == "c":
        A = A + 1j * sp.random_array(shape, density=0.3, rng=rng)
    A = (A + 2 * sp.eye_array(*shape)).tocsr().astype(dtype)
    wide = shape[0] <= shape[1]
    solution = rng.standard_normal(shape[1]).astype(dtype)
    b = A @ solution if wide else rng.standard_normal(shape[0]).astype(dtype)
    x, info = kl.lsmr(A, b, atol=1e-10, btol=1e-10, maxiter=2000)
    expected = np.linalg.lstsq(A.toarray(), b, rcond=None)[0]
    assert info == 0 and info.istop == (1 if wide else 2)
    assert info.reason is (Reason.CONVERGED if wide else Reason.LEAST_SQUARES)
    assert np.linalg.norm(x - expected) < 1e-7 * np.linalg.norm(expected)
    assert np.isclose(info.normr, np.linalg.norm(b - A @ x), rtol=1e-6, atol=1e-12)
    theirs = spla.lsmr(A, b, atol=1e-10, btol=1e-10, maxiter=2000)
    assert abs(info.itn - theirs[2]) <= 10
    assert np.isclose(info.norma, theirs[5], rtol=0.1) and np.isclose(info.conda, theirs[6], rtol=1)


def test_lsmr_damped_and_started():
    rng = np.random.default_rng(6)
    A, b, x0 = rng.standard_normal((30, 12)), rng.standard_normal(30), rng.standard_normal(12)
    x, info = kl.lsmr(A, b, 0.7, 1e-12, 1e-12, maxiter=500)
    expected = np.linalg.solve(A.T @ A + 0.49 * np.eye(12), A.T @ b)
    assert info == 0 and np.allclose(x, expected, atol=1e-9)
    x, info = kl.lsmr(A, b, 0.7, 1e-12, 1e-12, maxiter=500, x0=x0)
    expected = x0 + np.linalg.solve(A.T @ A + 0.49 * np.eye(12), A.T @ (b - A @ x0))
    assert np.allclose(x, expected, atol=1e-9)
    X, info = kl.lsmr(A, np.stack([b, 2 * b, 0 * b], axis=1), rtol=1e-12, maxiter=500)
    expected = np.linalg.lstsq(A, b, rcond=None)[0]
    assert X.shape == (12, 3) and info == 0
    assert np.allclose(X, np.outer(expected, [1, 2, 0]), atol=1e-9)


def test_lsmr_stops():
    A = np.diag(np.geomspace(1, 1e-10, 30))
    x, info = kl.lsmr(A, np.ones(30), atol=0, btol=1e-14, conlim=1e4, maxiter=500)
    assert info > 0 and info.istop == 3 and info.reason is Reason.ILL_CONDITIONED
    x, info = kl.lsmr(np.zeros((3, 2)), np.ones(3))
    assert info == 0 and info.istop == 2 and not x.any()
    x, info = kl.lsmr(np.ones((3, 2)), np.zeros(3))
    assert info == 0 and info.istop == 0 and info.itn == 0
    A = np.eye(3)
    A[0, 0] = np.nan
    assert kl.lsmr(A, np.ones(3))[1].reason is Reason.NONFINITE_OPERATOR


def test_solve_chooses(monkeypatch):
    A, b, _ = system("indefinite")
    x, info = kl.solve(A, b, rtol=1e-8)
    assert info.converged and info.method == "direct"
    assert "not definite; minres ended as maxiter" in info.choice
    A = sp.csr_array(A)
    x, info = kl.solve(A, b, rtol=1e-8)
    assert info.converged and info.method == "direct" and "small enough for LU" in info.choice
    monkeypatch.setattr("krylearn.choose.INDEFINITE", {2: 0, 3: 0})  # as if it were large
    x, info = kl.solve(A, b, rtol=1e-8)
    assert info.converged and info.method == "minres" and "not definite" in info.choice
    tall = sp.vstack([A, A])
    x, info = kl.solve(tall, np.concatenate([b, b]), rtol=1e-8, maxiter=1000)
    assert info.converged and info.method == "lsmr"
    room = kl.GridOperator.diffusion(kl.Grid((12, 12), boundary="neumann"))
    right = np.random.default_rng(0).standard_normal(144)
    x, info = kl.solve(room, right - right.mean(), rtol=1e-8, M=None)
    assert info.converged and info.method == "cg"


def test_cg_with_m_keeps_four_vectors():
    """x, r, the direction, and one that its product and M r take in turn; b is not copied."""
    P = kl.problems.darcy((150, 150), seed=1)
    M = kl.Jacobi(P.A)
    kl.cg(P.A, P.b, M=M, maxiter=3)
    tracemalloc.start()
    try:
        x, info = kl.cg(P.A, P.b, M=M, maxiter=20)
        assert info.iterations == 20 and tracemalloc.get_traced_memory()[1] < 4.3 * x.nbytes
    finally:
        tracemalloc.stop()
