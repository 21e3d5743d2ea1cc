"""The data generator: the same bytes however it is run or killed, and nothing that is not true."""

import errno
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import scipy.fft
from typer.testing import CliRunner

import krylearn as kl
from krylearn.cli import app
from krylearn.data import plan, run, solvers, store, workers
from krylearn.data.make import Maker
from krylearn.data.plan import Plan

DARCY = dict(family="darcy", samples=20, grid=12, solver="cg", workers=1)


def make(out, **changes):
    return kl.generate(**{**DARCY, "out": out, **changes})


def cli(*arguments):
    result = CliRunner().invoke(app, ["generate", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


class Killed(BaseException):
    """Stands for a SIGKILL: nothing catches it."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the bytes of the file that an uninterrupted run of `DARCY` makes."""
    out = tmp_path_factory.mktemp("whole") / "d.h5"
    make(out)
    return out.read_bytes()


# -- the file -----------------------------------------------------------------------------------


def test_file_holds_inputs_solutions_residuals_seeds_and_provenance(tmp_path):
    report = make(tmp_path / "d.h5", seed=7, rtol=1e-9, grid=(12, 10))
    assert (report.samples, report.valid, report.found) == (20, 20, 0) and not report.bad
    with h5py.File(tmp_path / "d.h5") as file:
        assert file["inputs/coefficient"].shape == file["solution"].shape == (20, 12, 10)
        assert file["solution"].chunks == (1, 12, 10) and file["solution"].dtype == np.float64
        assert file["seed"][:].tolist() == list(range(7, 27))
        np.testing.assert_array_equal(file["constants/source"][:], np.ones((12, 10)))
        np.testing.assert_allclose(file["coordinates/1"][:], (np.arange(10) + 0.5) / 10)
        for i in range(20):
            P = kl.problems.darcy((12, 10), seed=7 + i)
            np.testing.assert_array_equal(file["inputs/coefficient"][i], P.params["coefficient"])
            x = file["solution"][i].ravel()
            true = np.linalg.norm(P.b - P.A.tocsr() @ x) / np.linalg.norm(P.b)
            assert true <= 1e-9 and file["residual"][i] == pytest.approx(true, rel=1e-4, abs=1e-15)
        about = dict(file.attrs)
    assert (about["family"], about["solver"], about["rtol"], about["first_seed"]) == (
        "darcy", "cg", 1e-9, 7)  # fmt: skip
    assert about["grid"].tolist() == [12, 10] and json.loads(about["options"]) == {}
    assert json.loads(about["versions"])["numpy"] == np.__version__
    assert json.loads(about["solver_configuration"])["maxiter"] > 0


def test_sample_depends_on_its_seed_alone(tmp_path):
    make(tmp_path / "a.h5", samples=20)
    make(tmp_path / "b.h5", samples=5, seed=11)
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        for name in ("inputs/coefficient", "solution", "residual", "checksum"):
            np.testing.assert_array_equal(a[name][11:16], b[name][:])


@pytest.mark.parametrize(
    ("family", "solver"), [("darcy", "batch"), ("darcy", "direct"), ("darcy", "solve"),
                           ("poisson", "fast_poisson"), ("convection_diffusion", "recycle+ilu0")],
)  # fmt: skip
def test_no_solver_carries_anything_from_shard_to_shard(tmp_path, family, solver):
    settings = dict(family=family, solver=solver, samples=40, grid=(12, 9))
    report = make(tmp_path / "a.h5", **settings)
    assert report.valid == 40 and not report.retried
    make(tmp_path / "b.h5", **settings, workers=3)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    if solver.startswith("recycle"):
        return
    # Nor within one: here the samples stand at other places of other shards.
    make(tmp_path / "c.h5", **{**settings, "samples": 9}, seed=13)
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "c.h5") as c:
        assert a.attrs["shard"] in (3, 8) and c["solution"].shape[0] == 9
        np.testing.assert_array_equal(a["solution"][13:22], c["solution"][:])


def test_kernels_are_compiled_before_processes_start(tmp_path, monkeypatch):
    seen = []

    def compile_for(maker):  # each process would compile them for itself
        solve = maker.solve
        monkeypatch.setattr(maker, "solve", lambda P, rtol: seen.append(P) or solve(P, rtol))
        compile_here(maker)
        monkeypatch.setattr(maker, "solve", solve)

    compile_here = workers.compile_for
    monkeypatch.setattr(workers, "compile_for", compile_for)
    make(tmp_path / "d.h5", grid=60, samples=9, solver="batch", workers=2)
    ((*problems,),) = seen
    assert [P.grid.shape for P in problems] == [(workers.SMALL, workers.SMALL)] * 8
    # What a small grid does not bear is left to the processes.
    plan_ = Plan.make("helmholtz", samples=2, grid=40)
    maker = Maker(plan_, None, "solve", lambda problems, rtol: 1 / 0)
    workers.compile_for(maker)


@pytest.mark.parametrize("count", [2, 5])
def test_bytes_do_not_depend_on_workers(tmp_path, whole, count):
    make(tmp_path / "d.h5", workers=count)
    assert (tmp_path / "d.h5").read_bytes() == whole


def test_bytes_do_not_depend_on_the_date(tmp_path, whole):
    time.sleep(1.1)
    make(tmp_path / "d.h5")
    assert (tmp_path / "d.h5").read_bytes() == whole


def test_stride_and_single_precision(tmp_path):
    make(tmp_path / "full.h5", grid=13)
    make(tmp_path / "thin.h5", grid=13, stride=3, dtype="float32")
    with h5py.File(tmp_path / "full.h5") as full, h5py.File(tmp_path / "thin.h5") as thin:
        assert thin["solution"].shape == (20, 5, 5) and thin["solution"].dtype == np.float32
        np.testing.assert_array_equal(
            thin["solution"][:], full["solution"][:, ::3, ::3].astype(np.float32)
        )
        np.testing.assert_array_equal(thin["residual"][:], full["residual"][:])
        np.testing.assert_array_equal(thin["coordinates/0"][:], full["coordinates/0"][::3])


FAMILIES = {
    "poisson": ({}, {"source"}),
    "darcy": ({"coefficient": "lognormal", "rhs": "smooth"}, {"coefficient", "source"}),
    "diffusion": ({"kind": "inclusions", "contrast": 1e3}, {"coefficient", "source"}),
    "convection_diffusion": ({"velocity": "constant"}, {"source", "velocity"}),
    "helmholtz": ({"damping": 0.1, "wavenumber": 9.0, "roughness": 0.2},
                  {"source", "wavenumber"}),
    "thermal": ({}, {"temperature"}),
    "elasticity": ({"roughness": 0.3}, {"modulus", "rhs"}),
    "heat": ({"steps": 3}, {"previous"}),
    "smoke": ({"steps": 3, "obstacles": 1}, {"mask", "smoke", "previous"}),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_made(tmp_path, family):
    options, inputs = FAMILIES[family]
    report = kl.generate(family, samples=3, grid=10, out=tmp_path / "f.h5", options=options,
                         workers=1, seed=2)  # fmt: skip
    assert report.valid == 3 and not report.bad
    wanted = Plan.make(family, samples=3, grid=10, options=options, seed=2)
    with h5py.File(tmp_path / "f.h5") as file:
        assert set(file["inputs"]) == inputs
        assert file["residual"][:].max() <= 1e-8
        for i in range(3):
            systems = wanted.systems(i)
            xs = file["solution"][i].reshape(len(systems), -1)
            for P, x in zip(systems, xs):
                r = P.b - P.A @ x
                assert np.linalg.norm(r) <= 1.0001e-8 * np.linalg.norm(P.b) + 1e-300
    data = kl.data.Samples(tmp_path / "f.h5")
    a, u = data[2]
    assert a.shape[0] >= 1 and np.isfinite(a).all() and np.isfinite(u).all()


def test_recipes_are_those_of_the_literature(tmp_path):
    smooth = Plan.make("darcy-smooth", samples=1)
    assert (smooth.grid, smooth.stride) == ((421, 421), 2) and len(range(421)[::2]) == 211
    rough = Plan.make("darcy-rough", samples=1)
    assert (rough.grid, rough.stride) == ((512, 512), 2)
    waves = Plan.make("multiscale", samples=1, grid=40)  # sizes can be changed
    assert waves.stride == 4 and plan.recipes()["multiscale"]["grid"] == [1023, 1023]
    assert len(range(1023)[::4]) == 256
    for name, tau in (("darcy-smooth", 3.0), ("darcy-rough", 5.0)):
        P = Plan.make(name, samples=1, grid=32).systems(4)[0]
        # Li et al. (2021), their generator: idct2 of s * coefficient * noise, without the mean.
        k = np.arange(32)
        decay = tau * (np.pi**2 * (k[:, None] ** 2 + k**2) + tau**2) ** -1.0
        noise = np.random.default_rng(P.seed).standard_normal((32, 32))
        noise[0, 0] = 0
        field = scipy.fft.idctn(32 * decay * noise, norm="ortho")
        np.testing.assert_array_equal(P.params["coefficient"], np.where(field >= 0, 12.0, 3.0))
        np.testing.assert_array_equal(P.b, np.ones(32 * 32))


# -- killed, full, corrupt ----------------------------------------------------------------------


def test_killed_at_every_write_it_ends_with_the_same_bytes(tmp_path, whole, monkeypatch):
    write, out = os.pwrite, tmp_path / "d.h5"
    kills = 0
    left = [0]

    def deadly(file, data, offset):
        left[0] -= 1
        if left[0] < 0:  # half of the bytes arrive
            write(file, bytes(data)[: len(data) // 2], offset)
            raise Killed
        return write(file, data, offset)

    monkeypatch.setattr(os, "pwrite", deadly)
    while not out.exists():
        left[0] = random.Random(kills).randrange(1, 12)
        try:
            make(out)
        except Killed:
            kills += 1
            assert kills < 200
    assert kills >= 10
    assert out.read_bytes() == whole
    assert not store.part_of(out).exists()


@pytest.mark.parametrize("moment", ["replace", "fsync"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_killed_while_files_get_their_names(tmp_path, whole, monkeypatch, moment, count):
    real, left = getattr(os, moment), [count]

    def deadly(*arguments):
        left[0] -= 1
        if left[0] == -1:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(os, moment, deadly)
    for _ in range(2):
        try:
            make(tmp_path / "d.h5")
        except Killed:
            pass
    make(tmp_path / "d.h5")
    assert (tmp_path / "d.h5").read_bytes() == whole


def kill_when_written(process, out, share):
    """Kill a process once a share of the file's space is taken."""
    part = store.part_of(out)
    while not (part.exists() and part.stat().st_blocks * 512 >= share * part.stat().st_size):
        assert os.waitpid(process, os.WNOHANG) == (0, 0), "it ended too early"
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(process, 0)[1])


def test_killed_with_its_workers_it_goes_on(tmp_path):
    settings = dict(samples=400, grid=40, workers=2)
    make(tmp_path / "whole.h5", **settings)
    out = tmp_path / "d.h5"
    for share in (0.1, 0.4, 0.6):
        child = os.fork()
        if child == 0:
            make(out, **settings)
            os._exit(0)
        kill_when_written(child, out, share)
    report = make(out, **settings)
    assert report.samples == report.valid == 400 and 100 < report.found < 400
    assert out.read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_corrupt_sample_is_made_again(tmp_path, whole, monkeypatch):
    out = tmp_path / "d.h5"
    monkeypatch.setattr(store.Store, "finish", lambda self, out: None)
    make(out)
    part = store.part_of(out)
    with h5py.File(part) as file:
        place = file["solution"].id.get_chunk_info(13).byte_offset
    with part.open("r+b") as file:
        file.seek(place + 100)
        file.write(b"\xff")
    monkeypatch.undo()
    assert make(out).found == 19
    assert out.read_bytes() == whole


def test_limit_on_the_size_of_files_is_told(tmp_path):
    """HDF5 crashed on it."""
    program = (
        "import resource, sys, krylearn as kl\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try:\n    kl.generate('darcy', samples=500, grid=16, out=sys.argv[1], solver='cg')\n"
        "except OSError as error:\n    print(error)\n"
    )
    answer = subprocess.run([sys.executable, "-c", program, tmp_path / "d.h5"], check=True,
                            capture_output=True, text=True)  # fmt: skip
    assert "the disk does not take it (File too large)" in answer.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 2])
def test_full_disk_is_told_and_what_was_written_is_kept(tmp_path, whole, monkeypatch, count):
    write, out, room = os.pwrite, tmp_path / "d.h5", [7000]

    def full(file, data, offset):
        room[0] -= len(data)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(run.Stopped, match="disk is full; .* of 20 samples are kept") as stopped:
        make(out, workers=count)
    assert stopped.value.errno == errno.ENOSPC and not out.exists()
    # The unfinished file is a sound HDF5 file that can be read.
    kept = len(kl.data.Samples(store.part_of(out)))
    assert 0 < kept < 20
    result = cli("darcy", "--samples", 20, "--grid", 12, "--solver", "cg", "--out", out,
                 "--workers", 1)  # fmt: skip
    assert result.exit_code == 1 and "the disk is full" in result.stderr
    monkeypatch.undo()
    assert make(out).found >= kept
    assert out.read_bytes() == whole


def test_worker_that_dies_is_told(tmp_path, whole, monkeypatch):
    real = Plan.systems

    def deadly(self, sample):
        if sample == 13 and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, sample)

    parent = os.getpid()
    monkeypatch.setattr(Plan, "systems", deadly)
    with pytest.raises(RuntimeError, match="out of memory"):
        make(tmp_path / "d.h5", workers=2)
    monkeypatch.undo()
    assert make(tmp_path / "d.h5").found > 0
    assert (tmp_path / "d.h5").read_bytes() == whole


# -- other files at that place ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [(dict(rtol=1e-6), "rtol 1e-08 there, 1e-06 here"), (dict(seed=3), "first_seed 0 there"),
     (dict(solver="cr"), "solver_asked_for 'cg' there, 'cr' here"), (dict(grid=13), "grid"),
     (dict(options={"rhs": "random"}), "options"), (dict(samples=21), "samples 20 there")],
)  # fmt: skip
@pytest.mark.parametrize("finished", [False, True])
def test_another_plan_is_refused(tmp_path, monkeypatch, change, told, finished):
    out = tmp_path / "d.h5"
    if not finished:
        monkeypatch.setattr(store.Store, "finish", lambda self, out: None)
    make(out)
    path = out if finished else store.part_of(out)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is of another run: .*choose another name") as refusal:
        make(out, **change)
    assert told in str(refusal.value)
    assert path.read_bytes() == before


