"""Geometric multigrid: it is what the book says, on grids of every kind."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

import krylearn as kl
from krylearn.grid import Grid, GridOperator
from krylearn.kernels import parallel
from krylearn.solvers.multigrid import cycle as cycles
from krylearn.solvers.multigrid import geometric
from krylearn.solvers.multigrid.axis import Axis, coarsen
from krylearn.solvers.multigrid.levels import pointwise

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
SIDES = ["dirichlet", "neumann", "periodic", ("dirichlet", "neumann")]


def dense(M):
    return np.column_stack([M @ e for e in np.eye(M.shape[0], dtype=M.dtype)])


def require_spd(M):
    P = dense(M)
    largest = np.abs(P).max()
    assert np.abs(P - P.conj().T).max() < 1e-13 * largest
    assert np.linalg.eigvalsh((P + P.conj().T) / 2)[0] > 1e-14 * largest


def iterations(P, rtol=1e-8, **options):
    x, info = kl.cg(P.A, P.b, rtol=rtol, M=kl.GeometricMultigrid(P.A, **options))
    assert info == 0
    assert np.linalg.norm(P.b - P.A @ x) <= rtol * np.linalg.norm(P.b)
    return info.iterations


# -- axes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [False, True])
@pytest.mark.parametrize("ends", ["dirichlet", "neumann", "periodic", "mixed"])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 13, 16, 31])
def test_an_axis_passes_linear_values_and_conserves_volume(n, ends, cells):
    zeros = {"dirichlet": (-1.0, float(n)), "mixed": (-1.0, None)}.get(ends, (None, None))
    axis = Axis(np.arange(float(n)), np.ones(n), zeros, n if ends == "periodic" else 0.0, cells)
    while axis.coarsens:
        coarse, transfer = coarsen(axis)
        P = transfer.matrix()
        assert coarse.n < axis.n
        inner = (axis.position >= coarse.position[0]) & (axis.position <= coarse.position[-1])
        assert np.allclose((P @ coarse.position)[inner], axis.position[inner])
        if ends != "dirichlet" and ends != "mixed":
            assert np.allclose(P.sum(axis=1), 1)
        elif zeros[0] is not None:
            # Linear down to the side, where the solution vanishes.
            below = axis.position < coarse.position[0]
            line = coarse.position - zeros[0]
            assert np.allclose((P @ line)[below], (axis.position - zeros[0])[below])
        back = sp.csr_array(
            (transfer.back.ravel(), (np.repeat(np.arange(coarse.n), 6), transfer.children.ravel())),
            shape=P.T.shape,
        )
        assert np.allclose(back.toarray(), P.T.toarray())
        if cells or ends in ("neumann", "periodic"):
            assert coarse.width.sum() == pytest.approx(axis.width.sum())
        gaps = np.diff(coarse.position)
        assert len(gaps) == 0 or gaps.max() <= 3 * gaps.min()
        # A link that is uniform is as long as its parts.
        fine = np.append(np.diff(axis.position), axis.period - np.ptp(axis.position))
        length = transfer.along @ fine
        assert np.allclose(length[: len(gaps)], gaps)
        axis = coarse


# -- jumping coefficients ------------------------------------------------------------------------


def matrix_of(level):
    """Return the matrix of a level given by links."""
    n = int(np.prod(level.shape))
    A = np.diag(level.full_diagonal().ravel())
    place = np.arange(n).reshape(level.shape)
    for d, k in enumerate(level.links):
        a, b, k = place.ravel(), np.roll(place, -1, d).ravel(), k.ravel()
        np.add.at(A, (a, b), -k)
        np.add.at(A, (b, a), -k)
    return A


@pytest.mark.parametrize("shape", [(32, 16), (8, 16, 8)])
def test_joined_cells_count_the_links_between_them(shape):
    """Half of what Galerkin says of them, which is what twice the spacing makes of it."""
    c = np.exp(3 * np.random.default_rng(0).standard_normal(shape))
    grid = Grid(shape, centering="cell", boundary=["neumann", "dirichlet", "neumann"][: len(shape)])
    level = pointwise(grid, GridOperator.diffusion(grid, c)._points(), None, jumps=True)
    for _ in range(3):
        axes, transfers = zip(*(coarsen(axis) for axis in level.axes))
        P = np.ones((1, 1))
        for transfer in transfers:
            P = np.kron(P, transfer.matrix().toarray())
        assert np.all(P.sum(axis=1) == 1) and np.all((P == 0) | (P == 1))
        fine, level = matrix_of(level), level.coarsen(list(axes), list(transfers))
        assert np.allclose(matrix_of(level), P.T @ fine @ P / 2, rtol=1e-12)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("shape", [(90,), (9, 11), (5, 4, 6), (7, 3, 5)])
def test_joined_cells_make_a_definite_cycle(shape, sides):
    for centering in ("node", "cell"):
        grid = Grid(shape, boundary=[sides] * len(shape), centering=centering)
        c = 10.0 ** np.random.default_rng(1).integers(-2, 3, shape)
        for A in (GridOperator.diffusion(grid), GridOperator.diffusion(grid, c)):
            require_spd(kl.GeometricMultigrid(A, transfer="constant"))
            if len(shape) == 3:
                require_spd(kl.GeometricMultigrid(A, "AMLI", pre=2, post=2, transfer="constant"))


def test_visits_are_richardson_steps():
    low, high = 0.3, 1.5
    x = np.linspace(low, high, 9)
    t, top = (low + high - 2 * x) / (high - low), (low + high) / (high - low)
    for count in (2, 3):
        T = np.polynomial.Chebyshev.basis(count)
        left = np.prod([1 - w * x for w in cycles.chebyshev_weights(low, high, count)], axis=0)
        assert np.allclose(left, T(t) / T(top))
    assert len(cycles.visits("AMLI", 1, 5)) % 2 == 1 and len(cycles.visits("AMLI", 4, 5)) == 1


@pytest.mark.parametrize("size", [2, 4, 8])
def test_blocks_that_joining_corrects_twice_too_much(size):
    """With two visits the cycle was indefinite on blocks that coarse cells make up exactly."""
    rng, n = np.random.default_rng(0), 32
    grid = Grid((n, n, n), centering="cell", boundary="dirichlet")
    random = 10.0 ** rng.integers(-3, 4, (n // size,) * 3)
    checkers = 1e6 ** (np.indices((n // size,) * 3).sum(0) % 2)
    for c in (random, checkers):
        A = GridOperator.diffusion(grid, np.kron(c, np.ones((size,) * 3)))
        _, info = kl.cg(A, rng.standard_normal(n**3), rtol=1e-8, M=kl.multigrid(A))
        assert info == 0 and info.iterations <= 25  # V(1, 1) took up to 78


@pytest.mark.parametrize("kind", ["inclusions", "walls"])
@pytest.mark.parametrize(("cycle", "sweeps"), [("V", 2), ("V", 3), ("AMLI", 1), ("AMLI", 2)])
def test_several_sweeps_in_one_pass_are_those_step_by_step(kind, cycle, sweeps, monkeypatch):
    for shape in ((21, 24, 37), (70, 31)):
        A = kl.problems.diffusion(shape, kind=kind, seed=1).A
        for transfer in ("constant", "linear"):
            same = []
            for deepest in (4, 0):
                monkeypatch.setattr(geometric, "DEEPEST", deepest)
                M = kl.GeometricMultigrid(
                    A, cycle, pre=sweeps, post=sweeps, transfer=transfer, precision="double"
                )
                r = A @ np.random.default_rng(0).standard_normal(A.shape[0])
                same.append(M @ r)
                assert M._fused == (deepest > 0)
            assert np.allclose(*same, rtol=0, atol=1e-11 * abs(same[1]).max())


def test_several_sweeps_do_not_depend_on_threads():
    A = kl.problems.diffusion((70, 40, 41), contrast=1e4, seed=1).A
    r, same = np.random.default_rng(0).standard_normal(A.shape[0]), []
    before = parallel.get_num_threads()
    try:
        for count in (1, 3):
            parallel.set_num_threads(count)
            same.append(kl.multigrid(A) @ r)
    finally:
        parallel.set_num_threads(before)
    assert np.array_equal(*same)


def test_in_space_hard_cases_run_on_joined_cells():
    P = kl.problems.diffusion((24, 24, 24), contrast=1e6, seed=1)
    M = kl.multigrid(P.A)
    assert (M.cycle, M.pre, M.transfer) == ("AMLI", 2, "constant")
    # In single precision alone weak links vanish beside the others.
    assert "float32 and float64 inside float64" in repr(M)
    mild = kl.problems.diffusion((24, 24, 24), seed=1).A
    assert kl.multigrid(mild).working == np.dtype("f")
    assert kl.multigrid(P.A, precision="single").working == np.dtype("f")
    M = kl.multigrid(P.A, cycle="V")
    assert (M.cycle, M.pre, M.transfer, M.working) == ("V", 1, "constant", np.dtype("f"))
    assert kl.multigrid(P.A, smoother="chebyshev").cycle == "V"


@pytest.mark.parametrize("kind", ["inclusions", "walls"])
def test_coarse_levels_in_double_precision_are_as_good_as_all(kind):
    P = kl.problems.diffusion((48, 40, 31), kind=kind, contrast=1e6, seed=3)
    counts = {}
    for precision in ("mixed", "double"):
        M = kl.multigrid(P.A, precision=precision)
        _, info = kl.cg(P.A, P.b, rtol=1e-8, M=M)
        counts[precision] = info.iterations
        assert info == 0 and np.array_equal(pickle.loads(pickle.dumps(M)) @ P.b, M @ P.b)
        assert (M._hierarchy.first is None) == (precision == "double")
        # Coefficients in the order of points are had again, in the precision of coarse levels.
        assert M._hierarchy.coef.dtype == np.float64
    assert abs(counts["mixed"] - counts["double"]) <= 1
    # One level, or a side that closes on itself: nothing is fused, and all is double.
    ring = Grid((20, 20, 20), boundary="periodic", centering="cell")
    A = GridOperator.diffusion(ring, np.exp(np.random.default_rng(0).standard_normal(ring.shape)))
    M = kl.GeometricMultigrid(A, "AMLI", pre=2, post=2, transfer="constant", precision="mixed")
    assert M._hierarchy.first is None and M.working == np.float64


def test_joined_cells_stand_jumps():
    for shape, most in (((64, 64), 45), ((24, 24, 24), 40), ((23, 31, 18), 40)):
        P = kl.problems.diffusion(shape, contrast=1e4, seed=1)
        assert iterations(P, transfer="constant") <= most
        _, info = kl.cg(P.A, P.b, rtol=1e-8, M=kl.GeometricMultigrid(P.A), maxiter=most)
        assert info > 0  # linear values across jumps
    for shape in ((64, 64), (32, 32, 32)):
        P = kl.problems.diffusion(shape, contrast=1.0, seed=1)
        assert iterations(P, transfer="constant") <= 15
    with pytest.raises(ValueError, match="transfer"):
        kl.GeometricMultigrid(P.A, transfer="quadratic")


# -- symmetric and positive definite by construction ---------------------------------------------


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("shape", [(90,), (9, 11), (12, 8), (5, 4, 6), (7, 3, 5)])
def test_v_cycle_is_symmetric_positive_definite(shape, sides, centering):
    grid = Grid(shape, boundary=[sides] * len(shape), centering=centering)
    require_spd(kl.GeometricMultigrid(GridOperator.diffusion(grid)))


@pytest.mark.parametrize("options", [
    {"cycle": "W"}, {"cycle": "AMLI"}, {"pre": 2, "post": 2}, {"smoother": "jacobi"},
    {"smoother": "chebyshev", "pre": 3, "post": 3}, {"smoother": "line"}, {},
])  # fmt: skip
@pytest.mark.parametrize("kind", ["variable", "mask", "periodic", "hermitian"])
def test_other_cycles_are_symmetric_positive_definite(kind, options):
    if kind == "periodic" and options.get("smoother") == "line":
        return
    rng = np.random.default_rng(0)
    grid = Grid((9, 11), centering="cell", boundary="periodic" if kind == "periodic" else "neumann")
    a = np.exp(rng.standard_normal(grid.shape))
    mask = rng.random(grid.shape) < 0.7 if kind == "mask" else None
    A = GridOperator.diffusion(grid, a, reaction=0.1, mask=mask)
    if kind == "hermitian":
        A = A + GridOperator(grid, 0.0, [0.2j, 0.3j])
    require_spd(kl.GeometricMultigrid(A, **options))


def test_traits_and_what_cg_refuses():
    A = kl.problems.poisson((12, 12)).A
    assert kl.GeometricMultigrid(A, cycle="W").symmetric
    for options in ({"cycle": "F"}, {"cycle": "FMG"}, {"pre": 2}):
        M = kl.GeometricMultigrid(A, **options)
        assert not M.symmetric
        with pytest.raises(ValueError, match="symmetric"):
            kl.cg(A, np.ones(144), M=M)
        x, info = kl.fgmres(A, np.ones(144), rtol=1e-8, M=M)
        assert info == 0 and info.iterations < 10


# -- how fast ------------------------------------------------------------------------------------


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("shape", [(64, 64), (61, 97), (128, 50), (23, 32, 29)])
def test_few_iterations_on_any_size_and_sides(shape, sides, centering):
    P = kl.problems.poisson(shape, boundary=[sides] * len(shape), centering=centering, seed=1)
    assert iterations(P) <= 15


def test_iterations_do_not_depend_on_the_size():
    counts = [iterations(kl.problems.poisson((n,) * 3)) for n in (16, 32, 64)]
    assert max(counts) <= 10 and np.ptp(counts) <= 1


def test_single_precision_inside_double_changes_no_count():
    P = kl.problems.poisson((65, 80), seed=2)
    for rtol in (1e-8, 1e-11):
        counts = [iterations(P, rtol, precision=p) for p in ("single", "double")]
        assert abs(counts[0] - counts[1]) <= 1
    assert kl.GeometricMultigrid(P.A).working == np.float32


@pytest.mark.parametrize("options", [
    {"cycle": "W"}, {"pre": 2, "post": 2}, {"smoother": "chebyshev", "pre": 2, "post": 2},
    {"smoother": "jacobi"}, {"smoother": "line"},
])  # fmt: skip
def test_every_cycle_and_smoother_converges(options):
    assert iterations(kl.problems.poisson((20, 21, 22)), **options) <= 13


def test_full_multigrid_solves_to_discretisation_error_in_one_cycle():
    P = kl.problems.poisson((127, 127), rhs="manufactured")
    x = kl.GeometricMultigrid(P.A, cycle="FMG", pre=2, post=2, precision="double") @ P.b
    solved, _ = kl.cg(P.A, P.b, rtol=1e-10, M=kl.GeometricMultigrid(P.A))
    error = np.linalg.norm(solved - P.exact)
    assert np.linalg.norm(x - P.exact) < 3 * error


@pytest.mark.parametrize("shape", [(64, 64), (128, 96), (24, 24, 24)])
def test_aligned_anisotropy_takes_semicoarsening(shape):
    P = kl.problems.diffusion(shape, kind="anisotropic", contrast=1e3, seed=1)
    M = kl.GeometricMultigrid(P.A)
    assert M._hierarchy.shapes[1][:-1] == shape[:-1]
    assert iterations(P) <= 12


def test_darcy_and_smoke():
    for coefficient, most in (("piecewise", 13), ("lognormal", 12), ("trigonometric", 17)):
        assert iterations(kl.problems.darcy((65, 64), seed=1, coefficient=coefficient)) <= most
    for open_top in (False, True):
        for P in kl.problems.smoke((20, 20, 24), steps=2, seed=1, open_top=open_top):
            assert iterations(P, 1e-6) <= 12


@pytest.mark.parametrize("shape", [(9, 12, 17), (21, 40)])
def test_coefficients_come_back_in_the_order_of_points(shape):
    A = kl.problems.darcy(shape, seed=1).A
    plain, fused = (kl.GeometricMultigrid(A, pre=n, post=n)._hierarchy for n in (2, 1))
    assert fused.laid_out(True)[1].shape != plain.coef.shape
    assert np.array_equal(fused.coef, plain.coef)


def test_solid_cells_are_left_alone():
    grid = Grid((20, 21), centering="cell", boundary="neumann")
    mask = np.ones(grid.shape, bool)
    mask[5:9, 4:13] = mask[15] = False
    A = GridOperator.diffusion(grid, mask=mask)
    M = kl.GeometricMultigrid(A)
    solid = np.where(mask, 0.0, 1.0).ravel()
    assert np.allclose(M @ solid, solid)
    assert np.all((M @ (1 - solid))[~mask.ravel()] == 0)


def test_a_side_that_ties_nothing_is_no_division_by_zero():
    grid = Grid((12, 13), centering="cell")
    A = GridOperator.diffusion(grid, 1 + np.random.default_rng(0).random(grid.shape))
    stack = A.stencil()
    # Weak rows: nothing is left of the diagonal beyond the couplings at the low side.
    diagonal = stack[0].copy()
    diagonal[0] = sum(u[0] for u in stack[1] + [s for s in stack[2]]) * -1
    B = GridOperator(grid, diagonal, stack[1])
    for dtype in "fd":
        x, info = kl.cg(B.astype(dtype), np.ones(156, dtype), rtol=1e-4,
                        M=kl.GeometricMultigrid(B.astype(dtype)))  # fmt: skip
        assert info == 0


def test_lines_stand_couplings_that_are_strong_along_changing_axes():
    rng = np.random.default_rng(3)
    for shape, most in (((64, 61), 12), ((20, 24, 22), 16)):
        axis_of = rng.integers(0, len(shape), [-(-n // 16) for n in shape])
        for axis, n in enumerate(shape):
            axis_of = np.repeat(axis_of, 16, axis).take(range(n), axis)
        fields = [np.where(axis_of == axis, 1e3, 1.0) for axis in range(len(shape))]
        grid = Grid(shape, centering="cell")
        A, b = GridOperator.diffusion(grid, fields), rng.standard_normal(grid.size)
        counts = []
        for smoother in ("line", "red_black"):
            M = kl.GeometricMultigrid(A, smoother=smoother)
            _, info = kl.cg(A, b, rtol=1e-8, M=M)
            assert info == 0
            counts.append(info.iterations)
        assert counts[0] <= most and counts[0] < counts[1]


def test_lines_along_one_axis_are_solved_exactly():
    n = 30
    A = GridOperator.diffusion(Grid((n, 2), boundary=["dirichlet", "neumann"], centering="cell"),
                               [np.ones((n, 2)), np.zeros((n, 2))])  # fmt: skip
    M = kl.GeometricMultigrid(A, smoother="line", precision="double")
    b = np.random.default_rng(0).standard_normal(2 * n)
    assert np.allclose(A @ (M @ b), b)


def test_lines_do_not_close_on_themselves():
    P = kl.problems.poisson((12, 12), boundary=["periodic", "dirichlet"])
    with pytest.raises(ValueError, match="lines"):
        kl.GeometricMultigrid(P.A, smoother="line")


# -- as a preconditioner ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"smoother": "jacobi"}])
def test_the_inner_product_comes_with_the_cycle(options):
    for A in (kl.problems.poisson((40, 41)).A, kl.problems.darcy((17, 30, 21)).A):
        M = kl.GeometricMultigrid(A, **options)
        r = np.random.default_rng(0).standard_normal(A.shape[0])
        z = np.empty_like(r)
        rz = M.apply_dot(r, z)
        assert np.array_equal(z, M @ r) and np.isclose(rz, r @ z, rtol=1e-12)
        assert M.apply_dot(np.zeros_like(r), z) == 0 and not z.any()


def test_assembled_matrices_of_a_grid_do_as_well():
    P = kl.problems.poisson((40, 33))
    matrix = P.A.tocsr()
    x, info = kl.cg(matrix, P.b, rtol=1e-8, M=kl.GeometricMultigrid(matrix))
    assert info == 0 and info.iterations == iterations(P)
    with pytest.raises(ValueError, match="nearest-neighbour"):
        kl.GeometricMultigrid(sp.csr_array(matrix @ matrix))


@pytest.mark.parametrize("constant", [True, False])
def test_pickle_update_and_print(constant):
    grid = Grid((30, 31), centering="cell")
    a = 2.0 if constant else 1 + np.random.default_rng(0).random(grid.shape)
    M = kl.GeometricMultigrid(GridOperator.diffusion(grid, a))
    r = np.arange(930.0)
    again = pickle.loads(pickle.dumps(M))
    assert np.array_equal(again @ r, M @ r)
    other = GridOperator.diffusion(grid, 3.0 if constant else a[::-1])
    assert np.array_equal(again.update(other) @ r, kl.GeometricMultigrid(other) @ r)
    assert "30x31" in repr(M) and "15x16" in repr(M)
    with pytest.raises(ValueError, match="grid of shape"):
        M.update(GridOperator.diffusion(Grid((31, 30))))


@pytest.mark.parametrize("options, message", [
    ({"cycle": "U"}, "cycle"), ({"smoother": "sor"}, "smoother"), ({"pre": -1}, "pre"),
    ({"pre": 0, "post": 0}, "positive"), ({"precision": "half"}, "precision"),
    ({"cycle": "AMLI", "smoother": "jacobi"}, "AMLI"),
])  # fmt: skip
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kl.GeometricMultigrid(kl.problems.poisson((8, 8)).A, **options)


def test_operators_that_are_not_hermitian_or_definite_are_refused():
    grid = Grid((8, 9))
    A = GridOperator.diffusion(grid)
    with pytest.raises(ValueError, match="Hermitian"):
        kl.GeometricMultigrid(A + GridOperator.convection(grid, (1.0, 2.0)))
    with pytest.raises(ValueError, match="positive diagonal"):
        kl.GeometricMultigrid(-1 * A)


def test_tiny_and_thin_grids():
    for shape, sides, cells in itertools.product(
        [(1,), (2,), (3,), (1, 9), (9, 1), (2, 2, 70), (70, 1, 2)], SIDES, ("node", "cell")
    ):
        if 1 in shape and sides == "neumann" and cells == "node":
            continue
        P = kl.problems.poisson(shape, boundary=[sides] * len(shape), centering=cells, seed=3)
        if not np.any(P.b):
            continue
        _, info = kl.cg(P.A, P.b, rtol=1e-9, M=kl.GeometricMultigrid(P.A))
        assert info == 0 or np.linalg.norm(P.b) < 1e-12, (shape, sides, cells)


# -- the choice ------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem, kind, why", [
    (lambda: kl.problems.poisson((20, 20)), kl.GeometricMultigrid, "grid"),
    (lambda: kl.problems.darcy((40, 40)), kl.GeometricMultigrid, "grid"),
    (lambda: kl.problems.darcy((40, 40), coefficient="lognormal"), kl.GeometricMultigrid, "grid"),
    (lambda: next(kl.problems.smoke((20, 20, 24), seed=1)), kl.GeometricMultigrid, "grid"),
    (lambda: kl.problems.diffusion((40, 40), kind="anisotropic"), kl.GeometricMultigrid, "grid"),
    (lambda: kl.problems.diffusion((40, 40), kind="inclusions"), kl.ClassicalAMG, "jump"),
    (lambda: kl.problems.diffusion((20, 20, 24)), kl.GeometricMultigrid, "jump"),
    (lambda: kl.problems.diffusion((40, 40), kind="walls"), kl.ClassicalAMG, "walls"),
    (lambda: kl.problems.diffusion((16, 16, 16), kind="walls"), kl.GeometricMultigrid, "walls"),
    (lambda: kl.problems.diffusion((40, 40), kind="rotated"), kl.ClassicalAMG, "matrix"),
    (lambda: kl.problems.convection_diffusion((20, 20)), kl.ClassicalAMG, "Hermitian"),
])  # fmt: skip
def test_multigrid_chooses_and_says_why(problem, kind, why):
    M = kl.multigrid(problem().A)
    assert type(M) is kind and why in M.choice and M.choice in repr(M)
    assert pickle.loads(pickle.dumps(M)).choice == M.choice


@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (32, 32, 32), (64, 64, 64)])
def test_hard_cases_take_few_iterations(shape):
    for most, options in (
        (15, dict(kind="walls")), (20, dict(contrast=1e4)), (20, dict(contrast=1e6)),
        (15, dict(kind="anisotropic", contrast=1e3)),
    ):  # fmt: skip
        P = kl.problems.diffusion(shape, seed=2, **options)
        _, info = kl.cg(P.A, P.b, rtol=1e-8, M=kl.multigrid(P.A))
        assert info == 0 and info.iterations <= most


def test_a_coarsening_may_be_given():
    A = kl.problems.poisson((20, 20)).A
    assert type(kl.multigrid(A, coarsening="classical")) is kl.ClassicalAMG
    assert type(kl.multigrid(A, np.ones((400, 1)))) is kl.SmoothedAggregation
    assert type(kl.multigrid(A.tocsr(), coarsening="geometric")) is kl.GeometricMultigrid
    with pytest.raises(ValueError, match="coarsening"):
        kl.multigrid(A, coarsening="random")
    with pytest.raises(ValueError, match="near-nullspace"):
        kl.multigrid(A, np.ones((400, 1)), coarsening="geometric")


def test_a_constant_matrix_in_single_precision_stays_so():
    grid = kl.Grid((9, 8))
    A = kl.GridOperator.diffusion(grid).tocsr().astype(np.float32)
    assert kl.GeometricMultigrid(A).dtype == np.float32


def test_what_is_not_tied_to_a_side_is_not_on_coarse_levels():
    from krylearn.solvers.multigrid.hierarchy import coarser
    from krylearn.solvers.multigrid.levels import pointwise

    mask = np.ones((9, 8), bool)
    mask[3:5, 2:4] = False
    A = kl.GridOperator.diffusion(kl.Grid((9, 8)), mask=mask)
    level = pointwise(A.grid, A._points(), A.mask)
    level.sides[1, 0][:6] = 0
    coarse, _ = coarser(level)
    tied = coarse.sides[1, 0].ravel() > 0
    assert tied.tolist() == [False, False, False, True, True]
