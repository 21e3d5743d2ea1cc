"""Direct methods: fast transforms on boxes, and sparse LU."""

from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

import krylearn as kl
from krylearn.interface import Reason
from krylearn.solvers.direct.separable import separate
from krylearn.solvers.direct.transforms import Transforms, diagonalise
from krylearn.testing import example_matrix, example_vector, require_honest

CONDITIONS = ("dirichlet", "neumann", "periodic", ("dirichlet", "neumann"),
              ("neumann", "dirichlet"))  # fmt: skip


def is_singular(dense):
    values = np.linalg.svd(dense, compute_uv=False)
    return values[-1] <= 1e-12 * values[0]


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("sides", [*itertools.product(CONDITIONS, repeat=2)],
                         ids=lambda s: "-".join(map(str, s)))  # fmt: skip
def test_every_box_in_one_step(centering, sides):
    rng = np.random.default_rng(0)
    for shape in ((6, 5), (13, 4), (2, 3)):
        grid = kl.Grid(shape, lengths=(1.0, 2.3), boundary=sides, centering=centering)
        for reaction, coefficient in itertools.product((0.0, 1.0, -7.3, 2 + 3j), (1.0, [2.0, 5.0])):
            A = kl.GridOperator.diffusion(grid, coefficient, reaction)
            dense = A.tocsr().toarray()
            b = dense @ rng.standard_normal(grid.size)
            x, info = kl.fast_poisson(A, b, rtol=1e-10)
            assert info == 0 and info.iterations == 1
            require_honest(dense, b, x, info, 1e-10)
            M = kl.FastPoisson(A)
            assert M.singular == is_singular(dense)
            assert M.symmetric == np.array_equal(dense, dense.conj().T)
            if M.symmetric:
                low = np.linalg.eigvalsh(dense)[0]
                assert M.positive_definite == (None if M.singular and low > -1e-9 else low > 0)


@pytest.mark.parametrize("shape", [(7,), (129,), (40, 64), (3, 4, 5), (16, 9, 10), (2, 6, 1)])
@pytest.mark.parametrize("dtype", "fdFD")
def test_one_to_three_axes_in_every_precision(shape, dtype):
    kinds = ("neumann", ("neumann", "dirichlet"), "periodic")[-len(shape) :]
    grid = kl.Grid(shape, boundary=kinds)
    A = kl.GridOperator.diffusion(grid, [1.0, 30.0, 0.2][: len(shape)], 0.5).astype(dtype)
    b = A @ example_vector(grid.size, dtype)
    x, info = kl.fast_poisson(A, b, rtol=2e-5 if dtype in "fF" else 1e-11)
    assert info == 0 and x.dtype == np.dtype(dtype)


def test_a_matrix_is_recognised_and_a_mere_likeness_is_not():
    A = kl.GridOperator.diffusion(kl.Grid((9, 8, 7)), [1.0, 2.0, 3.0], -4.0).tocsr()
    b = example_vector(A.shape[0])
    x, info = kl.fast_poisson(A, b, rtol=1e-10)
    assert info == 0 and kl.FastPoisson(A).shape_of_box == (9, 8, 7)
    for change in ("value", "coupling across a side", "no box"):
        B = A.tolil()
        if change == "value":
            B[40, 40] *= 1 + 1e-6
        elif change == "coupling across a side":
            B[6, 7] = B[7, 6] = -1e-3
        else:
            B = B[:-1, :-1]
        with pytest.raises(ValueError, match="multigrid"):
            kl.fast_poisson(B.tocsr(), b[: B.shape[0]])