def test_shares_join_to_the_same_bytes(tmp_path, whole, monkeypatch):
    out = tmp_path / "d.h5"
    reports = [make(out, shards=f"{i}/3") for i in range(3)]
    assert sum(report.samples for report in reports) == 20
    assert [report.valid for report in reports] == [report.samples for report in reports]
    assert not out.exists() and (tmp_path / "d.h5.2of3").exists()
    assert make(out, shards="1/3").found == reports[1].samples  # it is all there
    assert make(out).found == 20 and out.read_bytes() == whole
    assert not list(tmp_path.glob("*of*3"))
    out.unlink()
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    made = make(out, shards="auto")
    assert made.path.name == "d.h5.1of2"
    assert make(out).found == made.samples < 20 and out.read_bytes() == whole


def test_shares_of_another_plan_are_refused(tmp_path):
    make(tmp_path / "d.h5", shards="0/2", seed=5)
    with pytest.raises(ValueError, match="d.h5.0of2 is of another run"):
        make(tmp_path / "d.h5")
    for shards, told in (("2/2", "INDEX/COUNT"), ("x", "INDEX/COUNT")):
        with pytest.raises(ValueError, match=told):
            make(tmp_path / "d.h5", shards=shards)
    with pytest.raises(ValueError, match="agree on the solver"):
        make(tmp_path / "d.h5", shards="0/2", solver="auto")


