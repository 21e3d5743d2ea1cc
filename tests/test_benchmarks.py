"""Benchmarks: what a row says is true, and no method can spoil another's row."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rich.console import Console

from krylearn import registry
from krylearn.benchmarks import machine, plot, report, runner, systems, targets, warm, worker
from krylearn.benchmarks.cases import fingerprint, load_suite, parse_method, suite_names
from krylearn.benchmarks.files import to_json
from krylearn.benchmarks.peers import observe_scipy

PECULIAR = '''
import os, sys, time

def crash(A, b, rtol, maxiter):
    print("before the end", file=sys.stderr)
    os._exit(3)

def fault(A, b, rtol, maxiter):
    os.kill(os.getpid(), 11)

def raises(A, b, rtol, maxiter):
    raise RuntimeError("two lines\\nof which one counts")

def leaves(A, b, rtol, maxiter):
    sys.exit(4)

def sleeps(A, b, rtol, maxiter):
    open("sleeper", "w").write(str(os.getpid()))
    time.sleep(60)

def liar(A, b, rtol, maxiter):
    return 0 * b, 0

def noisy(A, b, rtol, maxiter):
    from scipy.sparse.linalg import spsolve
    print("{not json")
    os.system("echo noise")
    return spsolve(A.tocsc(), b), 0

def counted(A, b, rtol, maxiter, name):
    open("calls", "a").write(name)
    return noisy(A, b, rtol, maxiter)
'''
SUITE = """
title = "Peculiar"
runs = 3
timeout = 60
[[case]]
name = "square"
title = "2-D Laplacian"
problem = { stencil = [20, 25], rhs = "random", seed = 3 }
peer = "scipy.cg"
methods = ["auto", "cg", "gmres(7)+ilu0", "scipy.cg", "scipy.gmres(7)", "pyamg.sa-cg", "cg@grid",
           "nosuchpackage:solve", "peculiar:noisy", { method = "cg", label = "short", maxiter = 5 }]
[[case]]
name = "bad"
problem = { stencil = [20] }
methods = ["peculiar:crash", "peculiar:fault", "peculiar:raises", "peculiar:leaves",
           "peculiar:liar", "peculiar:nothing", { method = "peculiar:sleeps", timeout = 3 }]
"""
COUNTED = """
runs = 1
[[case]]
name = "c"
problem = { stencil = [30] }
methods = [
    { method = "peculiar:counted", name = "a", label = "a" },
    { method = "peculiar:counted", name = "b", label = "b" },
    { method = "peculiar:counted", name = "c", label = "c" },
]
"""


def write_files(folder):
    (folder / "peculiar.py").write_text(PECULIAR)
    (folder / "peculiar.toml").write_text(SUITE)
    (folder / "counted.toml").write_text(COUNTED)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return the results of a suite that holds every kind of row, and their file."""
    folder, before = tmp_path_factory.mktemp("suite"), os.getcwd()
    write_files(folder)
    os.chdir(folder)
    try:
        runner.run_suite(load_suite("peculiar.toml"), "out/r.json")
    finally:
        os.chdir(before)
    path = folder / "out" / "r.json"
    return runner.read_results(path), path


def row(results, method, case="square"):
    (found,) = (r for r in results[0]["rows"] if (r["case"], r["method"]) == (case, method))
    return found


# -- rows ----------------------------------------------------------------------------------------


def test_a_row_holds_the_truth_about_its_method(results):
    ours, scipys = row(results, "cg"), row(results, "scipy.cg")
    for found in (ours, scipys):
        assert found["status"] == "converged" and found["claimed"]
        assert found["unknowns"] == 500 and found["nonzeros"] == 5 * 500 - 2 * (20 + 25)
        assert 0 < found["residual"] <= 1e-8
        assert len(found["solve_runs"]) == 3
        assert found["solve_seconds"] == np.median(found["solve_runs"])
        assert 1e7 < found["peak_bytes"] < 2e9
        assert found["curve"]["residuals"][0] == pytest.approx(1.0)
        assert found["curve"]["residuals"][-1] == pytest.approx(found["residual"], rel=1e-3)
    # The same method in exact arithmetic: the same count, the same curve.
    assert ours["iterations"] == scipys["iterations"] > 20
    assert scipys["matvecs"] == scipys["iterations"]
    assert ours["matvecs"] == ours["iterations"] + 1  # one to check
    np.testing.assert_allclose(ours["curve"]["residuals"][:20], scipys["curve"]["residuals"][:20],
                               rtol=1e-6)  # fmt: skip


