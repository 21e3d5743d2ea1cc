"""The linear MgNO cycle: symmetric by construction on any grid, trained through the iteration."""

import numpy as np
import pytest
import scipy.sparse as sp

import krylearn as kl

torch = pytest.importorskip("torch")

from krylearn.learned import weights  # noqa: E402
from krylearn.learned.mgno.linear import LinearMgNO  # noqa: E402
from krylearn.learned.mgno.preconditioner import seen_of  # noqa: E402
from krylearn.learned.mgno.train_linear import (  # noqa: E402
    Config,
    Pool,
    Trainer,
    draw_operator,
    iterations_of,
)


def network(dimension=2, tied=True, noise=0.05, **more):
    """Return a network of random weights, the up-going ones others than the down-going."""
    torch.manual_seed(1)
    model = LinearMgNO(dimension, 4, 3, tied, **more)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(noise * torch.randn_like(p))
    return model


def dense(M):
    return np.column_stack([M @ e for e in np.eye(M.shape[0])])


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic", "mixed"])
@pytest.mark.parametrize("shape", [(37,), (9, 6), (1, 5), (5, 4, 3)])
def test_tied_cycles_are_symmetric_and_positive_definite_whatever_the_weights(boundary, shape):
    sides = [("neumann", "dirichlet")] * len(shape) if boundary == "mixed" else boundary
    grid = kl.Grid(shape, centering="cell", boundary=sides)
    a = np.exp(np.random.default_rng(0).standard_normal(shape))
    A = kl.GridOperator.diffusion(grid, a, 0.1)
    M = kl.MgNOCycle(A, network(len(shape)))
    P = dense(M)
    assert M.symmetric and M.positive_definite and np.allclose(P, P.T, rtol=1e-12, atol=1e-14)
    assert np.linalg.eigvalsh((P + P.T) / 2)[0] > 0


def test_untied_cycles_are_linear_and_for_flexible_methods():
    P = kl.problems.poisson((20, 17), seed=2)
    M = kl.MgNOCycle(P.A, network(tied=False))
    assert M.linear and not M.symmetric and M.positive_definite is None
    W = dense(M)
    assert not np.allclose(W, W.T, rtol=1e-3)
    r = np.random.default_rng(0).standard_normal(340)
    assert np.allclose(W @ r, M @ r, rtol=1e-12)
    with pytest.raises(ValueError, match="not symmetric: use gmres"):
        kl.cg(P.A, P.b, M=M)
    for method in (kl.fcg, kl.fgmres, kl.gmres):
        x, info = method(P.A, P.b, M=M, rtol=1e-8, maxiter=500)
        assert np.linalg.norm(P.b - P.A @ x) <= 1e-8 * np.linalg.norm(P.b) or info != 0


def test_a_multiple_of_the_matrix_has_a_multiple_of_the_cycle():
    P = kl.problems.poisson((80, 64), seed=2)  # in single precision
    M = kl.MgNOCycle(P.A)
    expected = M @ P.b
    assert M.working == np.float32
    for factor in (1e-150, 3.0, 1e150):
        found = kl.MgNOCycle(factor * P.A) @ P.b
        assert np.allclose(factor * found, expected, rtol=1e-6, atol=1e-9 * abs(expected).max())
    assert not np.any(M @ np.zeros_like(P.b)) and np.all(np.isnan(M @ np.full_like(P.b, np.nan)))


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("centering", ["node", "cell"])
def test_what_the_cycle_sees_of_constant_coefficients_is_constant(centering, boundary):
    shape = (9, 8)
    spacing = kl.Grid(shape, 1.0, boundary, centering).spacing
    lengths = [1 / h for h in spacing]  # so that spacings are one
    grid = kl.Grid(shape, lengths, boundary, centering)
    for reaction in (0.0, 1.0, 6.0):
        constant = kl.GridOperator.diffusion(grid, 1.0, reaction)
        varying = kl.GridOperator.diffusion(grid, np.ones(shape), reaction)
        for A in (constant, varying, 5.0 * constant):
            diagonal, shift = seen_of(A)
            assert shift == pytest.approx(reaction / 4, abs=1e-12)
            if centering == "cell" or boundary != "neumann":
                assert np.allclose(diagonal / diagonal[4, 4], 1, rtol=1e-12)
            assert np.all(diagonal > 0)


def test_a_strong_reaction_and_no_couplings_at_all():
    grid, b = kl.Grid((30, 31)), np.random.default_rng(0).standard_normal(930)
    for reaction in (1e2, 1e4, 1e8):
        A = kl.GridOperator.diffusion(grid, 1.0, reaction)
        x, info = kl.cg(A, b, M="mgno", rtol=1e-8)
        assert info == 0 and info.iterations <= 25
    alone = kl.GridOperator(grid, 2.0, [0.0, 0.0])
    assert seen_of(alone)[1] == 2.5
    x, info = kl.cg(alone, b, M="mgno", rtol=1e-8)
    assert info == 0 and np.allclose(x, b / 2, rtol=1e-7, atol=1e-7)


