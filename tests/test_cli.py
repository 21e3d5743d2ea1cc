"""The command line: exit status, answers that are right, messages of one line, no tracebacks."""

import io
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from rich.console import Console
from typer.testing import CliRunner

from krylearn import registry
from krylearn.benchmarks import show
from krylearn.benchmarks.systems import stencil
from krylearn.cli import app

SUITE = """
title = "Two rows"
runs = 1
[[case]]
name = "line"
problem = { stencil = [40] }
peer = "scipy.cg"
methods = ["cg", "scipy.cg"]
"""


def run(*arguments):
    """Return what `krylearn` with these arguments gives, in this process."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def start(*arguments, **environment):
    """Return a finished process of its own, whose output goes to pipes."""
    command = [sys.executable, "-m", "krylearn.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120,
                          env=os.environ | environment)  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return a folder with a matrix A.mtx and the b.npy of a known solution x."""
    monkeypatch.chdir(tmp_path)
    A = stencil([9, 8])
    x = np.random.default_rng(5).standard_normal(A.shape[0])
    scipy.io.mmwrite("A.mtx", A)
    np.save("b.npy", A @ x)
    np.savetxt("b.txt", A @ x)
    scipy.io.mmwrite("b.mtx", (A @ x).reshape(-1, 1))
    np.save("x.npy", x)
    return tmp_path


# -- solve ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rhs", ["b.npy", "b.txt", "b.mtx"])
@pytest.mark.parametrize("out", ["out.npy", "out.txt", "out.mtx"])
def test_solve_writes_the_solution_and_tells_its_residual(here, rhs, out):
    result = run("solve", "A.mtx", rhs, "--rtol", 1e-10, "--out", out, "--json")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    x = (np.load(out) if out.endswith("npy") else np.loadtxt(out) if out.endswith("txt")
         else scipy.io.mmread(out).reshape(-1))  # fmt: skip
    A, b = stencil([9, 8]), np.load("b.npy")
    np.testing.assert_allclose(x, np.load("x.npy"), atol=1e-8)
    assert record["converged"] and record["info"] == 0 and record["reason"] == "converged"
    assert record["residual"] == pytest.approx(np.linalg.norm(b - A @ x), rel=1e-2, abs=1e-13)
    assert record["relative_residual"] <= 1e-10
    assert record["method"] == "fast_poisson" and record["unknowns"] == 72


def test_solve_without_a_right_hand_side_looks_for_ones(here):
    assert run("solve", "A.mtx", "--out", "x.txt", "--rtol", 1e-12).exit_code == 0
    np.testing.assert_allclose(np.loadtxt("x.txt"), 1.0, rtol=1e-9)


def test_solve_says_what_it_did(here):
    result = run("solve", "A.mtx", "b.npy", "--method", "cg", "--precond", "none")
    assert result.exit_code == 0
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in result.stdout.splitlines())
    assert lines["method"].startswith("cg (") and lines["right side"] == "b.npy"
    assert lines["reason"] == "converged: the true residual is within tolerance"
    assert int(lines["matvecs"]) == int(lines["iterations"]) + 1
    assert float(lines["residual"].split("relative ")[1].split()[0]) <= 1e-8


def test_solve_that_does_not_converge_ends_with_1_and_advice(here):
    result = run("solve", "A.mtx", "b.npy", "--method", "cg", "--precond", "none", "--maxiter", 3)
    assert result.exit_code == 1
    assert "maxiter" in result.stdout and "preconditioner" in result.stdout
    record = json.loads(run("solve", "A.mtx", "b.npy", "--maxiter", 3, "--method",
                            "cg", "--json").stdout)  # fmt: skip
    assert record["iterations"] == 3 == record["info"] and not record["converged"]
    assert record["residual"] > 1e-8 * np.linalg.norm(np.load("b.npy"))


