"""Kernels against NumPy, and the same result for any number of threads."""

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp

import krylearn as kl
from krylearn.kernels import csr, diagonals, relaxation, vector
from krylearn.operators import CSROperator, unsigned_indices

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
SIZE = 150_001


def draw(rng, shape, dtype):
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = kl.get_num_threads()
    kl.set_num_threads(request.param)
    yield request.param
    kl.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_vector_operations(dtype, threads):
    rng = np.random.default_rng(0)
    x, y, p, q = (draw(rng, SIZE, dtype) for _ in range(4))
    tol = 200 * float(np.finfo(dtype).eps)
    assert vector.dot(x, y) == pytest.approx(np.vdot(x, y), rel=tol, abs=tol * SIZE)
    assert vector.norm(x) == pytest.approx(np.linalg.norm(x), rel=tol)
    expected = 0.5 * x + 2 * y
    assert np.allclose(vector.axpby(0.5, x, 2.0, y.copy()), expected, rtol=tol, atol=tol)
    assert np.allclose(vector.axpy(2.0, x, y.copy()), y + 2 * x, rtol=tol, atol=tol)
    u, r = x.copy(), y.copy()
    size = vector.step(0.25, p, q, u, r)
    assert np.allclose(u, x + 0.25 * p, rtol=tol, atol=tol)
    assert size == pytest.approx(np.linalg.norm(y - 0.25 * q), rel=tol)


def test_sums_do_not_depend_on_threads():
    x, y = np.random.default_rng(1).standard_normal((2, 700_001))
    before, sums = kl.get_num_threads(), []
    for count in (1, 2, 5):
        kl.set_num_threads(count)
        sums.append((vector.dot(x, y), vector.norm(x)))
    kl.set_num_threads(before)
    assert sums[0] == sums[1] == sums[2]


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_norm_neither_overflows_nor_underflows(scale):
    assert vector.norm(np.full(100, 3.0 * scale)) == pytest.approx(30.0 * scale, rel=1e-14)
    assert np.isnan(vector.norm(np.array([1.0, np.nan])))
    assert vector.norm(np.array([1.0, np.inf])) == np.inf


@pytest.mark.parametrize("dtype", DTYPES)
def test_orthogonalise_is_orthogonal_to_rounding(dtype):
    rng = np.random.default_rng(2)
    Q = np.linalg.qr(draw(rng, (5000, 6), dtype))[0].T.copy()
    # Nearly dependent: once is not enough.
    w = (draw(rng, 6, dtype) @ Q + 1e-4 * draw(rng, 5000, dtype) / 70).astype(dtype)
    before = w.copy()
    h, size = vector.orthogonalise(Q, 6, w)
    eps = np.finfo(dtype).eps
    assert np.abs(Q.conj() @ w).max() <= 50 * eps * max(size, eps)
    assert np.allclose(h @ Q + w, before, atol=100 * eps)
    assert np.allclose(vector.combine(Q, h, w), before, atol=100 * eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_with_a_matrix(dtype, threads):
    rng = np.random.default_rng(3)
    A = sp.random_array((40_000, 40_000), density=1e-4, rng=rng, format="csr").astype(dtype)
    x = draw(rng, 40_000, dtype)
    y = np.empty_like(x)
    arrays = (*unsigned_indices(A), A.data)
    tol = 100 * float(np.finfo(dtype).eps)
    assert np.allclose(csr.apply(*arrays, x, y), A @ x, rtol=tol, atol=tol)
    assert csr.apply_dot(*arrays, x, y) == pytest.approx(np.vdot(x, A @ x), rel=1e-4, abs=tol * 1e4)
    X = draw(rng, (40_000, 3), dtype)
    assert np.allclose(csr.apply_block(*arrays, X, np.empty_like(X)), A @ X, rtol=tol, atol=tol)
    adjoint = CSROperator(A, A.dtype).adjoint(x, np.empty_like(x))
    assert np.allclose(adjoint, A.conj().T @ x, rtol=tol, atol=tol)


def banded(n, offsets, rng, dtype=float):
    return sp.diags_array(
        [draw(rng, n - abs(k), dtype) for k in offsets], offsets=offsets, format="csr"
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 5, 1024, 70_001])
def test_diagonals_equal_the_csr_product(n, dtype, threads):
    rng = np.random.default_rng(4)
    offsets = sorted({o for o in (-300, -1, 0, 1, 4, 2000) if abs(o) < n})
    A = banded(n, offsets, rng, dtype)
    found = diagonals.from_csr(*unsigned_indices(A), A.data, A.shape)
    if found is None:
        assert n == 5  # too short to be worth it
        return
    x = draw(rng, n, dtype)
    y = np.empty_like(x)
    tol = 50 * float(np.finfo(dtype).eps)
    assert np.allclose(diagonals.apply(*found, x, y), A @ x, rtol=tol, atol=tol)
    assert diagonals.apply_dot(*found, x, y) == pytest.approx(
        np.vdot(x, A @ x), rel=1e-4, abs=tol * n
    )