def test_what_the_trainer_does_is_what_the_preconditioner_does():
    A = draw_operator((18, 15), "cell", 3, 1.0, 1.0)
    model = network()
    pool = Pool([A], "cpu")
    r = torch.randn(1, 18, 15, generator=torch.Generator().manual_seed(0))
    M = kl.MgNOCycle(A, model)
    with torch.no_grad():
        trained = pool.directions(model)(r).numpy().ravel()
    found = M @ r.numpy().ravel().astype(float)
    assert np.allclose(found, trained, rtol=1e-4, atol=1e-5 * abs(found).max())


def test_training_learns_and_resumes(tmp_path):
    (tmp_path / "small.toml").write_text(
        'name = "small"\nkind = "cycle"\nstages = [[[12, 12], 1.0, 4, 6]]\nunroll = 4\n'
        "epochs = 3\nsteps = 12\nrate = 5e-3\ndecay = 0.0\nprecision = 'fp32'\n"
        "valid = [[14, 13]]\ntest = [[20, 24]]\nmodel = { width = 4 }\n"
    )
    config = Config.read(tmp_path / "small.toml")
    quiet = {"say": lambda line: None}
    before = Trainer(config).watch()["14x13"]
    whole = Trainer(config).run(tmp_path / "whole", **quiet)
    assert whole["curve"][-1]["14x13"] < before - 2
    assert Trainer(config).run(tmp_path / "cut", seconds=0.0, **quiet) is None
    assert Trainer(config).run(tmp_path / "cut", **quiet)["sha256"] == whole["sha256"]
    P = kl.problems.poisson((20, 24), seed=0)
    M = kl.MgNOCycle(P.A, tmp_path / "whole" / "small.safetensors")
    x, info = kl.cg(P.A, P.b, M=M, rtol=1e-5)
    assert info == 0 and info.iterations <= whole["test"]["20x24"] + 4


def test_the_shipped_cycle_is_what_its_card_says():
    for name in weights.names("cycle"):
        tensors, card = weights.load(name, "cycle")
        model = weights.fill(LinearMgNO(**card["settings"]), tensors, name)
        for size, steps in card["test"].items():
            shape = tuple(map(int, size.split("x")))
            if max(shape) <= 128:
                with torch.no_grad():
                    assert iterations_of(model, shape, 100) == pytest.approx(steps, abs=0.2)


def test_the_shipped_cycle_needs_as_many_iterations_on_all_grids():
    counts = []
    for n in (24, 63, 200):
        P = kl.problems.poisson((n, n + 7), seed=n)
        x, info = kl.cg(P.A, P.b, rtol=1e-8, M="mgno")
        counts.append(info.iterations)
        assert info == 0
    assert max(counts) <= 20 and max(counts) - min(counts) <= 4


def test_what_does_not_fit_is_refused():
    P = kl.problems.poisson((6, 6, 6))
    with pytest.raises(ValueError, match="grids of 3 axes is shipped"):
        kl.MgNOCycle(P.A)
    with pytest.raises(ValueError, match="knows grids of 2 axes, A has 3"):
        kl.MgNOCycle(P.A, network())
    A = kl.problems.poisson((6, 6)).A
    with pytest.raises(TypeError, match="a name, a path or a LinearMgNO"):
        kl.MgNOCycle(A, 3)
    with pytest.raises(ValueError, match="no cycle is called 'nothing'"):
        kl.MgNOCycle(A, "nothing")
    with pytest.raises(ValueError, match="a surrogate|a direction"):
        kl.MgNOCycle(A, weights.FOLDER / "poisson2d.safetensors")
    with pytest.raises(ValueError, match="nearest-neighbour"):
        kl.MgNOCycle(sp.csr_array(np.ones((9, 9)) + 9 * np.eye(9)))
    with pytest.raises(ValueError, match="on a grid of shape"):
        kl.MgNOCycle(A).update(kl.problems.poisson((6, 7)).A)
    for bad in ({"dimension": 4}, {"width": 0}, {"kinds": 1}):
        with pytest.raises(ValueError, match="must be"):
            LinearMgNO(**bad)


@pytest.mark.parametrize("kind", ["lognormal", "piecewise"])
def test_iterations_do_not_grow_with_the_grid_where_coefficients_vary(kind):
    """By the diagonal where it is smooth, by a number where it jumps and the contrast is small."""
    counts = []
    for n in (40, 90):
        P = kl.problems.darcy((n, n), coefficient=kind, rhs="random", seed=3)
        x, info = kl.cg(P.A, P.b, rtol=1e-8, M="mgno")
        assert info == 0
        counts.append(info.iterations)
    assert max(counts) <= {"lognormal": 12, "piecewise": 26}[kind]
    assert max(counts) - min(counts) <= 6  # scaled, piecewise ones take twice as many at 128
