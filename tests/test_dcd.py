"""Deep conjugate directions: networks, kernels, safety, training that resumes, weights."""

import json

import numpy as np
import pytest
import scipy.sparse as sp

import krylearn as kl

torch = pytest.importorskip("torch")

from krylearn.learned import weights  # noqa: E402
from krylearn.learned.dcd import account, paper, train_paper, train_stencils  # noqa: E402
from krylearn.learned.dcd.cycle import StencilPreconditioner  # noqa: E402
from krylearn.learned.dcd.paper import DirectionNet, PyramidNet  # noqa: E402
from krylearn.learned.dcd.stencils import StencilCycle  # noqa: E402
from krylearn.learned.dcd.systems import (  # noqa: E402
    lanczos,
    obstacles,
    pressure_operator,
    ritz_basis,
)
from krylearn.learned.dcd.train_stencils import as_tensors, draw_operator  # noqa: E402
from krylearn.learned.unrolled import Systems  # noqa: E402
from krylearn.testing import require_honest  # noqa: E402


def pressure(shape, seed=0, open_top=True, noise=True):
    A = pressure_operator(obstacles(shape, seed), open_top)
    fluid = np.ones(shape, bool) if A.mask is None else A.mask
    b = np.random.default_rng(seed).standard_normal(shape) * fluid
    if not open_top:
        b -= fluid * b.sum() / fluid.sum()
    return A, b.ravel()


def random_cycle(dimension, tied=True, seed=1):
    torch.manual_seed(seed)
    model = StencilCycle(dimension, tied=tied, width=8)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


# -- networks --------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension, shape", [(2, (37, 20)), (3, (18, 13, 9))])
def test_the_pyramid_takes_any_size_and_residuals_of_any_size(dimension, shape):
    torch.manual_seed(0)
    net = PyramidNet(dimension=dimension, width=6)
    r = torch.randn(2, *shape)
    with torch.no_grad():
        q = net(r)
        assert q.shape == r.shape and torch.allclose(net(1e-3 * r), 1e-3 * q, atol=1e-5)


@pytest.mark.parametrize("counts, parameters", [((5, 6, 4), 97_457), ((7, 10, 6), 152_881)])
def test_the_papers_networks_have_their_numbers_of_parameters(counts, parameters):
    assert sum(p.numel() for p in DirectionNet(*counts).parameters()) == parameters


@pytest.mark.parametrize("shape", [(7, 12), (16, 16), (5, 6, 9)])
def test_the_papers_network_takes_any_size(shape):
    net = DirectionNet(3, 2, 2, width=4, dimension=len(shape))
    assert net(torch.randn(2, *shape)).shape == (2, *shape)
    with pytest.raises(ValueError, match="come in pairs"):
        DirectionNet(4)
    with pytest.raises(ValueError, match="dimension"):
        DirectionNet(dimension=1)


@pytest.mark.parametrize("shape", [(37, 52), (64, 64), (13, 18, 21), (24, 24, 24)])
@pytest.mark.parametrize("tied", [True, False])
def test_the_kernels_do_what_the_network_does(shape, tied):
    model = random_cycle(len(shape), tied)
    for seed in range(3):
        A = draw_operator(shape, [3, seed], 0.3, 0.4)
        M = StencilPreconditioner(A, model)
        fluid = 1.0 if A.mask is None else A.mask.ravel()
        r = np.random.default_rng(seed).standard_normal(A.shape[0]) * fluid
        levels, inverse = as_tensors([A], "cpu")
        with torch.no_grad():
            unit = torch.from_numpy(r.astype("f")).reshape(1, *shape)
            expected = model(unit, model.make(levels), inverse).numpy().ravel()
        assert np.linalg.norm(M @ r - expected) < 1e-5 * np.linalg.norm(expected)
        assert np.allclose(M @ (3 * r), 3 * (M @ r), rtol=0, atol=1e-4 * abs(M @ r).max())


