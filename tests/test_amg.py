"""Algebraic multigrid: its parts, its promises, and how fast it converges."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla

import krylearn as kl
from krylearn.kernels import amg_aggregate, amg_classical, amg_product
from krylearn.operators import unsigned_indices
from krylearn.solvers.multigrid.algebraic import pseudo_inverse
from krylearn.testing.honesty import using_threads

CLASSES = (kl.SmoothedAggregation, kl.ClassicalAMG)
every_class = pytest.mark.parametrize("make", CLASSES, ids=lambda c: c.name)


def triple(A):
    A = sp.csr_array(A)
    return (*unsigned_indices(A), A.data)


def matrix(A, columns):
    rows = len(A[0]) - 1
    return sp.csr_array((A[2], A[1].astype(np.int64), A[0].astype(np.int64)), shape=(rows, columns))


def poisson(*shape):
    return sp.csr_array(kl.problems.poisson(shape).A.tocsr())


def dense(M):
    return np.column_stack([M @ e for e in np.eye(M.shape[0], dtype=M.dtype)])


def iterations(A, b, M, rtol=1e-8):
    x, info = kl.cg(A, b, M=M, rtol=rtol)
    assert info == 0, info.reason
    return info.iterations


# -- parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", "fdFD")
def test_products_and_adjoints_are_scipys(dtype):
    rng = np.random.default_rng(0)
    A, B = (sp.random_array((60, 60), density=0.1, rng=rng).tocsr().astype(dtype) for _ in "AB")
    if dtype in "FD":
        A = A + 1j * B.T
        A = sp.csr_array(A.astype(dtype))
    exact = (A @ B).toarray()
    C = amg_product.product(triple(A), triple(B), 60)
    eps = 100 * np.finfo(dtype).eps
    assert np.allclose(matrix(amg_product.compact(C), 60).toarray(), exact, atol=eps)
    parts, middle = amg_product.compact_parts(C, np.zeros(60, np.dtype(dtype).type(0).real.dtype))
    assert np.allclose(matrix(parts, 60).toarray(), exact, atol=eps)
    for i in range(60):
        columns = parts[1][parts[0][i] : parts[0][i + 1]].astype(int)
        below = int(middle[i]) - int(parts[0][i])
        assert np.all(columns[:below] < i) and np.all(columns[below:] >= i)
        assert i not in columns or columns[below] == i
    parts[2][:] = 0
    amg_product.product_again(triple(A), triple(B), 60, parts)
    assert np.allclose(matrix(parts, 60).toarray(), exact, atol=eps)
    H = amg_product.adjoint(triple(A), 60)
    assert np.array_equal(matrix(H, 60).toarray(), A.toarray().conj().T)


def test_products_do_not_depend_on_threads():
    A = triple(poisson(150, 150))
    found = []
    for threads in (1, 2, 3):
        with using_threads(threads):
            C = amg_product.product(A, A, len(A[0]) - 1)
            found.append(amg_product.compact(C) + amg_product.adjoint(A, len(A[0]) - 1))
    for other in found[1:]:
        assert all(map(np.array_equal, found[0], other))


@every_class
def test_prolongation_reproduces_constants_where_rows_sum_to_zero(make):
    A = kl.problems.poisson((20, 20), boundary="neumann", centering="cell").A.tocsr()
    M = make(A, max_coarse=10)
    smooth = np.ones(400)
    for level in M.levels[:-1]:
        P = matrix(level.P, int(level.P[1].max()) + 1)
        coarse = np.linalg.lstsq(P.toarray(), smooth, rcond=None)[0]
        assert np.allclose(P @ coarse, smooth, atol=1e-10)
        smooth = coarse


@every_class
def test_coarse_matrices_are_galerkins(make):
    M = make(poisson(25, 25), max_coarse=10)
    for fine, coarse in zip(M.levels, M.levels[1:]):
        P, R = matrix(fine.P, coarse.n), matrix(fine.R, fine.n)
        assert np.array_equal(R.toarray(), P.toarray().T)
        exact = R @ matrix(fine.A, fine.n) @ P
        assert np.allclose(matrix(coarse.A, coarse.n).toarray(), exact.toarray(), atol=1e-8)


def test_near_nullspace_is_reproduced_on_every_level():
    P = kl.problems.elasticity((12, 12))
    M = kl.SmoothedAggregation(P.A, P.nullspace, max_coarse=20, omega=0.0)
    B = P.nullspace
    for level in M.levels[:-1]:
        T = matrix(level.P, int(level.P[1].max()) + 1).toarray()
        coarse = np.linalg.lstsq(T, B, rcond=None)[0]
        assert np.allclose(T @ coarse, B, atol=1e-10)
        B = coarse


def test_aggregates_are_connected_and_complete():
    A = triple(poisson(30, 30))
    strong = amg_aggregate.strong_symmetric(A, np.full(900, 4.0 * 31**2), 0.08)
    owner = np.empty(900, np.int32)
    count = amg_aggregate.aggregate(*A, strong, owner)
    assert set(owner.tolist()) == set(range(count)) and 3 < 900 / count < 9
    C = matrix(A, 900)
    for a in range(count):
        members = np.flatnonzero(owner == a)
        assert sp.csgraph.connected_components(C[members][:, members])[0] == 1


@pytest.mark.parametrize("how", ["ruge_stueben", "pmis"])
def test_splittings_leave_no_fine_point_alone(how):
    A = triple(kl.problems.diffusion((40, 40), kind="inclusions").A.tocsr())
    strong = amg_classical.strong_classical(A, 0.25)
    S, T = amg_classical.strong_pattern(A, strong)
    state = amg_classical.split(S, T, how)
    pattern = matrix((*S, np.ones(len(S[1]))), 1600)
    assert np.array_equal(pattern.T.toarray(), matrix((*T, np.ones(len(T[1]))), 1600).toarray())
    coarse = state == amg_classical.COARSE
    assert set(state.tolist()) == {0, 1} and 0.1 < coarse.mean() < 0.6
    within_two = (pattern + pattern @ pattern) @ coarse
    assert np.all(within_two[~coarse] > 0)


def test_extended_interpolation_by_its_formula():
    rng = np.random.default_rng(3)
    A = poisson(6, 6).toarray() / 49
    A -= np.triu(rng.random((36, 36)) * (rng.random((36, 36)) < 0.1), 1)
    A = np.tril(A.T) + np.triu(A, 1)
    t = triple(A)
    strong = amg_classical.strong_classical(t, 0.25)
    S = matrix((*t[:2], strong.astype(float)), 36).toarray() > 0
    state = amg_classical.split(*amg_classical.strong_pattern(t, strong), "ruge_stueben")
    count, P = amg_classical.interpolate(t, np.diag(A).copy(), strong, state, 36, 0.0)
    P = matrix(P, count).toarray()
    coarse = np.flatnonzero(state == 1)
    for i in range(36):
        if state[i] == 1:
            assert P[i].sum() == 1 and P[i, np.searchsorted(coarse, i)] == 1
            continue
        fine = [k for k in np.flatnonzero(S[i]) if state[k] == 0]
        reach = {j for k in [i, *fine] for j in np.flatnonzero(S[k]) if state[j] == 1}
        lower = np.where(A * np.diag(A)[:, None] < 0, A, 0)
        passed = {k: sum(lower[k, l] for l in reach | {i}) for k in fine}
        own = sum(A[i, n] for n in range(36) if n not in reach and n not in fine)
        own += sum(A[i, k] * lower[k, i] / passed[k] for k in fine)
        for j in reach:
            w = -(A[i, j] + sum(A[i, k] * lower[k, j] / passed[k] for k in fine)) / own
            assert np.isclose(P[i, np.searchsorted(coarse, j)], w)


def test_truncation_keeps_the_sum():
    A = triple(poisson(30, 30))
    strong = amg_classical.strong_classical(A, 0.25)
    state = amg_classical.split(*amg_classical.strong_pattern(A, strong), "pmis")
    d = np.full(900, 4 * 31.0**2)
    full, few = (
        matrix(amg_classical.interpolate(A, d, strong, state, most, 0.0)[1], int(state.sum()))
        for most in (30, 3)
    )
    assert np.diff(few.indptr).max() == 3 < np.diff(full.indptr).max()
    assert np.allclose(few.sum(axis=1), full.sum(axis=1))


def test_pseudo_inverse_of_a_singular_matrix():
    A = np.diag([2.0, 1, 1, 2]) - np.eye(4, k=1) - np.eye(4, k=-1)
    A = np.kron(np.eye(2), np.array([[1.0, -1], [-1, 1]])) * np.array([1e6, 1e6, 1, 1])
    X = pseudo_inverse(A, True, 1e-12)
    assert np.allclose(A @ X @ A, A) and np.linalg.eigvalsh(X)[0] > -1e-12


# -- the cycle -------------------------------------------------------------------------------


@every_class
@pytest.mark.parametrize("cycle", ["V", "W", "F"])
@pytest.mark.parametrize("sweeps", [1, 2])
def test_cycle_is_symmetric_and_positive(make, cycle, sweeps):
    A = kl.problems.diffusion((13, 17), kind="inclusions").A.tocsr()
    M = make(A, cycle=cycle, sweeps=sweeps, max_coarse=5)
    assert M.symmetric == (cycle != "F")
    M = dense(M)
    error = np.abs(M - M.T).max() / np.abs(M).max()
    assert error < 1e-12 if cycle != "F" else 1e-12 < error < 1e-2
    values = np.linalg.eigvalsh((M + M.T) / 2)
    assert values[0] > 0
    # It never diverges by itself: 0 < lambda(M A) <= 1 up to rounding.
    spectrum = np.linalg.eigvals(M @ A.toarray()).real
    assert 0 < spectrum.min() and spectrum.max() < 1 + 1e-10


@every_class
def test_cycle_is_positive_for_an_indefinite_matrix(make):
    A = poisson(15, 15) - 3000 * sp.eye_array(225)
    M = make(sp.csr_array(A), max_coarse=8)
    assert M.symmetric and M.positive_definite
    values = np.linalg.eigvalsh(dense(M))
    assert values[0] > 0
    x, info = kl.minres(A, np.ones(225), M=M, rtol=1e-8)
    assert info == 0


@every_class
def test_blocks_of_gauss_seidel_keep_the_cycle_symmetric(make, monkeypatch):
    from krylearn.kernels import amg_cycle

    monkeypatch.setattr(amg_cycle, "BLOCK", 20)
    rng = np.random.default_rng(0)
    A = poisson(14, 15)
    order = rng.permutation(210)
    M = make(sp.csr_array(A[order][:, order]), max_coarse=20)
    assert len(M.levels[0].smoother.cuts) > 8
    D = dense(M)
    assert np.abs(D - D.T).max() < 1e-13 * np.abs(D).max() and np.linalg.eigvalsh(D)[0] > 0
    assert np.linalg.eigvals(D @ A[order][:, order].toarray()).real.max() < 1 + 1e-10


@every_class
def test_unsymmetric_matrices_under_gmres(make):
    P = kl.problems.convection_diffusion((40, 40))
    M = make(P.A)
    assert M.symmetric is False and M.positive_definite is None
    with pytest.raises(ValueError, match="gmres"):
        kl.cg(P.A, P.b, M=M)
    x, info = kl.gmres(P.A, P.b, M=M, rtol=1e-8)
    assert info == 0 and info.iterations < 40


@every_class
@pytest.mark.parametrize("dtype", "fdFD")
def test_every_dtype_on_several_levels(make, dtype):
    A = kl.testing.example_matrix("spd", dtype, 30)
    M = make(A, max_coarse=10)
    b = kl.testing.example_vector(900, dtype)
    assert (M @ b).dtype == dtype and len(M.levels) > 1
    x, info = kl.cg(A, b, M=M, rtol=1e-4 if dtype in "fF" else 1e-8)
    assert info == 0
    again = pickle.loads(pickle.dumps(M))
    assert np.array_equal(again @ b, M @ b)


@every_class
def test_single_precision_inside_costs_no_iteration(make):
    P = kl.problems.diffusion((60, 60), kind="inclusions", contrast=100.0)
    b = P.b * 1e-50
    counts = [iterations(P.A, b, make(P.A, precision=p)) for p in ("double", "single")]
    assert abs(counts[0] - counts[1]) <= 1
    M = make(P.A, precision="single")
    assert M.levels[0].smoother.gain.dtype == np.float32 and M.dtype == np.float64
    assert make(P.A, precision="auto").cycle_dtype == np.float64


@every_class
def test_update_is_what_a_new_one_would_be(make):
    A = kl.problems.diffusion((40, 40), kind="inclusions", seed=1).A.tocsr()
    r = np.random.default_rng(1).standard_normal(1600)
    M = make(A, max_coarse=20)
    first = M @ r
    pattern = [level.A[1] for level in M.levels[1:]]
    # Scaled by a power of two all roundings are the same.
    assert M.update(4 * A) is M
    assert np.array_equal(M @ r, make(4 * A, max_coarse=20) @ r)
    scale = sp.diags_array(1 + 0.1 * np.random.default_rng(0).random(1600))
    other = sp.csr_array(scale @ A @ scale)
    M.update(other)
    assert all(level.A[1] is p for level, p in zip(M.levels[1:], pattern))
    fresh = make(other, max_coarse=20)
    assert abs(iterations(other, r, M) - iterations(other, r, fresh)) <= 3
    assert np.array_equal(M.update(A) @ r, first)
    with pytest.raises(ValueError, match="pattern"):
        M.update(sp.eye_array(1600, format="csr"))


@every_class
def test_it_prints_as_a_table(make):
    M = make(poisson(40, 40))
    text = str(M)
    assert "operator complexity 1." in text or "operator complexity 2." in text
    assert len(text.splitlines()) == 2 + len(M.levels) and "1600" in text


# -- how fast it converges -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 64), (200, 200), (24, 24, 24)])
def test_poisson(shape):
    A, b = poisson(*shape), np.random.default_rng(0).standard_normal(np.prod(shape))
    assert iterations(A, b, kl.SmoothedAggregation(A)) <= 14
    assert iterations(A, b, kl.ClassicalAMG(A)) <= 10
    assert iterations(A, b, kl.ClassicalAMG(A, splitting="pmis")) <= 11


@pytest.mark.parametrize("case", [
    ("walls", 1e4, (150, 150), 12), ("inclusions", 1e4, (150, 150), 12),
    ("inclusions", 1e6, (150, 150), 12), ("anisotropic", 1e3, (150, 150), 12),
    ("rotated", 1e3, (150, 150), 25), ("inclusions", 1e6, (24, 24, 24), 14),
], ids=lambda c: f"{c[0]}-{c[1]:.0e}-{len(c[2])}d")  # fmt: skip
def test_hard_diffusion(case):
    kind, contrast, shape, most = case
    P = kl.problems.diffusion(shape, kind=kind, contrast=contrast)
    assert iterations(P.A, P.b, kl.ClassicalAMG(P.A)) <= most


@pytest.mark.parametrize("nodes", [(40, 40), (41, 23)])
def test_elasticity(nodes):
    P = kl.problems.elasticity(nodes)
    M = kl.SmoothedAggregation(P.A, P.nullspace)
    assert M.block_size == 2 and iterations(P.A, P.b, M) <= 25
    assert iterations(P.A, P.b, kl.SmoothedAggregation(P.A)) > 40


def test_pyamgs_elasticity_with_its_blocks():
    pyamg = pytest.importorskip("pyamg")
    A, B = pyamg.gallery.linear_elasticity((40, 40))
    M = kl.SmoothedAggregation(A, B)
    assert M.block_size == 2 and iterations(A, np.ones(A.shape[0]), M) <= 20


# -- hierarchies of pyamg --------------------------------------------------------------------

PAIRS = {
    "default": ("gauss_seidel", {"sweep": "symmetric"}),
    "forward": ("gauss_seidel", {"sweep": "forward"}),
    "backward": ("gauss_seidel", {"sweep": "backward", "iterations": 2}),
    "jacobi": ("jacobi", {"omega": 4 / 3, "iterations": 2}),
    "chebyshev": ("chebyshev", {"degree": 3}),
    "richardson": "richardson",
    "none": None,
}


@pytest.mark.parametrize("first, second", [
    ("default", "default"), ("forward", "backward"), ("forward", "forward"), ("jacobi", "jacobi"),
    ("chebyshev", "chebyshev"), ("richardson", "richardson"), ("none", "forward"),
    ("forward", "jacobi"),
])  # fmt: skip
@pytest.mark.parametrize("cycle", ["V", "W", "F"])
def test_cycle_of_pyamg_to_rounding(first, second, cycle):
    pyamg = pytest.importorskip("pyamg")
    A, b = poisson(30, 30), np.random.default_rng(0).standard_normal(900)
    ml = pyamg.smoothed_aggregation_solver(
        sp.csr_matrix(A), presmoother=PAIRS[first], postsmoother=PAIRS[second], max_coarse=5
    )
    M = kl.from_pyamg(ml, cycle=cycle)
    assert np.allclose(M @ b, ml.aspreconditioner(cycle) @ b, rtol=1e-9, atol=1e-12)
    assert M.notes == []
    alike = first == second != "forward"
    assert M.symmetric == (alike and cycle != "F")
    if M.symmetric:
        D = dense(M)
        assert np.abs(D - D.T).max() < 1e-12 * np.abs(D).max()
    again = pickle.loads(pickle.dumps(M))
    assert np.array_equal(again @ b, M @ b)
    single = kl.from_pyamg(ml, cycle=cycle, precision="single")
    assert np.allclose(single @ b, M @ b, atol=1e-5 * np.abs(M @ b).max())
    assert np.allclose(M.update(2 * A) @ b, again @ b / 2, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", ["ruge_stuben_solver", "rootnode_solver", "pairwise_solver"])
def test_every_solver_of_pyamg(make):
    pyamg = pytest.importorskip("pyamg")
    A, b = poisson(30, 30), np.random.default_rng(0).standard_normal(900)
    ml = getattr(pyamg, make)(sp.csr_matrix(A))
    M = kl.from_pyamg(ml)
    assert np.allclose(M @ b, ml.aspreconditioner() @ b, rtol=1e-9, atol=1e-12)
    assert M.positive_definite and iterations(A, b, M) <= 40
    single = kl.from_pyamg(ml, precision="single")
    assert abs(iterations(A, b, single) - iterations(A, b, M)) <= 1


def test_smoothers_we_do_not_have_are_named():
    pyamg = pytest.importorskip("pyamg")
    A, B = pyamg.gallery.linear_elasticity((20, 20))
    M = kl.from_pyamg(pyamg.smoothed_aggregation_solver(A, B=B))
    assert M.notes == ["gauss_seidel in place of block_gauss_seidel"] and M.notes[0] in str(M)
    assert iterations(A, np.ones(A.shape[0]), M) <= 12
    with pytest.raises(TypeError, match="pyamg"):
        kl.from_pyamg(A)


# -- the choice ------------------------------------------------------------------------------


def test_the_choice_suits_the_matrix():
    E = kl.problems.elasticity((10, 10))
    for A, B, chosen in (
        (poisson(30, 30), None, kl.SmoothedAggregation),
        (kl.problems.diffusion((30, 30)).A, None, kl.ClassicalAMG),
        (kl.problems.diffusion((30, 30), kind="anisotropic").A, None, kl.ClassicalAMG),
        (kl.problems.diffusion((30, 30), kind="rotated").A, None, kl.ClassicalAMG),
        (E.A, E.nullspace, kl.SmoothedAggregation),
        (sp.bsr_array(E.A, blocksize=(2, 2)), None, kl.SmoothedAggregation),
    ):
        M = kl.algebraic_multigrid(A, B, max_coarse=50)
        assert type(M) is chosen and M.choice and M.max_coarse == 50


# -- what is out of the ordinary -------------------------------------------------------------


@every_class
def test_singular_systems(make):
    P = kl.problems.poisson((70, 70), boundary="neumann", centering="cell")
    assert iterations(P.A, P.b, make(P.A)) <= 16
    # Islands cut off from the rest, one aggregate each: rounding is no diagonal.
    P = kl.problems.diffusion((512, 512), kind="walls")
    M = make(P.A.tocsr())
    assert P.A.nullspace.shape[1] > 5 and iterations(P.A, P.b, M) <= 30
    for level in M.levels:
        d = level.A[2][level.middle[level.middle < level.nnz]]
        assert np.all((d == 0) | (np.abs(d) > 1e-9 * np.abs(d).max()))


@every_class
def test_disconnected_systems_and_isolated_rows(make):
    A = sp.block_diag([poisson(20, 20), 1e6 * poisson(15, 15), sp.eye_array(50), [[3.0]]]).tocsr()
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    x, info = kl.cg(A, b, M=make(A, max_coarse=10), rtol=1e-10)
    assert info == 0 and info.iterations <= 20


@every_class
def test_zero_rows(make):
    A = poisson(20, 20).tolil()
    A[7] = A[:, 7] = 0
    A = sp.csr_array(A)
    b = np.random.default_rng(0).standard_normal(400)
    b[7] = 0
    assert iterations(A, b, make(A, max_coarse=10)) <= 14
    Z = sp.csr_array((300, 300))
    assert np.all(np.isfinite(make(Z, max_coarse=10) @ np.ones(300)))


@every_class
def test_tiny_diagonal_and_dense_matrices(make):
    assert np.allclose(make(np.array([[4.0]])) @ np.ones(1), 0.25)
    assert np.allclose(make(sp.diags_array(np.arange(1.0, 500))) @ np.ones(499),
                       1 / np.arange(1.0, 500))  # fmt: skip
    assert make(sp.csr_array((0, 0))).shape == (0, 0)
    X = np.random.default_rng(0).standard_normal((150, 150))
    A = X @ X.T + np.eye(150)
    x, info = kl.cg(A, np.ones(150), M=make(A, max_coarse=10), rtol=1e-8)
    assert info == 0


@every_class
def test_a_dense_row(make):
    A = poisson(30, 30).tolil()
    A[450, :] = A[:, 450] = -1.0
    A[450, 450] = 2000.0
    A = sp.csr_array(A)
    assert iterations(A, np.ones(900), make(A, max_coarse=20)) <= 20


@every_class
@pytest.mark.parametrize("factor", [1e-200, 1e-30, 1e30, 1e150])
def test_units_do_not_matter(make, factor):
    A = poisson(30, 30)
    b = np.random.default_rng(0).standard_normal(900)
    counts = [iterations(a, b, make(a, precision=p)) for a in (A, A * factor)
              for p in ("double", "single")]  # fmt: skip
    assert len(set(counts)) <= 2 and max(counts) - min(counts) <= 1


@every_class
def test_refusals(make):
    A = poisson(10, 10)
    bad = A.copy()
    bad.data[5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        make(bad)
    with pytest.raises(TypeError, match="entries"):
        make(spla.aslinearoperator(A))
    for wrong in (dict(cycle="X"), dict(precision="half"), dict(sweeps=0), dict(max_coarse=0.5),
                  dict(max_levels=0), dict(theta=-1)):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            make(A, **wrong)


def test_refusals_of_one():
    A = poisson(10, 10)
    for wrong, word in ((dict(B=np.ones(7)), "B has shape"), (dict(B=np.full(100, np.nan)), "NaN"),
                        (dict(B=np.full(100, 1j)), "complex"),
                        (dict(block_size=7), "block_size"), (dict(omega=3), "omega")):  # fmt: skip
        with pytest.raises(ValueError, match=word):
            kl.SmoothedAggregation(A, **wrong)
    for wrong, word in ((dict(splitting="x"), "splitting"), (dict(most=0), "most"),
                        (dict(share=1), "share")):  # fmt: skip
        with pytest.raises(ValueError, match=word):
            kl.ClassicalAMG(A, **wrong)
