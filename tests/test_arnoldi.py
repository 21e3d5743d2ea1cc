"""Steps of Arnoldi's process compiled as one, and products of small matrices with bases."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp

import krylearn as kl
from krylearn import registry, testing
from krylearn.kernels import arnoldi, parallel
from krylearn.kernels.tall import gram, recombine, row_norms, transform
from krylearn.operators import as_operator, kernel_form

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def matrix(side=24, dtype="d"):
    A = kl.problems.convection_diffusion((side, side), diffusivity=0.05).A.tocsr()
    return (A * np.exp(0.3j) if dtype == "D" else A), testing.example_vector(side * side, dtype)


def rows(count, n, dtype, seed=0):
    return np.stack([testing.example_vector(n, dtype, seed=seed + k) for k in range(count)])


@pytest.mark.parametrize("dtype", "fdFD")
@pytest.mark.parametrize(("m", "k", "j", "n"), [(7, 3, 5, 700), (20, 20, 20, 3000), (1, 0, 3, 40)])
def test_products_with_bases(dtype, m, k, j, n):
    U, Z, P = rows(k, n, dtype) if k else np.zeros((0, n), dtype), rows(j, n, dtype, 50), None
    P, Y = rows(m, k + j, dtype, 90), rows(min(m, j), j, dtype, 70)
    eps = 50 * np.finfo(dtype).eps
    size = np.sqrt(n) * np.abs(P).max()
    assert np.abs(transform(P[:, k:], Z) - P[:, k:] @ Z).max() < eps * size
    assert np.abs(gram(Z, U) - Z.conj() @ U.T).max(initial=0) < eps * n
    assert np.allclose(row_norms(Z), np.linalg.norm(Z, axis=1), rtol=eps)
    W = Z.copy()
    new = recombine(P, U, W, Y, W)  # Z is W, which changes on the way
    assert np.abs(new - P @ np.concatenate([U, Z])).max() < eps * size
    assert np.abs(W[: len(Y)] - Y @ Z).max() < eps * size
    assert np.array_equal(W[len(Y) :], Z[len(Y) :])


def test_norms_of_rows_neither_over_nor_underflow():
    X = np.array([[3e-200, 4e-200], [3e200, 4e200], [0, 0]])
    assert np.allclose(row_norms(X) / [5e-200, 5e200, 1], [1, 1, 0])


@pytest.mark.parametrize("dtype", "dD")
@pytest.mark.parametrize("M", [None, "jacobi", "ilu0", "sor", "ssor", "block_jacobi"])
def test_compiled_steps_are_those_of_the_loop(monkeypatch, dtype, M):
    A, b = matrix(dtype=dtype)
    made = registry.preconditioner(M, A) if M else None
    options = dict(rtol=1e-9, restart=20, k=8, M=made)

    def both():
        space = kl.RecycleSpace()
        return [kl.gcrodr(A, rhs, recycle=space, **options)[1] for rhs in (b, b[::-1].copy())]

    compiled = both()
    monkeypatch.setattr(arnoldi.Steps, "suit", lambda dtype, n: False)
    for ours, theirs in zip(compiled, both()):
        assert ours == theirs == 0
        few = min(40, len(theirs.residuals))
        assert np.allclose(ours.residuals[:few], theirs.residuals[:few], rtol=1e-3)
        assert abs(ours.iterations - theirs.iterations) <= 2
        extra = ours.matvecs - ours.iterations, theirs.matvecs - theirs.iterations
        assert abs(extra[0] - extra[1]) <= 1
        assert ours.precond_applies == (ours.iterations if M else 0)


def test_limits_and_callbacks_hold_within_compiled_steps():
    A, b = matrix()
    for most in (0, 1, 13, 40, 55):
        _, info = kl.gcrodr(A, b, rtol=1e-14, maxiter=most)
        assert info.iterations == most and len(info.residuals) == most + 1
    norms = []
    _, info = kl.gcrodr(A, b, rtol=1e-6, callback=norms.append, callback_type="pr_norm")
    assert len(norms) == info.iterations and norms[0] > norms[-1]

    def stop(rnorm):
        norms.append(rnorm)
        if len(norms) == 7:
            raise StopIteration

    norms.clear()
    _, info = kl.gcrodr(A, b, rtol=1e-6, callback=stop, callback_type="pr_norm")
    assert info.iterations == 7 and info.reason is kl.Reason.STOPPED


@pytest.mark.parametrize("M", [None, "jacobi", "ilu0", "multicolour"])
def test_results_do_not_depend_on_the_number_of_threads(M):
    A, b = matrix(side=72)
    held = kl.ILU0(A, order="multicolour") if M == "multicolour" else M
    before, answers = parallel.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            kl.set_num_threads(threads)
            space = kl.RecycleSpace()
            kl.gcrodr(A, b[::-1].copy(), rtol=1e-4, M=held, recycle=space, maxiter=100)
            answers.append(kl.gcrodr(A, b, rtol=1e-4, M=held, recycle=space, maxiter=100)[0])
    finally:
        kl.set_num_threads(before)
    assert A.shape[0] >= arnoldi.SHARED
    assert np.array_equal(answers[0], answers[1]) and np.array_equal(answers[0], answers[2])


def decomposition(A, b, m):
    """Return what is left of ``W W^H - I`` and ``A V - W G`` after m steps."""
    A = sp.csr_array(A)
    n, dtype = A.shape[0], A.dtype
    W, G, H = np.zeros((m + 1, n), dtype), *np.zeros((2, m, m + 1), dtype)
    g = np.zeros(m + 1, dtype)
    W[0], g[0] = b / np.linalg.norm(b), np.linalg.norm(b)
    arrays = as_operator(A, dtype).arrays
    steps = arnoldi.Steps(arrays, None, W, None, G, H, np.zeros(m), np.zeros(m, dtype), g)
    steps.begin(1)
    done = len(steps(0, m, 0, 0.0))
    W = W[: done + 1]
    defect = np.abs(A @ W[:done].T - (G[:done, : done + 1] @ W).T).max() / np.abs(G).max()
    return done, np.abs(W.conj() @ W.T - np.eye(done + 1)).max(), defect


def hard_matrices():
    rng = np.random.default_rng(0)
    n = 300
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    clustered = 1 + 1e-7 * rng.standard_normal(n)
    clustered[:5] = 1e3 * np.arange(1, 6)
    yield "clustered", Q @ np.diag(clustered) @ Q.T
    yield "graded", Q @ np.diag(np.geomspace(1, 1e12, n)) @ Q.T
    yield "nearly the identity", np.eye(n) + 1e-9 * rng.standard_normal((n, n))
    yield "far from normal", np.triu(rng.standard_normal((n, n)), 1) * 10 + np.eye(n)
    yield "tiny", 1e-120 * Q @ np.diag(np.linspace(1, 2, n)) @ Q.T
    yield "complex", Q @ np.diag(np.exp(1j * np.linspace(0, 6, n))) @ Q.T


HARD = dict(hard_matrices())


@pytest.mark.parametrize("name", HARD)
def test_bases_are_orthogonal_in_hard_cases(name):
    A = HARD[name]
    done, angle, defect = decomposition(A, testing.example_vector(300, A.dtype), 40)
    assert done >= 5 and angle < 1e-12 and defect < 1e-13


def test_steps_that_are_not_safe_are_left_to_the_loop():
    n = 60
    b = np.zeros(n)
    b[:3] = 1.0
    A = sp.diags_array(np.r_[1.0, 2.0, 3.0, np.ones(n - 3)]).tocsr()
    x, info = kl.gcrodr(A, b, rtol=1e-12)  # the space is invariant after three steps
    assert info == 0 and info.iterations <= 3 and np.allclose(A @ x, b)
    shift = sp.diags_array(np.ones(n - 1), offsets=-1, shape=(n, n)).tocsr()
    _, info = kl.gcrodr(shift, b, rtol=1e-12)
    assert info != 0
    A = A.copy()
    A.data[5] = np.nan
    _, info = kl.gcrodr(A, np.ones(n))
    assert info < 0 and info.reason is kl.Reason.NONFINITE_OPERATOR
    x, info = kl.gcrodr(1e-170 * sp.csr_array(matrix()[0]), 1e-170 * matrix()[1], rtol=1e-8)
    assert info == 0


def test_a_preconditioner_with_an_apply_of_its_own_is_called():
    A, b = matrix()
    calls = []

    class Watched(kl.Jacobi):
        def apply(self, r, out):
            calls.append(len(r))
            return super().apply(r, out)

    assert kernel_form(as_operator(kl.Jacobi(A), A.dtype)) is not None
    assert kernel_form(as_operator(Watched(A), A.dtype)) is None
    _, info = kl.gcrodr(A, b, M=Watched(A))
    assert len(calls) == info.precond_applies > 0
    twice = kl.SSOR(A, sweeps=2)
    assert kernel_form(as_operator(twice, A.dtype)) is None
    changed = kl.Jacobi(A)
    changed.apply = lambda r, out: np.multiply(r, 0.5, out=out)
    assert kernel_form(as_operator(changed, A.dtype)) is None


def test_work_arrays_are_carried_but_never_shared():
    A, b = matrix()
    space = kl.RecycleSpace()
    kl.gcrodr(A, b, rtol=1e-8, recycle=space)
    kept, copy = space.vectors, space.vectors.copy()
    held = space._work["W"]
    kl.gcrodr(A, b[::-1].copy(), rtol=1e-8, recycle=space)
    assert space._work["W"] is held and np.array_equal(kept, copy)
    assert not any(np.shares_memory(space.vectors, array) for array in space._work.values())

    # A solve within a solve, with the same space, works on arrays of its own.
    def inner(x):
        kl.gcrodr(A, b, rtol=1e-6, recycle=space, maxiter=30)

    x, info = kl.gcrodr(A, b, rtol=1e-8, recycle=space, callback=inner)
    assert info == 0 and np.linalg.norm(b - A @ x) <= 1e-8 * np.linalg.norm(b)
    assert pickle.loads(pickle.dumps(space))._work == {}
    space.clear()
    assert not space._work and space.vectors is None


@pytest.mark.parametrize("M", [None, "jacobi"])
def test_grid_operators_take_compiled_steps(monkeypatch, M):
    P = kl.problems.convection_diffusion((24, 24), diffusivity=0.05)
    made = registry.preconditioner(M, P.A.tocsr()) if M else None
    lengths = []
    call = arnoldi.Steps.__call__

    def counted(self, *args):
        norms = call(self, *args)
        lengths.append(len(norms))
        return norms

    monkeypatch.setattr(arnoldi.Steps, "__call__", counted)
    records = [kl.gcrodr(A, P.b, rtol=1e-9, M=made)[1] for A in (P.A, P.A.tocsr())]
    assert sum(lengths) == sum(info.iterations for info in records)
    assert records[0] == records[1] == 0 and records[0].iterations == records[1].iterations


def test_what_a_cycle_tells_of_the_next_is_true():
    from krylearn.solvers.krylov import gcrodr

    A, b = matrix()
    bases = []

    class Watched(gcrodr._Basis):
        def refresh(self, images=True):
            super().refresh(images)
            if images:
                C = self.W[: self.kept]
                bases.append(np.abs(self.known - C.conj() @ self.U.T).max() / np.abs(self.U).max())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gcrodr, "_Basis", Watched)
        assert kl.gcrodr(A, b, rtol=1e-9, restart=20, k=8)[1] == 0
    assert len(bases) > 3 and max(bases) < 1e-9


@pytest.mark.parametrize("blocks", [1, 2, 5, 8])
@pytest.mark.parametrize("phase", [0, 1])
def test_threads_take_each_block_once_whatever_their_turns(blocks, phase):
    for backs in range(blocks + 1 if blocks > 1 else 1):
        counters = np.zeros(16, np.int64)
        threads = [1] * backs + [0] * (blocks - backs)
        taken = [arnoldi._claim(counters, phase, blocks, thread) for thread in threads]
        assert sorted(taken) == list(range(blocks))
        assert arnoldi._claim(counters, phase, blocks, 0) == -1
