"""The contract of every registered method and preconditioner, and what theory promises."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla

import krylearn as kl
from krylearn import registry, testing
from krylearn.testing.examples import KINDS, example_grid_operator

METHODS = registry.entries("method")
PRECONDITIONERS = registry.entries("preconditioner")
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def names(entries):
    return [entry.name for entry in entries]


@pytest.mark.parametrize("promise", testing.METHOD_PROMISES)
@pytest.mark.parametrize("entry", METHODS, ids=names(METHODS))
def test_method_keeps(entry, promise):
    testing.check_method(
        entry.load(), matrix=entry.matrix, flexible=entry.flexible, adjoint=entry.adjoint,
        needs_entries=entry.needs_entries, direct=entry.direct, only=[promise],
    )  # fmt: skip


@pytest.mark.parametrize("promise", testing.PRECONDITIONER_PROMISES)
@pytest.mark.parametrize("entry", PRECONDITIONERS, ids=names(PRECONDITIONERS))
def test_preconditioner_keeps(entry, promise):
    testing.check_preconditioner(entry.load(), matrix=entry.matrix, only=[promise])


@pytest.mark.parametrize("entry", METHODS + PRECONDITIONERS, ids=names(METHODS + PRECONDITIONERS))
def test_registered_names_are_public_and_documented(entry):
    what = entry.load()
    assert getattr(kl, what.__name__) is what
    for section in ("Parameters", "Raises", "References", "Examples"):
        assert f"{section}\n    ---" in what.__doc__, f"no section {section}"


def test_a_broken_promise_is_named():
    def lies(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None):
        x, info = kl.cg(A, b, x0, rtol=rtol, atol=atol, maxiter=maxiter, M=M, callback=callback)
        return x * (1 + 1e-3), info

    with pytest.raises(AssertionError, match="lies breaks: converges .*true residual of"):
        testing.check_method(lies, matrix="spd", only=["converges", "starts"])

    def blind(A, b, x0=None, *, rtol=1e-5, **more):
        return kl.cg(kl.GridOperator.diffusion(A.grid) if hasattr(A, "grid") else A, b, rtol=rtol)

    with pytest.raises(AssertionError, match="blind breaks: takes grid operators .*the operator"):
        testing.check_method(blind, matrix="spd", only=["takes grid operators"])

    class Careless(kl.Jacobi):
        def apply(self, r, out):
            r *= self._scale
            return r

    with pytest.raises(AssertionError, match="Careless breaks: applies"):
        testing.check_preconditioner(Careless, only=["applies", "pickles"])


@pytest.mark.parametrize("dtype", "fdFD")
@pytest.mark.parametrize("kind", KINDS)
def test_example_operators_on_a_grid_are_what_they_say(kind, dtype):
    A = example_grid_operator(kind, dtype)
    dense = A.tocsr().toarray()
    assert A.dtype == dense.dtype == np.dtype(dtype)
    assert np.iscomplexobj(dense) == bool(np.any(dense.imag))
    assert np.array_equal(dense, dense.conj().T) == (kind != "general") == A.symmetric
    assert np.all(2 * abs(dense.diagonal()) > abs(dense).sum(axis=1))
    if kind != "general":
        assert (np.linalg.eigvalsh(dense)[0] < 0) == (kind == "hermitian")


def test_a_method_of_a_third_party_keeps_the_contract():
    from krylearn.interface import solve_with

    def steepest(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None):
        return solve_with(
            loop, A, b, x0, method="steepest", rtol=rtol, atol=atol, maxiter=maxiter, M=M,
            callback=callback, needs=("linear",), limit=200,
        )  # fmt: skip

    def loop(s):
        z, q = s.empty(), s.empty()
        while s.unsolved():
            rnorm = s.rnorm
            while s.running(rnorm):
                z[:] = s.precondition(s.r, z)
                down = s.matvec_dot(z, q).real
                if not down > 0:
                    s.breakdown(kl.Reason.INDEFINITE, down)
                    break
                alpha = np.vdot(z, s.r) / down
                s.x += s.x.dtype.type(alpha) * z
                s.r -= s.x.dtype.type(alpha) * q
                rnorm = float(np.linalg.norm(s.r))
                s.step(rnorm)

    testing.check_method(steepest, matrix="spd", dtypes="dD")


# -- what theory promises --------------------------------------------------------------------


def iterates(f, A, b, **options):
    """Return the iterates that the callback saw, and info."""
    seen = []
    _, info = f(A, b, callback=lambda x: seen.append(x.copy()), **options)
    return seen, info


PRECONDITIONED_SYMMETRIC = [e for e in METHODS if e.matrix in ("spd", "hermitian")
                            and not e.needs_entries]  # fmt: skip


@pytest.mark.parametrize("entry", PRECONDITIONED_SYMMETRIC, ids=names(PRECONDITIONED_SYMMETRIC))
@pytest.mark.parametrize("factor", [2.0**-40, 1e-6, 7.0, 1e6])
def test_scaling_the_preconditioner_changes_no_count(entry, factor):
    A = testing.example_matrix("spd", "d", 12)
    b = testing.example_vector(144)
    M = sp.diags_array(1 + np.arange(144.0) % 5)
    _, one = entry.load()(A, b, rtol=1e-8, M=M)
    _, other = entry.load()(A, b, rtol=1e-8, M=factor * M)
    assert one == other == 0 and one.iterations == other.iterations


@pytest.mark.parametrize("dtype", "fdFD")
@pytest.mark.parametrize("M", [None, "jacobi", "ssor", "ic0"])
def test_cg_error_falls_in_the_norm_of_A(dtype, M):
    A = testing.example_matrix("spd", dtype, 12)
    exact = testing.example_vector(144, dtype)
    b = A @ exact
    seen, info = iterates(kl.cg, A, b, rtol=1e-4 if dtype in "fF" else 1e-9, M=M)
    assert info == 0 and len(seen) > 3
    wide = A.toarray().astype("D")
    errors = [np.vdot(e, wide @ e).real ** 0.5 for e in (x.astype("D") - exact for x in seen)]
    assert np.all(np.diff(errors) <= 1e-12 * errors[0])


@pytest.mark.parametrize("name", ["cr", "minres", "gmres", "fgmres", "lsmr"])
@pytest.mark.parametrize("dtype", "fdFD")
def test_residual_never_grows(name, dtype):
    entry = registry.find("method", name)
    A = testing.example_matrix(entry.matrix, dtype, 12)
    b = testing.example_vector(144, dtype)
    options = dict(restart=5, callback_type="x") if name.endswith("gmres") else {}
    rtol = 1e-3 if dtype in "fF" else 1e-9
    seen, info = iterates(entry.load(), A, b, rtol=rtol, **options)
    assert info == 0
    slack = 1 + (1e-4 if dtype in "fF" else 1e-9)
    assert np.all(info.residuals[1:] <= slack * info.residuals[:-1])
    true = np.array([np.linalg.norm(b - A @ x) for x in seen])
    assert np.all(true[1:] <= slack * true[:-1] + 1e-6 * rtol)


@pytest.mark.parametrize("name", ["cg", "cr", "minres", "gmres"])
def test_as_many_steps_as_distinct_eigenvalues(name):
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((30, 30)))[0]
    A = (Q * np.repeat([1.0, 4.0, 9.0], 10)) @ Q.T
    _, info = getattr(kl, name)(A, rng.standard_normal(30), rtol=1e-10)
    assert info == 0 and info.iterations == 3


def test_minres_and_gmres_agree_on_a_hermitian_matrix():
    A = testing.example_matrix("hermitian", "D", 8)
    b = testing.example_vector(64, "D")
    _, short = kl.minres(A, b, rtol=1e-8)
    _, long = kl.gmres(A, b, rtol=1e-8, restart=64)
    count = min(short.iterations, long.iterations)
    assert abs(short.iterations - long.iterations) <= 1
    assert np.allclose(short.residuals[:count], long.residuals[:count], rtol=1e-3)


def test_an_exact_solution_of_a_preconditioner_serves_scipys_gmres():
    A = testing.example_matrix("general")
    calls = []
    x, info = spla.gmres(A, np.ones(49), M=kl.ILU0(A), callback=calls.append,
                         callback_type="pr_norm", rtol=1e-8)  # fmt: skip
    assert info == 0 and len(calls) < 15