def test_rows_of_other_methods(results):
    assert row(results, "auto")["chosen"] == "fast_poisson"
    assert row(results, "gmres(7)+ilu0")["setup_seconds"] > 0
    assert row(results, "scipy.gmres(7)")["status"] == "converged"
    assert row(results, "pyamg.sa-cg")["iterations"] < 20
    assert row(results, "pyamg.sa-cg")["residual"] <= 1e-8
    short = row(results, "short")
    assert short["status"] == "not converged" and short["reason"] == "maxiter"
    assert short["iterations"] == 5 and not short["claimed"]


def test_what_a_method_prints_does_not_reach_its_row(results):
    noisy = row(results, "peculiar:noisy")
    assert noisy["status"] == "converged" and noisy["residual"] < 1e-12


def test_a_method_that_claims_too_much_is_told_by_its_residual(results):
    liar = row(results, "peculiar:liar", "bad")
    assert liar["status"] == "not converged" and liar["claimed"]
    assert liar["residual"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("method", "status", "words"),
    [
        ("peculiar:crash", "failed", "status 3: before the end"),
        ("peculiar:fault", "failed", "SIGSEGV"),
        ("peculiar:raises", "failed", "RuntimeError: two lines"),
        ("peculiar:leaves", "failed", "status 4"),
        ("peculiar:nothing", "failed", "no function 'nothing'"),
        ("peculiar:sleeps", "timed out", "not done after 3 s"),
    ],
)
def test_a_crash_or_timeout_costs_one_row(results, method, status, words):
    found = row(results, method, "bad")
    assert found["status"] == status and words in found["reason"]
    assert "\n" not in found["reason"] and "solve_seconds" not in found


def test_what_is_absent_is_skipped_with_a_reason(results, monkeypatch):
    assert row(results, "nosuchpackage:solve")["status"] == "skipped"
    assert row(results, "nosuchpackage:solve")["reason"] == "nosuchpackage is not installed"
    assert row(results, "cg@grid")["status"] == "skipped"
    job = load_suite("demo").jobs[0] | {"problem": {"stencil": [9]}}
    for package, method in (("petsc4py", "petsc.cg+icc"), ("cupy", "cupy.cg"),
                            ("pyamg", "pyamg.rs-cg")):  # fmt: skip
        monkeypatch.setitem(sys.modules, package, None)
        found = worker.run_job(job | {"method": parse_method(method)})
        assert found == {"status": "skipped", "reason": f"{package} is not installed"}


def test_scipys_products_and_residuals_are_observed():
    problem = systems.Loaded(systems.stencil([15, 15]), rhs="random")
    for name, each in (("scipy.cg", 1), ("scipy.bicgstab", 2)):
        matvecs, norms = observe_scipy(problem, parse_method(name), 1e-8, 1000)
        assert norms[0] == pytest.approx(np.linalg.norm(problem.b))
        # bicgstab may end half-way through an iteration, unseen.
        assert norms[-1] <= (1.1e-8 if name == "scipy.cg" else 1e-6) * norms[0]
        assert 0 <= matvecs - each * (len(norms) - 1) <= each - 1


# -- the file, and going on ----------------------------------------------------------------------


def test_the_file_is_strict_json_with_machine_facts(results):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    data = json.loads(results[1].read_text(), parse_constant=refuse)
    assert data["suite"] == "peculiar" and data["finished"] is True
    assert {"started", "title", "cases", "targets", "startup", "kernels"} <= set(data)
    facts = data["machine"]
    assert facts["triad_1_thread"] > 1e8 and facts["triad_all_threads"] > 1e8
    assert facts["matrix_flops"] > 1e8
    assert facts["threads"] >= 1 and facts["cpu"] and facts["memory_bytes"] > 1e8
    assert facts["versions"]["numpy"] == np.__version__
    common = {"case", "method", "fingerprint", "rtol", "family", "status"}
    measured = {"setup_seconds", "solve_seconds", "iterations", "matvecs", "residual",
                "peak_bytes", "first_call_seconds", "unknowns", "nonzeros"}  # fmt: skip
    for found in data["rows"]:
        assert common <= set(found)
        assert measured <= set(found) or (found["reason"] and not measured & set(found))
    assert not list(results[1].parent.glob("*.part"))


def test_to_json_is_strict():
    value = {"a": np.float64("nan"), "b": [np.inf, np.int64(3), np.bool_(True)], "c": (1.5,)}
    assert json.loads(to_json(value)) == {"a": None, "b": [None, 3, True], "c": [1.5]}


