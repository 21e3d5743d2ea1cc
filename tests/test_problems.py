"""Problem families: manufactured solutions, seeds, traits, sequences."""

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
    "helmholtz": lambda n: problems.helmholtz((n - 1, n - 1), wavenumber=7.0, **M),
    "damped helmholtz": lambda n: problems.helmholtz(
        (n - 1, n - 1), wavenumber=7.0, damping=0.3, **M
    ),
    "elasticity": lambda n: problems.elasticity((n // 2, n // 2), clamped="all", **M),
}


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_second_order(name):
    assert orders(SECOND_ORDER[name], (32, 64))[-1] > 1.9


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
    P = problems.darcy((24, 24), coefficient=seen[0], variant="published")
    a = P.params["coefficient"].ravel()
    L = kl.GridOperator.diffusion(P.grid)
    v = np.random.default_rng(0).standard_normal(len(a))
    assert np.allclose(P.A @ v, L @ (a * v))
    assert abs(P.A - P.A.T).max() > 1.0
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
    with pytest.raises(FileNotFoundError):
        problems.matrix_market(tmp_path / "none.mtx")


@pytest.mark.parametrize("call", [
    lambda: problems.poisson((4, 4), rhs="odd"), lambda: problems.poisson((4, 4), rhs=np.ones(3)),
    lambda: problems.poisson((4, 4), boundary="neumann", rhs="manufactured"),
    lambda: problems.diffusion((4, 4), kind="odd"), lambda: problems.diffusion(contrast=-1.0),
    lambda: problems.diffusion((4, 4, 4), kind="rotated"), lambda: problems.thermal((4, 4, 4)),
    lambda: problems.helmholtz(wavenumber=-1.0), lambda: next(problems.heat((4, 4, 4))),
    lambda: next(problems.smoke((4,))), lambda: problems.elasticity(poisson_ratio=0.5),
    lambda: problems.elasticity(clamped="right"), lambda: problems.thermal(boundary="odd"),
    lambda: problems.convection_diffusion(velocity="odd"),
])  # fmt: skip
def test_refusals(call):
    with pytest.raises(ValueError):
        call()
