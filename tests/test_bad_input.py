"""Bad input gets a right answer, a clear message, or a reason at once; never a crash or a lie."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla

import krylearn as kl
from krylearn import registry, testing
from krylearn.interface import Reason
from krylearn.testing.examples import LARGE, freeze
from krylearn.testing.honesty import at_once, unchanged, using_threads

METHODS = registry.entries("method")
KRYLOV = [entry for entry in METHODS if not entry.needs_entries]
PRECONDITIONERS = registry.entries("preconditioner")
NASTY = list(testing.nasty_systems())
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

every_method = pytest.mark.parametrize("entry", METHODS, ids=[e.name for e in METHODS])
every_krylov = pytest.mark.parametrize("entry", KRYLOV, ids=[e.name for e in KRYLOV])
every_preconditioner = pytest.mark.parametrize(
    "entry", PRECONDITIONERS, ids=[e.name for e in PRECONDITIONERS]
)


def solve(entry, A, b, rtol=1e-8, **more):
    """Return x and info, or the message of a refusal; check that info is honest."""
    try:
        x, info = entry.load()(A, b, rtol=rtol, **more)
    except (ValueError, TypeError, ArithmeticError) as error:
        assert len(str(error)) > 10, f"{error!r} says nothing"
        return None, str(error)
    testing.require_honest(A, b, x, info, rtol)
    return x, info


def system(entry):
    A = testing.example_matrix(entry.matrix)
    return A, testing.example_vector(A.shape[0])


# -- shapes and numbers ----------------------------------------------------------------------


@every_method
def test_not_square(entry):
    A, b = np.eye(4, 6) + 0.1, np.ones(4)
    x, info = solve(entry, A, b)
    if entry.adjoint:
        assert info == 0 and x.shape == (6,)
    else:
        assert "square" in info


@every_method
def test_one_unknown_and_none(entry):
    x, info = solve(entry, np.array([[4.0]]), np.array([2.0]))
    assert info == 0 and x == pytest.approx([0.5])
    x, info = solve(entry, np.zeros((0, 0)), np.zeros(0))
    assert isinstance(info, str) or (info == 0 and x.shape == (0,))


@every_method
def test_no_columns(entry):
    A, b = system(entry)
    X, info = entry.load()(A, np.zeros((len(b), 0)))
    assert X.shape == (len(b), 0) and info == 0


@every_method
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["A", "b", "x0", "all of b"])
def test_nan_and_inf(entry, bad, where):
    A, b = system(entry)
    A, x0 = A.copy(), np.zeros_like(b)
    spoilt = slice(None) if where == "all of b" else 0
    {"A": A.data, "b": b, "x0": x0, "all of b": b}[where][spoilt] = bad
    x, info = solve(entry, A, b, x0=x0)
    if isinstance(info, str):
        assert where == "A"
        return
    expected = {"A": Reason.NONFINITE_OPERATOR, "x0": Reason.NONFINITE_START}
    assert info.reason is expected.get(where, Reason.NONFINITE_RHS)
    assert info < 0 and info.matvecs <= 4 and "NaN" in info.reason.advice


@every_method
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_in_one_column(entry, bad):
    A, b = system(entry)
    B = np.stack([b, b, b], axis=1)
    B[5, 1] = bad
    X, info = entry.load()(A, B, rtol=1e-8)
    assert info < 0 and [c.converged for c in info.columns] == [True, False, True]


@every_krylov
def test_nan_in_the_preconditioner(entry):
    if "M" not in inspect.signature(entry.load()).parameters:
        pytest.skip("takes no M")
    A, b = system(entry)
    x, info = solve(entry, A, b, M=np.diag(np.r_[np.nan, np.ones(len(b) - 1)]))
    assert info.reason is Reason.NONFINITE_PRECONDITIONER and info.matvecs <= 3


@every_method
def test_overflow_ends_and_says_so(entry):
    A = np.array([[1e308, 1e308], [1e308, 1e308]])
    x, info = solve(entry, A, np.array([1e308, -1e308]))
    assert isinstance(info, str) or info != 0 or info.reason is Reason.LEAST_SQUARES


@every_method
def test_object_and_string_elements(entry):
    A, b = system(entry)
    dense = A.toarray()
    for args in ((dense.astype(object), b), (dense, b.astype(object)), (dense, b.astype(str)),
                 (dense, None), (None, b), ("A", b)):  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=r".{10}"):
            entry.load()(*args)
    with pytest.raises((TypeError, ValueError), match=r".{10}"):
        entry.load()(dense, b, x0=b.astype(object))


@every_method
def test_sparse_right_hand_side_is_named(entry):
    A, b = system(entry)
    with pytest.raises(TypeError, match=r"b is a sparse array; use b.toarray\(\)"):
        entry.load()(A, sp.csr_array(b[:, None]))


@every_method
@pytest.mark.parametrize("maxiter", [2.5, -1, "9", np.inf, np.nan])
def test_maxiter_that_is_no_count(entry, maxiter):
    A, b = system(entry)
    with pytest.raises(ValueError, match="maxiter must be an integer >= 0 or None, not"):
        entry.load()(A, b, maxiter=maxiter)


def test_nan_in_the_imaginary_part_is_no_rounding():
    def product(v):
        y = (np.arange(1.0, 6.0) * v.ravel()).astype(complex)
        y.imag = np.nan
        return y

    A = spla.LinearOperator((5, 5), matvec=product, dtype=float)
    with pytest.raises(TypeError, match="its products are complex"):
        kl.gmres(A, np.ones(5))


@every_krylov
@pytest.mark.parametrize("which", ["A", "M"])
def test_operator_that_says_real_and_is_complex(entry, which):
    A, b = system(entry)

    def operator(factor):
        return spla.LinearOperator(A.shape, matvec=lambda v: factor * (A @ v), dtype=float,
                                   rmatvec=lambda v: np.conj(factor) * (A.T @ v))  # fmt: skip

    given = {"A": A, which: operator(1 + 1j)}
    if which == "M" and "M" not in inspect.signature(entry.load()).parameters:
        pytest.skip("takes no M")
    with pytest.raises(TypeError, match="dtype is float64, but its products are complex"):
        entry.load()(given.pop("A"), b, **given)
    # As of a Fourier transform of what is real.
    x, info = entry.load()(operator(1 + 1e-15j), b, rtol=1e-8)
    testing.require_honest(A, b, x, info, 1e-8)
    assert info == 0


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_size_of_b_says_nothing_about_a(scale):
    A, b = system(registry.find("method", "minres"))
    for M in (None, np.diag(1 / (1 + np.arange(len(b)) % 3))):
        x, info = kl.minres(A, scale * b, M=M, rtol=1e-8)
        assert info == 0, info


# -- matrices that have no solution, or not one ----------------------------------------------


def singular(kind):
    n = 8
    A = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    if kind == "zero row":
        A[3] = A[:, 3] = 0
    elif kind == "zero":
        A[:] = 0
    else:  # the Neumann problem, whose rows sum to zero
        A[0, 0] = A[-1, -1] = 1
    return A


@every_method
@pytest.mark.parametrize("kind", ["zero row", "zero", "Neumann"])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_singular_without_solution(entry, kind, form):
    x, info = solve(entry, form(singular(kind)), np.arange(1.0, 9))
    if info == 0:
        assert entry.adjoint and info.reason is Reason.LEAST_SQUARES
    else:
        assert isinstance(info, str) or len(info.reason.advice) > 10


@pytest.mark.parametrize("name", ["cg", "fcg", "cr", "minres", "gmres", "fgmres", "lsmr"])
def test_singular_with_solutions(name):
    A = singular("Neumann")
    b = A @ np.arange(8.0) ** 2
    x, info = solve(registry.find("method", name), A, b)
    assert info == 0


@every_preconditioner
@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_zero_or_nan_on_the_diagonal_of_a_preconditioner(entry, bad):
    A = testing.example_matrix(entry.matrix).toarray()
    A[3] = A[:, 3] = 0
    A[3, 3] = bad
    for form in (A, sp.csr_array(A)):
        try:
            M = entry.load()(form)
        except (ValueError, ArithmeticError) as error:
            assert len(str(error)) > 10
        else:
            # NaN need not be looked for: whoever uses the result sees it. Multigrid leaves an
            # empty row alone.
            finite = np.all(np.isfinite(M @ np.ones(len(A))))
            assert not finite if np.isnan(bad) else finite and hasattr(M, "levels")


@pytest.mark.parametrize("system", NASTY, ids=[name for name, _, _ in NASTY])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array, spla.aslinearoperator])
def test_solve_never_lies_or_raises(system, form):
    _, A, b = system
    x, info = kl.solve(form(A), b, rtol=1e-6)
    testing.require_honest(A, b, x, info, 1e-6)
    assert info.method and info.choice


def test_zero_row_is_named():
    A = sp.csr_array(singular("zero row"))
    for name in ("jacobi", "gauss_seidel", "sor", "ssor"):
        with pytest.raises(ValueError, match="row 3"):
            registry.preconditioner(name, A)


@pytest.mark.parametrize("name", ["cg", "fcg"])
@pytest.mark.parametrize("sign", ["negative", "mixed"])
def test_indefinite_under_cg(name, sign):
    d = -np.ones(6) if sign == "negative" else np.array([5.0, -1, 3, -2, 2, 4])
    b = np.array([0.1, 2, 0.1, 3, 0.1, 0.2])
    for A in (np.diag(d), sp.diags_array(d).tocsr(), spla.aslinearoperator(np.diag(d))):
        x, info = getattr(kl, name)(A, b)
        assert info < 0 and info.reason is Reason.INDEFINITE and "minres" in str(info)


@pytest.mark.parametrize("name", ["cg", "cr", "minres"])
def test_indefinite_preconditioner(name):
    A, M = np.diag([1.0, 2, 3, 4]), np.diag([-1.0, 1, -1, 1])
    x, info = getattr(kl, name)(A, np.array([3.0, 1, 1, 1]), M=M)
    assert info < 0 and info.reason is Reason.INDEFINITE_M and "gmres" in str(info)


class Nonlinear(kl.Preconditioner):
    linear = False

    def __init__(self, n):
        super().__init__((n, n), float)

    def apply(self, r, out):
        return np.divide(r, 1 + np.abs(r), out=out)


def test_nonlinear_preconditioner_under_cg():
    A, b = system(registry.find("method", "cg"))
    with pytest.raises(ValueError, match="fcg"):
        kl.cg(A, b, M=Nonlinear(len(b)))
    for name in ("fcg", "fgmres"):
        x, info = getattr(kl, name)(A, b, M=Nonlinear(len(b)), rtol=1e-8)
        testing.require_honest(A, b, x, info, 1e-8)
        assert info == 0


def test_preconditioner_that_does_not_say_that_it_is_nonlinear():
    A, b = system(registry.find("method", "cg"))
    M = spla.LinearOperator(A.shape, matvec=lambda r: r / (1 + np.abs(r)), dtype=float)
    for entry in KRYLOV:
        if "M" in inspect.signature(entry.load()).parameters:
            solve(entry, A, b, M=M, maxiter=60)  # may fail, may not lie


def test_unsymmetric_preconditioner_under_cg():
    A, b = system(registry.find("method", "cg"))
    with pytest.raises(ValueError, match="gmres"):
        kl.cg(A, b, M=kl.GaussSeidel(A))


@every_method
def test_unsymmetric_matrix(entry):
    A = testing.example_matrix("general").toarray() * np.triu(np.ones((49, 49)), -1)
    solve(entry, A, testing.example_vector(49))


# -- storage ---------------------------------------------------------------------------------


def shuffled(A, rng):
    """Return `A` with the entries of each row in disorder."""
    order = np.concatenate([
        A.indptr[i] + rng.permutation(A.indptr[i + 1] - A.indptr[i]) for i in range(A.shape[0])
    ])  # fmt: skip
    B = sp.csr_array((A.data[order], A.indices[order], A.indptr), shape=A.shape)
    assert not B.has_sorted_indices
    return B


def doubled(A):
    """Return `A` with each entry stored as two halves."""
    B = sp.csr_array(
        (np.repeat(A.data / 2, 2), np.repeat(A.indices, 2), 2 * A.indptr), shape=A.shape
    )
    assert not B.has_canonical_format
    return B


def wide(A):
    """Return `A` with 64-bit indices."""
    B = A.copy()
    B.indices, B.indptr = B.indices.astype(np.int64), B.indptr.astype(np.int64)
    return B


def empty_entries(A):
    """Return `A` with zeros stored off its pattern, on one side only."""
    B = A.tocoo()
    rows, columns = np.r_[B.row, 0, 1], np.r_[B.col, 40, 41]
    return sp.coo_array((np.r_[B.data, 0, 0], (rows, columns)), shape=A.shape).tocsr()


STORED = {
    "unsorted": lambda A: shuffled(A, np.random.default_rng(0)),
    "duplicates": doubled,
    "unsorted duplicates": lambda A: shuffled(doubled(A), np.random.default_rng(0)),
    "int64": wide,
    "stored zeros": empty_entries,
    "big-endian": lambda A: A.toarray().astype(">f8"),
    "half precision": lambda A: (8 * A).rint().toarray().astype(np.float16) / np.float16(8),
    "long double": lambda A: A.toarray().astype(np.longdouble),
    "strided": lambda A: np.repeat(np.repeat(A.toarray(), 2, 0), 2, 1)[::2, ::2],
    "reversed": lambda A: A.toarray()[::-1, ::-1].copy()[::-1, ::-1],
}


# Of these scipy makes no sparse matrix: a message that names the dtype will do.
FOREIGN = ("big-endian", "half precision")


@every_method
@pytest.mark.parametrize("how", STORED)
def test_storage(entry, how):
    A, b = system(entry)
    stored = STORED[how](A)
    freeze(stored)
    with unchanged("the matrix was changed", stored):
        x, info = solve(entry, stored, b)
    if how in FOREIGN and entry.needs_entries and isinstance(info, str):
        assert stored.dtype.str[1:] in info or str(stored.dtype) in info
        return
    assert info == 0
    rtol = 1e-8 if how != "half precision" else 0.5
    assert np.linalg.norm(b - A @ x) <= 1.01 * rtol * np.linalg.norm(b)


@every_preconditioner
@pytest.mark.parametrize("how", STORED)
def test_storage_of_a_preconditioner(entry, how):
    A, b = system(entry)
    stored = STORED[how](A)
    freeze(stored)
    with unchanged("the matrix was changed", stored):
        try:
            M = entry.load()(stored)
        except ValueError as error:
            assert how in FOREIGN and str(stored.dtype) in str(error)
            return
    close = dict(rtol=1e-12, atol=1e-12) if how != "half precision" else dict(rtol=0.1, atol=0.1)
    with unchanged("the matrix was changed", stored):
        assert np.allclose(M @ b, entry.load()(A) @ b, **close)


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_vectors_of_every_storage():
    A, b = system(registry.find("method", "cg"))
    expected, _ = kl.cg(A, b, rtol=1e-10)
    for rhs in (b.tolist(), b.astype(">f8"), np.asfortranarray(b[:, None]), np.repeat(b, 2)[::2],
                np.matrix(b).T, b.astype(np.longdouble)):  # fmt: skip
        x, info = kl.cg(A, rhs, rtol=1e-10)
        assert info == 0 and np.allclose(x, expected, atol=1e-9)


# -- processes and threads -------------------------------------------------------------------


def run_python(code, **environment):
    """Run a program in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True,
        timeout=120, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