def calls(folder):
    path = folder / "calls"
    text = path.read_text() if path.exists() else ""
    path.unlink(missing_ok=True)
    return "".join(sorted(set(text)))


def test_a_run_that_was_cut_short_goes_on(folder):
    suite, out = load_suite("counted.toml"), folder / "r.json"

    def stop(row, found, results):
        if row["method"] == "b":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run_suite(suite, out, after=stop)
    cut = runner.read_results(out)
    assert [r["method"] for r in cut["rows"]] == ["a", "b"] and not cut["finished"]
    assert calls(folder) == "ab"
    seen = []
    whole = runner.run_suite(suite, out, after=lambda r, found, _: seen.append(found))
    assert calls(folder) == "c" and seen == [True, True, False]
    assert whole["finished"] and whole["rows"][:2] == cut["rows"]
    # --resume keeps what is there; --only measures what it names and keeps the rest.
    assert runner.run_suite(suite, out, resume=True)["rows"] == whole["rows"]
    assert calls(folder) == ""
    part = runner.run_suite(suite, out, only="c/b")
    assert calls(folder) == "b" and part["finished"]
    assert part["rows"][::2] == whole["rows"][::2]
    # What the suite came to name since then does not make a whole file half a one; a row of it that
    # is measured otherwise now does.
    held = part["rows"][:2]
    stale = [held[0] | {"fingerprint": "of another job"}, held[1]]
    for rows, before, after in ((held, True, True), (held, False, False), (stale, True, False)):
        for resume in (None, True):
            out.write_text(json.dumps(part | {"rows": rows, "finished": before}))
            again = runner.run_suite(suite, out, only="c/b", resume=resume)
            assert again["finished"] is after and again["rows"][-1]["method"] == "b"
    out.write_text(json.dumps(part))
    calls(folder)
    # A run on another machine does not mix with this one, nor does --fresh.
    other = json.loads(out.read_text())
    other["machine"]["cpu"], other["finished"] = "an abacus", False
    out.write_text(json.dumps(other))
    runner.run_suite(suite, out, only="c/a")
    assert calls(folder) == "a" and len(runner.read_results(out)["rows"]) == 1
    runner.run_suite(suite, out, resume=False, only="c/a")
    assert calls(folder) == "a"


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel to end the worker")
def test_a_killed_bench_leaves_no_worker(folder):
    command = [sys.executable, "-m", "krylearn.cli", "bench", "peculiar.toml", "--only", "sleeps",
               "--timeout", "60"]  # fmt: skip
    bench = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pid_file = folder / "sleeper"
    wait_until(lambda: pid_file.exists() and pid_file.read_text())
    pid = int(pid_file.read_text())
    assert os.path.exists(f"/proc/{pid}")
    bench.send_signal(signal.SIGKILL)
    bench.wait()
    wait_until(lambda: not running(pid), 10)