@pytest.mark.parametrize(
    ("kind", "method"),
    [("nonsymmetric", "gmres"), ("indefinite", "fast_poisson"), ("tall", "lsmr"),
     ("complex", "fast_poisson"), ("integer", "fast_poisson"), ("bordered", "cg"),
     ("bordered indefinite", "direct"), ("dense", "cg")],
)  # fmt: skip
def test_auto_suits_the_matrix(here, kind, method):
    A = stencil([10]).toarray()
    border = np.zeros((10, 10))
    border[0, 9] = border[9, 0] = -0.5
    changed = {
        "bordered": A + border + np.eye(10),
        "bordered indefinite": A + border - 3.0 * np.eye(10),
        "nonsymmetric": A + border + np.diag(np.ones(9), 1),
        "indefinite": A - 1.1 * np.eye(10),
        "tall": np.vstack([A, np.eye(10)]),
        "complex": A + 1j * np.eye(10),
        "integer": A.astype(int),
        "dense": A + 1.0,
    }[kind]
    scipy.io.mmwrite("B.mtx", changed if kind == "dense" else sp.coo_array(changed))
    result = run("solve", "B.mtx", "--json", "--out", "y.npy")
    assert result.exit_code == 0
    record = json.loads(result.stdout)
    assert re.split(r"\W", record["method"])[0] == method
    np.testing.assert_allclose(np.load("y.npy"), np.ones(10), rtol=1e-6)


@pytest.mark.parametrize("entry", registry.entries("method"), ids=lambda entry: entry.name)
def test_every_method_can_be_named(here, entry):
    A = stencil([6, 6]) + 4 * sp.eye_array(36)
    scipy.io.mmwrite("B.mtx", A)
    result = run("solve", "B.mtx", "--method", entry.name, "--json", "--rtol", 1e-7)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["method"].split("+")[0] == entry.name


