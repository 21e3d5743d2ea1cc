"""Multigrid neural operators: structure, losses, training that resumes."""

import numpy as np
import pytest

import krylearn as kl

torch = pytest.importorskip("torch")

from krylearn.learned.mgno import MgNO, MultigridConv  # noqa: E402
from krylearn.learned.mgno.fields import load_fields  # noqa: E402
from krylearn.learned.mgno.loss import FrequencyLoss, relative_h1, relative_l2  # noqa: E402
from krylearn.learned.mgno.train import Config, Trainer, rate_at  # noqa: E402
from krylearn.learned.training import run_together  # noqa: E402


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_the_papers_darcy_model_has_its_number_of_parameters():
    assert count(MgNO(1, 1, width=24, layers=4, levels=6)) == 572_661


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("shape", [(37,), (16, 21), (8, 9, 11)])
@pytest.mark.parametrize("residual", [False, True])
def test_the_cycle_is_linear_on_any_grid(boundary, shape, residual):
    torch.manual_seed(0)
    W = MultigridConv(2, 3, 3, len(shape), boundary, restrict_residual=residual).double()
    f, g = torch.randn(2, 1, 2, *shape, dtype=torch.float64)
    whole, parts = W(3 * f - g), 3 * W(f) - W(g)
    assert whole.shape == (1, 3, *shape)
    assert torch.allclose(whole, parts, rtol=1e-12, atol=1e-12)


def test_periodic_layers_commute_with_shifts_of_the_coarsest_grid():
    torch.manual_seed(0)
    model = MgNO(1, 1, width=4, layers=2, levels=3, boundary="periodic").double()
    a = torch.randn(1, 1, 32, 32, dtype=torch.float64)
    shifted = model(torch.roll(a, (4, 8), dims=(2, 3)))
    assert torch.allclose(shifted, torch.roll(model(a), (4, 8), dims=(2, 3)), atol=1e-12)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="at least 32 points"):
        MgNO(levels=6)(torch.zeros(1, 1, 31, 64))
    with pytest.raises(ValueError, match="boundary must be one of"):
        MgNO(boundary="robin")
    with pytest.raises(ValueError, match="dimension"):
        MgNO(dimension=4)


@pytest.mark.parametrize("shape", [(12, 13), (50, 44)])
def test_frequency_loss_is_that_of_the_whole_transform(shape):
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((2, 3, 1, *shape))
    k = np.stack(np.meshgrid(*[np.fft.fftfreq(n, 1 / n) for n in shape], indexing="ij"))
    w = np.sqrt(1 + np.where(abs(k) < 20, k**2, 0.0).sum(axis=0))
    sizes = [np.linalg.norm((w * np.fft.fft2(f)).reshape(3, -1), axis=1) for f in (u - v, v)]
    loss = FrequencyLoss(shape).double()(torch.from_numpy(u), torch.from_numpy(v))
    np.testing.assert_allclose(loss.numpy(), sizes[0] / sizes[1], rtol=1e-6)


def test_relative_norms():
    x = torch.linspace(0, np.pi, 2001, dtype=torch.float64)[None, None]
    u, v = torch.sin(x) + 0.1 * torch.sin(3 * x), torch.sin(x)
    assert float(relative_l2(u, v)) == pytest.approx(0.1, rel=1e-9)
    # |u|^2 + |u'|^2: 0.1 sin(3x) has 0.01 (1 + 9), sin(x) has 1 + 1.
    h1 = relative_h1(u, v, np.pi / 2000)
    assert float(h1) == pytest.approx(np.sqrt(0.05), rel=1e-3)