def test_a_multiple_of_the_matrix_has_a_multiple_of_the_stencils():
    model = random_cycle(2)
    A = draw_operator((40, 36), 5, 0.0, 1.0)
    r = np.random.default_rng(0).standard_normal(A.shape[0])
    one, other = StencilPreconditioner(A, model) @ r, StencilPreconditioner(A * 1e-9, model) @ r
    assert np.allclose(one, 1e-9 * other, rtol=1e-3, atol=1e-5 * abs(one).max())


@pytest.mark.parametrize("shape", [(9, 8), (5, 4, 6)])
def test_the_tied_cycle_is_symmetric_and_positive_definite_for_any_weights(shape):
    for seed in range(3):
        A = draw_operator(shape, seed, 0.3, 0.5)
        M = StencilPreconditioner(A, random_cycle(len(shape), seed=seed))
        dense = M @ np.eye(A.shape[0])
        assert np.allclose(dense, dense.T, rtol=0, atol=1e-12 * abs(dense).max())
        assert np.linalg.eigvalsh((dense + dense.T) / 2)[0] > 0
        assert M.symmetric and M.positive_definite
    assert not StencilPreconditioner(A, random_cycle(len(shape), tied=False)).symmetric


@pytest.mark.parametrize("dtype", "fdFD")
@pytest.mark.parametrize("promise", kl.testing.PRECONDITIONER_PROMISES)
def test_the_preconditioner_keeps_the_contract(dtype, promise):
    def make(A):
        return kl.learned.DCD("poisson2d").precondition(A)

    if promise == "serves scipy" and dtype in "FD":
        return  # of complex couplings it sees the moduli alone, which need not help
    kl.testing.check_preconditioner(make, dtypes=dtype, only=[promise])