def wait_until(true, seconds=40):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("text", ["", "[1, 2]", "{}", '{"rows": []}', "%%MatrixMarket"])
def test_other_files_are_no_results(tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(runner.BadResults, match=r"r\.json"):
        runner.read_results(path)


def test_a_place_that_cannot_be_written_is_refused_before_the_first_row(folder):
    (folder / "file").write_text("")
    (folder / "taken").mkdir()
    for out in ("file/r.json", "taken"):
        with pytest.raises((OSError, ValueError)):
            runner.run_suite(load_suite("counted.toml"), out)
    assert calls(folder) == ""


# -- suites --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", suite_names())
def test_shipped_suites_name_only_what_exists(name):
    suite = load_suite(name)  # refuses unknown methods, peers, families and comparisons
    assert suite.jobs and suite.title
    for spec in {fingerprint(job["problem"]): job["problem"] for job in suite.jobs}.values():
        if "example" in spec:
            pytest.importorskip("pyamg")
        problem = systems.load_problem(spec, small=True)
        A = problem.csr
        assert A.shape == (len(problem.b), len(problem.b)) and 1 < A.shape[0] <= 12**3
        assert np.all(np.isfinite(problem.b)) and np.linalg.norm(problem.b) > 0
        assert np.all(A.diagonal() != 0)


def test_the_demo_has_real_input_a_large_and_a_nonsymmetric_system():
    problems = {job["case"]: job["problem"] for job in load_suite("demo").jobs}
    assert any("example" in p or "file" in p for p in problems.values())
    assert any(len(p.get("shape", ())) == 3 and np.prod(p["shape"]) >= 10**6
               for p in problems.values())  # fmt: skip
    gaps = []
    for spec in problems.values():
        if "family" in spec:
            A = systems.load_problem(spec, small=True).csr
            gaps.append(abs(A - A.T).max() / abs(A).max())
    assert max(gaps) > 1e-3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("case = 3", "[[case]]"),
        ("[[case]]\nname = 'a'\nmethods = ['cg']", "problem"),
        ("[[case]]\nproblem = {stencil = [9]}\nmethods = ['cg']", "'name' is missing"),
        ("[[case]]\nname = 'a'\nproblem = {stencil = [9]}\nmethods = 'cg'", "list"),
        ("[[case]]\nname = 'a'\nproblem = {stencil = [9]}\nmethods = ['cgg']", "mean cg"),
        ("[[case]]\nname = 'a'\nproblem = {stencil = [9]}\nmethods = ['cg+ic']", "ic0"),
        ("[[case]]\nname = 'a'\nproblem = {stencil = [9]}\nmethods = ['matlab.pcg']", "peer"),
        ("[[case]]\nname = 'a'\nproblem = {stencil = [9]}\nmethods = ['pyamg.sa-cg+ic0']", "no pr"),
        ("[[case]]\nname = 'a'\nproblem = {stencil = [9]}\nmethods = ['cg', 'cg']", "twice"),
        ("[[case]]\nname = 'a'\nproblem = {stencil = [9]}\nmethods = ['c g']", "no method"),
        ("[[case]]\nname = 'a'\nproblem = {stencil = [9]}\nmethods = ['cg']\npeer = 'x'", "'x'"),
        ("[[case]]\nname = 'a'\nproblem = {family = 'fish'}\nmethods = ['cg']", "fish"),
        ("[[case]]\nname = 'a'\nproblem = {n = 3}\nmethods = ['cg']", "family, example"),
        ("rtol = 'x'\n[[case]]\nname = 'a'\nproblem = {stencil = [9]}\nmethods = ['cg']", "'x'"),
        ("[[case", "TOML"),
    ],
)
def test_a_bad_suite_is_refused_with_its_reason(tmp_path, text, words):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        load_suite(str(path))
    assert words in str(error.value) and "s.toml" in str(error.value)