def test_finished_file_is_left_alone(tmp_path):
    out = tmp_path / "d.h5"
    make(out)
    before = out.stat()
    report = make(out)
    assert (report.found, report.valid) == (20, 20)
    assert out.stat().st_mtime_ns == before.st_mtime_ns
    make(out, overwrite=True, seed=1)
    assert kl.data.Samples(out).attributes["first_seed"] == 1


def test_other_files_are_not_touched(tmp_path):
    out = tmp_path / "d.h5"
    out.write_bytes(b"my thesis")
    with pytest.raises(ValueError, match="not a file of krylearn generate"):
        make(out)
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="not a file of krylearn generate"):
        make(tmp_path / "mine.h5")
    assert out.read_bytes() == b"my thesis"


def test_two_runs_do_not_write_one_file(tmp_path, monkeypatch):
    out = tmp_path / "d.h5"
    monkeypatch.setattr(store.Store, "finish", lambda self, out: None)
    make(out)
    first = store.Store(store.part_of(out), layout_of(out))
    first.lock()
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="another run"):
            make(out, overwrite=overwrite)
    first.close()


def layout_of(out):
    from krylearn.data.layout import find_layout

    return find_layout(Plan.make("darcy", samples=20, grid=12, solver="cg"))


# -- samples that are bad -----------------------------------------------------------------------