def test_coefficients_along_their_own_axis():
    grid = kl.Grid((11, 14), boundary=("dirichlet", "neumann"), centering="cell")
    x, y = (np.broadcast_to(v, grid.shape) for v in grid.points())
    A = kl.GridOperator.diffusion(grid, [1 + x**2, np.exp(y)], -3.0)
    b = example_vector(grid.size)
    for matrix in (A, A.tocsr()):
        _, info = kl.fast_poisson(matrix, b, rtol=1e-10)
        assert info == 0
    with pytest.raises(ValueError, match="vary from line to line"):
        kl.fast_poisson(kl.GridOperator.diffusion(grid, 1 + x * y), b)
    long = kl.Grid(3000)
    with pytest.raises(ValueError, match="direct"):
        kl.fast_poisson(kl.GridOperator.diffusion(long, 1 + long.coordinates(0)), np.ones(3000))


def test_convection_weak_and_strong():
    grid = kl.Grid((16, 17), boundary=("dirichlet", "periodic"))
    diffusion = kl.GridOperator.diffusion(grid)
    b = example_vector(grid.size)
    x, info = kl.fast_poisson(diffusion + kl.GridOperator.convection(grid, (5.0, 300.0)), b,
                              rtol=1e-10)  # fmt: skip
    assert info == 0
    for speed, scheme in ((1e4, "upwind"), (1e3, "central")):
        A = diffusion + kl.GridOperator.convection(grid, (speed, 1.0), scheme)
        with pytest.raises(ValueError, match="convection"):
            kl.fast_poisson(A, b)


def test_transforms_made_before_serve_again():
    A = kl.GridOperator.diffusion(kl.Grid((8, 9)))
    M, b = kl.FastPoisson(A), example_vector(72)
    x, info = kl.fast_poisson(A, b, rtol=1e-12, M=M)
    assert info == 0 and info.iterations == 1 and info.setup_seconds == M.setup_seconds
    x, info = kl.fast_poisson(1.1 * A, b, rtol=1e-12, M=M)
    assert info == 0 and info.iterations > 1
    with pytest.raises(ValueError, match="FastPoisson"):
        kl.fast_poisson(A, b, M="jacobi")


def test_masks_are_refused():
    grid = kl.Grid((6, 6))
    mask = np.ones(grid.shape, bool)
    mask[2, 3] = False
    with pytest.raises(ValueError, match="mask.*multigrid"):
        kl.fast_poisson(kl.GridOperator.diffusion(grid, mask=mask), np.ones(36))


@pytest.mark.parametrize("boundary, centering", [
    ("neumann", "cell"), ("neumann", "node"), ("periodic", "cell"),
])  # fmt: skip
def test_singular_boxes(boundary, centering):
    A = kl.GridOperator.diffusion(kl.Grid((12, 9), boundary=boundary, centering=centering))
    b = A @ example_vector(108)
    x, info = kl.fast_poisson(A, b, rtol=1e-12)
    assert info == 0
    x, info = kl.fast_poisson(A, b + 1.0, rtol=1e-8)
    assert info < 0 and info.reason is Reason.SINGULAR
    # What of b is outside the range counts as residual, and no more of it.
    x, info = kl.fast_poisson(A, b + 1e-9, rtol=1e-8)
    assert info == 0
    x, info = kl.fast_poisson(A, b, rtol=0.0)
    assert info > 0 and info.reason is Reason.STAGNATED
    x, info = kl.cg(A, b, rtol=1e-8, M=kl.FastPoisson(A))
    assert info == 0 and info.iterations <= 2


def test_an_eigenvalue_that_a_shift_makes_zero():
    grid = kl.Grid((20, 20))
    lowest = 2 * 4 * 21**2 * np.sin(np.pi / 42) ** 2
    A = kl.GridOperator.diffusion(grid, reaction=-lowest)
    assert kl.FastPoisson(A).singular and kl.FastPoisson(A).positive_definite is not True
    _, info = kl.fast_poisson(A, A @ example_vector(400), rtol=1e-10)
    assert info == 0
    _, info = kl.fast_poisson(A, np.ones(400), rtol=1e-10)
    assert info.reason is Reason.SINGULAR


