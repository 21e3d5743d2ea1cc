"""The experiments of `krylearn bench papers/mgno`, at small sizes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from krylearn.benchmarks.papers import mgno, paper_names, run_paper  # noqa: E402
from krylearn.benchmarks.papers.mgno import predictions, rivals, samples, sockets  # noqa: E402
from krylearn.learned.mgno.train import Config, Trainer  # noqa: E402


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory):
    """A surrogate trained for a moment on the recipe of darcy-smooth, 15 x 15."""
    folder = tmp_path_factory.mktemp("mgno")
    recipe = {"grid": [29, 29], "stride": 2, "options": {"coefficient": "piecewise"}}
    a, u = samples.pairs(recipe, 40)
    np.savez(folder / "darcy-smooth.npz", inputs=a, solution=u)
    config = Config(name="small", data=str(folder / "darcy-smooth.npz"), train=24, valid=8, test=8,
                    epochs=40, rate=2e-3, pointwise=True,
                    model={"width": 8, "layers": 2, "levels": 3})  # fmt: skip
    Trainer(config).run(folder, say=lambda line: None)
    return str(folder / "small.safetensors")


def test_bands_and_errors_agree():
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((2, 3, 15, 16))
    rows = predictions.by_band(u, v)
    assert [row["from"] for row in rows] == [0, 4, 8]
    whole = np.sqrt(np.sum([row["solution"] ** 2 for row in rows]))
    assert whole == pytest.approx(1, abs=0.02)
    assert predictions.errors_of(v, v) == {"l2": 0.0, "h1": 0.0, "frequency": 0.0}


def test_the_experiments(surrogate, tmp_path, monkeypatch):
    from rich.console import Console

    assert "mgno" in paper_names()
    small = {
        "errors/small": lambda say: predictions.errors(surrogate, 3, say),
        "transfer/small": lambda say: predictions.transfer(surrogate, 2, say),
        "speed/small": lambda say: predictions.speed(surrogate, 4, say),
        "start/small": lambda say: sockets.start(surrogate, 2, 5, say),
        "cycle": lambda say: sockets.cycle((16,), say),
        "rivals": lambda say: rivals.compare(16, 16, 2, (4,), (4,), 5, say),
        "seeds": lambda say: rivals.seeds("darcy-smooth", 31, 16, 10, 2,
                                          {"width": 4, "layers": 2, "levels": 3}, say),
    }
    assert set(mgno.parts(False)) >= {"cycle", "rivals"}
    monkeypatch.setattr(mgno, "parts", lambda full: small)
    with Console(file=open(tmp_path / "log", "w"), width=140) as console:
        results = run_paper(console, "mgno", tmp_path / "mgno.json")["parts"]
    assert (tmp_path / "mgno-small.png").exists() and (tmp_path / "mgno-rivals.png").exists()
    assert (tmp_path / "mgno-seeds.png").exists() and (tmp_path / "mgno-curves.png").exists()
    first, second = (row["curve"][-1]["loss"] for row in results["seeds"]["rows"])
    assert first != second and abs(first - second) < 0.3 * first
    found = results["errors/small"]
    assert 0 < found["l2"] < 0.5 and 0 < found["coarse_grid"]["l2"] < 0.2
    elsewhere = {row["what"]: row for row in results["transfer/small"]}
    assert sum(row["trained"] for row in elsewhere.values()) == 1
    assert elsewhere["contrast 16"]["l2"] > elsewhere["grid 15 x 15"]["l2"]
    speeds = {row["what"]: row for row in results["speed/small"]}
    assert speeds["batched multigrid-CG to 1e-08, cpu"]["l2"] < 1e-7
    starts = {(row["solver"], row["start"]): row for row in results["start/small"]}
    assert len(starts) == 9 and all(r["converged"] == r["samples"] for r in starts.values())
    assert starts["CG", "zero"]["residual"] == 1
    cycles = {(row["family"], row["M"]): row for row in results["cycle"]}
    assert all(row["converged"] for row in cycles.values())
    assert 2 * cycles["poisson", "mgno"]["iterations"] < cycles["poisson", "none"]["iterations"]
    rows = {row["network"]: row for row in results["rivals"]["rows"]}
    assert set(rows) == {"MgNO", rivals.IN_H1, "U-Net", "FNO, 4 modes"}
    assert rows[rivals.IN_H1]["h1"] < rows["MgNO"]["h1"]
    sizes = [row["parameters"] for row in results["rivals"]["rows"][:4] if "error" not in row]
    assert len(sizes) >= 2 and max(sizes) < 1.5 * min(sizes)
    assert all("neuraloperator" in row["error"] for row in rows.values() if "error" in row)


def test_a_unet_takes_any_grid():
    model = rivals.UNet(width=4, levels=3)
    for shape in ((16, 16), (21, 13)):
        assert model(torch.zeros(2, 1, *shape)).shape == (2, 1, *shape)