def test_bad_samples_are_told_and_the_rest_is_kept(tmp_path, monkeypatch, whole):
    real = kl.problems.darcy

    def flaky(shape=(12, 12), *, seed=0):
        if seed == 6:
            raise ValueError("no luck")
        P = real(shape, seed=seed)
        if seed == 4:
            P.b[5] = np.nan
        if seed == 9:  # no solution
            n = P.A.shape[0]
            return kl.problems.Problem(P.A.tocsr() * 0.0, np.ones(n), P.params, P.grid)
        return P

    monkeypatch.setattr(kl.problems, "darcy", flaky)
    report = make(tmp_path / "d.h5")
    assert (report.valid, sorted(report.bad)) == (17, [4, 6, 9])
    assert "NaN" in report.bad[4] and "no luck" in report.bad[6] and "residual" in report.bad[9]
    with h5py.File(tmp_path / "d.h5") as file:
        assert np.flatnonzero(file["valid"][:] == 0).tolist() == [4, 6, 9]
        assert np.isnan(file["solution"][[4, 6, 9]]).all() and (file["checksum"][:] != 0).all()
        assert not file["residual"][4] <= 1e-8 and not file["residual"][9] <= 1e-8
        good = file["valid"][:] == 1
        assert np.isfinite(file["solution"][:][good]).all()
    data = kl.data.Samples(tmp_path / "d.h5", normalise=True)
    assert len(data) == 17 and all(np.isfinite(u).all() for _, u in (data[i] for i in range(17)))
    log = json.loads((tmp_path / "d.h5.log").read_text().splitlines()[-1])
    assert sorted(log["bad"]) == ["4", "6", "9"] and log["date"]