def test_transforms_of_every_length_invert_themselves():
    rng = np.random.default_rng(0)
    for n in (4, 5, 30, 64, 127, 128):
        for condition in CONDITIONS[:3]:
            grid = kl.Grid((n,), boundary=(condition,), centering="cell")
            axes = separate(kl.GridOperator.diffusion(grid))
            plan = Transforms([diagonalise(axis, 1e-9) for axis in axes], (n,), float)
            x = rng.standard_normal(n)
            assert np.allclose(plan.backward(plan.forward(x.copy(), False)), x, atol=1e-12)


# -- sparse LU -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["spd", "hermitian", "general"])
@pytest.mark.parametrize("ordering", ["auto", "amd", "colamd", "natural"])
def test_lu_solves_to_rounding_level(kind, ordering):
    A = example_matrix(kind, "d", 12)
    exact = example_vector(144)
    x, info = kl.direct(A, A @ exact, rtol=1e-14, ordering=ordering)
    assert info == 0 and np.allclose(x, exact, atol=1e-12)
    M = kl.SparseDirect(A, ordering)
    assert M.symmetric == (kind != "general") and M.nnz > A.nnz
    assert 1 <= M.condition <= np.linalg.cond(A.toarray(), 1)


def test_an_update_keeps_the_ordering_and_old_factors_serve_a_near_matrix():
    A = example_matrix("general", "d", 10)
    M = kl.SparseDirect(A)
    order, fill = M._order, M.nnz
    other = A.copy()
    other.data *= 1 + 0.1 * np.sin(np.arange(A.nnz))
    assert M.update(other)._order is order and M.nnz == fill
    b = example_vector(100)
    x, info = kl.direct(other, b, rtol=1e-10, M=M)
    assert info == 0 and info.iterations <= 2
    x, info = kl.direct(A, b, rtol=1e-10, M=M)
    assert info == 0 and info.iterations > 2
    with pytest.raises(ValueError, match="SparseDirect"):
        kl.direct(A, b, M=kl.ILU0(A))
    assert np.array_equal(pickle.loads(pickle.dumps(M)) @ b, M @ b)


def test_lu_without_pivots_gives_way_to_one_with():
    A = sp.csr_array(np.array([[1e-20, 1.0], [1.0, 1.0]]))  # a positive diagonal, indefinite
    x, info = kl.direct(A, np.array([1.0, 2.0]), rtol=1e-14)
    assert info == 0 and np.allclose(x, [1.0, 1.0])


def test_lu_of_singular_matrices():
    neumann = kl.GridOperator.diffusion(kl.Grid((9, 9), boundary="neumann", centering="cell"))
    for A in (neumann.tocsr(), sp.block_diag([neumann.tocsr()] * 2).tocsr()):
        with pytest.raises(ValueError, match="singular.*lsmr"):
            kl.SparseDirect(A)
        x, info = kl.direct(A, A @ example_vector(A.shape[0]), rtol=1e-10)
        assert info == 0
        x, info = kl.direct(A, np.ones(A.shape[0]))
        assert info < 0 and info.reason is Reason.SINGULAR
    shift = np.roll(np.eye(6), 1, axis=0)
    shift[0] = 0
    x, info = kl.direct(shift, np.ones(6))
    assert info.reason is Reason.SINGULAR


def test_lu_of_a_dense_row_and_of_one_unknown():
    n = 60
    A = sp.lil_array(example_matrix("spd", "d", 8)[:n, :n])
    A[3] = 1.0
    A[3, 3] = 100.0
    x, info = kl.direct(A.tocsr(), np.ones(n), rtol=1e-12)
    assert info == 0
    x, info = kl.direct(np.array([[2.0]]), np.array([3.0]))
    assert info == 0 and x == [1.5]


def test_factors_serve_many_right_hand_sides():
    A = example_matrix("general", "D", 8)
    B = np.stack([example_vector(64, "D", k) for k in range(20)], axis=1)
    M = kl.SparseDirect(A)
    assert np.allclose(A @ (M @ B), B)
    X, info = kl.direct(A, B, rtol=1e-12)
    assert info == 0 and len(info.columns) == 20 and np.allclose(X, M @ B)
