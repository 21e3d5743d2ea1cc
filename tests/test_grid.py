"""Grids, grid operators and boundary data."""

import itertools
import pickle

import numpy as np
import pytest
from scipy.sparse.linalg import eigsh

from krylearn.grid import Grid, GridOperator, boundary_rhs
from krylearn.kernels.parallel import get_num_threads, set_num_threads

CONDITIONS = ["dirichlet", "neumann", ("dirichlet", "neumann"), "periodic"]


def operators(shape, boundary, centering, dtype, kind, rng):
    """Return an operator of one kind on a small grid."""
    grid = Grid(shape, lengths=[1.0 + d for d in range(len(shape))], boundary=boundary,
                centering=centering)  # fmt: skip
    c = rng.uniform(0.5, 2.0, shape).astype(dtype)
    if kind == "constant":
        return GridOperator.diffusion(grid, 2.0, 0.5, dtype=dtype)
    if kind == "variable":
        return GridOperator.diffusion(grid, c, 0.5, dtype=dtype)
    if kind == "masked":
        return GridOperator.diffusion(grid, c, mask=rng.random(shape) < 0.7, dtype=dtype)
    if kind == "complex":
        return GridOperator.diffusion(grid, c * (1 + 0.3j), -1.0 + 2j, dtype=dtype)
    velocity = [1.0, -2.0, 0.5][: len(shape)]
    if kind == "constant convection":
        return GridOperator.convection(grid, velocity, "upwind", dtype=dtype)
    velocity = [rng.standard_normal(shape).astype(dtype) for _ in shape]
    convection = GridOperator.convection(grid, velocity, "central", dtype=dtype)
    return GridOperator.diffusion(grid, c, dtype=dtype) + convection


@pytest.mark.parametrize("kind", ["constant", "variable", "masked", "constant convection",
                                  "convection"])  # fmt: skip
@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("shape", [(7,), (1, 5), (4, 2), (3, 4, 5), (2, 1, 3)])
def test_products_agree_with_the_matrix(shape, centering, kind):
    rng = np.random.default_rng(0)
    for boundary in itertools.product(CONDITIONS, repeat=len(shape)):
        if any(n == 1 and b == "neumann" for n, b in zip(shape, boundary)):
            continue
        A = operators(shape, boundary, centering, np.float64, kind, rng)
        x = rng.standard_normal(A.shape[0])
        csr = A.tocsr()
        size = abs(csr).sum() / A.shape[0]
        assert np.abs(A @ x - csr @ x).max() < 1e-14 * size
        assert np.abs(A.rmatvec(x) - csr.T @ x).max() < 1e-14 * size
        out = np.empty_like(x)
        assert np.isclose(A.apply_dot(x, out), x @ out, rtol=1e-13, atol=1e-12 * size)
        assert np.array_equal(out, A @ x)
        assert np.allclose(A.diagonal(), csr.diagonal(), rtol=1e-14)
        symmetric = abs(csr - csr.T).max() <= 1e-15 * size
        assert A.symmetric == symmetric
        assert csr.has_canonical_format


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.complex128])
@pytest.mark.parametrize("kind", ["constant", "variable", "convection", "complex"])
def test_types(dtype, kind):
    if kind == "complex" and dtype == np.float32:
        pytest.skip("its coefficient is complex")
    rng = np.random.default_rng(1)
    A = operators((4, 3, 5), ["dirichlet", "periodic", "neumann"], "cell", dtype, kind, rng)
    assert A.dtype == dtype
    x = (rng.standard_normal(60) + 1j * rng.standard_normal(60)).astype(np.complex128)
    x = x.astype(dtype) if A.dtype.kind == "c" else x.real.astype(dtype)
    eps = np.finfo(dtype).eps
    csr = A.tocsr().astype(np.complex128)
    size = abs(csr).sum() / 60
    assert A.tocsr().dtype == dtype and (A @ x).dtype == dtype
    assert np.abs(A @ x - csr @ x).max() < 8 * eps * size
    assert np.abs(A.H @ x - csr.conj().T @ x).max() < 8 * eps * size
    assert np.abs(A.T @ x - csr.T @ x).max() < 8 * eps * size
    doubled = (2.0 * A) @ x
    assert np.abs(doubled - 2 * (csr @ x)).max() < 16 * eps * size
    turned = (1j * A) @ x
    assert np.abs(turned - 1j * (csr @ x)).max() < 16 * eps * size
    assert np.abs((A - A) @ x).max() == 0
    again = pickle.loads(pickle.dumps(A))
    assert np.array_equal(again @ x, A @ x) and again.symmetric == A.symmetric
    assert A.astype(np.complex128).dtype == np.complex128
    assert A.symmetric == (kind in ("constant", "variable"))


