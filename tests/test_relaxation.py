"""Relaxation methods against dense references, theory, and their own promises."""

from __future__ import annotations

import math
import pickle
import threading
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

import krylearn as kl
from krylearn.kernels import schedule as schedules
from krylearn.kernels import sweep
from krylearn.operators import unsigned_indices
from krylearn.solvers.relaxation.splitting import make_schedule

DTYPES = ("f", "d", "F", "D")
SOLVERS = ("jacobi", "block_jacobi", "gauss_seidel", "sor", "ssor", "chebyshev", "ic0", "ilu0")
CLASSES = ("Jacobi", "BlockJacobi", "GaussSeidel", "SOR", "SSOR", "Chebyshev", "IC0", "ILU0")


def tolerance(dtype):
    return 2e-4 if np.dtype(dtype).char in "fF" else 1e-11


def poisson(m, d=2):
    K = sp.diags_array([-np.ones(m - 1), 2 * np.ones(m), -np.ones(m - 1)], offsets=[-1, 0, 1])
    A = K
    for _ in range(d - 1):
        A = sp.kron(A, sp.eye_array(m)) + sp.kron(sp.eye_array(A.shape[0]), K)
    return sp.csr_array(A)


def dominant(n, dtype="d", seed=0, hermitian=True):
    rng = np.random.default_rng(seed)
    A = sp.random_array((n, n), density=6 / n, rng=rng).astype(np.dtype(dtype))
    if A.dtype.kind == "c":
        A = A + 1j * sp.random_array((n, n), density=3 / n, rng=rng)
    if hermitian:
        A = A + A.conj().T
    A = sp.csr_array(A)
    A.setdiag(0)
    A.eliminate_zeros()
    A = A + sp.diags_array(abs(A).sum(axis=1) + 1 + rng.random(n))
    return sp.csr_array(A.astype(dtype))


def vector(n, dtype="d", seed=5):
    rng = np.random.default_rng(seed)
    v = rng.standard_normal(n) + 1j * rng.standard_normal(n)
    return (v if np.dtype(dtype).kind == "c" else v.real).astype(dtype)


def dense_of(M):
    return np.column_stack([M @ e for e in np.eye(M.shape[0], dtype=M.dtype)])


def dense_sweep(A, b, x, omega, order):
    for i in order:
        x[i] += omega * (b[i] - A[i] @ x) / A[i, i]
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("direction", ["forward", "backward", "symmetric"])
@pytest.mark.parametrize("sweeps", [1, 3])
def test_sweeps_are_those_of_the_textbook(dtype, direction, sweeps):
    A = dominant(60, dtype, hermitian=False)
    r = vector(60, dtype)
    M = kl.SOR(A, omega=1.3, direction=direction, sweeps=sweeps)
    there, back = range(60), range(59, -1, -1)
    x = np.zeros(60, "D")
    for _ in range(sweeps):
        if direction != "backward":
            dense_sweep(A.toarray(), r, x, 1.3, there)
        if direction != "forward":
            dense_sweep(A.toarray(), r, x, 1.3, back)
    assert (M @ r).dtype == np.dtype(dtype)
    assert np.abs(M @ r - x).max() < tolerance(dtype)
    aliased = r.copy()
    assert np.abs(M.apply(aliased, aliased) - x).max() < tolerance(dtype)


def test_triangular_formulas():
    A = dominant(50)
    D, L, U = np.diag(A.diagonal()), np.tril(A.toarray(), -1), np.triu(A.toarray(), 1)
    r, w = vector(50), 1.4
    assert np.allclose(kl.GaussSeidel(A) @ r, np.linalg.solve(D + L, r), rtol=1e-12)
    P = (D / w + L) @ np.linalg.inv(D / w) @ (D / w + U) / (2 - w)  # Saad (2003), section 10.2
    assert np.allclose(kl.SSOR(A, omega=w) @ r, np.linalg.solve(P, r), rtol=1e-12)
    assert np.allclose(kl.Jacobi(A, omega=w) @ r, w * r / A.diagonal(), rtol=1e-14)


def test_block_jacobi_inverts_blocks():
    A = dominant(23, hermitian=False)
    M = kl.BlockJacobi(A, block_size=5, omega=0.9)
    B = np.zeros((23, 23))
    for k in range(0, 23, 5):
        B[k : k + 5, k : k + 5] = A.toarray()[k : k + 5, k : k + 5]
    assert np.allclose(dense_of(M), 0.9 * np.linalg.inv(B), atol=1e-14)
    assert not M.symmetric
    A = sp.csr_array(np.array([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]))
    with pytest.raises(ValueError, match="starts at row 2"):
        kl.BlockJacobi(A, block_size=2)