def test_no_solver_is_believed(tmp_path, monkeypatch):
    real = kl.cg

    def liar(A, b, x0=None, **options):
        x, info = real(A, b, rtol=1e-3)
        record = {k: v for k, v in info.__dict__.items() if k not in ("reason", "converged")}
        return x, kl.SolveInfo(kl.Reason.CONVERGED, **record)

    monkeypatch.setattr("krylearn.solvers.krylov.cg.cg", liar)
    report = make(tmp_path / "d.h5")
    assert report.valid == 20 and set(report.retried.values()) == {"direct"}
    assert sorted(report.retried) == list(range(20))
    with h5py.File(tmp_path / "d.h5") as file:
        assert file["residual"][:].max() < 1e-10


@pytest.mark.parametrize("error", [ValueError, ArithmeticError, MemoryError])
def test_solver_that_raises_costs_time_only(tmp_path, monkeypatch, error):
    def broken(problems, rtol):
        raise error("broken")

    real = solvers.find_solver
    monkeypatch.setattr("krylearn.data.make.find_solver",
                        lambda name: broken if name == "cg" else real(name))  # fmt: skip
    report = make(tmp_path / "d.h5", samples=4)
    assert report.valid == 4 and set(report.retried.values()) == {"direct"}


def test_singular_systems_have_solutions_without_the_nullspace(tmp_path):
    report = kl.generate("diffusion", samples=3, grid=12, out=tmp_path / "d.h5", workers=1,
                         options={"kind": "walls", "density": 0.05})  # fmt: skip
    assert report.valid == 3
    with h5py.File(tmp_path / "d.h5") as file:
        for i in range(3):
            P = kl.problems.diffusion((12, 12), kind="walls", density=0.05, seed=i)
            assert abs(P.A.nullspace.T @ file["solution"][i].ravel()).max() < 1e-12