def test_a_stray_entry_forbids_diagonals():
    A = banded(5000, [-1, 0, 1], np.random.default_rng(5)).tolil()
    A[1237, 4000] = 1.0
    A = A.tocsr()
    assert diagonals.from_csr(*unsigned_indices(A), A.data, A.shape) is None


def test_an_operator_that_changes_its_storage_keeps_its_values():
    n = 70_000
    A = banded(n, [-9, -1, 0, 1, 9], np.random.default_rng(6))
    operator, x = CSROperator(A, A.dtype), np.linspace(0, 1, n)
    for _ in range(2 * CSROperator.PATIENCE):
        assert np.allclose(operator.apply(x, np.empty(n)), A @ x, rtol=1e-13, atol=1e-13)
    assert operator._diagonals is not None


@pytest.mark.parametrize("dtype", DTYPES)
def test_hermitian_up_to_what_assembly_rounds(dtype):
    rng = np.random.default_rng(4)
    half = sp.random_array((300, 300), density=0.05, rng=rng, format="csr").astype(dtype)
    A = sp.csr_array(half + half.conj().T + 10 * sp.eye_array(300, dtype=dtype))
    eps = float(np.finfo(dtype).eps)
    for size, expected in ((0.2 * max(100 * eps, eps**0.75), True), (1e4 * eps**0.75, False)):
        noisy = A.copy()
        noisy.data = noisy.data * (1 + size * rng.uniform(-1, 1, A.nnz)).astype(dtype)
        assert relaxation.is_hermitian(*unsigned_indices(noisy), noisy.data) == expected


def test_an_edit_in_another_file_is_seen_by_the_cache(tmp_path):
    (tmp_path / "callee.py").write_text(
        "from krylearn.kernels.parallel import jit\n@jit\ndef f(x):\n    return x + 1\n"
    )
    (tmp_path / "caller.py").write_text(
        "from callee import f\nfrom krylearn.kernels.parallel import jit\n"
        "@jit\ndef g(x):\n    return f(x)\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *sys.path])
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-c", "from caller import g; print(g(1))"]

    def answer():
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert answer() == answer() == "2"
    source = (tmp_path / "callee.py").read_text()
    (tmp_path / "callee.py").write_text(source.replace("x + 1", "x + 10"))
    assert answer() == "11"


def test_a_kernel_calls_its_own_copies_of_functions():
    """Samples had other last digits where the cache was cold: copies went by a shared name."""
    from krylearn.kernels.parallel import jit

    @jit
    def callee(x):
        total = 0.0
        for i in range(x.shape[0]):
            total += x[i] * x[i]
        return total

    @jit(noalias=True)
    def caller(x):
        return callee(x) + callee(x[1:])

    assert caller(np.ones(10)) == 19.0
    for kernel in (callee, caller):
        for made in kernel.overloads.values():
            bound = {
                function.linkage.name for function in made.library._final_module.functions
                if not function.is_declaration
            }  # fmt: skip
            assert bound <= {"external", "internal", "private"}


def test_ranges_within_ranges_do_not_wait_for_each_other():
    """Each thread of the pool waited for a place in it: batches of large grids never ended."""
    import threading

    from krylearn.kernels import parallel

    found = []

    def inner(lo, hi):
        found.extend(range(lo, hi))

    def outer(lo, hi):
        for _ in range(lo, hi):
            parallel.parallel_for(inner, 10, 1)

    before = parallel.get_num_threads()
    parallel.set_num_threads(2)
    try:
        caller = threading.Thread(target=parallel.parallel_for, args=(outer, 8, 1), daemon=True)
        caller.start()
        caller.join(20)
        assert not caller.is_alive() and sorted(found) == sorted(8 * list(range(10)))
    finally:
        parallel.set_num_threads(before)
