"""Problem families: manufactured solutions, seeds, traits, sequences."""

import gzip
import itertools

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from scipy.sparse.linalg import eigsh, spsolve

import krylearn as kl
from krylearn import problems, registry

SMALL = {
    "poisson": {"shape": (12, 10)}, "darcy": {"shape": (12, 10)}, "diffusion": {"shape": (12, 10)},
    "convection_diffusion": {"shape": (12, 10)}, "helmholtz": {"shape": (12, 10)},
    "thermal": {"shape": (14, 12)}, "heat": {"shape": (12, 10), "steps": 3},
    "smoke": {"shape": (10, 8, 9), "steps": 3}, "elasticity": {"shape": (6, 5)},
    "mesh": {"shape": (9, 8)},
}  # fmt: skip


def solved(P):
    A = P.A.tocsr() if hasattr(P.A, "tocsr") else P.A
    return spsolve(A.tocsc(), P.b)


def orders(make, sizes, where=None):
    """Return the observed orders of convergence to ``P.exact`` in the mean square."""
    errors = []
    for n in sizes:
        P = make(n)
        error = solved(P) - P.exact
        if where is not None:
            error = error[P.params[where].ravel()]
        errors.append(np.sqrt(np.mean(np.abs(error) ** 2)))
    steps = np.log2(np.array(sizes[1:]) / sizes[:-1])
    return np.log2(np.array(errors[:-1]) / errors[1:]) / steps