# -- the choice of a solver ---------------------------------------------------------------------


def test_auto_names_what_it_chose_and_that_name_makes_the_same_data(tmp_path, monkeypatch):
    report = make(tmp_path / "a.h5", solver="auto")
    assert report.solver in report.trials and report.valid == 20
    make(tmp_path / "b.h5", solver=report.solver)
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        assert a.attrs["solver"] == b.attrs["solver"] == report.solver
        assert a.attrs["solver_asked_for"] == "auto"
        np.testing.assert_array_equal(a["checksum"][:], b["checksum"][:])
    # No clock is asked when a run goes on, whichever of the two names is given.
    monkeypatch.setattr(solvers, "choose", None)
    for name in ("auto", report.solver):
        assert make(tmp_path / "a.h5", solver=name).found == 20


def test_auto_stays_with_the_first_unless_another_is_clearly_faster(monkeypatch):
    clock = {"first": 1.0, "second": 0.9, "third": 0.75, "wrong": 0.1, "absent": 0.1}

    def find(name):
        if name == "absent":
            raise ValueError

        def solver(problems, rtol):
            now[0] += clock[name] * len(problems)
            return [x * (1 if name != "wrong" else 1.01) for x in xs]

        return solver

    P = kl.problems.poisson((6, 6))
    now, xs = [0.0], [np.linalg.solve(P.A.tocsr().toarray(), P.b)]
    monkeypatch.setattr(solvers, "find_solver", find)
    monkeypatch.setattr(solvers, "candidates", lambda P: list(order))
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    order = ["absent", "wrong", "first", "second"]
    best, seconds = solvers.choose([P], 1e-8)
    assert best == "first" and set(seconds) == {"first", "second"}
    order.append("third")
    assert solvers.choose([P], 1e-8)[0] == "third"
    # What is far too slow on one system is not tried on more.
    order.append("snail")
    clock["snail"], now[0] = 100.0, 0.0
    xs *= 8
    assert solvers.choose([P] * 8, 1e-8)[0] == "third"
    assert now[0] < 300
    # A small job is not worth trials: the first that works does it.
    assert solvers.choose([P] * 8, 1e-8, 20)[0] == "first"


# -- reading ------------------------------------------------------------------------------------