def test_long_lines_and_threads():
    rng = np.random.default_rng(2)
    for shape in ((5000,), (3, 4500), (40, 50, 60)):
        grid = Grid(shape)
        for c in (1.0, rng.uniform(1, 2, shape)):
            A = GridOperator.diffusion(grid, c)
            x, out = rng.standard_normal(grid.size), np.empty(grid.size)
            inner = A.apply_dot(x, out)
            assert np.allclose(out, A.tocsr() @ x, rtol=1e-12, atol=1e-9 * np.abs(out).max())
            threads = get_num_threads()
            try:
                for count in (1, 2, 3):
                    set_num_threads(count)
                    again = np.empty(grid.size)
                    assert A.apply_dot(x, again) == inner
                    assert np.array_equal(again, out)
                    assert np.array_equal(A.apply(x, again), out)
            finally:
                set_num_threads(threads)


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("boundary", [
    "dirichlet", ("dirichlet", ("neumann", "dirichlet")), ("periodic", "dirichlet"),
    (("dirichlet", "neumann"), ("neumann", "dirichlet")),
])  # fmt: skip
def test_order_of_convergence(boundary, centering):
    """A manufactured solution with inhomogeneous data at each kind of side: second order."""
    tau = 2 * np.pi

    def u(x, y):
        return np.sin(tau * x + 0.3) * np.exp(y)

    def c(x, y):
        return 2 + np.cos(tau * x) * y

    errors = []
    for n in (16, 32, 64):
        grid = Grid((n, n), boundary=boundary, centering=centering)
        x, y = grid.points()
        e = 1e-5
        # -div(c grad u), by differences of the exact flux
        flux_x = lambda x, y: c(x, y) * tau * np.cos(tau * x + 0.3) * np.exp(y)  # noqa: E731
        flux_y = lambda x, y: c(x, y) * u(x, y)  # noqa: E731
        f = -(flux_x(x + e, y) - flux_x(x - e, y)) / (2 * e)
        f -= (flux_y(x, y + e) - flux_y(x, y - e)) / (2 * e)
        data = {}
        for axis, side in itertools.product(range(2), range(2)):
            condition = grid.boundary[axis][side]
            at = [x, y]
            at[axis] = np.full((1, 1), float(side))
            if condition == "dirichlet":
                data[axis, side] = u(*at)
            elif condition == "neumann":
                flux = (flux_x, flux_y)[axis](*at)
                data[axis, side] = flux if side else -flux
        coefficient = c(x, y) + 0 * x
        A = GridOperator.diffusion(grid, coefficient)
        # Nearest-point coefficients at Dirichlet cells are first-order in one cell layer only.
        b = (grid.weights() * f).ravel() + boundary_rhs(grid, data, coefficient)
        from scipy.sparse.linalg import spsolve

        error = spsolve(A.tocsr().tocsc(), b).reshape(n, n) - u(x, y)
        errors.append(np.sqrt(np.mean(error**2)))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders[-1] > 1.85, (errors, orders)


def test_dirichlet_data_by_function():
    grid = Grid((20, 30))
    u = lambda x, y: 3 + 2 * x - y  # noqa: E731
    A = GridOperator.diffusion(grid)
    residual = A @ (u(*grid.points())).ravel() - boundary_rhs(grid, u)
    assert np.abs(residual).max() < 1e-9