def test_settings_of_suite_case_method_and_command_line(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(
        "rtol = 1e-3\nruns = 7\n[[case]]\nname = 'a'\nproblem = {file = 'm.mtx'}\n"
        "rtol = 1e-4\nmethods = ['cg', {method = 'gmres(5)', rtol = 1e-5}]"
    )
    first, second = load_suite(str(path)).jobs
    assert (first["rtol"], second["rtol"], first["runs"]) == (1e-4, 1e-5, 7)
    assert second["method"]["options"] == {"restart": 5}
    assert first["problem"]["file"] == str(tmp_path / "m.mtx")  # beside the suite
    again = load_suite(str(path), runs=2, timeout=None).jobs[0]
    assert again["runs"] == 2 and again["timeout"] == first["timeout"]
    assert fingerprint(again) != fingerprint(first) == fingerprint(dict(first))


def test_ours_on_cuda_stand_beside_every_row(tmp_path):
    path = tmp_path / "s.toml"
    text = "[[case]]\nname = 'a'\nproblem = {stencil = [5, 5]}\nmethods = %s"
    path.write_text(text % "['cg+jacobi', 'scipy.cg', {method = 'gmres', device = 'cuda'}]")
    jobs = load_suite(str(path), "cuda").jobs
    assert [job["method"]["label"] for job in jobs] == [
        "cg+jacobi", "cg+jacobi on cuda", "scipy.cg", "gmres"]  # fmt: skip
    assert [job["method"].get("device") for job in jobs] == [None, "cuda", None, "cuda"]
    with pytest.raises(ValueError, match="'cpu' or 'cuda', not 'gpu'"):
        load_suite(str(path), "gpu")
    path.write_text(text % "[{method = 'scipy.cg', device = 'cuda'}]")
    with pytest.raises(ValueError, match="scipy.cg does not run on 'cuda'"):
        load_suite(str(path))


def test_rows_on_cuda_under_the_simulator(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text("runs = 1\n[[case]]\nname = 'a'\nproblem = {stencil = [4, 4]}\n"
                    "methods = ['cg+jacobi', 'cg+ilu0', 'cg+ssor', 'auto']")  # fmt: skip
    code = ("import sys; from krylearn.benchmarks import cases, worker\n"
            "for job in cases.load_suite(sys.argv[1], 'cuda').jobs[1::2]:\n"
            "    row = worker.run_job(job)\n"
            "    print(row['status'], row.get('reason'), row.get('iterations'))")  # fmt: skip
    environment = dict(os.environ, NUMBA_ENABLE_CUDASIM="1")
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=environment, text=True,
                          capture_output=True, timeout=300)  # fmt: skip
    rows = done.stdout.splitlines()
    assert len(rows) == 4, done.stderr
    assert rows[0] == rows[3] == "converged converged 9"  # so many eigenvalues differ
    assert rows[2].startswith("converged converged")  # swept by colours
    assert rows[1].startswith("skipped") and "counterpart" in rows[1]


def test_a_case_of_several_shapes(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(
        "[[case]]\nname = 'box'\ntitle = 'Boxes'\nshapes = [[4, 5], [6, 7]]\n"
        "problem = {family = 'poisson'}\nmethods = ['cg', 'cr']\n"
        "[[target]]\ntext = 't'\ncase = 'box*'\nmethod = 'cg'\nmeasure = 'iterations'\n"
        "at_most = 9"
    )
    suite = load_suite(str(path))
    assert [job["problem"]["shape"] for job in suite.jobs[::2]] == [[4, 5], [6, 7]]
    assert list(suite.cases) == suite.targets[0]["case"] == ["box 4x5", "box 6x7"]
    assert suite.cases["box 6x7"]["title"] == "Boxes, 6 x 7"
    path.write_text(path.read_text().replace("box*", "fox*"))
    with pytest.raises(ValueError, match="fox"):
        load_suite(str(path))


def test_a_matrix_free_method_never_holds_the_matrix():
    job = {"family": "poisson", "shape": [9, 9, 9], "rhs": "random"}
    problem = systems.load_problem(job)
    outcome = worker.find_runner("cg")(problem, parse_method("cg@grid"), 1e-8, 500)
    assert outcome.claimed and "csr" not in vars(problem)
    found = worker._row(problem, 1e-8, [outcome])
    assert found["residual"] <= 1e-8 and found["unknowns"] == 729


# -- reports -------------------------------------------------------------------------------------


def test_tables_fit_80_columns_and_explain_what_did_not_converge(results):
    console = Console(width=80, record=True, file=open(os.devnull, "w"))
    for name in ("square", "bad"):
        console.print(report.case_table(name, results[0]))
    text = console.export_text()
    assert "…" not in text
    for words in ("500 unknowns, 2,410 nonzeros", "auto: fast_poisson",
                  "nosuchpackage is not installed",
                  "although it says that it has", "SIGSEGV", "set-up", "residual"):  # fmt: skip
        assert words in " ".join(text.split())
    (line,) = (line.split() for line in text.splitlines() if line.startswith("scipy.cg "))
    assert line[-1] == "1.00"  # as fast as itself
    ours, peer = row(results, "auto"), row(results, "scipy.cg")
    (line,) = (line.split() for line in text.splitlines() if line.startswith("auto: "))
    assert float(line[-1]) == pytest.approx(targets.total(peer) / targets.total(ours), abs=0.006)


def test_targets_are_ratios_of_times():
    def made(method, setup, solve, iterations, status="converged"):
        return {"case": "a", "method": method, "status": status, "setup_seconds": setup,
                "solve_seconds": solve, "iterations": iterations}  # fmt: skip

    def target(method, measure, at_least, peer="scipy.cg"):
        return {"text": method, "case": "a", "method": method, "peer": peer, "measure": measure,
                "at_least": at_least}  # fmt: skip

    results = {
        "rows": [made("cg", 1.0, 2.0, 8), made("scipy.cg", 0.0, 12.0, 16),
                 made("short", 0.0, 1.0, 8, "not converged")],
        "targets": [target("cg", "iteration", 3.0), target("cg", "total", 5.0),
                    target("short", "iteration", 2.0), target("short", "total", 2.0),
                    target("cg", "total", 1.0, "petsc.cg")],
        "startup": {"import krylearn": 0.1},
    }  # fmt: skip
    found = targets.target_rows(results)
    assert [f["measured"] for f in found] == [3.0, 4.0, 6.0, None, None, 0.1]
    assert [f["met"] for f in found] == [True, False, True, None, None, True]
    assert report.target_table(results).row_count == 6
    assert report.target_table({"rows": [], "targets": [], "startup": None}) is None


def test_targets_over_several_cases_and_peers():
    def made(case, method, seconds, iterations=5, **more):
        return {"case": case, "method": method, "status": "converged", "setup_seconds": 0.0,
                "solve_seconds": seconds, "iterations": iterations, **more}  # fmt: skip

    rows = [made("a", "cg", 1.0, 7, memory_ratio=1.5, work_units=40.0), made("a", "fcg", 0.5),
            made("b", "cg", 2.0, 9), made("c", "cg", 1.0, 8), made("a", "scipy.cg", 4.0),
            made("a", "pyamg.rs-cg", 3.0), made("b", "scipy.cg", 5.0),
            made("c", "pyamg.rs-cg", 9.0)]  # fmt: skip
    both = ["scipy.cg", "pyamg.rs-cg"]
    targets_ = [
        dict(case="a", method="cg", peer=both, measure="total", at_least=3),
        dict(case=["a", "b", "c"], method="cg", peer=both, measure="total", at_least=2),
        dict(case=["a", "b", "c"], method="cg", peer=both, measure="total", at_least=2.9,
             over="median"),
        dict(case=["a", "b", "c"], method="cg", measure="iterations", at_most=8),
        dict(case=["a", "b"], method=["cg", "fcg"], measure="total", at_most=2.5),
        dict(case="a", method="cg", measure="memory", at_most=1.6),
        dict(case="a", method="cg", measure="work", at_most=30),
        dict(case=["a", "d"], method="cg", measure="iterations", at_most=8),
    ]  # fmt: skip
    results = {"rows": rows, "targets": [t | {"text": "t"} for t in targets_], "startup": None}
    found = targets.target_rows(results)
    assert [f["measured"] for f in found] == [3.0, 2.5, 3.0, 9, 2.0, 1.5, 40.0, None]
    assert [f["met"] for f in found] == [True, True, True, False, True, True, False, None]
    assert [f["beside"] for f in found] == ["pyamg.rs-cg", "b, scipy.cg", "", "b", "b", "", "", ""]
    assert [f["wanted"] for f in found[2:6]] == ["≥ 2.9x", "≤ 8", "≤ 2.5 s", "≤ 1.6x"]
    console = Console(width=80, record=True, file=open(os.devnull, "w"))
    console.print(report.target_table(results))
    assert "not met" in console.export_text()


@pytest.mark.parametrize(("target", "words"), [
    ("measure = 'speed'", "measure"), ("measure = 'total'", "at_least"),
    ("measure = 'total'\nat_most = 1\nat_least = 1", "one of"),
    ("measure = 'total'\nat_most = 1\nover = 'best'", "median"),
    ("measure = 'total'\nat_least = 1\npeer = ['cg', 'cr']", "'cr'"),
])  # fmt: skip
def test_a_bad_target_is_refused(tmp_path, target, words):
    path = tmp_path / "s.toml"
    path.write_text("[[case]]\nname = 'a'\nproblem = {stencil = [9]}\nmethods = ['cg']\n"
                    f"[[target]]\ntext = 't'\ncase = 'a'\nmethod = 'cg'\n{target}")  # fmt: skip
    with pytest.raises(ValueError, match=words):
        load_suite(str(path))


@pytest.mark.parametrize(("problem", "method", "words"), [
    ("{stencil = [9]}", "{method = 'cg', ranks = 2}", "ranks"),
    ("{stencil = [9], systems = 3}", "'cg'", "family"),
    ("{stencil = [9]}", "'batch'", "several systems"),
])  # fmt: skip
def test_ranks_and_systems_where_they_make_no_sense(tmp_path, problem, method, words):
    path = tmp_path / "s.toml"
    path.write_text(f"[[case]]\nname = 'a'\nproblem = {problem}\nmethods = [{method}]")
    with pytest.raises(ValueError, match=words):
        load_suite(str(path))


EXTRAS = """
runs = 2
[[case]]
name = "many"
problem = { family = "darcy", shape = [10, 12], systems = 6, seed = 1 }
methods = ["cg", "scipy.spsolve"]
[[case]]
name = "plate"
problem = { family = "elasticity", shape = [8, 8] }
sample = 2
methods = ["pyamg.sa-cg", "pyamg.evolution-cg", "petsc.cg+gamg",
           { method = "petsc.cg+hypre", precond = { pc_hypre_boomeramg_max_levels = 2 } },
           { method = "petsc.cg+gamg", ranks = 2, label = "two ranks" },
           { method = "cg+jacobi", work = true }]
"""


@pytest.fixture(scope="module")
def extras(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extras")
    (folder / "extras.toml").write_text(EXTRAS)
    return runner.run_suite(load_suite(str(folder / "extras.toml")), folder / "r.json"), None


def test_rows_of_many_systems(extras):
    for method in ("cg", "scipy.spsolve"):
        found = row(extras, method, "many")
        assert found["status"] == "converged" and found["unknowns"] == 120
        assert (found["systems"], found["solved"]) == (6, 5)
    problems = systems.load_problems({"family": "darcy", "shape": [6, 6], "systems": 3, "seed": 4})
    alone = systems.load_problem({"family": "darcy", "shape": [6, 6], "seed": 6})
    assert len(problems) == 3 and abs(problems[2].csr - alone.csr).max() == 0


def test_near_nullspaces_ranks_and_products(extras):
    for method in ("pyamg.sa-cg", "pyamg.evolution-cg"):
        assert row(extras, method, "plate")["status"] == "converged"
    for method in ("petsc.cg+gamg", "petsc.cg+hypre", "two ranks"):
        found = row(extras, method, "plate")
        assert found["status"] in ("converged", "skipped"), found
    found = row(extras, "cg+jacobi", "plate")
    assert found["work_units"] * found["work_seconds"] == pytest.approx(found["solve_seconds"])
    assert found["held_bytes"] >= 8 * found["unknowns"]
    A = systems.load_problem({"family": "elasticity", "shape": [8, 8]}).csr
    assert found["operator_bytes"] == A.data.nbytes + A.indices.nbytes + A.indptr.nbytes
    console = Console(width=80, record=True, file=open(os.devnull, "w"))
    for case in ("many", "plate"):
        console.print(report.case_table(case, extras[0]))
    text = " ".join(console.export_text().split())
    assert "of 6 systems" in text and "products with A" in text


def test_bytes_of_arrays_are_counted_once():
    class Holder:
        def __init__(self):
            big = np.zeros(1000)
            self.whole, self.part, self.again = big, big[::2], [big, {"x": np.zeros(10, "f")}]

    assert machine.held_bytes(Holder()) == 8040


def test_plots_are_written_and_show_the_curves(results, tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    data = results[0]
    paths = plot.save_plots(data, tmp_path / "new")
    assert set(paths) == {"convergence"}  # one size, and no method in two cases
    twice = [dict(r, case=case, unknowns=r.get("unknowns", 0) * k)
             for case, k in (("one", 1), ("two", 4)) for r in data["rows"]
             if r["case"] == "square"]  # fmt: skip
    paths = plot.save_plots({**data, "rows": twice}, tmp_path)
    assert set(paths) == {"convergence", "profile", "size"}
    for path in paths.values():
        picture = matplotlib.image.imread(path)
        assert picture.shape[0] > 300 and picture.std() > 0.02
    assert plot.save_plots({**data, "rows": []}, tmp_path) == {}


# -- the machine ---------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="resets the peak through /proc")
def test_peak_memory_is_that_since_it_was_forgotten():
    # In a process of its own, as in a benchmark: `krylearn generate` lets this one keep what arrays
    # give back.
    code = """
import numpy as np
from krylearn.benchmarks import worker
worker.forget_peak()
peaks = [worker.peak_memory()]
np.ones(2**24)  # 128 MiB, given back at once
peaks.append(worker.peak_memory())
worker.forget_peak()
print(*peaks, worker.peak_memory())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, high, after = map(int, done.stdout.split())
    assert 100e6 < high - before < 200e6
    assert after < high - 100e6


def test_kernels_move_what_they_must():
    from krylearn.benchmarks.kernels import measure_kernels

    rows = {row["kernel"]: row for row in measure_kernels(8, runs=1)}
    n, nonzeros = 8**3, 7 * 8**3 - 6 * 8**2
    assert rows["dot"]["bytes"] == 2 * 8 * n and rows["grid apply"]["bytes"] == 2 * 8 * n
    assert rows["csr apply"]["bytes"] == 12 * nonzeros + 4 * (n + 1) + 16 * n
    assert rows["ic0, natural"]["bytes"] == 12 * (nonzeros - n) + 40 * n
    assert rows["dot"]["flops"] == 2 * n and rows["csr apply"]["flops"] == 2 * nonzeros
    # Either way takes the matrix's half twice and divides by the diagonal, or multiplies.
    assert rows["ssor, natural"]["flops"] == 2 * rows["gauss_seidel, natural"]["flops"]
    assert rows["ssor, natural"]["flops"] == 2 * nonzeros
    for found in rows.values():
        assert 0 < found["flops"] < found["bytes"]
        assert found["bytes_per_second"] * found["seconds"] == pytest.approx(found["bytes"])


def test_triad_leaves_the_threads_as_they_were():
    threads = machine.get_num_threads()
    assert machine.triad(1, megabytes=1, runs=1) > 1e7
    assert machine.get_num_threads() == threads


def test_warmup_covers_the_registry_and_survives_a_failure():
    from krylearn.benchmarks.show import run_tasks

    names = [name for name, _ in warm.tasks()]
    for kind, text in (("method", "{} float32"), ("preconditioner", "M={} float64")):
        assert {text.format(entry.name) for entry in registry.entries(kind)} <= set(names)
    done = run_tasks(None, [("good", lambda: 1), ("bad", lambda: 1 / 0), ("last", lambda: 2)])
    assert done["done"] == ["good", "last"]
    assert done["left_out"] == {"bad": "ZeroDivisionError: division by zero"}


def test_facts_of_a_machine_name_no_folder_of_it():
    facts = json.dumps(machine.machine_facts(bandwidth=False))
    for folder in (sys.prefix, os.path.expanduser("~/"), os.getcwd()):
        assert folder not in facts


def test_the_record_of_a_cuda_run(tmp_path):
    from krylearn.benchmarks import cuda

    junit = tmp_path / "tests.xml"
    junit.write_text('<testsuites><testsuite tests="3" failures="1" skipped="1" time="2.5">'
                     '<testcase name="a"/><testcase name="b"><failure/></testcase></testsuite>'
                     '</testsuites>')  # fmt: skip
    tests = cuda.tests_of(junit)
    assert tests["failed"] == ["b"] and (tests["tests"], tests["skipped"]) == (3, 1)
    row = {"case": "a box", "what": "cg", "milliseconds": 2.0, "peer_milliseconds": 5.0}
    machine = {"device": "a card", "cuda": "13", "copy_bytes_per_second": 3e12, "versions": {}}
    old = {"machine": machine, "rows": [{"section": "amg", **row}, {"section": "fast", **row}]}
    new = {"machine": machine | {"copy_bytes_per_second": 2e12}, "tests": tests,
           "rows": [{"section": "fast", **row, "milliseconds": 1.0}]}  # fmt: skip
    both = cuda.merge(old, new)
    assert [(r["section"], r["milliseconds"]) for r in both["rows"]] == [
        ("amg", 2.0), ("fast", 1.0)]  # fmt: skip
    assert cuda.merge({"machine": {"device": "another"}, "rows": old["rows"]}, new) == new
    told = cuda.table(both)
    assert "1 passed, 1 failed, 1 skipped" in told and "| a box | cg | 1.000 |" in told
    junit.write_text("no")
    with pytest.raises(ValueError, match="no record of tests"):
        cuda.tests_of(junit)
    with pytest.raises(ValueError, match="no section is called 'slow'; there are stencil, matrix"):
        cuda.run(only="fast,slow")


def test_all_of_cuda_in_one_go(tmp_path, monkeypatch, capsys):
    from krylearn.benchmarks import cuda_all
    from krylearn.cuda import arrays

    assert cuda_all.main(["--only", "nothing"]) == 2  # before it looks for a device
    assert "no step is called 'nothing'; there are tests, cuda" in capsys.readouterr().err
    known = cuda_all.steps(tmp_path, 3)
    assert list(known) == ["tests", "cuda", "foundation", "demo", "multigrid"]
    assert "tests/test_cuda.py" in known["tests"] and "3" in known["tests"]
    monkeypatch.setattr(arrays, "require_cuda", lambda: None)
    monkeypatch.setattr(cuda_all, "JUNIT", tmp_path / "results" / "tests.xml")
    timed = ["timeit", "-n1", "-r1"]
    made = {"good": [*timed, "pass"], "bad": ["no_such_module"], "next": [*timed, "pass"]}
    monkeypatch.setattr(cuda_all, "steps", lambda out, processes: made)
    assert cuda_all.run(tmp_path / "out") == ["bad"] and (tmp_path / "out").is_dir()
    made["bad"] = [*timed, "import time; time.sleep(60)"]
    monkeypatch.setattr(cuda_all, "LEAST", 0.5)
    assert cuda_all.main(["--out", str(tmp_path), "--only", "bad,good", "--seconds", "1"]) == 1
    told = capsys.readouterr()
    assert "== bad: cut short" in told.out and "== good: no time left" in told.out
    assert "not done: bad, good" in told.err
