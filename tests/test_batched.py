"""Many systems at once: each has the answer, the record and the end that it would have alone."""

from __future__ import annotations

import numpy as np
import pytest

import krylearn as kl
from krylearn.grid import Grid, GridOperator
from krylearn.interface import Reason
from krylearn.kernels import simd
from krylearn.kernels.parallel import jit
from krylearn.solvers.multigrid.colours import solve_one
from krylearn.testing.honesty import using_threads


def darcy(m, shape=(33, 40), **options):
    return [kl.problems.darcy(shape, seed=i, rhs="random", **options) for i in range(m)]


def batch(problems, **options):
    return kl.solve_batch([P.A for P in problems], [P.b for P in problems], **options)


def true_residuals(problems, X):
    return [np.linalg.norm(P.b - P.A @ x) / np.linalg.norm(P.b) for P, x in zip(problems, X)]


@pytest.mark.parametrize("m", [1, 7, 8, 19])
def test_every_system_is_solved_and_says_so_truly(m):
    problems = darcy(m)
    X, infos = batch(problems)
    assert X.shape == (m, 1320) and len(infos) == m
    for P, info, residual in zip(problems, infos, true_residuals(problems, X)):
        assert info == 0 and residual <= 1e-8
        assert info.residual / np.linalg.norm(P.b) == pytest.approx(residual, rel=1e-3)
        assert len(info.residuals) == info.iterations + 1 and info.iterations <= 14
        assert info.residuals[0] == pytest.approx(np.linalg.norm(P.b))


def test_counts_are_those_of_cg_with_the_same_cycle():
    problems = darcy(3, (64, 65))
    _, infos = batch(problems)
    for P, info in zip(problems, infos):
        _, alone = kl.cg(P.A, P.b, rtol=1e-8, M=kl.GeometricMultigrid(P.A))
        assert abs(info.iterations - alone.iterations) <= 1


def test_an_answer_does_not_depend_on_company_or_threads():
    problems = darcy(10)
    with using_threads(1):
        X, _ = batch(problems)
    with using_threads(2):
        Y, _ = batch(problems)
        Z, _ = batch(problems[::-1])
    assert np.array_equal(X, Y) and np.array_equal(X, Z[::-1])


def test_coefficients_stand_for_diffusion():
    problems = darcy(4)
    c = np.stack([P.params["coefficient"] for P in problems])
    X, infos = kl.solve_batch(c, np.stack([P.b for P in problems]), grid=problems[0].grid)
    Y, _ = batch(problems)
    assert np.array_equal(X, Y) and all(info == 0 for info in infos)
    X, _ = kl.solve_batch(c, np.ones(problems[0].grid.shape), grid=problems[0].grid)
    assert np.allclose(problems[2].A @ X[2], 1, atol=1e-6)


@pytest.mark.parametrize("sides", ["dirichlet", "neumann", "periodic", ("neumann", "dirichlet")])
@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("shape", [(120,), (21, 34), (9, 12, 11)])
def test_every_grid_and_side(shape, sides, centering):
    rng = np.random.default_rng(4)
    grid = Grid(shape, boundary=[sides] * len(shape), centering=centering)
    A = [GridOperator.diffusion(grid, np.exp(rng.standard_normal(shape))) for _ in range(3)]
    b = [A[0] @ rng.standard_normal(grid.size), A[1] @ rng.standard_normal(grid.size)]
    b.append(A[2] @ rng.standard_normal(grid.size))
    X, infos = kl.solve_batch(A, b)
    assert [int(info) for info in infos] == [0, 0, 0]
    for operator, rhs, x in zip(A, b, X):
        assert np.linalg.norm(rhs - operator @ x) <= 1e-8 * np.linalg.norm(rhs)
    assert max(info.iterations for info in infos) <= 25


def test_constant_operators_and_masks_may_be_mixed():
    problems = [kl.problems.poisson((20, 20), centering="cell", seed=1), *darcy(2, (20, 20))]
    mask = np.ones((20, 20), bool)
    mask[4:9, 5:11] = False
    A = GridOperator.diffusion(problems[0].grid, mask=mask)
    operators = [*(P.A for P in problems), A]
    b = np.random.default_rng(0).standard_normal((4, 400))
    X, infos = kl.solve_batch(operators, b)
    for operator, rhs, x, info in zip(operators, b, X, infos):
        assert info == 0 and np.linalg.norm(rhs - operator @ x) <= 1e-8 * np.linalg.norm(rhs)


def test_a_bad_system_harms_no_other():
    problems = darcy(9)
    good, _ = batch(problems)
    operators, b = [P.A for P in problems], [P.b.copy() for P in problems]
    c = problems[2].params["coefficient"].copy()
    c[3, 4] = np.nan
    operators[2] = GridOperator.diffusion(problems[2].grid, c)
    operators[4] = operators[4] * -1
    b[5][7] = np.nan
    b[6][:] = 0
    b[7] *= 1e200
    X, infos = kl.solve_batch(operators, b)
    for i in (0, 1, 3, 8):
        assert infos[i] == 0 and np.array_equal(X[i], good[i])
    assert infos[2].reason is Reason.NONFINITE_OPERATOR
    assert infos[4].reason in (Reason.INDEFINITE, Reason.INDEFINITE_M)
    assert infos[5].reason is Reason.NONFINITE_RHS
    assert infos[6] == 0 and not np.any(X[6]) and infos[6].iterations == 0
    assert infos[7] == 0 or not infos[7].converged