# -- the method ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 9, 7), (31, 12), (50, 8)])
@pytest.mark.parametrize("family", [DirectionNet, PyramidNet])
def test_large_grids_are_taken_by_slabs(shape, family, monkeypatch):
    torch.manual_seed(0)
    net = family(3, 2, 2, width=4, dimension=len(shape))
    r = torch.randn(2, *shape)
    calls, plain = [], paper._by_slabs
    with torch.inference_mode():
        whole = net(r / r.norm())
        monkeypatch.setattr(paper, "MOST", 4 * r.numel() - 1)
        monkeypatch.setattr(paper, "_by_slabs", lambda *a: calls.append(1) or plain(*a))
        parts = net(r / r.norm())
    assert calls and torch.allclose(whole, parts, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("open_top", [True, False])
@pytest.mark.parametrize("shape, bound", [((64, 64), 15), ((200, 120), 15)])
def test_few_iterations_past_obstacles_not_trained_on(shape, bound, open_top):
    A, b = pressure(shape, 4711, open_top)
    x, info = kl.dcd(A, b, rtol=1e-8)
    require = 1e-8 * np.linalg.norm(b)
    assert info == 0 and np.linalg.norm(b - A @ x) <= 1.001 * require
    _, plain = kl.cg(A, b, rtol=1e-8)
    assert info.iterations <= bound < plain.iterations / 5
    assert info.network_steps == info.iterations and info.dropped == ""
    M = kl.learned.DCD().precondition(A)
    _, symmetric = kl.cg(A, b, rtol=1e-8, M=M)
    _, flexible = kl.fcg(A, b, rtol=1e-8, M=M, truncate=2)
    assert symmetric == flexible == 0
    assert max(symmetric.iterations, flexible.iterations) <= bound


def test_a_matrix_and_its_operator_take_the_same_steps():
    A, b = pressure((48, 40), 3)
    _, one = kl.dcd(A, b, rtol=1e-8)
    x, other = kl.dcd(A.tocsr(), b, rtol=1e-8)
    assert one.iterations == other.iterations and other == 0


def test_what_is_no_grid_problem_is_refused_with_what_to_use():
    mesh = kl.problems.mesh((12, 12))
    for A, text in (
        (mesh.A, "use multigrid for a matrix"),
        (sp.linalg.aslinearoperator(np.eye(9)), "products only|entries"),
        (kl.GridOperator.diffusion(kl.Grid(30)), "1 axis; use kl.multigrid"),
        (sp.csr_array(np.triu(np.ones((9, 9)))), "use"),
    ):
        with pytest.raises((ValueError, TypeError), match=text):
            kl.dcd(A, np.ones(A.shape[0]))
    A, b = pressure((8, 8, 8))
    with pytest.raises(ValueError, match="take another model, or kl.multigrid"):
        kl.dcd(A, b, model="poisson2d")
    with pytest.raises(ValueError, match="no direction is called 'nothing'; there are.*poisson2d"):
        kl.dcd(A, b, model="nothing")
    with pytest.raises(TypeError, match="model must be"):
        kl.dcd(A, b, model=3)


# -- safety ----------------------------------------------------------------------------------


class Poisoned(torch.nn.Module):
    """A network that returns what no direction can be made of."""

    linear, dimension = False, 2

    def __init__(self, value, after=0):
        super().__init__()
        self.value, self.left = value, after

    def forward(self, r):
        self.left -= 1
        return r if self.left >= 0 else self.value(r)


def huge_net(seed):
    torch.manual_seed(seed)
    net = DirectionNet(3, 2, 2, width=6, dimension=2)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(50.0)
    return net


BAD = {
    "random": lambda: DirectionNet(3, 2, 2, width=6, dimension=2),
    "random and large": lambda: huge_net(0),
    "NaN": lambda: Poisoned(lambda r: r * float("nan")),
    "Inf": lambda: Poisoned(lambda r: r / 0),
    "zero": lambda: Poisoned(torch.zeros_like),
    "a constant": lambda: Poisoned(torch.ones_like),
    "the checkerboard": lambda: Poisoned(
        lambda r: (-1.0) ** torch.arange(r.numel()).reshape(r.shape)),
    "noise": lambda: Poisoned(torch.randn_like),
    "NaN later": lambda: Poisoned(lambda r: r * float("nan"), after=3),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_network_costs_few_passes_and_not_the_answer(what):
    torch.manual_seed(0)
    for shape, seed in (((40, 40), 1), ((64, 48), 2)):
        A, b = pressure(shape, seed)
        _, plain = kl.cg(A, b, rtol=1e-8)
        x, info = kl.dcd(A, b, rtol=1e-8, model=BAD[what]())
        require_honest(A.tocsr(), b, x, info, 1e-8)
        assert info == 0 and info.dropped
        assert info.precond_applies <= 5 if "later" in what else info.precond_applies == 1
        assert info.iterations <= 1.1 * plain.iterations + 5
        assert info.matvecs <= 1.1 * plain.matvecs + 15


@pytest.mark.parametrize("make", [
    lambda: kl.problems.diffusion((64, 64), contrast=1e6, kind="inclusions", seed=2),
    lambda: kl.problems.diffusion((64, 64), kind="rotated", contrast=1e3, seed=2),
    lambda: kl.problems.darcy((64, 64), seed=1),
    lambda: kl.problems.poisson((63, 64), seed=1),
])  # fmt: skip
def test_the_wrong_problem_costs_little_or_gains(make):
    try:
        P = make()
        kl.learned.DCD().precondition(P.A)
    except ValueError as refusal:
        assert "use" in str(refusal)
        return
    _, plain = kl.cg(P.A, P.b, rtol=1e-8)
    for model in ("poisson2d", random_cycle(2), random_cycle(2, tied=False)):
        x, info = kl.dcd(P.A, P.b, rtol=1e-8, model=model)
        assert info == 0
        assert np.linalg.norm(P.b - P.A @ x) <= 1.001e-8 * np.linalg.norm(P.b)
        assert info.iterations <= 1.1 * plain.iterations + 10


class Late(torch.nn.Module):
    """The good cycle for some passes; then a smoother, which keeps its place and gets nowhere."""

    linear, dimension = False, 2

    def __init__(self, A, after, work):
        super().__init__()
        self.M = kl.learned.DCD("poisson2d").precondition(A)
        self.left, self.multiplications = after, work

    def forward(self, r):
        self.left -= 1
        if self.left < 0:
            return r + 0.5 * sum(r.roll(k, axis) for k in (1, -1) for axis in (1, 2))
        z = self.M.matvec(r.numpy().ravel().astype(float))
        return torch.from_numpy(z.astype(np.float32)).reshape(r.shape)


@pytest.mark.parametrize("work", [8, 30, 300])
@pytest.mark.parametrize("after", [0, 3, 6])
def test_a_network_that_stalls_late_loses_no_more_than_its_limit(work, after):
    P = next(kl.problems.smoke((96, 96), open_top=True, seed=5))
    _, plain = kl.cg(P.A, P.b, rtol=1e-8)
    x, info = kl.dcd(P.A, P.b, rtol=1e-8, model=Late(P.A, after, work * account.HOST_RATE))
    require_honest(P.A.tocsr(), P.b, x, info, 1e-8)
    assert info == 0 and info.dropped
    # In steps of conjugate gradients, beside one pass.
    cost = info.matvecs + (info.precond_applies - 1) * (work + account.BESIDE - 1)
    assert cost <= 1.3 * plain.iterations
    _, free = kl.dcd(P.A, P.b, rtol=1e-8, model=Late(P.A, after, work * account.HOST_RATE),
                     limit=np.inf)  # fmt: skip
    assert free == 0 and "costs" not in free.dropped


def test_a_solve_that_is_stopped_where_a_network_would_be_dropped_tells_the_true_residual():
    A, b = pressure((40, 40))

    def stop(x):
        raise StopIteration

    x, info = kl.dcd(A, b, rtol=1e-8, model=BAD["zero"](), callback=stop)
    require_honest(A.tocsr(), b, x, info, 1e-8)
    assert info.iterations == 1 and not info.dropped


def test_a_limit_is_no_negative_number():
    A, b = pressure((20, 20))
    for limit in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="limit must be at least 0"):
            kl.dcd(A, b, limit=limit)


def test_an_indefinite_matrix_is_reported():
    grid = kl.Grid((20, 20))
    A = kl.GridOperator.diffusion(grid) + kl.GridOperator(grid, -600.0, [0.0, 0.0])
    x, info = kl.dcd(A, np.random.default_rng(0).standard_normal(400))
    require_honest(A.tocsr(), np.random.default_rng(0).standard_normal(400), x, info, 1e-5)
    assert info != 0


# -- data and training -------------------------------------------------------------------------


def test_lanczos_vectors_are_orthonormal_and_ritz_values_those_of_the_matrix():
    A, _ = pressure((12, 10), 1)
    one = Systems([A])
    start = torch.randn(120, generator=torch.Generator().manual_seed(0)) * one.mask.flatten()
    apply = lambda v: one.apply(v.reshape(1, 12, 10)).flatten()  # noqa: E731
    V, alpha, beta = lanczos(apply, start, 60)
    assert np.allclose(V @ V.T, np.eye(len(V)), atol=1e-5)
    T = np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1)
    assert np.allclose(V @ torch.stack([apply(v) for v in V]).T, T, atol=1e-4)
    largest = np.linalg.eigvalsh(A.tocsr().toarray())[-1]
    assert np.linalg.eigvalsh(T)[-1] == pytest.approx(largest, rel=1e-5)
    Y = ritz_basis(alpha, beta, boost=9.0, share=0.5).numpy()
    assert np.allclose(np.sort(np.linalg.norm(Y, axis=1)), [1.0] * 30 + [9.0] * 30, atol=1e-4)


