"""Many systems at once on the device; else under Numba's simulator on tiny grids."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import krylearn as kl
from krylearn.cuda import arrays
from krylearn.grid import Grid, GridOperator
from krylearn.interface import Reason

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def _has_device() -> bool:
    try:
        arrays.require_cuda()
    except arrays.NoCUDA:
        return False
    return not SIMULATED


DEVICE = _has_device()
runs = pytest.mark.skipif(not (DEVICE or SIMULATED), reason="no CUDA device")
device = pytest.mark.skipif(not DEVICE, reason="no CUDA device")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:.*Grid size")
GRIDS = [(120,), (21, 34), (9, 12, 11)] if DEVICE else [(9,), (5, 6), (3, 4, 3)]


@pytest.mark.skipif(DEVICE or SIMULATED, reason="the tests below run by themselves")
def test_everything_under_the_simulator():
    environment = dict(os.environ, NUMBA_ENABLE_CUDASIM="1")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                           str(Path(__file__))], env=environment, text=True, capture_output=True,
                          timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.skipif(DEVICE or SIMULATED, reason="there is a device")
def test_without_cuda_the_message_says_what_is_missing():
    P = kl.problems.darcy((8, 8))
    with pytest.raises(arrays.NoCUDA, match="torch|CUDA"):
        kl.solve_batch([P.A], [P.b], device="cuda")
    with pytest.raises(ValueError, match="'cpu' or 'cuda', not 'gpu'"):
        kl.solve_batch([P.A], [P.b], device="gpu")
    _, infos = kl.solve_batch([P.A], [P.b], device="cpu")
    assert infos[0] == 0


def darcy(m, shape=None):
    shape = shape or ((33, 40) if DEVICE else (6, 7))
    return [kl.problems.darcy(shape, seed=i, rhs="random") for i in range(m)]


def coefficients(problems):
    return np.stack([P.params["coefficient"] for P in problems])


def batch(problems, **options):
    return kl.solve_batch([P.A for P in problems], [P.b for P in problems], device="cuda",
                          **options)  # fmt: skip


def host(x):
    return x.cpu().numpy() if hasattr(x, "cpu") else arrays.download(x)


@runs
@pytest.mark.parametrize("sides", ["dirichlet", "neumann", "periodic", ("neumann", "dirichlet")])
@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("shape", GRIDS)
def test_every_grid_and_side(shape, sides, centering):
    rng = np.random.default_rng(4)
    grid = Grid(shape, boundary=[sides] * len(shape), centering=centering)
    c = np.exp(rng.standard_normal((2, *shape)))
    A = [GridOperator.diffusion(grid, values) for values in c]
    b = np.stack([operator @ rng.standard_normal(grid.size) for operator in A])
    sweeps = 1 if centering == "node" else 2
    options = {"pre": sweeps, "post": sweeps}
    X, infos = kl.solve_batch(A, b, device="cuda", **options)
    Y, again = kl.solve_batch(c, b, grid=grid, device="cuda", **options)
    _, expected = kl.solve_batch(A, b, **options)
    for operator, rhs, x, y, info, other, there in zip(A, b, X, Y, infos, again, expected):
        for solution, record in ((x, info), (y, other)):
            residual = np.linalg.norm(rhs - operator @ solution)
            assert record == 0 and residual <= 1.0001e-8 * np.linalg.norm(rhs)
            assert record.residual == pytest.approx(residual, rel=1e-3, abs=1e-12)
        # The coarsest level has one point here: along a line the CPU's is exact sooner.
        slack = 4 if len(shape) == 1 else 1
        assert abs(info.iterations - there.iterations) <= slack
        assert len(info.residuals) == info.iterations + 1
        assert info.residuals[0] == pytest.approx(np.linalg.norm(rhs))


@runs
def test_an_answer_does_not_depend_on_company():
    problems = darcy(5)
    # Strongly coupled along one axis: levels of its own.
    grid = problems[0].grid
    wide = GridOperator.diffusion(grid, [np.full(grid.shape, 40.0), np.ones(grid.shape)])
    operators, b = [P.A for P in problems] + [wide], [P.b for P in problems] + [problems[0].b]
    X, infos = kl.solve_batch(operators, b, device="cuda")
    assert [int(info) for info in infos] == [0] * 6
    Y, _ = kl.solve_batch(operators[::-1], b[::-1], device="cuda")
    assert np.array_equal(X, Y[::-1])
    for i in (1, 5):
        alone, _ = kl.solve_batch([operators[i]], [b[i]], device="cuda")
        assert np.array_equal(alone[0], X[i])
    assert infos[5].iterations <= 12


@runs
def test_a_bad_system_harms_no_other():
    problems = darcy(9 if DEVICE else 6)
    good, _ = batch(problems)
    operators, b = [P.A for P in problems], [P.b.copy() for P in problems]
    c = problems[2].params["coefficient"].copy()
    c[3, 4] = np.nan
    operators[2] = GridOperator.diffusion(problems[2].grid, c)
    operators[3] = operators[3] * -1
    b[4][7] = np.nan
    b[5][:] = 0
    X, infos = kl.solve_batch(operators, b, device="cuda")
    for i in (0, 1):
        assert infos[i] == 0 and np.array_equal(X[i], good[i])
    assert infos[2].reason is Reason.NONFINITE_OPERATOR
    assert infos[3].reason in (Reason.INDEFINITE, Reason.INDEFINITE_M)
    assert infos[4].reason is Reason.NONFINITE_RHS
    assert infos[5] == 0 and not np.any(X[5]) and infos[5].iterations == 0
    assert infos[-1] == infos[len(problems) - 1] and len(infos[1:3]) == 2
    assert list(infos.converged[:6]) == [True, True, False, False, False, True]


@runs
def test_the_limit_of_iterations_and_what_cannot_be_reached():
    problems = darcy(2)
    _, infos = batch(problems, maxiter=2)
    assert all(info.reason is Reason.MAXITER and info.iterations == 2 for info in infos)
    _, infos = batch(problems, rtol=1e-30, maxiter=40)
    assert all(not info.converged for info in infos)
    _, infos = batch(problems, rtol=0.0, atol=1e-3)
    assert all(info.converged and info.residual <= 1e-3 for info in infos)
    _, infos = batch(problems, maxiter=0)
    assert all(info.reason is Reason.MAXITER and info.iterations == 0 for info in infos)


@runs
def test_arrays_on_the_device_stay_there():
    problems = darcy(2)
    c, grid = coefficients(problems), problems[0].grid
    b = np.ones(grid.size)
    X, infos = kl.solve_batch(kl.to_cuda(c), kl.to_cuda(b), grid=grid)
    assert arrays.lies_on_cuda(X) and X.shape == (2, grid.size)
    single, more = kl.solve_batch(kl.to_cuda(c.astype(np.float32)), kl.to_cuda(b), grid=grid)
    assert all(info == 0 for info in [*infos, *more])
    for P, x in zip(problems, host(X)):
        assert np.linalg.norm(b - P.A @ x) <= 1.0001e-8 * np.linalg.norm(b)
    assert np.array_equal(host(single), host(X))  # 3 and 12 are the same numbers
    with pytest.raises(ValueError, match="lies on the CUDA device"):
        kl.solve_batch(c, kl.to_cuda(b), grid=grid, device="cpu")


@runs
def test_wrong_operands_are_refused():
    problems = darcy(2)
    b = [P.b for P in problems]
    with pytest.raises(ValueError, match="one grid"):
        kl.solve_batch([problems[0].A, kl.problems.poisson((40, 33)).A], b, device="cuda")
    with pytest.raises(ValueError, match="real"):
        kl.solve_batch([P.A.astype(complex) for P in problems], b, device="cuda")
    with pytest.raises(ValueError, match="shape"):
        kl.solve_batch([P.A for P in problems], np.ones((3, 42)), device="cuda")
    with pytest.raises(ValueError, match="need a grid"):
        kl.solve_batch(coefficients(problems), b, device="cuda")
    with pytest.raises(TypeError, match="operators on a grid"):
        kl.solve_batch([P.A.tocsr() for P in problems], b, device="cuda")
    mask = np.ones(problems[0].grid.shape, bool)
    mask[0, 0] = False
    masked = GridOperator.diffusion(problems[0].grid, mask=mask)
    with pytest.raises(ValueError, match="no masks"):
        kl.solve_batch([masked], b[:1], device="cuda")


# -- several right-hand sides ---------------------------------------------------------------------


@runs
@pytest.mark.parametrize("precondition", [None, "jacobi"])
@pytest.mark.parametrize("form", ["csr", "grid"])
@pytest.mark.parametrize("dtype", ["f8", "c16"])
def test_columns_advance_together_and_end_alone(form, precondition, dtype):
    shape = (30, 40) if DEVICE else (3, 4)
    values = 1 + np.arange(np.prod(shape)).reshape(shape) % 3
    A = GridOperator.diffusion(Grid(shape), values, dtype=np.dtype(dtype))
    n, k = A.shape[0], 11 if DEVICE else 3
    rng = np.random.default_rng(0)
    b = rng.standard_normal((n, k)).astype(dtype)
    b[:, 1] = 0
    b[:, 2] = A @ np.linspace(0, 1, n)
    start = np.zeros((n, k), dtype)
    start[:, 2] = np.linspace(0, 1, n)
    there = kl.to_cuda(A.tocsr() if form == "csr" else A)
    x, info = kl.cg(there, kl.to_cuda(b), kl.to_cuda(start), rtol=1e-8, M=precondition)
    assert info == 0 and host(x).shape == (n, k) and len(info.columns) == k
    residuals = np.linalg.norm(b - A @ host(x), axis=0)
    assert np.all(residuals <= 1.0001e-8 * np.linalg.norm(b, axis=0))
    assert not np.any(host(x)[:, 1])
    assert info.columns[1].iterations == info.columns[2].iterations == 0
    for j, column in enumerate(info.columns):
        y, alone = kl.cg(there, kl.to_cuda(b[:, j].copy()), kl.to_cuda(start[:, j].copy()),
                         rtol=1e-8, M=precondition)  # fmt: skip
        for count in ("iterations", "matvecs", "precond_applies", "reason"):
            assert getattr(column, count) == getattr(alone, count)
        assert np.allclose(column.residuals, alone.residuals, rtol=1e-4, atol=1e-12)
        assert np.allclose(host(x)[:, j], host(y), rtol=1e-6, atol=1e-12)


@runs
def test_a_column_that_fails_harms_no_other():
    A = kl.to_cuda(GridOperator.diffusion(Grid((4, 4))).tocsr())
    b = np.random.default_rng(1).standard_normal((16, 3))
    b[3, 1] = np.nan
    x, info = kl.cg(A, kl.to_cuda(b), rtol=1e-8)
    reasons = [column.reason for column in info.columns]
    assert reasons == [Reason.CONVERGED, Reason.NONFINITE_RHS, Reason.CONVERGED]
    assert info.reason is Reason.NONFINITE_RHS
    _, info = kl.cg(A, kl.to_cuda(b[:, ::2].copy()), rtol=1e-30, maxiter=2)
    assert {column.reason for column in info.columns} == {Reason.MAXITER}
    negative = kl.to_cuda(GridOperator.diffusion(Grid((4, 4))).tocsr() * -1)
    _, info = kl.cg(negative, kl.to_cuda(b[:, ::2].copy()))
    assert {column.reason for column in info.columns} == {Reason.INDEFINITE}


# -- data sets -----------------------------------------------------------------------------------


@runs
def test_random_numbers_are_those_of_philox():
    from krylearn.kernels.cuda import fields

    if SIMULATED:  # known answers of the authors' Random123
        philox = fields.philox.__wrapped__
        x, y = philox(0, 0, 0)
        assert (int(x), int(y)) == (0xE169C58D6627E8D5, 0x9B00DBD8BC57AC4C)
        ones = np.uint64(2**64 - 1)
        x, y = philox(ones, ones, ones)
        assert (int(x), int(y)) == (0x41C83B0E408F276D, 0x6D5451FDA20BC7C6)
    m, n = (40, 5001) if DEVICE else (3, 101)
    out, again = arrays.empty((m, n), np.float64), arrays.empty((1, n), np.float64)
    fields.normals(7, 1, out)
    fields.normals(7 + m - 1, 1, again)
    values = host(out)
    assert np.array_equal(values[-1], host(again)[0])
    assert abs(values.mean()) < 5 / values.size**0.5
    assert abs(values.var() - 1) < 5 * (2 / values.size) ** 0.5
    assert abs(np.corrcoef(values)[0, 1]) < 5 / n**0.5


@runs
@pytest.mark.parametrize("shape", [(3, 5, 4), (6, 7), (9,)])
def test_fields_are_cosine_transforms(shape):
    import scipy.fft

    from krylearn.kernels.cuda import fields

    rng, n = np.random.default_rng(0), int(np.prod(shape))
    given, amplitude = rng.standard_normal((2, n)), rng.standard_normal(n)
    x, y = arrays.upload(given), arrays.empty((2, n), np.float64)
    fields.scale(arrays.upload(amplitude), x)
    for axis, size in enumerate(shape):
        Q = arrays.upload(scipy.fft.idct(np.eye(size), norm="ortho", axis=0).T)
        fields.transform(Q, int(np.prod(shape[axis + 1 :])), x, y)
        x, y = y, x
    expected = [scipy.fft.idctn(row.reshape(shape), norm="ortho") for row in given * amplitude]
    assert np.allclose(host(x).reshape(2, *shape), expected, atol=1e-12)
    fields.turn(fields.TWO_VALUES, 3.0, 12.0, x)
    assert np.array_equal(host(x).reshape(2, *shape) == 12, np.array(expected) >= 0)


def make(out, **changes):
    settings = {"samples": 6, "grid": 24 if DEVICE else 6, "seed": 5, "device": "cuda"} | changes
    return kl.generate("darcy", out=out, **settings)


@runs
@pytest.mark.parametrize("options", [
    {}, {"coefficient": "lognormal", "rhs": "random"}, {"coefficient": "rough"},
    {"coefficient": "trigonometric"},
])  # fmt: skip
def test_data_set_is_true_and_depends_on_seeds_alone(tmp_path, options):
    report = make(tmp_path / "a.h5", options=options)
    assert report.valid == 6 and report.solver == "batch" and not report.retried
    data = kl.data.Samples(tmp_path / "a.h5", dtype=np.float64)
    assert "Philox" in data.attributes["device"]
    seeds, residuals = data.read("seed"), data.read("residual")
    assert seeds.tolist() == list(range(5, 11)) and residuals.max() <= 1e-8
    c, u = data.read("inputs/coefficient"), data.read("solution")
    f = data.read("inputs/source") if "rhs" in options else np.ones_like(c)
    for i in range(6):
        P = kl.problems.darcy(c[i].shape, coefficient=c[i], rhs=f[i])
        residual = np.linalg.norm(P.b - P.A @ u[i].ravel()) / np.linalg.norm(P.b)
        assert residual == pytest.approx(residuals[i], rel=1e-3, abs=1e-13)
    make(tmp_path / "b.h5", options=options, samples=3, seed=7)
    other = kl.data.Samples(tmp_path / "b.h5", dtype=np.float64)
    assert np.array_equal(other.read("solution"), u[2:5])
    assert data.means["solution"] == pytest.approx(u.mean())


@runs
def test_an_interrupted_run_ends_with_the_same_bytes(tmp_path, monkeypatch):
    from krylearn.data import cuda, store

    monkeypatch.setattr(cuda, "WRITTEN", 1)
    monkeypatch.setattr(cuda, "shard_of", lambda plan: 2)
    make(tmp_path / "whole.h5", workers=1)
    write, calls = store.Store.write, []

    def fails(self, first, rows):
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        calls.append(first)
        write(self, first, rows)

    monkeypatch.setattr(store.Store, "write", fails)
    with pytest.raises(OSError, match="the disk is full; .* are kept"):
        make(tmp_path / "cut.h5", workers=1)
    monkeypatch.setattr(store.Store, "write", write)
    report = make(tmp_path / "cut.h5", workers=3)
    assert report.found == 3 and report.valid == 6
    assert (tmp_path / "cut.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@runs
def test_a_sample_that_the_device_does_not_solve_gets_its_second_chance(tmp_path, monkeypatch):
    from krylearn.cuda import batched

    solve = batched.solve_batch

    def lazy(c, b, grid, rtol, atol, maxiter, sweeps):
        return solve(c, b, grid, rtol, atol, 2, sweeps)

    monkeypatch.setattr(batched, "solve_batch", lazy)
    report = make(tmp_path / "a.h5", samples=2)
    assert report.valid == 2 and set(report.retried.values()) == {"direct"}


@runs
@pytest.mark.parametrize("family, options", [
    ("poisson", {}), ("diffusion", {"kind": "inclusions", "contrast": 100.0}),
    ("diffusion", {"kind": "anisotropic", "contrast": 10.0}), ("heat", {"steps": 2}),
    ("darcy", {"rhs": "smooth", "modes": 4}),
])  # fmt: skip
def test_families_that_the_host_draws(tmp_path, family, options):
    report = kl.generate(family, samples=2, grid=24 if DEVICE else 4, seed=5, options=options,
                         out=tmp_path / "a.h5", device="cuda")  # fmt: skip
    assert report.valid == 2 and report.solver == "batch" and not report.retried
    data = kl.data.Samples(tmp_path / "a.h5", dtype=np.float64)
    assert "drawn on the CPU" in data.attributes["device"]
    assert data.read("residual").max() <= 1e-8


@pytest.mark.parametrize("family, options, told", [
    ("mesh", {}, "a matrix in rows; leave device out and take the solver solve"),
    ("darcy", {"variant": "published"}, "in rows; leave device out and take the solver direct"),
    ("convection_diffusion", {}, "not symmetric; leave device out and take the solver direct"),
    ("diffusion", {"kind": "walls"}, "a mask; leave device out and take the solver batch"),
    ("darcy", {"coefficient": "odd"}, "coefficient must be one of"),
])  # fmt: skip
def test_what_has_no_way_over_the_device_is_told(tmp_path, family, options, told):
    with pytest.raises(ValueError, match=told):
        kl.generate(family, samples=2, grid=8, out=tmp_path / "a.h5", options=options,
                    device="cuda")  # fmt: skip
    with pytest.raises(ValueError, match="the solver is batch, not 'cg'"):
        kl.generate("darcy", samples=2, grid=8, out=tmp_path / "a.h5", device="cuda", solver="cg")
    assert not list(tmp_path.iterdir())


@device
def test_two_runs_agree_to_the_bit():
    problems = darcy(700, (32, 32))
    c, b = kl.to_cuda(coefficients(problems)), kl.to_cuda(np.stack([P.b for P in problems]))
    X, infos = kl.solve_batch(c, b, grid=problems[0].grid)
    Y, _ = kl.solve_batch(c, b, grid=problems[0].grid)
    assert bool((X == Y).all()) and infos.converged.all()