M = {"rhs": "manufactured"}
SECOND_ORDER = {
    "poisson 1-D": lambda n: problems.poisson(n - 1, **M),
    "poisson 2-D": lambda n: problems.poisson((n - 1, n // 2 - 1), lengths=(1.0, 2.0), **M),
    "poisson 3-D": lambda n: problems.poisson((n // 4 - 1,) * 3, **M),
    "poisson cells": lambda n: problems.poisson((n, n), centering="cell", **M),
    "anisotropic": lambda n: problems.diffusion((n, n), kind="anisotropic", contrast=100.0, **M),
    "rotated": lambda n: problems.diffusion((n - 1, n - 1), kind="rotated", contrast=100.0, **M),
    "central convection": lambda n: problems.convection_diffusion(
        (n - 1, n - 1), diffusivity=0.1, scheme="central", **M
    ),
    "central convection 3-D": lambda n: problems.convection_diffusion(
        (n // 4 - 1,) * 3, diffusivity=0.2, velocity=(1.0, -0.5, 0.25), scheme="central", **M
    ),
    "helmholtz": lambda n: problems.helmholtz((n - 1, n - 1), wavenumber=7.0, **M),
    "damped helmholtz": lambda n: problems.helmholtz(
        (n - 1, n - 1), wavenumber=7.0, damping=0.3, **M
    ),
    "elasticity": lambda n: problems.elasticity((n // 2, n // 2), clamped="all", **M),
    "triangles": lambda n: problems.mesh((n - 1, n - 1), contrast=1.0, grading=1.2, **M),
    "tetrahedra": lambda n: problems.mesh((n // 4 - 1,) * 3, contrast=1.0, **M),
}


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_second_order(name):
    assert orders(SECOND_ORDER[name], (32, 64))[-1] > 1.9


# Solutions of Poisson's equation for the conditions at the low and high side of an axis.
SIDES = {
    ("neumann", "neumann"): (np.cos, np.pi),
    ("dirichlet", "neumann"): (np.sin, np.pi / 2),
    ("neumann", "dirichlet"): (np.cos, np.pi / 2),
    ("periodic", "periodic"): (np.sin, 2 * np.pi),
}


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("first, second", list(itertools.combinations(SIDES, 2)))
def test_poisson_is_second_order_for_every_boundary(first, second, centering):
    errors = []
    for n in (16, 32):
        shape = [
            n - 1 + pair.count("neumann") if centering == "node" and "periodic" not in pair else n
            for pair in (first, second)
        ]
        grid = kl.Grid(shape, boundary=(first, second), centering=centering)
        u, factor = 1.0, 0.0
        for x, (wave, k) in zip(grid.points(), (SIDES[first], SIDES[second])):
            u, factor = u * wave(k * x), factor + k**2
        P = problems.poisson(shape, boundary=(first, second), centering=centering, rhs=factor * u)
        x, info = kl.cg(P.A, P.b, rtol=1e-11)
        assert info.converged
        weights = grid.weights().ravel()
        e = x - u.ravel()
        if P.A.nullspace is not None:  # known up to a constant
            e -= weights @ e / weights.sum()
        errors.append(np.sqrt(weights @ e**2 / weights.sum()))
    assert np.log2(errors[0] / errors[1]) > 1.9


@pytest.mark.parametrize("high, low", [(12.0, 3.0), (1e6, 1.0)])
def test_darcy_is_second_order_across_a_jump(high, low):
    """The flux of ``sin(2 pi x) sin(pi y) / a`` is continuous where a jumps, at x = 1/2."""

    def make(n):
        x, y = kl.Grid((n, n), centering="cell").points()
        a = np.where(x < 0.5, high, low) * np.ones_like(y)
        wave = np.sin(2 * np.pi * x) * np.sin(np.pi * y)
        P = problems.darcy((n, n), coefficient=a, rhs=5 * np.pi**2 * wave)
        return problems.Problem(P.A, P.b, P.params, P.grid, (wave / a).ravel())

    assert orders(make, (32, 64))[-1] > 1.9


def test_darcy_is_second_order_for_a_smooth_medium():
    def make(n):
        x, y = kl.Grid((n, n), centering="cell").points()
        a = np.exp(x - 2 * y)
        s, c, pi = np.sin, np.cos, np.pi
        u = s(pi * x) * s(pi * y)
        # -div(a grad u) = -a (Laplace(u) + u_x - 2 u_y)
        slopes = pi * (c(pi * x) * s(pi * y) - 2 * s(pi * x) * c(pi * y))
        P = problems.darcy((n, n), coefficient=a, rhs=a * (2 * pi**2 * u - slopes))
        return problems.Problem(P.A, P.b, P.params, P.grid, u.ravel())

    assert orders(make, (32, 64))[-1] > 1.9


def test_upwinding_is_of_first_order():
    make = lambda n: problems.convection_diffusion((n - 1, n - 1), diffusivity=0.1, **M)  # noqa: E731
    assert 0.85 < orders(make, (32, 64))[-1] < 1.3


def test_thermal_is_second_order_inside():
    make = lambda n: problems.thermal((n - 1, n - 1), boundary="manufactured")  # noqa: E731
    assert orders(make, (32, 64), where="mask")[-1] > 1.5
    P = make(32)
    x, outside = solved(P), ~P.params["mask"].ravel()
    assert np.array_equal(x[outside], P.exact[outside])


def test_heat_is_second_order_in_time_and_space():
    errors = []
    for n, steps in ((9, 10), (19, 20), (39, 40)):
        *_, P = problems.heat((n, n), steps=steps, dt=0.4 / steps, manufactured=True)
        x, y = P.grid.points()
        true = np.cos(2 * np.pi * P.params["time"]) * np.sin(np.pi * x) * np.sin(np.pi * y)
        errors.append(np.abs(P.exact.reshape(n, n) - true).max())
    assert np.log2(errors[1] / errors[2]) > 1.8
    for P in problems.heat((11, 8), steps=4):
        assert np.abs(P.A @ P.exact - P.b).max() < 1e-12 * np.abs(P.b).max()


@pytest.mark.parametrize("coefficient", ["lognormal"])
def test_darcy_converges_as_the_grid_is_refined(coefficient):
    means = []
    for n in (16, 32, 64, 128):
        P = problems.darcy((n, n), coefficient=coefficient, modes=8, seed=2)
        means.append(solved(P).mean())
    differences = np.abs(np.diff(means))
    assert np.log2(differences[-2] / differences[-1]) > 1.8


def test_darcy_coefficients_and_variants():
    seen = []
    for coefficient in ("lognormal", "piecewise", "rough", "trigonometric"):
        P = problems.darcy((24, 24), coefficient=coefficient, seed=1)
        assert P.A.symmetric and P.A.positive_definite and P.params["coefficient"].min() > 0
        seen.append(P.params["coefficient"])
    assert set(np.unique(seen[1])) == set(np.unique(seen[2])) == {3.0, 12.0}
    # The published assembly: -h^2 Laplace(a u), but for the diagonal of the upper neighbours.
    P = problems.darcy((24, 24), coefficient=seen[0], variant="published")
    a = P.params["coefficient"].ravel()
    L = kl.GridOperator.diffusion(P.grid)
    gap = (P.A - L.tocsr() @ sp.diags_array(a) / 25**2).tocoo()
    gap.data[abs(gap.data) < 1e-12] = 0
    gap.eliminate_zeros()
    assert gap.nnz and np.all(gap.row - gap.col == 24)
    assert np.allclose(P.A.diagonal(-24)[2:], -a[:-26])
    # Slightly indefinite, which is why GMRES is so slow on it.
    values = np.linalg.eigvals(problems.darcy((48, 48), variant="published").A.toarray())
    assert -0.1 < values.real.min() < 0 < values.real.max()
    assert problems.darcy((8, 8), variant="published", seed=1).params["coefficient"].shape == (8, 8)
    for bad in ({"coefficient": "smooth"}, {"variant": "draft"}, {"coefficient": -np.ones((4, 4))}):
        with pytest.raises(ValueError):
            problems.darcy((4, 4), **bad)


def test_smoke_projects_to_a_divergence_free_flow():
    from krylearn.problems.smoke import _Flow, _Spheres

    for open_top, shape in itertools.product((False, True), ((12, 14), (9, 8, 10))):
        Ps = list(problems.smoke(shape, steps=4, seed=1, open_top=open_top))
        assert (Ps[0].A.nullspace is None) == open_top
        assert not np.array_equal(Ps[0].params["mask"], Ps[-1].params["mask"])
        for P in Ps:
            assert P.A.symmetric and not P.b[~P.params["mask"].ravel()].any()
            x, info = kl.cg(P.A, P.b, x0=P.params["previous"], rtol=1e-9)
            assert info.converged
        assert np.linalg.norm(Ps[-1].b) > 0 and Ps[-1].params["smoke"].sum() > 0
    # What is left of the divergence is what the solver left, and, in a closed box, the mean.
    grid = kl.Grid((16, 16), centering="cell", boundary=["neumann", ("neumann", "dirichlet")])
    flow = _Flow(grid, _Spheres(grid, 1, np.random.default_rng(0)), True)
    for _ in range(3):
        fluid = flow.advance(0.05)
        A = kl.GridOperator.diffusion(grid, mask=fluid)
        b = np.where(fluid, -flow.divergence(), 0.0).ravel()
        p, _ = kl.cg(A, b, rtol=1e-11)
        flow.project(p.reshape(grid.shape), fluid)
        assert np.abs(flow.divergence()[fluid]).max() < 1e-8 * np.abs(b).max()


@pytest.mark.parametrize("open_top", [False, True])
def test_smoke_projection_is_second_order(open_top):
    """A flow is the curl of a stream function and the gradient of p; the pressure system finds p,
    and the projection leaves the curl."""
    from krylearn.problems.smoke import _Flow, _Spheres

    k, errors, left = np.pi / 2 if open_top else np.pi, [], []
    for n in (16, 32):
        top = ("neumann", "dirichlet" if open_top else "neumann")
        grid = kl.Grid((n, n), centering="cell", boundary=["neumann", top])
        flow = _Flow(grid, _Spheres(grid, 0, np.random.default_rng(0)), open_top)
        x, y = grid.points()
        s = np.linspace(0, 1, n + 1)
        stream = np.outer(np.sin(np.pi * s), np.sin(np.pi * s))
        curl = [n * np.diff(stream, axis=1), -n * np.diff(stream, axis=0)]
        flow.u[0] = curl[0] - 2 * np.pi * np.sin(2 * np.pi * s[:, None]) * np.cos(k * y)
        flow.u[1] = curl[1] - k * np.cos(2 * np.pi * x) * np.sin(k * s[None, :])
        fluid = np.ones(grid.shape, bool)
        A = kl.GridOperator.diffusion(grid, mask=fluid)
        p, info = kl.cg(A, -flow.divergence().ravel(), rtol=1e-11)
        assert info.converged
        p = p.reshape(grid.shape)
        exact = np.cos(2 * np.pi * x) * np.cos(k * y)
        errors.append(np.abs(p - exact - (0 if open_top else (p - exact).mean())).max())
        flow.project(p, fluid)
        left.append(max(np.abs(u - c).max() for u, c in zip(flow.u, curl)))
    assert np.log2(errors[0] / errors[1]) > 1.8 and np.log2(left[0] / left[1]) > 1.8


def test_smoke_without_obstacles():
    P, Q = problems.smoke((8, 7), steps=2, obstacles=0)
    assert P.params["mask"].all() and np.linalg.norm(Q.b) > 0


def test_elasticity_rigid_motions():
    """Without its held nodes a plate moves freely; the inner rows see no force."""
    P = problems.elasticity((9, 7), clamped="left", lengths=(2.0, 1.0), roughness=0.5)
    forces = np.abs(P.A @ P.nullspace).reshape(-1, 2, 3)
    inner = P.params["points"][:, 0] > 0.45  # beyond the elements that touch the held side
    assert forces[inner].max() < 1e-12 and forces[~inner].max() > 1e-2
    assert abs(P.A - P.A.T).max() < 1e-14
    assert eigsh(P.A, 1, sigma=0)[0][0] > 0


@pytest.mark.parametrize("kind", ["inclusions", "walls", "anisotropic", "rotated"])
def test_hard_diffusion(kind):
    for shape in ((40, 30), (12, 10, 8)):
        if kind == "rotated" and len(shape) == 3:
            continue
        P = problems.diffusion(shape, kind=kind, contrast=1e6, seed=3, density=0.05)
        A = P.A.tocsr()
        assert abs(A - A.T).max() <= 1e-12 * abs(A).max()
        if kind == "walls":
            assert 0.3 < P.params["mask"].mean() < 1 and P.A.nullspace is not None
            assert np.abs(P.A.nullspace.T @ P.b).max() < 1e-12
        else:
            assert eigsh(A.astype(float), 1, sigma=0)[0][0] > 0
        if kind == "inclusions":
            inside = P.params["coefficient"] == 1e6
            assert 0.05 < inside.mean() < 0.6


@pytest.mark.parametrize("name", SMALL)
def test_seeds_and_traits(name):
    family = registry.find("problem", name).load()
    first, again, other = (list(problems.sequence(family, 2, seed=s, **SMALL[name]))
                           for s in (3, 3, 4))  # fmt: skip
    for P, Q in zip(first, again):
        assert np.array_equal(P.b, Q.b) and P.name == name and P.seed == Q.seed
    P, Q = first[-1], other[-1]
    assert not np.array_equal(P.A @ (P.b + 1), Q.A @ (P.b + 1)) or not np.array_equal(P.b, Q.b)
    P = first[-1]
    assert P.b.shape == (P.A.shape[0],) and P.b.dtype == P.A.dtype and np.isfinite(P.b).all()
    assert repr(P).startswith(f"<{name} ")
    matrix = registry.find("problem", name).matrix
    A = (P.A.tocsr() if hasattr(P.A, "tocsr") else P.A).toarray()
    if matrix == "spd":
        assert np.allclose(A, A.T, rtol=1e-13)
        lowest = np.linalg.eigvalsh(A)[0]
        assert lowest > -1e-10 * np.abs(A).max()
        assert getattr(P.A, "symmetric", True)
    x, info = kl.solve(P.A, P.b, rtol=1e-7, maxiter=5000)
    assert info.converged


@pytest.mark.parametrize("family", [problems.poisson, problems.helmholtz])
def test_complex_sources_stay_complex(family):
    f = np.full((4, 4), 1.0 + 2.0j)
    assert np.array_equal(family((4, 4), rhs=f).b, f.ravel())
    assert problems.poisson((4, 4), rhs=f, dtype=np.float32).b.dtype == np.complex64
    assert problems.poisson((4, 4), dtype=np.float32).b.dtype == np.float32


def test_problems_are_compared_by_identity():
    P, Q = problems.elasticity((3, 3)), problems.elasticity((3, 3))
    assert P == P and P != Q and len({P, Q}) == 2
    assert problems.Problem(P.A, P.b).params == {}


def test_every_registered_problem_is_tested():
    assert {e.name for e in registry.entries("problem")} == {*SMALL, "matrix_market"}


def test_sequence():
    assert [P.seed for P in problems.sequence("poisson", 3, shape=(4, 4), seed=2)] == [2, 3, 4]
    assert len(list(problems.sequence("heat", 3, shape=(4, 4)))) == 3
    assert list(problems.sequence("poisson", 0)) == []
    with pytest.raises(ValueError, match="no problem"):
        next(problems.sequence("poison", 1))


def test_matrix_market(tmp_path):
    A = sp.csr_array(np.array([[2.0, 0, 1], [0, 3, 0], [1, 0, 4]]))
    path = tmp_path / "A.mtx"
    scipy.io.mmwrite(path, A)
    P = problems.matrix_market(path)
    assert np.array_equal(P.A.toarray(), A.toarray()) and np.array_equal(P.b, A @ np.ones(3))
    assert np.array_equal(P.exact, np.ones(3))
    scipy.io.mmwrite(tmp_path / "A_b.mtx", np.arange(3.0)[:, None])
    P = problems.matrix_market(path)
    assert np.array_equal(P.b, np.arange(3.0)) and P.exact is None
    scipy.io.mmwrite(tmp_path / "long.mtx", np.arange(4.0)[:, None])
    with pytest.raises(ValueError, match="long.mtx has 4 rows"):
        problems.matrix_market(path, rhs=tmp_path / "long.mtx")
    bad = tmp_path / "bad.mtx"
    oops = b"%%MatrixMarket matrix oops\n1 1 1\n"
    for content in (b"hello\n", b"", b"\x00\xff\xfe binary", oops):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match="bad.mtx is not a Matrix Market file"):
            problems.matrix_market(bad)
    packed = tmp_path / "bad.mtx.gz"
    whole = gzip.compress(path.read_bytes())
    for content in (whole[:-12], whole[:15] + b"\xff" * 20 + whole[35:]):
        packed.write_bytes(content)
        with pytest.raises(ValueError, match="not a Matrix Market file"):
            problems.matrix_market(packed)
    packed.write_bytes(whole)
    assert abs(problems.matrix_market(packed).A - A).max() == 0
    with pytest.raises(FileNotFoundError):
        problems.matrix_market(tmp_path / "none.mtx")


@pytest.mark.parametrize("end", ["_b.mtx", "_rhs.mtx", "_rhs1.mtx", "_b.mtx.gz"])
def test_matrix_market_right_hand_sides(tmp_path, end):
    path, beside = tmp_path / "A.mtx", tmp_path / f"A{end}"
    scipy.io.mmwrite(path, sp.csr_array(np.diag([2.0, 3.0])))
    scipy.io.mmwrite(tmp_path / "v.mtx", np.array([[5.0], [7.0]]))
    content = (tmp_path / "v.mtx").read_bytes()
    beside.write_bytes(gzip.compress(content) if end.endswith("gz") else content)
    assert np.array_equal(problems.matrix_market(path).b, [5.0, 7.0])
    # A seed draws the solution in place of what lies beside the matrix.
    P, Q, R = (*problems.sequence("matrix_market", 2, path=path, seed=4),
               problems.matrix_market(path, seed=4))  # fmt: skip
    assert (P.seed, Q.seed) == (4, 5) and np.array_equal(P.A @ P.exact, P.b)
    assert np.array_equal(P.b, R.b) and not np.array_equal(P.b, Q.b)
    assert problems.matrix_market(path, rhs="random").seed == 0
    with pytest.raises(ValueError, match="not both"):
        problems.matrix_market(path, rhs=beside, seed=1)


@pytest.mark.parametrize("call", [
    lambda: problems.poisson((4, 4), rhs="odd"), lambda: problems.poisson((4, 4), rhs=np.ones(3)),
    lambda: problems.poisson((4, 4), boundary="neumann", rhs="manufactured"),
    lambda: problems.diffusion((4, 4), kind="odd"), lambda: problems.diffusion(contrast=-1.0),
    lambda: problems.diffusion((4, 4, 4), kind="rotated"), lambda: problems.thermal((4, 4, 4)),
    lambda: problems.helmholtz(wavenumber=-1.0), lambda: next(problems.heat((4, 4, 4))),
    lambda: next(problems.smoke((4,))), lambda: problems.elasticity(poisson_ratio=0.5),
    lambda: problems.elasticity(clamped="right"), lambda: problems.thermal(boundary="odd"),
    lambda: problems.convection_diffusion(velocity="odd"),
    lambda: problems.convection_diffusion((4, 4), velocity=1.0),
    lambda: problems.convection_diffusion(diffusivity=0.0),
    lambda: problems.diffusion((2, 2), kind="walls"), lambda: problems.diffusion(density=0.0),
    lambda: problems.diffusion(contrast=np.inf), lambda: problems.helmholtz(damping=np.nan),
    lambda: problems.elasticity(8), lambda: problems.elasticity((4, 4), lengths=(1.0,)),
    lambda: problems.elasticity((4, 4), lengths=(1.0, -1.0)), lambda: next(problems.smoke(8)),
    lambda: next(problems.smoke((8, 8), obstacles=-1)), lambda: next(problems.heat(dt=0.0)),
    lambda: problems.mesh((4,)), lambda: problems.mesh(contrast=0.0),
    lambda: problems.mesh(rhs="manufactured"), lambda: problems.mesh(rhs="odd"),
])  # fmt: skip
def test_refusals(call):
    with pytest.raises(ValueError):
        call()


def test_waves_driven_through_a_neumann_side():
    """A side's flux enters the balance of its control volumes, and a uniform medium is a cosine."""
    n, k = 41, 3.0
    P = problems.helmholtz((n, n), wavenumber=k, boundary="neumann", rhs="flux")
    # Integrated over the box: what enters is what -k^2 u takes.
    x = kl.direct(P.A.tocsr(), P.b)[0]
    weights = P.grid.weights().ravel()
    cells = np.prod(P.grid.spacing)
    entered = np.sum(P.b) * cells
    assert entered == pytest.approx(0.3, abs=0.03)
    assert entered == pytest.approx(-(k**2) * np.sum(weights * x) * cells, rel=1e-9)
    medium = problems.helmholtz((n, n), wavenumber=50.0, boundary="neumann", medium="bounded",
                                roughness=0.05, rhs="flux").params["wavenumber"]  # fmt: skip
    assert 50 / 1.05 <= medium.min() < 50 < medium.max() <= 50 / 0.95
    for options in (dict(boundary="robin"), dict(medium="glass"), dict(rhs="flux"),
                    dict(boundary="neumann", rhs="manufactured")):  # fmt: skip
        with pytest.raises(ValueError):
            problems.helmholtz((5, 5), **options)