@pytest.mark.parametrize("family", ["paper", "pyramid", "stencils"])
def test_training_learns_and_a_run_cut_short_goes_on_along_the_same_curve(family, tmp_path):
    if family == "paper":
        module, more = train_paper, dict(
            stages=[[[8, 8], 0.5], [[12, 12], 0.5]], vectors=40, matrices=2, follow=3, batch=4,
            cycles=True,
            model=dict(fine=1, coarse=2, last=2, width=4))  # fmt: skip
    elif family == "pyramid":
        module, more = train_paper, dict(
            network="pyramid", stages=[[[12, 12], 1.0]], vectors=40, matrices=2, unroll=3, batch=4,
            model=dict(fine=1, coarse=2, last=2, width=4))  # fmt: skip
    else:
        module, more = train_stencils, dict(
            stages=[[[12, 12], 0.5, 2, 4], [[20, 20], 0.5, 2, 4]], unroll=4,
            model=dict(width=6, kinds=2))  # fmt: skip
    text = [f"{k} = {json.dumps(v)}" for k, v in more.items() if not isinstance(v, dict)]
    text += ["model = {" + ", ".join(f"{k} = {v}" for k, v in more["model"].items()) + "}"]
    text += ['name = "tiny"', f'kind = "{family}"', "epochs = 4", "steps = 8", "rate = 5e-3",
             "decay = 0.0", 'precision = "fp32"', "valid = [[16, 16]]", "test = [[20, 17]]"]
    path = tmp_path / "tiny.toml"
    path.write_text("\n".join(text))
    config = module.Config.read(path)
    quiet = {"say": lambda line: None}
    whole = module.Trainer(config).run(tmp_path / "whole", **quiet)
    assert whole["kind"] == "direction" and whole["config"]["seed"] == 0
    assert module.Trainer(config).run(tmp_path / "cut", seconds=0.0, **quiet) is None
    rest = module.Trainer(config).run(tmp_path / "cut", **quiet)
    assert rest["sha256"] == whole["sha256"] and rest["curve"] == whole["curve"]
    if family == "stencils":
        first, last = (whole["curve"][k]["16x16"] for k in (0, -1))
        assert last <= first
    A, b = pressure((24, 20))
    x, info = kl.dcd(A, b, rtol=1e-6, model=tmp_path / "whole" / "tiny.safetensors")
    assert info == 0