def test_chebyshev_is_the_polynomial():
    A = poisson(7)
    d, (low, high), degree = A.diagonal(), (0.2, 2.0), 4
    M = kl.Chebyshev(A, degree=degree, bounds=(low, high))
    S = np.diag(d**-0.5) @ A.toarray() @ np.diag(d**-0.5)
    values, vectors = np.linalg.eigh(S)
    centre, half = (high + low) / 2, (high - low) / 2
    T = np.polynomial.chebyshev.Chebyshev.basis(degree)
    p = (1 - T((centre - values) / half) / T(centre / half)) / values
    expected = np.diag(d**-0.5) @ (vectors * p) @ vectors.T @ np.diag(d**-0.5)
    assert np.allclose(dense_of(M), expected, atol=1e-13)


def test_chebyshev_bounds_enclose_the_spectrum():
    A = poisson(12)
    values = np.linalg.eigvalsh(A.toarray() / 4)
    low, high = kl.Chebyshev(A, ratio=None).bounds
    assert 0.7 * values[0] < low < 1.02 * values[0] and values[-1] < high < 1.2 * values[-1]
    assert kl.Chebyshev(A).bounds[0] == pytest.approx(kl.Chebyshev(A).bounds[1] / 30)
    with pytest.raises(ValueError, match="Hermitian"):
        kl.Chebyshev(dominant(20, hermitian=False))
    with pytest.raises(ValueError, match="positive definite"):
        kl.Chebyshev(poisson(12) - 3.5 * sp.eye_array(144))
    with pytest.raises(ValueError, match="bounds"):
        kl.Chebyshev(A, bounds=(0.0, 1.0))


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_traits_are_true(name, dtype):
    A = dominant(40, dtype)
    M = getattr(kl, name)(A)
    P = dense_of(M).astype("D")
    assert M.dtype == np.dtype(dtype) and M.linear and M.setup_seconds > 0
    gap = np.abs(P - P.conj().T).max()
    if M.symmetric:
        assert gap < (1e-6 if np.dtype(dtype).char in "fF" else 1e-14)
    else:
        assert name in ("GaussSeidel", "SOR", "ILU0")
    if M.positive_definite:
        assert np.linalg.eigvalsh((P + P.conj().T) / 2)[0] > 0
    r = vector(40, dtype)
    assert np.abs(P @ r - M @ r).max() < tolerance(dtype)


def test_traits_of_matrices_that_lack_them():
    A = dominant(30, hermitian=False)
    assert not kl.SSOR(A).symmetric and not kl.GaussSeidel(A, direction="symmetric").symmetric
    assert kl.Jacobi(A).symmetric and kl.Jacobi(A).positive_definite
    assert kl.Jacobi(-A).positive_definite is False
    assert kl.SSOR(-poisson(5), omega=1.0).positive_definite is False
    assert not kl.Jacobi((A * (1 + 1j)).tocsr()).symmetric
    assert kl.BlockJacobi(poisson(5) - 3.5 * sp.eye_array(25)).positive_definite is False
    with pytest.raises(ValueError, match="symmetric"):
        kl.cg(poisson(5), np.ones(25), M=kl.GaussSeidel(poisson(5)))


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_solvers_converge(name, dtype):
    solver = getattr(kl, name)
    rtol = 1e-4 if np.dtype(dtype).char in "fF" else 1e-9
    for A in (poisson(8).astype(dtype), dominant(90, dtype)):
        b = vector(A.shape[0], dtype)
        x, info = solver(A, b, rtol=rtol)
        assert info == 0 and info.method == name and x.dtype == np.dtype(dtype)
        assert np.linalg.norm(b - A @ x) <= 1.01 * rtol * np.linalg.norm(b)
        assert len(info.residuals) == info.iterations + 1
        assert info.residuals[-1] == pytest.approx(info.residual)
        assert info.setup_seconds > 0 and info.precond_applies == info.iterations


@pytest.mark.parametrize("name", [name for name in SOLVERS if name not in ("chebyshev", "ic0")])
def test_solvers_converge_without_symmetry(name):
    A = dominant(80, hermitian=False)
    b = np.column_stack([vector(80), vector(80, seed=8)])
    options = {"omega": 1.0} if name in ("sor", "ssor") else {}
    x, info = getattr(kl, name)(A, b, rtol=1e-10, **options)
    assert info == 0 and np.linalg.norm(b - A @ x) < 1e-9 * np.linalg.norm(b)