def test_convection_is_consistent():
    for scheme, order in (("upwind", 1), ("central", 2)):
        errors = []
        for n in (40, 80):
            grid = Grid((n, n), boundary=("dirichlet", "periodic"))
            x, y = grid.points()
            u = np.sin(np.pi * x) * np.sin(2 * np.pi * y)
            vx, vy = 1 + x + 0 * y, -2 + 0 * x * y
            exact = vx * np.pi * np.cos(np.pi * x) * np.sin(2 * np.pi * y)
            exact += vy * 2 * np.pi * np.sin(np.pi * x) * np.cos(2 * np.pi * y)
            A = GridOperator.convection(grid, (vx, vy), scheme)
            errors.append(np.abs(A @ u.ravel() - exact.ravel()).max())
        assert np.log2(errors[0] / errors[1]) > order - 0.1


def test_traits_and_nullspace():
    grid = Grid((6, 5), boundary="neumann")
    A = GridOperator.diffusion(grid)
    assert A.symmetric and A.positive_definite is False
    assert A.nullspace.shape == (30, 1)
    assert np.abs(A @ A.nullspace.toarray()).max() < 1e-13
    assert GridOperator.diffusion(grid, reaction=1e-6).positive_definite is True
    assert GridOperator.diffusion(Grid((6, 5))).nullspace is None
    assert GridOperator.diffusion(Grid((6, 5), boundary="periodic")).nullspace.shape == (30, 1)
    assert (-1.0 * A).positive_definite is False
    # A wall from side to side leaves two rooms, and inactive cells are nobody's.
    mask = np.ones((6, 5), bool)
    mask[3] = False
    rooms = GridOperator.diffusion(grid, mask=mask)
    N = rooms.nullspace
    assert N.shape == (30, 2)
    assert np.abs(rooms @ N.toarray()).max() < 1e-13
    assert np.allclose((N.T @ N).toarray(), np.eye(2))
    vector = np.arange(30.0)
    assert np.array_equal((rooms @ vector)[~mask.ravel()], vector[~mask.ravel()])
    shifted = GridOperator.diffusion(Grid(30), reaction=-50.0)
    assert shifted.positive_definite is not True
    lowest = eigsh(shifted.tocsr(), 1, which="SA")[0][0]
    assert lowest < 0


@pytest.mark.parametrize("ends", ["neumann", "periodic"])
def test_regions_are_the_components_of_the_matrix(ends, monkeypatch):
    from krylearn.grid import operator

    rng, taken = np.random.default_rng(0), []
    plain = operator.regions
    for k in range(40):
        shape = tuple(rng.integers(2, 6, 1 + k % 3))
        boundary = [str(rng.choice([ends, "neumann", "dirichlet"], p=[0.5, 0.4, 0.1]))
                    for _ in shape]  # fmt: skip
        A = GridOperator.diffusion(Grid(shape, boundary=boundary, centering="cell"),
                                   mask=rng.random(shape) < 0.6)  # fmt: skip
        found = []
        for by in (plain, lambda *a: None):
            monkeypatch.setattr(operator, "regions", by)
            N = type(A).nullspace.func(A)
            found.append(None if N is None else sorted(map(tuple, N.toarray().T.tolist())))
        assert found[0] == found[1]
        taken.append(plain(A._points(), A.grid) is not None)
    assert any(taken) and not all(taken)
    # Neighbours without a coupling between them do not tell.
    grid = Grid((4, 4), boundary="neumann", centering="cell")
    diagonal, upper, _ = GridOperator.diffusion(grid).stencil()
    upper[0][1, :3] = 0.0
    assert plain(np.stack([diagonal, *upper]), grid) is None


def test_solid_dirichlet_walls():
    # Walls that hold zero make a room behave like a smaller box.
    mask = np.ones(9, bool)
    mask[[0, 8]] = False
    A = GridOperator.diffusion(Grid(9, lengths=9.0, boundary="neumann", centering="cell"),
                               mask=mask, solid="dirichlet")  # fmt: skip
    box = GridOperator.diffusion(Grid(7, lengths=7.0, centering="cell"))
    inner = A.tocsr().toarray()[1:8, 1:8]
    assert np.allclose(inner, box.tocsr().toarray())