def test_stages_have_cycles_of_the_learning_rate_and_weights_to_begin_with(tmp_path):
    settings = dict(name="tiny", epochs=5, steps=4, batch=2, vectors=20, rate=1e-3, decay=0.0,
                    precision="fp32", model=dict(fine=1, coarse=2, last=2, width=4),
                    stages=[[[8, 8], 0.6], [[10, 10], 0.4]])  # fmt: skip
    one = train_paper.Trainer(train_paper.Config(**settings, cycles=True))
    rates = []
    plain = one.rate_now
    one.rate_now = lambda: rates.append(plain()) or rates[-1]
    one.run(tmp_path / "one", say=lambda line: None)
    for first, last in ((0, 12), (12, 20)):  # from half the rate to the hundredth of that
        assert rates[first] < max(rates[first:last]) == pytest.approx(1e-3, rel=0.05)
        assert rates[last - 1] == pytest.approx(5e-6)
    path = tmp_path / "next.toml"
    path.write_text("\n".join(f"{k} = {json.dumps(v)}" for k, v in settings.items()
                              if k != "model") + '\nbegin = "one/tiny.safetensors"\n'
                    "model = { fine = 1, coarse = 2, last = 2, width = 4 }\n")  # fmt: skip
    config = train_paper.Config.read(path)
    assert config.kept()["begin"] == "tiny.safetensors"
    two = train_paper.Trainer(config)
    for ours, theirs in zip(two.model.parameters(), one.model.parameters()):
        assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match="weights of another model"):
        train_paper.Trainer(train_paper.Config(**settings, begin="paper64"))