@pytest.mark.parametrize("name", ["jacobi", "block_jacobi", "gauss_seidel", "sor", "ssor"])
def test_divergence_is_named(name):
    rng = np.random.default_rng(3)
    A = rng.standard_normal((30, 30)) + 0.5 * np.eye(30)
    _, info = getattr(kl, name)(A, np.ones(30))
    assert info.reason is kl.Reason.DIVERGED and info > 0


def test_rounding_level_ends_the_iteration():
    A = poisson(6)
    for name in ("jacobi", "gauss_seidel", "ssor", "chebyshev"):
        _, info = getattr(kl, name)(A, np.ones(36), rtol=0.0, maxiter=100_000)
        assert info.reason in (kl.Reason.STAGNATED, kl.Reason.CONVERGED), name
        assert info.iterations < 10_000 and info.residual < 1e-13


def test_start_callback_and_limit():
    A, b = poisson(6), np.ones(36)
    exact = np.linalg.solve(A.toarray(), b)
    seen = []
    _, info = kl.sor(A, b, exact + 1e-3, rtol=1e-10, callback=lambda x: seen.append(x.copy()))
    assert info.iterations == len(seen) and np.allclose(seen[-1], exact, atol=1e-8)
    _, info = kl.gauss_seidel(A, b, rtol=1e-12, maxiter=3)
    assert info == 3 and info.reason is kl.Reason.MAXITER and info.iterations == 3
    with pytest.raises(ValueError, match="Krylov"):
        kl.jacobi(A, b, M=kl.Jacobi(A))


@pytest.mark.parametrize("m, d", [(15, 2), (31, 2), (12, 3), (63, 2)])
def test_youngs_omega_is_that_of_theory(m, d):
    A = poisson(m, d)
    best = 2 / (1 + math.sin(math.pi / (m + 1)))
    M = kl.SOR(A, omega="young")
    assert abs(M.omega - best) < 0.02 * (2 - best) + 1e-3
    assert abs(kl.SSOR(A).omega - best) < 0.2 * (2 - best)


def test_youngs_omega_pays():
    A = poisson(48)
    b = np.ones(A.shape[0])
    plain, young = kl.gauss_seidel(A, b, rtol=1e-8)[1], kl.sor(A, b, rtol=1e-8)[1]
    assert young == 0 and young.iterations < plain.iterations / 8
    iterations = {w: kl.cg(A, b, rtol=1e-8, M=kl.SSOR(A, omega=w))[1].iterations
                  for w in (1.0, "young")}  # fmt: skip
    assert iterations["young"] < 0.7 * iterations[1.0]
    # Red-black, there and back: over-relaxation harms, and 'young' knows.
    iterations = {w: kl.ssor(A, b, rtol=1e-4, omega=w, order="multicolour")[1].iterations
                  for w in (1.0, 1.3, "young")}  # fmt: skip
    assert iterations["young"] == iterations[1.0] < iterations[1.3]


def test_omega_may_be_a_policy():
    class Policy:
        def __init__(self):
            self.seen, self.losses = [], []

        def choose(self, context):
            self.seen.append(context)
            return 1.25

        def observe(self, loss):
            self.losses.append(loss)

    A, policy = poisson(6), Policy()
    for name in ("sor", "ssor"):
        _, info = getattr(kl, name)(A, np.ones(36), omega=policy, context="hot")
        _, fixed = getattr(kl, name)(A, np.ones(36), omega=1.25)
        assert info == 0 and policy.losses[-1] == info.iterations == fixed.iterations
    assert policy.seen == ["hot", "hot"] and len(policy.losses) == 2
    for omega, match in ((0.0, "between 0 and 2"), (2.0, "between 0 and 2"), ("best", "young")):
        with pytest.raises(ValueError, match=match):
            kl.SOR(A, omega=omega)