@pytest.mark.parametrize("entry", registry.entries("preconditioner"), ids=lambda entry: entry.name)
def test_every_preconditioner_can_be_named(here, entry):
    result = run("solve", "A.mtx", "--method", "gmres", "--precond", entry.name, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["method"] == f"gmres+{entry.name}"


def test_a_method_for_symmetric_matrices_gets_no_unsymmetric_preconditioner_unasked(here):
    scipy.io.mmwrite("B.mtx", stencil([20]) + sp.diags_array([0.5], offsets=[1], shape=(20, 20)))
    result = run("solve", "B.mtx", "--method", "minres", "--maxiter", 40, "--json")
    assert json.loads(result.stdout)["method"] == "minres"


def test_values_that_are_not_finite_are_named(here):
    np.save("b.npy", np.full(72, np.nan))
    result = run("solve", "A.mtx", "b.npy")
    assert result.exit_code == 1 and "b holds NaN or Inf" in result.stdout
    scipy.io.mmwrite("B.mtx", sp.diags_array([1.0, np.nan, 2.0]))
    result = run("solve", "B.mtx")
    assert result.exit_code == 2 and "B.mtx: the matrix holds NaN or Inf" in result.output
    json.loads(run("solve", "A.mtx", "b.npy", "--json").stdout)


def test_a_singular_system_is_not_solved(here):
    scipy.io.mmwrite("S.mtx", sp.csr_array(np.array([[1.0, 1.0], [1.0, 1.0]])))
    np.save("b.npy", [1.0, -1.0])
    result = run("solve", "S.mtx", "b.npy", "--json")
    assert result.exit_code == 1 and not json.loads(result.stdout)["converged"]


BAD = {
    "missing file": (["none.mtx"], "there is no file none.mtx"),
    "folder": (["."], "folder"),
    "not Matrix Market": (["b.txt"], "b.txt is not a Matrix Market file"),
    "empty file": (["empty.mtx"], "not a Matrix Market file"),
    "cut short": (["short.mtx"], "not a Matrix Market file"),
    "binary": (["b.npy"], "not a Matrix Market file"),
    "wrong rhs size": (["A.mtx", "small.npy"], "holds 3 numbers; A has 72 rows"),
    "missing rhs": (["A.mtx", "none.npy"], "there is no file none.npy"),
    "rhs of words": (["A.mtx", "words.txt"], "does not hold numbers"),
    "rhs of objects": (["A.mtx", "objects.npy"], "does not hold numbers"),
    "rhs of another kind": (["A.mtx", "b.csv"], ".npy, .mtx, .txt"),
    "unknown method": (["A.mtx", "--method", "cgg"], "did you mean cg"),
    "unknown preconditioner": (["A.mtx", "--precond", "ic"], "did you mean ic0"),
    "unsuitable preconditioner": (["skew.mtx", "--precond", "ic0"], "Hermitian"),
    "not square": (["tall.mtx", "--method", "cg"], "square"),
    "rtol": (["A.mtx", "--rtol", "-1"], "rtol"),
    "rtol of nan": (["A.mtx", "--rtol", "nan"], "rtol"),
    "maxiter": (["A.mtx", "--maxiter", "-1"], "maxiter"),
    "out": (["A.mtx", "--out", "x.doc"], ".npy, .mtx, .txt"),
    "folder of out": (["A.mtx", "--out", "none/x.npy"], "there is no folder"),
    "plot": (["A.mtx", "--plot", "x.doc"], "--plot"),
}


def write_bad_files():
    open("empty.mtx", "w").close()
    with open("A.mtx") as whole, open("short.mtx", "w") as short:
        short.write(whole.read()[:300])
    np.save("small.npy", np.ones(3))
    np.save("objects.npy", np.array([{}, None]))
    with open("words.txt", "w") as words:
        words.write("not a number")
    scipy.io.mmwrite("tall.mtx", sp.coo_array(np.eye(4)[:, :3]))
    scipy.io.mmwrite("skew.mtx", sp.coo_array(np.array([[2.0, 1.0], [0.0, 2.0]])))


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_one_line_and_status_2(here, name):
    write_bad_files()
    arguments, words = BAD[name]
    result = run("solve", *arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("krylearn: ") and result.stderr.count("\n") == 1
    assert words in result.stderr and "Traceback" not in result.stderr
    as_json = run("solve", *arguments, "--json")
    assert as_json.exit_code == 2 and words in json.loads(as_json.stdout)["error"]
    assert not os.path.exists("x.doc")


def test_bad_usage_gives_status_2(here):
    for arguments in (["solve"], ["solve", "A.mtx", "--nonsense"], ["nonsense"],
                      ["solve", "A.mtx", "--rtol", "small"]):  # fmt: skip
        result = run(*arguments)
        assert result.exit_code == 2 and "Traceback" not in result.stderr


def test_the_history_is_drawn_on_request(here):
    pytest.importorskip("matplotlib")
    result = run("solve", "A.mtx", "--plot", "h.png")
    assert result.exit_code == 0 and "h.png" in result.stdout
    with open("h.png", "rb") as picture:
        assert picture.read(8) == b"\x89PNG\r\n\x1a\n"


def test_a_process_is_quiet_in_a_pipe_and_its_status_tells(here):
    good = start("solve", "A.mtx", "b.npy")
    assert good.returncode == 0 and good.stderr == "" and "\x1b" not in good.stdout
    assert len(good.stdout.splitlines()) == 7
    bad = start("solve", "b.txt")
    assert bad.returncode == 2 and bad.stdout == "" and len(bad.stderr.splitlines()) == 1
    assert start("solve", "A.mtx", "--method", "cg", "--maxiter", "1").returncode == 1


def test_progress_is_shown_in_a_terminal_only():
    for terminal in (True, False):
        screen = io.StringIO()
        console = Console(file=screen, force_terminal=terminal, width=80)
        with show.bar(console, 2, "first [case]") as live:
            live.advance()
            live.say("second")
        assert ("1/2" in screen.getvalue()) is terminal
        assert ("first [case]" in screen.getvalue()) is terminal


def test_help_needs_no_heavy_import():
    code = "import sys, krylearn.cli; print({'numba', 'scipy', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


# -- bench ---------------------------------------------------------------------------------------


def test_bench_by_path_prints_tables_and_says_where_things_are(here):
    (here / "s.toml").write_text(SUITE)
    result = run("bench", "s.toml", "--out", "r/s.json")
    assert result.exit_code == 0 and result.stderr == ""
    for words in (
        "Two rows", "line · 40 unknowns, 118 nonzeros", "times as fast: as scipy.cg", "triad",
        "convergence plot: r/s-convergence.png", "results: r/s.json",
    ):  # fmt: skip
        assert words in result.stdout
    assert (here / "r" / "s-convergence.png").stat().st_size > 5000
    data = json.loads((here / "r" / "s.json").read_text())
    assert [row["status"] for row in data["rows"]] == ["converged"] * 2 and data["finished"]
    kept = run("bench", "s.toml", "--out", "r/s.json", "--resume", "--json")
    assert json.loads(kept.stdout)["rows"] == data["rows"]
    plots = run("bench", "plot", "r/s.json", "--out", "p", "--json")
    assert plots.exit_code == 0 and (here / "p" / "s-convergence.png").exists()


def test_bench_refuses_in_one_line(here):
    (here / "s.toml").write_text(SUITE)
    (here / "r.json").write_text("[]")
    for arguments, words in (
        (["nosuch"], "no suite is called 'nosuch'; there are demo, foundation"),
        (["none.toml"], "none.toml cannot be read"),
        (["A.mtx"], "no suite is called"),
        (["s.toml", "--only", "zzz"], "nothing in s matches 'zzz'"),
        (["s.toml", "--out", "r.json"], "r.json is not a result"),
        (["s.toml", "--out", "A.mtx/r.json"], "A.mtx"),
        (["plot", "none.json"], "none.json cannot be read"),
        (["plot", "A.mtx"], "A.mtx is not a JSON file"),
    ):
        result = run("bench", *arguments)
        assert result.exit_code == 2 and words in result.stderr
        assert result.stderr.startswith("krylearn: ") and result.stderr.count("\n") == 1


def test_bench_lists_its_suites():
    listed = run("bench", "list").stdout
    assert listed.startswith("demo ") and "papers/relax" in listed
    suites = json.loads(run("bench", "list", "--json").stdout)
    assert {"demo", "foundation"} <= {suite["name"] for suite in suites}
    assert all(suite["rows"] > 0 for suite in suites)


def test_bench_kernels_compares_with_the_triad():
    data = json.loads(run("bench", "kernels", "--side", 6, "--json").stdout)
    assert data["machine"]["triad_all_threads"] > 1e8
    assert {"dot", "csr apply", "grid apply"} <= {row["kernel"] for row in data["kernels"]}
    assert "% of triad" in run("bench", "kernels", "--side", 6).stdout


# -- doctor and warmup ---------------------------------------------------------------------------


def test_doctor_tells_what_is_here():
    facts = json.loads(run("doctor", "--json").stdout)
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["threads"] >= 1 and facts["cache_writable"] in (True, False)
    assert facts["cuda_devices"] or facts["cuda_problem"]
    text = run("doctor").stdout
    for label in ("processor", "triad", "numba", "CUDA", "kernel cache"):
        assert re.search(f"^{label} ", text, re.MULTILINE)


def test_doctor_and_solve_work_where_no_cache_can_be_written(here):
    nowhere = str(here / "A.mtx" / "cache")  # below a file, even for root
    done = start("doctor", "--json", NUMBA_CACHE_DIR=nowhere)
    assert done.returncode == 0, done.stderr
    assert not (json.loads(done.stdout)["cache_directory"] or "").startswith(nowhere)
    assert start("solve", "A.mtx", "--precond", "none", NUMBA_CACHE_DIR=nowhere).returncode == 0


@pytest.mark.parametrize("cache", [None, SimpleNamespace(cache_path="A.mtx/cache")])
def test_doctor_tells_of_a_cache_that_cannot_be_written(here, monkeypatch, cache):
    from krylearn.kernels import vector

    monkeypatch.setattr(vector, "_dot", SimpleNamespace(_cache=cache))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert json.loads(run("doctor", "--json").stdout)["cache_writable"] is False
    assert "set NUMBA_CACHE_DIR" in run("doctor").stdout


def test_warmup_tells_what_it_compiled(monkeypatch):
    from krylearn.benchmarks import warm

    monkeypatch.setattr(warm, "tasks", lambda: [("cg", lambda: 1), ("sor", lambda: 1 / 0)])
    text = run("warmup").stdout
    assert "1 combinations are compiled" in text and "left out sor: ZeroDivisionError" in text
    assert json.loads(run("warmup", "--json").stdout)["done"] == ["cg"]