def test_samples_are_read_lazily_and_normalised(tmp_path):
    make(tmp_path / "d.h5", options={"rhs": "random"})
    data = kl.data.Samples(tmp_path / "d.h5", normalise=True, dtype="f8", first=2, last=18)
    raw = kl.data.Samples(tmp_path / "d.h5", dtype="f8", first=2, last=18)
    assert len(data) == 16 and data.inputs == ("coefficient", "source")
    a, u = (np.stack(parts) for parts in zip(*[data[i] for i in range(16)]))
    assert a.shape == (16, 2, 12, 12) and u.shape == (16, 1, 12, 12)
    np.testing.assert_allclose(a.mean(axis=(0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose([u.mean(), u.std()], [0, 1], atol=1e-12)
    np.testing.assert_allclose(data.denormalise(u[3]), raw[3][1], rtol=1e-12)
    np.testing.assert_array_equal(raw.read("solution")[:, None], [raw[i][1] for i in range(16)])
    assert kl.data.Samples(tmp_path / "d.h5", inputs="source")[0][0].shape == (1, 12, 12)
    again = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(again[-1][0], data[15][0])
    for wrong, error in ((16, IndexError), (-17, IndexError)):
        with pytest.raises(error):
            data[wrong]
    with pytest.raises(ValueError, match="no input 'colour'; it has coefficient, source"):
        kl.data.Samples(tmp_path / "d.h5", inputs=["colour"])
    with pytest.raises(FileNotFoundError):
        kl.data.Samples(tmp_path / "absent.h5")


def test_complex_solutions_take_two_channels(tmp_path):
    kl.generate("helmholtz", samples=2, grid=10, out=tmp_path / "h.h5", workers=1,
                options={"damping": 0.2}, dtype="float32")  # fmt: skip
    data = kl.data.Samples(tmp_path / "h.h5")
    assert data[1][1].shape == (2, 10, 10)
    values = data.read("solution")
    assert values.dtype == np.complex64
    np.testing.assert_array_equal(data[1][1], [values[1].real, values[1].imag])


def test_torch_loads_in_one_line(tmp_path):
    torch = pytest.importorskip("torch")
    make(tmp_path / "d.h5")
    data = kl.dataset(tmp_path / "d.h5")
    assert isinstance(data, torch.utils.data.Dataset)
    data[0]  # open before the fork
    loader = torch.utils.data.DataLoader(data, batch_size=6, num_workers=2)
    batches = list(loader)
    a, u = (torch.cat(parts).numpy() for parts in zip(*batches))
    assert a.shape == u.shape == (20, 1, 12, 12) and a.dtype == np.float32
    raw = kl.data.Samples(tmp_path / "d.h5")
    np.testing.assert_array_equal(u, [raw[i][1] for i in range(20)])


def test_neither_torch_nor_h5py_is_imported_by_the_package():
    code = ("import sys, krylearn, krylearn.data; krylearn.generate, krylearn.dataset; "
            "assert not {'torch', 'h5py'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the command --------------------------------------------------------------------------------


def test_command_tells_what_it_did(tmp_path, whole):
    out = tmp_path / "d.h5"
    words = ["darcy", "--samples", 20, "--grid", 12, "--solver", "cg", "--out", out]
    result = cli(*words)
    assert result.exit_code == 0 and "20; 20 valid" in result.stdout and "cg" in result.stdout
    assert result.stderr == "" and out.read_bytes() == whole
    record = json.loads(cli(*words, "--json").stdout)
    assert (record["found"], record["valid"], record["solver"]) == (20, 20, "cg")
    result = cli("diffusion", "--samples", 3, "--grid", "8x9", "--out", tmp_path / "e.h5",
                 "--set", "contrast=1e3", "--set", "kind=inclusions", "--dtype", "float32",
                 "--stride", 2, "--seed", 5, "--workers", 1)  # fmt: skip
    assert result.exit_code == 0
    data = kl.data.Samples(tmp_path / "e.h5")
    assert data.options == {"contrast": 1000.0, "kind": "inclusions"}
    assert data[0][1].shape == (1, 4, 5)


@pytest.mark.parametrize(
    ("words", "told"),
    [(["darcyy"], "did you mean darcy?"), (["darcy", "--grid", "a"], "a grid is 128"),
     (["darcy", "--set", "colour=red"], "darcy has no option 'colour'; it has coefficient"),
     (["darcy", "--set", "coefficient"], "NAME=VALUE"), (["darcy", "--rtol", 0], "rtol"),
     (["darcy", "--set", "coefficient=blue"], "coefficient must be one of"),
     (["darcy", "--solver", "magic"], "no method is called 'magic'"),
     (["darcy", "--solver", "cg+magic"], "no preconditioner is called 'magic'"),
     (["darcy", "--dtype", "int8"], "float32 or float64"), (["poisson", "--set", "rhs=constant"],
      "the same system for every seed"), (["elasticity", "--stride", 2], "stride"),
     (["matrix_market", "--grid", 4], "no grid"), (["darcy", "--grid", 0], "at least 1"),
     (["darcy", "--grid", "4x4x4x4"], "1 to 3 axes"), (["matrix_market"], "path"),
     (["smoke", "--grid", "4x4", "--set", "obstacles=-1"], "obstacles"),
     (["darcy", "--device", "gpu"], "'cpu' or 'cuda'"),
     (["mesh", "--device", "cuda"], "mesh with these options has no way over CUDA")],
)  # fmt: skip
def test_bad_input_takes_one_line(tmp_path, words, told):
    out = tmp_path / "d.h5"
    result = cli(*words, "--samples", 3, "--out", out)
    assert result.exit_code == 2 and told in result.stderr
    assert len(result.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
    answer = json.loads(cli(*words, "--samples", 3, "--out", out, "--json").stdout)
    assert told in answer["error"]


def test_folder_that_is_missing_is_told(tmp_path):
    result = cli("darcy", "--samples", 3, "--grid", 8, "--out", tmp_path / "no" / "d.h5")
    assert result.exit_code == 2 and "there is no folder" in result.stderr


def test_samples_that_are_not_valid_make_the_status_1(tmp_path, monkeypatch):
    real = kl.problems.darcy

    def flaky(shape=(12, 12), *, seed=0):
        P = real(shape, seed=seed)
        P.b[0] *= np.nan if seed == 5 else 1
        return P

    monkeypatch.setattr(kl.problems, "darcy", flaky)
    result = cli("darcy", "--samples", 8, "--grid", 8, "--out", tmp_path / "d.h5", "--solver", "cg",
                 "--workers", 2)  # fmt: skip
    assert result.exit_code == 1 and "sample 5: the system holds NaN or Inf" in result.stdout


@pytest.mark.slow
def test_ten_thousand_samples_killed_five_times(tmp_path, monkeypatch):
    # From a cold cache on: the first run compiles what the others load.
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))

    def command(name):
        return [sys.executable, "-m", "krylearn.cli", "generate", "darcy", "--samples", "10000",
                "--grid", "128", "--solver", "batch", "--out", str(tmp_path / name)]  # fmt: skip

    subprocess.run(command("whole.h5"), check=True)
    moments = random.Random(11)
    for share in sorted(moments.uniform(0.02, 0.95) for _ in range(5)):
        kill_when_written(subprocess.Popen(command("d.h5")).pid, tmp_path / "d.h5", share)
    answer = subprocess.run([*command("d.h5"), "--json"], check=True, capture_output=True)
    assert 0 < json.loads(answer.stdout)["found"] < 10000
    whole, resumed = (tmp_path / name for name in ("whole.h5", "d.h5"))
    assert whole.stat().st_size == resumed.stat().st_size
    with whole.open("rb") as a, resumed.open("rb") as b:
        while block := a.read(2**24):
            assert block == b.read(2**24)
        assert not b.read(1)


# -- flows ---------------------------------------------------------------------------------------


def test_flows_on_a_torus():
    """Frames agree with twice as many steps; without forcing a Taylor-Green vortex just decays."""
    from krylearn.data.flows import _Torus

    coarse, fine = (kl.data.navier_stokes(2, n=24, viscosity=1e-3, frames=5, known=3, step=step)
                    for step in (0.05, 0.025))  # fmt: skip
    assert coarse[0].shape == (4, 3, 24, 24) and coarse[1].shape == (4, 24, 24)
    assert np.array_equal(coarse[0][1, -1], coarse[1][0])  # what follows is known next
    assert np.linalg.norm(coarse[1] - fine[1]) < 1e-4 * np.linalg.norm(fine[1])
    again = kl.data.navier_stokes(1, n=24, viscosity=1e-3, frames=5, known=3, step=0.05, seed=1)
    assert np.allclose(again[1], coarse[1][2:], atol=1e-6)
    flow = _Torus(32, 0.01, 0.1)
    flow.force = 0 * flow.force
    x = 2 * np.pi * np.arange(32) / 32
    vortex = np.fft.rfft2(np.cos(x)[:, None] * np.cos(x))
    decay = np.exp(-0.01 * 8 * np.pi**2 * 0.1)
    assert np.allclose(flow.step(vortex), decay * vortex, atol=1e-10 * abs(vortex).max())
    for wrong in (dict(known=5), dict(step=0.3)):
        with pytest.raises(ValueError):
            kl.data.navier_stokes(1, n=8, frames=5, **{"known": 3, **wrong})