@pytest.mark.parametrize("make, message", [
    (lambda: Grid((2, 2, 2, 2)), "1 to 3 axes"),
    (lambda: Grid((0, 2)), "at least one unknown"),
    (lambda: Grid(5, lengths=-1.0), "positive"),
    (lambda: Grid(5, boundary="robin"), "boundary of axis 0"),
    (lambda: Grid(5, boundary=(("periodic", "dirichlet"),)), "periodic at one side"),
    (lambda: GridOperator.diffusion(Grid((4, 4)), np.ones((3, 4))), "the grid needs"),
    (lambda: GridOperator.diffusion(Grid((4, 4)), mask=np.ones(3)), "mask has shape"),
    (lambda: GridOperator(Grid((4, 4)), 4.0, [1.0]), "one coefficient for each of 2 axes"),
    (lambda: GridOperator.convection(Grid((4, 4)), (1.0, 1.0), "quick"), "scheme must be"),
    (lambda: boundary_rhs(Grid(4, boundary="periodic"), {(0, 0): 1.0}), "no sides"),
])  # fmt: skip
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("shape, boundary", [
    ((40, 33, 35), "dirichlet"), ((33, 34, 36), ("periodic", "neumann", "periodic")),
    ((300, 260), "dirichlet"), ((17, 2500), ("periodic", "dirichlet")),
])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float64, np.complex64])
def test_fused_conjugate_gradients(shape, boundary, dtype):
    """The iteration in two passes is the plain one: same counts, same iterates to rounding."""
    import krylearn as kl

    rng = np.random.default_rng(3)
    A = GridOperator.diffusion(Grid(shape, boundary=boundary), reaction=3.0, dtype=dtype)
    assert A._stencil.fuses
    b = rng.standard_normal(A.shape[0]).astype(dtype)
    if np.dtype(dtype).kind == "c":
        b = b + 1j * rng.standard_normal(A.shape[0]).astype(np.float32)
    options = dict(rtol=1e-12, maxiter=40)
    x, info = kl.cg(A, b, **options)
    plain, expected = kl.cg(A.tocsr(), b, **options)
    tolerance = 1e-9 if dtype == np.float64 else 1e-3
    assert np.linalg.norm(x - plain) < tolerance * np.linalg.norm(plain)
    assert np.allclose(info.residuals, expected.residuals, rtol=tolerance)
    assert info.matvecs == expected.matvecs
    seen = []
    watched, _ = kl.cg(A, b, callback=lambda xk: seen.append(np.linalg.norm(b - A @ xk)), **options)
    # Complex products may be contracted differently where x is updated alone.
    error = np.linalg.norm(watched - x) / np.linalg.norm(x)
    assert error == 0 if dtype == np.float64 else error < 1e-5
    assert np.allclose(seen, info.residuals[1:], rtol=max(tolerance, 1e-6))
    threads = get_num_threads()
    try:
        set_num_threads(1)
        assert np.array_equal(kl.cg(A, b, **options)[0], x)
    finally:
        set_num_threads(threads)


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("shape", [(6,), (1, 5), (5, 1), (4, 7), (3, 4, 5)])
def test_one_pass_assembles_what_axis_by_axis_does(shape, centering):
    rng = np.random.default_rng(5)
    sides = ["dirichlet"] if centering == "node" else ["dirichlet", ("neumann", "dirichlet")]
    for side in sides:
        lengths = tuple(1.0 + d for d in range(len(shape)))
        grid = Grid(shape, lengths, [side] * len(shape), centering)
        c, a = rng.random(shape), rng.random(shape)
        c.flat[:2] = 0  # between two points that let nothing through
        A = GridOperator.diffusion(grid, c, a)
        B = GridOperator.diffusion(grid, [c] * len(shape), a)
        assert np.allclose(A.tocsr().toarray(), B.tocsr().toarray(), rtol=1e-14, atol=0)