def test_colours():
    A = poisson(9, 3)
    colour = schedules.colouring(*unsigned_indices(A))
    i = np.arange(9**3)
    assert np.array_equal(colour, (i // 81 + i // 9 % 9 + i % 9) % 2)  # red and black
    for A in (dominant(300), dominant(300, hermitian=False)):
        plan = make_schedule(unsigned_indices(A), "multicolour")
        level = np.searchsorted(plan.tasks[plan.levels[1:-1]], plan.position, side="right")
        rows, columns = A.nonzero()
        assert np.all((level[rows] != level[columns]) | (rows == columns))


def test_wavefronts_of_grids():
    # Strips of a plane: as many levels as there are planes, but for filling the pipeline.
    plan = make_schedule(unsigned_indices(poisson(64, 3)), "natural")
    assert 64 <= len(plan.levels) - 1 <= 70 and len(plan.tasks) - 1 == 256
    # Nothing in a plane may run at once with its own lines: one thread, in the order of the rows.
    plan = make_schedule(unsigned_indices(poisson(160, 2)), "natural")
    assert len(plan.tasks) == 2 and np.array_equal(plan.rows, np.arange(160**2))


@pytest.mark.parametrize("order", ["natural", "multicolour"])
@pytest.mark.parametrize("hermitian", [True, False])
def test_schedules_keep_the_order(order, hermitian, monkeypatch):
    monkeypatch.setattr(sweep, "SMALL", 0)
    for name, value in (("SMALL", 0), ("LONGEST", (30,)), ("ABREAST", 0), ("TASK", 4)):
        monkeypatch.setattr(schedules, name, value)
    for A in (poisson(12, 3), dominant(500, hermitian=hermitian)):
        plan = make_schedule(unsigned_indices(A), order)
        assert np.array_equal(np.sort(plan.rows), np.arange(A.shape[0])) and len(plan.levels) > 2
        task = np.searchsorted(plan.tasks, plan.position, side="right") - 1
        level = np.searchsorted(plan.levels, task, side="right") - 1
        rows, columns = A.nonzero()
        ahead = columns < rows if order == "natural" else level[columns] < level[rows]
        before = plan.position[columns].astype(int) < plan.position[rows]
        assert np.array_equal(ahead, before)
        # Rows of one level in different tasks are not coupled.
        assert not np.any((level[rows] == level[columns]) & (task[rows] != task[columns]))
        # And what is swept in pieces is what is swept in one go.
        r = vector(A.shape[0])
        permuted = A[plan.rows][:, plan.rows].toarray()
        x = np.empty_like(r)
        x[plan.rows] = np.linalg.solve(np.tril(permuted), r[plan.rows])
        M = kl.GaussSeidel(A, order=order)
        assert np.allclose(M @ r, x, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", CLASSES)
def test_threads_and_concurrent_use_change_nothing(name, monkeypatch):
    monkeypatch.setattr(schedules, "LONGEST", (500,))
    monkeypatch.setattr(schedules, "ABREAST", 2)
    A = poisson(34, 3)
    assert len(make_schedule(unsigned_indices(A), "natural").levels) > 34
    M, r = getattr(kl, name)(A), vector(34**3)
    threads = kl.get_num_threads()
    try:
        kl.set_num_threads(1)
        one = M @ r
        for count in (2, 3):
            kl.set_num_threads(count)
            assert np.array_equal(one, M @ r)
        kl.set_num_threads(2)
        results: list = [None] * 4

        def work(k):
            for _ in range(5):
                results[k] = M @ r

        workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert all(np.array_equal(one, result) for result in results)
    finally:
        kl.set_num_threads(threads)


def test_solvers_do_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr(schedules, "LONGEST", (450,))
    monkeypatch.setattr(schedules, "ABREAST", 1)
    A, b = poisson(30, 3), vector(27000)
    threads = kl.get_num_threads()
    try:
        for name in ("gauss_seidel", "ssor"):
            answers = []
            for count in (1, 2):
                kl.set_num_threads(count)
                answers.append(getattr(kl, name)(A, b, rtol=1e-2))
            assert np.array_equal(answers[0][0], answers[1][0]) and answers[0][1] == 0
            assert np.array_equal(answers[0][1].residuals, answers[1][1].residuals)
    finally:
        kl.set_num_threads(threads)


@pytest.mark.parametrize("name", CLASSES)
def test_update_is_like_new(name):
    A, B = dominant(70), dominant(70)
    B.data = B.data * (1 + 0.1 * np.cos(np.arange(70))[B.indices])
    B = sp.csr_array((B + B.T) / 2)
    M = getattr(kl, name)(A)
    before, r = M @ np.ones(70), vector(70)
    assert M.update(B) is M and M.setup_seconds > 0
    assert np.array_equal(M @ r, getattr(kl, name)(B) @ r) and not np.allclose(before, M @ r)
    with pytest.raises(ValueError, match="pattern"):
        M.update(dominant(70, seed=1))
    with pytest.raises(ValueError, match="pattern"):
        M.update(dominant(60))


@pytest.mark.parametrize("name", CLASSES)
def test_pickle_and_forms_of_input(name):
    A, r = dominant(50), vector(50)
    M = getattr(kl, name)(A)
    expected = M @ r
    assert np.array_equal(pickle.loads(pickle.dumps(M)) @ r, expected)
    wide = A.copy()
    wide.indptr, wide.indices = wide.indptr.astype(np.int64), wide.indices.astype(np.int64)
    for form in (wide, A.toarray(), A.tocoo(), sp.csc_matrix(A)):
        assert np.allclose(getattr(kl, name)(form) @ r, expected, rtol=1e-13, atol=1e-15)
    out = np.empty(50)
    assert M.apply(r, out) is out and np.array_equal(out, expected)
    assert np.allclose(M @ (r + 2j * r), (1 + 2j) * expected)
    assert getattr(kl, name)(np.array([[4]])) @ np.ones(1) == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize("name", CLASSES)
def test_application_allocates_no_vectors(name):
    A = poisson(30, 3)
    M, r, out = getattr(kl, name)(A), vector(27000), np.empty(27000)
    M.apply(r, out)
    tracemalloc.start()
    try:
        for _ in range(3):
            M.apply(r, out)
        assert tracemalloc.get_traced_memory()[1] < r.nbytes / 8
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", CLASSES)
def test_grid_operators_give_their_entries(name):
    class Grid(sp.linalg.LinearOperator):
        def __init__(self, A):
            super().__init__(A.dtype, A.shape)
            self.entries = A

        def tocsr(self):
            return self.entries

        def _matvec(self, x):
            return self.entries @ x

    A, r = poisson(8), vector(64)
    assert np.array_equal(getattr(kl, name)(Grid(A)) @ r, getattr(kl, name)(A) @ r)
    x, info = getattr(kl, SOLVERS[CLASSES.index(name)])(Grid(A), r, rtol=1e-6)
    assert info == 0 and np.linalg.norm(r - A @ x) <= 1e-6 * np.linalg.norm(r)


@pytest.mark.parametrize("name", ["Jacobi", "BlockJacobi", "SSOR", "Chebyshev", "IC0"])
def test_rounding_does_not_cost_the_symmetry(name):
    A = dominant(60, "D")
    A.data = A.data * (1 + 1e-15j * np.cos(np.arange(A.nnz)))
    assert getattr(kl, name)(A).symmetric
    assert kl.cg(A, np.ones(60), M=getattr(kl, name)(A))[1] == 0


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_are_named(name, bad):
    A = poisson(5)
    M = getattr(kl, name)(A)
    A.data[7] = bad
    for make in (getattr(kl, name), M.update):
        with pytest.raises(ValueError, match="NaN or Inf"):
            make(A)
    _, info = getattr(kl, SOLVERS[CLASSES.index(name)])(A, np.ones(25))
    assert info.reason is kl.Reason.NONFINITE_OPERATOR


@pytest.mark.parametrize("name", CLASSES)
def test_refusals(name):
    make = getattr(kl, name)
    with pytest.raises(ValueError, match="square"):
        make(np.ones((3, 4)))
    with pytest.raises(TypeError, match="entries"):
        make(sp.linalg.aslinearoperator(poisson(3)))
    A = poisson(4).toarray()
    A[7, 7] = A[11, 11] = 0
    if name != "BlockJacobi":
        with pytest.raises(ValueError, match="row 7"):
            make(A)
    with pytest.raises(ValueError, match="order"):
        kl.SSOR(poisson(3), order="random")


@pytest.mark.parametrize("name", ["Jacobi", "BlockJacobi", "SSOR", "Chebyshev", "IC0"])
def test_preconditioned_cg_is_quicker_and_right(name):
    A = poisson(20, 2) + sp.diags_array(np.linspace(0, 5, 400))
    A, b = sp.csr_array(A), vector(400)
    x, info = kl.cg(A, b, rtol=1e-9, M=getattr(kl, name)(A))
    assert info == 0 and np.linalg.norm(b - A @ x) <= 1e-9 * np.linalg.norm(b)
    plain = kl.cg(A, b, rtol=1e-9)[1]
    assert info.iterations < plain.iterations