def test_the_limit_of_iterations_and_what_cannot_be_reached():
    problems = darcy(3)
    _, infos = batch(problems, maxiter=2)
    assert all(info.reason is Reason.MAXITER and info.iterations == 2 for info in infos)
    _, infos = batch(problems, rtol=1e-30, maxiter=60)
    assert all(not info.converged for info in infos)
    _, infos = batch(problems, rtol=1e-12)
    assert all(info.converged for info in infos)
    _, infos = batch(problems, rtol=0.0, atol=1e-3)
    assert all(info.converged and info.residual <= 1e-3 for info in infos)


def test_wrong_operands_are_refused():
    problems = darcy(2)
    b = [P.b for P in problems]
    with pytest.raises(ValueError, match="one grid"):
        kl.solve_batch([problems[0].A, kl.problems.poisson((40, 33)).A], b)
    with pytest.raises(ValueError, match="real"):
        kl.solve_batch([P.A.astype(complex) for P in problems], b)
    with pytest.raises(ValueError, match="shape"):
        kl.solve_batch([P.A for P in problems], np.ones((3, 1320)))
    with pytest.raises(ValueError, match="need a grid"):
        kl.solve_batch(np.ones((2, 33, 40)), b)
    with pytest.raises(TypeError, match="operators on a grid"):
        kl.solve_batch([P.A.tocsr() for P in problems], b)
    with pytest.raises(ValueError, match="maxiter"):
        batch(problems, maxiter=-1)


# -- plane grids, one system at a time -------------------------------------------------------------


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("shape", [(40, 1), (1, 17), (5, 4), (31, 45), (64, 33), (16, 130)])
def test_plane_grids_take_as_many_iterations_as_cg_with_the_same_cycle(shape, centering):
    rng = np.random.default_rng(1)
    grid = Grid(shape, shape, [("neumann", "dirichlet"), "dirichlet"], centering)
    A = GridOperator.diffusion(grid, np.exp(rng.standard_normal(shape)), rng.random(shape) / 100)
    b = rng.standard_normal(grid.size)
    x = np.empty(grid.size)
    info = solve_one(A, b, x, 1e-8, 0.0, 50)
    _, alone = kl.cg(A, b, rtol=1e-8, M=kl.GeometricMultigrid(A))
    # What is exact in double precision takes a few steps in single precision.
    assert info == 0 and info.iterations <= max(8, alone.iterations + 1)
    residual = np.linalg.norm(b - A @ x)
    assert info.residual == pytest.approx(residual, rel=1e-3)
    assert residual <= 1e-8 * np.linalg.norm(b)


def test_what_is_rounded_off_on_large_grids_costs_few_iterations():
    P = kl.problems.darcy((512, 512), seed=50020, coefficient="rough", rhs="constant")
    X, infos = batch([P])
    _, alone = kl.cg(P.A, P.b, rtol=1e-8, M=kl.GeometricMultigrid(P.A))
    assert infos[0] == 0 and infos[0].iterations <= alone.iterations + 3  # 182, where it takes 13
    assert true_residuals([P], X)[0] <= 1e-8


def test_what_does_not_suit_is_left_to_groups():
    problems = [*darcy(2, (32, 32)), kl.problems.poisson((32, 32), centering="cell", seed=1)]
    flat = GridOperator.diffusion(problems[0].grid, [np.ones((32, 32)), np.full((32, 32), 100.0)])
    operators = [problems[0].A, flat, problems[1].A]
    b = np.random.default_rng(0).standard_normal((3, 1024))
    assert solve_one(flat, b[1], np.empty(1024), 1e-8, 0.0, 50) is None
    X, infos = kl.solve_batch(operators, b)
    for A, rhs, x, info in zip(operators, b, X, infos):
        assert info == 0 and np.linalg.norm(rhs - A @ x) <= 1e-8 * np.linalg.norm(rhs)


def test_single_precision_reaches_what_double_precision_can():
    P = darcy(1, (96, 96))[0]
    x = np.empty(P.grid.size)
    info = solve_one(P.A, P.b, x, 1e-13, 0.0, 60)
    assert info == 0 and np.linalg.norm(P.b - P.A @ x) <= 1e-13 * np.linalg.norm(P.b)
    assert solve_one(P.A, P.b, x, 1e-25, 0.0, 60) is None


def test_vector_registers():
    @jit
    def shuffled(a, out):
        low, high = simd.load(a, 0), simd.load(a, 8)
        even, odd = simd.evens(low, high), simd.odds(low, high)
        simd.store(out, 0, even)
        simd.store(out, 8, odd)
        simd.store(out, 16, simd.first(even, odd))
        simd.store(out, 24, simd.last(even, odd))
        simd.store(out, 32, simd.reciprocal(low))
        return simd.total(simd.double(high))

    a, out = np.arange(-3, 13, dtype=np.float32), np.empty(40, np.float32)
    assert shuffled(a, out) == a[8:].sum()
    assert np.array_equal(out[:16], np.r_[a[::2], a[1::2]])
    assert np.array_equal(out[16:32], a)
    inverse = np.where(a[:8] > 0, 1 / np.where(a[:8] > 0, a[:8], 1), 0)
    assert np.array_equal(out[32:], inverse.astype(np.float32))


@pytest.mark.parametrize("shape", [(120,), (24, 24)])
def test_an_answer_does_not_depend_on_how_others_are_coarsened(shape):
    grid = Grid(shape, boundary=["periodic"] * len(shape))
    rng = np.random.default_rng(2)
    c = np.exp(rng.standard_normal(shape))
    strong = [[c] * (len(shape) - 1) + [s * c] for s in (1.0, 2.0, 100.0, 1000.0)]
    A = [GridOperator.diffusion(grid, s, 0.1) for s in strong]
    b = rng.standard_normal((4, grid.size))
    X, infos = kl.solve_batch(A, b)
    assert all(info == 0 for info in infos)
    for i in range(4):
        assert np.array_equal(X[i], kl.solve_batch(A[i : i + 1], b[i])[0][0])