SOLVE = """
    import numpy as np, krylearn as kl
    A = 2 * np.eye(30) - np.eye(30, k=1) - np.eye(30, k=-1)
    x, info = kl.cg(A, np.ones(30), rtol=1e-8)
    print(int(info), np.linalg.norm(A @ x - 1) < 1e-7)
"""


def test_cache_directory_that_cannot_be_made(tmp_path):
    # Below a file, where not even root can make one.
    (tmp_path / "file").write_text("")
    assert run_python(SOLVE, NUMBA_CACHE_DIR=str(tmp_path / "file" / "cache")).split() == [
        "0", "True"
    ]  # fmt: skip


def test_no_cache_directory_at_all():
    nowhere = "import numba.core.caching as c; c.CacheImpl._locator_classes = []\n"
    assert run_python(nowhere + textwrap.dedent(SOLVE)).split() == ["0", "True"]


def test_cache_directory_that_vanishes(tmp_path):
    # As on a disk that fills up between the import and the first compilation.
    code = """
    import os, shutil
    import krylearn.kernels.vector, krylearn.kernels.csr, krylearn.solvers.krylov.cg
    shutil.rmtree(os.environ["NUMBA_CACHE_DIR"])
    open(os.environ["NUMBA_CACHE_DIR"], "w").close()
    """
    where = str(tmp_path / "cache")
    assert run_python(textwrap.dedent(code) + textwrap.dedent(SOLVE), NUMBA_CACHE_DIR=where).split(
    ) == ["0", "True"]  # fmt: skip


@every_krylov
def test_two_threads_solve_at_once(entry):
    A, b = system(entry)
    rhs = [testing.example_vector(len(b), seed=k) for k in range(2)]
    alone = [entry.load()(A, v, rtol=1e-8)[0] for v in rhs]
    for _ in range(10):
        both = at_once([lambda v=v: entry.load()(A, v, rtol=1e-8)[0] for v in rhs])
        assert all(map(np.array_equal, alone, both))


def _solve_in_child(send, A, b):
    x, info = kl.cg(A, b, rtol=1e-14, maxiter=4)
    send.send((x, int(info)))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_fork_after_a_solve():
    A = testing.example_matrix("spd", "d", LARGE)
    b = testing.example_vector(A.shape[0])
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_solve_in_child, args=(send, A, b))
    with using_threads(2):
        expected, info = kl.cg(A, b, rtol=1e-14, maxiter=4)
        child.start()
        try:
            assert receive.poll(60), "the child hangs"
            x, code = receive.recv()
            child.join(60)
            assert child.exitcode == 0 and code == int(info) and np.array_equal(x, expected)
        finally:
            if child.is_alive():
                child.kill()