def test_the_command_trains(tmp_path):
    from typer.testing import CliRunner

    from krylearn.cli import app

    path = tmp_path / "tiny.toml"
    path.write_text('name = "tiny"\nkind = "stencils"\nstages = [[[8, 8], 1.0, 2, 2]]\n'
                    "unroll = 2\nepochs = 1\nsteps = 2\nmodel = { width = 4, kinds = 1 }\n")
    result = CliRunner().invoke(app, ["train", "dcd", str(path), "--out", str(tmp_path)])
    assert result.exit_code == 0 and "tiny.safetensors" in result.output
    assert kl.learned.DCD(tmp_path / "tiny.safetensors").card["family"] == "stencils"
    for words, message in (
        (["dcm", str(path)], "no family of networks"),
        (["dcd", "nothing"], "paper64, poisson2d"),
    ):
        result = CliRunner().invoke(app, ["train", *words, "--out", str(tmp_path)])
        assert result.exit_code == 2 and message in result.output


def test_the_experiments(tmp_path, monkeypatch, capsys):
    from rich.console import Console

    from krylearn.benchmarks.papers import dcdm, paper_names, run_paper

    assert "dcdm" in paper_names()
    every = dcdm.entrants
    names = ("cg", "deflated cg", "dcd poisson3d", "cg, M = poisson3d")
    monkeypatch.setattr(dcdm, "entrants", lambda *a: {n: every(*a)[n] for n in names})
    monkeypatch.setattr(dcdm, "parts", lambda full: {
        "host 12": lambda say: dcdm.run(12, "cpu", say), "training": dcdm.training})  # fmt: skip
    results = run_paper(Console(), "dcdm", tmp_path / "dcdm.json")
    rows = {(r["method"], r["rtol"]): r for r in results["parts"]["host 12"]}
    assert len(rows) == 8 and all(r["converged"] for r in rows.values())
    assert 2 * rows["cg, M = poisson3d", 1e-6]["iterations"] < rows["cg", 1e-6]["iterations"]
    trained = {row["name"] for row in results["parts"]["training"]}
    assert {"poisson2d", "poisson3d", "paper64"} <= trained


# -- weights -----------------------------------------------------------------------------------


def test_shipped_weights_are_small_and_have_cards():
    for name in weights.names("direction"):
        path = weights.FOLDER / f"{name}.safetensors"
        assert path.stat().st_size < 4e6
        card = kl.learned.DCD(name).card
        assert card["licence"] == "MIT" and card["curve"] and card["seconds"] > 0 and card["data"]


def test_tampered_and_foreign_files_are_refused(tmp_path):
    source = weights.FOLDER / "poisson2d.safetensors"
    path = tmp_path / "mine.safetensors"
    card = json.loads(source.with_suffix(".json").read_text())

    def write(content, **changes):
        path.write_bytes(content)
        path.with_suffix(".json").write_text(json.dumps(card | changes))

    content = bytearray(source.read_bytes())
    write(bytes(content))
    assert kl.learned.DCD(path).name == "poisson2d"
    content[-1] ^= 1
    write(bytes(content))
    with pytest.raises(ValueError, match="sha256 differs"):
        kl.learned.DCD(path)
    import hashlib
    import pickle

    foreign = pickle.dumps({"a": 1})
    write(foreign, sha256=hashlib.sha256(foreign).hexdigest())
    with pytest.raises(ValueError, match="no safetensors file"):
        kl.learned.DCD(path)
    write(source.read_bytes(), kind="surrogate")
    with pytest.raises(ValueError, match="holds a surrogate, and a direction is needed"):
        kl.learned.DCD(path)
    write(source.read_bytes(), settings={**card["settings"], "width": 5})
    with pytest.raises(ValueError, match="another model"):
        kl.learned.DCD(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        kl.learned.DCD(path)


def test_a_quotient_that_underflows_tells_nothing():
    class Bookkeeping:
        extra: dict = {}
        residuals, tolerance, reason = np.ones(1), 1e-6, None

    class Squares:
        @staticmethod
        def square(p):
            return np.inf

    trust = account.Trust(Bookkeeping(), None, 0.3)
    trust.see(Squares, None, 1.0)
    trust.judge("", 0.1)
    assert trust.smallest == np.inf