def test_the_rate_rises_and_falls():
    config = Config(rate=1.0, rising=0.2)
    rates = [rate_at(config, step, 100) for step in range(100)]
    assert rates[0] == 0.5 and rates[19] == 1.0 and rates[99] == pytest.approx(0.005)
    assert np.all(np.diff(rates[:20]) > 0) and np.all(np.diff(rates[19:]) < 0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mgno")
    problems = list(kl.problems.sequence("darcy", 36, shape=(20, 20), rhs="constant"))
    a = np.array([P.params["coefficient"] for P in problems])
    u = np.array([kl.cg(P.A, P.b, rtol=1e-8)[0].reshape(20, 20) for P in problems])
    np.savez(folder / "darcy.npz", inputs=a, solution=u)
    (folder / "small.toml").write_text(
        'name = "small"\ndata = "darcy.npz"\ntrain = 24\nvalid = 6\ntest = 6\nepochs = 20\n'
        "rate = 2e-3\nmodel = { width = 8, layers = 2, levels = 3 }\n"
    )
    return folder


def test_training_learns_and_a_run_cut_short_goes_on_along_the_same_curve(data, tmp_path):
    config = Config.read(data / "small.toml")
    quiet = {"say": lambda line: None}
    before = Trainer(config).errors(30, 36)["l2"]
    whole = Trainer(config).run(tmp_path / "whole", **quiet)
    assert before < 0.6 and whole["l2"] < 0.8 * before  # it starts from the mean solution
    assert Trainer(config).run(tmp_path / "cut", seconds=0.0, **quiet) is None
    rest = Trainer(config).run(tmp_path / "cut", **quiet)
    assert (rest["l2"], rest["h1"], rest["curve"]) == (whole["l2"], whole["h1"], whole["curve"])
    assert rest["sha256"] == whole["sha256"]

    def kill(line):
        if line.startswith("epoch 20"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(config).run(tmp_path / "killed", say=kill)
    resumed = Trainer(config)
    resumed.load(tmp_path / "killed" / "checkpoint.pt")
    assert resumed.step == 10 * resumed.per_epoch
    assert Trainer(config).run(tmp_path / "killed", **quiet)["sha256"] == whole["sha256"]
    config.rate = 1e-3
    with pytest.raises(ValueError, match="another configuration"):
        Trainer(config).run(tmp_path / "cut", **quiet)


def test_trained_together_they_are_what_each_is_by_itself(data, tmp_path):
    configs = [Config.read(data / "small.toml") for _ in range(2)]
    configs[1].seed = 1
    quiet = {"say": lambda line: None}
    alone = [Trainer(c).run(tmp_path / f"alone{c.seed}", **quiet) for c in configs]
    folders = [tmp_path / f"both{c.seed}" for c in configs]
    both = run_together([Trainer(c) for c in configs], folders, **quiet)
    assert [card["sha256"] for card in both] == [card["sha256"] for card in alone]
    assert alone[0]["sha256"] != alone[1]["sha256"]


def test_half_precision_learns_and_passes_over_what_overflows(data, tmp_path, monkeypatch):
    def trainer(precision):
        config = Config.read(data / "small.toml")
        config.precision = precision
        return Trainer(config)

    half, single = trainer("fp16"), trainer("fp32")
    losses = np.array([[t.train_epoch() for _ in range(3)] for t in (half, single)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=5e-3)
    # Another way of the optimiser in a checkpoint is not taken over.
    single.config.precision = "fp16"
    single.save(tmp_path / "checkpoint.pt")
    half.load(tmp_path / "checkpoint.pt")
    assert all(group["fused"] for group in half.optimiser.param_groups)
    held = [p.clone() for p in half.model.parameters()]
    with monkeypatch.context() as patch:
        patch.setattr("krylearn.learned.training.LOSS_SCALE", float("inf"))
        half._scale.fill_(float("inf"))
        half.train_epoch()
    assert half._passed == half.per_epoch
    assert all(torch.equal(p, q) for p, q in zip(held, half.model.parameters()))
    # Gradients that overflow are scaled by less, until they do not; later by more again.
    half._scale.fill_(2.0**24)
    monkeypatch.setattr("krylearn.learned.training.LOSS_SCALE", 2.0**24)
    scales, passed, losses = [], [], []
    for _ in range(8):
        losses.append(half.train_epoch())
        scales.append(float(half._scale))
        passed.append(int(half._passed))
    assert passed[0] == half.per_epoch and passed[-1] == 0 and scales[-1] < 2.0**24
    assert scales[-1] == 2.0 ** (24 - sum(passed)) and losses[-1] < losses[0]
    assert all(torch.isfinite(p).all() for p in half.model.parameters())
    monkeypatch.setattr("krylearn.learned.training.CLEAN", 3)
    half._scale.fill_(2.0)
    half._clean.fill_(2.0)
    half.train_epoch()
    assert half._scale == 4.0 and half._clean == half.per_epoch - 1
    half.save(tmp_path / "checkpoint.pt")
    other = trainer("fp16")
    other.load(tmp_path / "checkpoint.pt")
    assert (other._scale, other._clean) == (half._scale, half._clean)


def test_weights_rounded_once_a_step_have_the_gradients_of_those_rounded_at_each_place(data):
    config = Config.read(data / "small.toml")
    config.precision = "fp16"
    once, each = Trainer(config), Trainer(config)
    each._rounded = []
    for t in (once, each):
        t.draw_epoch(0)
        t.draw(0)
        t._train_step()
    assert once._last == each._last
    for p, q in zip(once.model.parameters(), each.model.parameters()):
        assert p.grad.dtype == torch.float32 and torch.equal(p.grad, q.grad)


def test_outputs_are_scaled_at_each_point_or_over_all(data, tmp_path):
    u = load_fields(data / "darcy.npz", 0, 24)[1]
    config = Config.read(data / "small.toml")
    for config.pointwise, over in ((False, None), (True, 0)):
        model = Trainer(config).model
        np.testing.assert_allclose(model.mean.squeeze(), u.mean(over).squeeze(), rtol=1e-5)
        np.testing.assert_allclose(model.deviation.squeeze(), u.std(over).squeeze(), rtol=1e-5)
        # The weights bring their scale along, and it follows to other grids.
        other = MgNO(**model.settings)
        other.load_state_dict(model.state_dict())
        with torch.no_grad():
            other.head.weight.zero_()
            for n in (20, 40):
                mean = other(torch.zeros(1, 1, n, n)).mean()
                assert float(mean) == pytest.approx(u.mean(), rel=1e-4)


def test_what_is_minimised_is_the_setting(data, tmp_path):
    cards = {}
    for loss in ("frequency", "h1"):
        config = Config.read(data / "small.toml")
        config.loss, config.train, config.valid = loss, 6, 24  # few enough to fit closely
        trainer = Trainer(config)
        trainer.run(tmp_path / loss, say=lambda line: None)
        cards[loss] = trainer.errors(0, 6)
    for loss in cards:
        assert cards[loss][loss] == min(card[loss] for card in cards.values())
    with pytest.raises(ValueError, match="loss must be"):
        (data / "loss.toml").write_text('loss = "energy"\n')
        Config.read(data / "loss.toml")


@pytest.mark.parametrize("name", ["helmholtz", "navier-stokes"])
def test_waves_and_flows_are_learned_from_their_own_data(name, tmp_path):
    """The shipped configurations, at a small size."""
    config = Config.read(name)
    config.data = str(tmp_path / "data")
    if name == "helmholtz":
        options = dict(kl.data.plan.recipes()["helmholtz-neumann"]["options"], wavenumber=2.0,
                       roughness=0.4)  # fmt: skip
        kl.generate("helmholtz-neumann", samples=56, out=config.data, grid=25, options=options,
                    workers=1, solver="gmres+direct")  # fmt: skip
    else:
        config.data += ".npz"
        kl.data.navier_stokes(7, config.data, n=16, viscosity=1e-3, frames=18, step=0.05)
    config.train, config.valid, config.test, config.epochs, config.rate = 40, 8, 8, 40, 3e-3
    config.model = dict(config.model, width=8, layers=2, levels=3)
    trainer = Trainer(config)
    before = trainer.errors(48, 56)["l2"]
    card = trainer.run(tmp_path, say=lambda line: None)
    assert card["l2"] < 0.7 * before
    assert card["settings"]["boundary"] == {"helmholtz": "neumann"}.get(name, "periodic")
    assert card["settings"]["inputs"] == {"helmholtz": 1}.get(name, 10)
    with pytest.raises(ValueError, match="maps other fields than a to u"):
        kl.surrogate(tmp_path / f"{name}.safetensors")


def test_a_setting_that_does_not_exist_is_refused(data):
    (data / "bad.toml").write_text("epoch = 3\n")
    with pytest.raises(ValueError, match="no setting is called epoch"):
        Config.read(data / "bad.toml")
    with pytest.raises(ValueError, match="40 are needed"):
        Trainer(Config(data=str(data / "darcy.npz"), train=28, valid=6, test=6))


def test_fields_from_the_files_that_people_have(tmp_path):
    import h5py
    import scipy.io

    rng = np.random.default_rng(0)
    a, u = rng.standard_normal((2, 5, 9, 11)).astype("f4")
    np.savez(tmp_path / "a.npz", a=a, u=u)
    scipy.io.savemat(tmp_path / "a.mat", {"coeff": a, "sol": u})
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["inputs/coefficient"], file["solution"] = a, u
    with h5py.File(tmp_path / "b.mat", "w") as file:  # MATLAB 7.3 has the axes reversed
        file["coeff"], file["sol"] = a.T, u.T
    for name in ("a.npz", "a.mat", "a.h5", "b.mat"):
        inputs, solutions = load_fields(tmp_path / name, 1, 4, stride=2)
        assert inputs.dtype == solutions.dtype == np.float32
        assert np.array_equal(inputs[:, 0], a[1:4, ::2, ::2]), name
        assert np.array_equal(solutions[:, 0], u[1:4, ::2, ::2]), name
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["valid"] = np.array([1, 0, 1, 1, 1], "u1")
    assert np.array_equal(load_fields(tmp_path / "a.h5")[0][:, 0], a[[0, 2, 3, 4]])
    np.savez(tmp_path / "c.npz", nothing=a)
    with pytest.raises(ValueError, match="no inputs and solutions"):
        load_fields(tmp_path / "c.npz")


def test_a_surrogate_predicts_starts_and_refuses(data, tmp_path):
    config = Config.read(data / "small.toml")
    card = Trainer(config).run(tmp_path, say=lambda line: None)
    path = tmp_path / "small.safetensors"
    model = kl.surrogate(path)
    errors, P = [], None
    for seed in range(30, 36):
        P = kl.problems.darcy((20, 20), seed=seed)
        exact = kl.cg(P.A, P.b, rtol=1e-10)[0].reshape(20, 20)
        field, residual = model(P.params["coefficient"])
        errors.append(np.linalg.norm(field - exact) / np.linalg.norm(exact))
        true = np.linalg.norm(P.b - P.A @ field.ravel()) / np.linalg.norm(P.b)
        assert residual == pytest.approx(true, rel=1e-12)
        twice, _ = model(P.params["coefficient"], source=2.0)
        assert np.allclose(twice, 2 * field)
    assert np.mean(errors) == pytest.approx(card["l2"], rel=1e-3)
    x, info = kl.cg(P.A, P.b, x0=model, rtol=1e-8)
    assert info == 0 and np.allclose(x, exact.ravel(), rtol=1e-5)
    assert info.residuals[0] == pytest.approx(residual * np.linalg.norm(P.b), rel=1e-6)
    for A, b, message in (
        (P.A.tocsr(), P.b, "being an array"),
        (P.A, np.arange(400.0), "b varies"),
        (kl.GridOperator.diffusion(P.A.grid, np.full((20, 20), 50.0)), P.b, "from 3 to 12"),
        (kl.problems.darcy((24, 24)).A, np.ones(576), r"shape \(24, 24\)"),
        (kl.GridOperator.diffusion(kl.Grid((20, 20)), np.full((20, 20), 4.0)), P.b, "cells"),
    ):
        with pytest.raises(ValueError, match=message):
            kl.cg(A, b, x0=model)
    a = np.stack([kl.problems.darcy((20, 20), seed=k).params["coefficient"] for k in range(5)])
    for call, given in ((model.fields, a + 0j), (model, a[0] + 0j)):
        with pytest.raises(ValueError, match="knows real coefficients; these are complex"):
            call(given)
    together = model.fields(a, source=2.0, together=2)
    alone = np.stack([model(field, source=2.0).field for field in a])
    assert np.allclose(together, alone, rtol=1e-4, atol=1e-6 * np.abs(alone).max())
    loose = kl.surrogate(path, strict=False)
    assert loose(np.full((24, 24), 50.0)).field.shape == (24, 24)


def test_a_tampered_file_is_refused(data, tmp_path):
    config = Config.read(data / "small.toml")
    config.epochs = 1
    Trainer(config).run(tmp_path, say=lambda line: None)
    path = tmp_path / "small.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="sha256 differs"):
        kl.surrogate(path)
    with pytest.raises(ValueError, match="no surrogate is called 'nothing'"):
        kl.surrogate("nothing")
    path.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        kl.surrogate(path)


def test_the_command_trains(data, tmp_path):
    from typer.testing import CliRunner

    from krylearn.cli import app

    result = CliRunner().invoke(
        app, ["train", "mgno", str(data / "small.toml"), "--out", str(tmp_path), "--seed", "3"]
    )
    assert result.exit_code == 0 and "test L2" in result.output
    assert kl.surrogate(tmp_path / "small.safetensors").card["config"]["seed"] == 3
    for words, message in (
        (["dcm", str(data / "small.toml")], "no family of networks"),
        (["mgno", "nothing"], "there are darcy-rough, darcy-smooth, helmholtz, mgno-poisson2d, m"),
        (["mgno", "darcy-smooth"], "darcy-smooth.h5"),
    ):
        result = CliRunner().invoke(app, ["train", *words, "--out", str(tmp_path)])
        assert result.exit_code == 2 and message in result.output
