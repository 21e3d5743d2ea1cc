"""Geometric multigrid on CUDA does what the host's does, cycle by cycle."""

from __future__ import annotations

import numpy as np
import pytest
from on_cuda import SIMULATED, by_themselves, device, host, random, runs, simulate

import krylearn as kl
from krylearn.cuda import arrays

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the simulator's NaN and Inf


@by_themselves
def test_everything_under_the_simulator():
    simulate(__file__)


def diffusion(*shape, **more):
    grid = {key: more.pop(key) for key in ("boundary", "centering") if key in more}
    return kl.GridOperator.diffusion(kl.Grid(shape, **grid), **more)


def varied(*shape):
    return 1 + np.arange(float(np.prod(shape))).reshape(shape) % 5


def jumping(*shape):
    return np.where(np.random.default_rng(7).random(shape) < 0.3, 1e3, 1.0)


def solid(*shape):
    mask = np.ones(shape, bool)
    mask[tuple(slice(n // 3, n // 3 + 2) for n in shape)] = False
    return mask


MIXED = [("dirichlet", "neumann"), "dirichlet", "neumann"]
# The operator, options of the cycle, and how many levels take the two fused kernels.
CYCLES = {
    "3-D": (lambda: diffusion(6, 7, 8), {}, 2),
    "3-D, sides mixed, two tiles": (lambda: diffusion(5, 4, 11, boundary=MIXED), {}, 2),
    "2-D, cells, two tiles": (lambda: diffusion(9, 29, centering="cell", boundary=(
        "neumann", ("neumann", "dirichlet"))), {}, 3),
    "1-D": (lambda: diffusion(40), {}, 1),
    "2-D, variable": (lambda: diffusion(9, 19, coefficient=varied(9, 19)), {}, 2),
    "3-D, mask": (lambda: diffusion(4, 5, 6, mask=solid(4, 5, 6)), {}, 1),
    "3-D, cells joined": (lambda: diffusion(5, 6, 7, coefficient=jumping(5, 6, 7)),
                          {"transfer": "constant"}, 2),
    "3-D, cells joined, mask": (lambda: diffusion(4, 5, 6, mask=solid(4, 5, 6)),
                                {"transfer": "constant"}, 1),
    "aligned anisotropy": (lambda: diffusion(6, 9, coefficient=(1.0, 0.01)), {}, 1),
    "periodic": (lambda: diffusion(7, 6, boundary="periodic", reaction=0.5), {}, 0),
    "singular": (lambda: diffusion(7, 6, boundary="neumann"), {}, 1),
    "W": (lambda: diffusion(9, 12), {"cycle": "W"}, 0),
    "F": (lambda: diffusion(9, 12), {"cycle": "F"}, 0),
    "full multigrid": (lambda: diffusion(9, 12), {"cycle": "FMG"}, 0),
    "Jacobi": (lambda: diffusion(6, 9), {"smoother": "jacobi", "pre": 2, "post": 1}, 0),
    "Chebyshev": (lambda: diffusion(6, 9), {"smoother": "chebyshev", "pre": 2, "post": 2}, 0),
    "V(2, 2)": (lambda: diffusion(6, 9), {"pre": 2, "post": 2}, 0),
    "V(0, 1)": (lambda: diffusion(6, 9), {"pre": 0, "post": 1}, 0),
}  # fmt: skip


@runs
@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("name", CYCLES)
def test_a_cycle_is_the_hosts(name, precision):
    from krylearn.cuda.operators import never_stops

    make, options, fused = CYCLES[name]
    if precision == "single" and SIMULATED and fused == 0:
        return
    A = make()
    M = kl.GeometricMultigrid(A, precision=precision, **options)
    twin = M.to("cuda")
    assert M.to("cpu") is M and repr(M)[20:] in repr(twin)
    assert (twin.symmetric, twin.positive_definite) == (M.symmetric, M.positive_definite)
    if SIMULATED:
        assert len(twin._halves) == fused
    r = random(np.random.default_rng(0), A.shape[0], "f8")
    out = arrays.empty(A.shape[0], np.float64)
    twin.apply(never_stops(), arrays.upload(r), out)
    expected = M @ r
    rounding = 1e-13 if precision == "double" else 1e-5
    assert np.abs(host(out) - expected).max() <= rounding * np.abs(expected).max()


@device
@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("make", [
    lambda: diffusion(40, 50, 60), lambda: diffusion(33, 71, 45, boundary=MIXED),
    lambda: diffusion(64, 33, 100, centering="cell"), lambda: diffusion(300, 333),
    lambda: diffusion(40, 41, 42, coefficient=varied(40, 41, 42)),
    lambda: diffusion(64, 64, 64, boundary="periodic", reaction=1.0),
    lambda: diffusion(63, 40, boundary="periodic", reaction=1.0),
    lambda: diffusion(30, 31, 32, dtype=np.complex128),
    lambda: diffusion(40, 41, 42, mask=solid(40, 41, 42)),
])  # fmt: skip
def test_large_cycles_are_the_hosts(make, precision):
    from krylearn.cuda.operators import never_stops

    A = make()
    M = kl.GeometricMultigrid(A, precision=precision)
    r = random(np.random.default_rng(0), A.shape[0], A.dtype)
    out = arrays.empty(A.shape[0], A.dtype)
    M.to("cuda").apply(never_stops(), arrays.upload(r), out)
    expected = M @ r
    rounding = 1e-12 if precision == "double" else 1e-4
    assert np.abs(host(out) - expected).max() <= rounding * np.abs(expected).max()


@runs
@pytest.mark.parametrize("dtype, precision", [("f8", "double"), ("f8", "single"), ("f4", "auto")])
@pytest.mark.parametrize("make", [
    lambda: diffusion(5, 9), lambda: diffusion(3, 4, 5, coefficient=varied(3, 4, 5)),
])  # fmt: skip
def test_cg_with_a_cycle(make, dtype, precision):
    A = make().astype(np.dtype(dtype))
    b = random(np.random.default_rng(1), A.shape[0], dtype)
    M = kl.GeometricMultigrid(A, precision=precision)
    rtol = 1e-9 if dtype == "f8" else 1e-5
    x, info = kl.cg(A, b, rtol=rtol, M=M)
    y, twin = kl.cg(kl.to_cuda(A), kl.to_cuda(b), rtol=rtol, M=M.to("cuda"))
    assert twin == 0 and info == 0 and twin.iterations == info.iterations
    assert twin.precond_applies == info.precond_applies + 1  # queued before the last norm is known
    slack = 1e-12 if precision == "double" else 1e-3
    assert np.allclose(twin.residuals[:3], info.residuals[:3], rtol=slack)
    true = np.linalg.norm(b - A.tocsr() @ host(y))
    assert true <= 1.001 * rtol * np.linalg.norm(b) and host(y).dtype == np.dtype(dtype)
    assert np.linalg.norm(x - host(y)) <= 100 * rtol * np.linalg.norm(x)


@runs
def test_how_it_is_asked_for():
    A = diffusion(5, 9)
    on_device, b = kl.to_cuda(A), kl.to_cuda(random(np.random.default_rng(2), 45, "f8"))
    for M in ("geometric_multigrid", "multigrid", kl.multigrid(on_device)):
        x, info = kl.cg(on_device, b, rtol=1e-8, M=M)
        assert info == 0 and info.iterations < 12
    assert "CudaGeometricMultigrid: V(1,1)" in repr(kl.multigrid(on_device))
    # A complex right-hand side, a real operator: the cycle works on both parts.
    c = kl.to_cuda(random(np.random.default_rng(3), 45, "c16"))
    x, info = kl.cg(on_device, c, rtol=1e-8, M=kl.multigrid(on_device))
    assert info == 0 and info.iterations < 12
    M = kl.multigrid(on_device)
    M.apply(kl.cuda.operators.never_stops(), kl.cuda.arrays.zeros(45, np.float64), out := (
        kl.cuda.arrays.empty(45, np.float64)))  # fmt: skip
    assert not host(out).any()


@runs
def test_solve_takes_it():
    for A, expected in (
        (diffusion(7, 6, boundary="periodic", reaction=0.5), "fast_poisson"),
        (diffusion(9, 12, coefficient=varied(9, 12)), "cg+multigrid"),
        (diffusion(3, 4, 5, coefficient=jumping(3, 4, 5)), "cg+multigrid"),
        (diffusion(6, 7, coefficient=jumping(6, 7)), "cg+jacobi"),
    ):
        b = A @ random(np.random.default_rng(4), A.shape[0], "f8")
        x, info = kl.solve(A, b, device="cuda", rtol=1e-6)
        assert info == 0 and info.method == expected and "CUDA" in info.choice
        assert np.linalg.norm(b - A @ x) <= 1.001e-6 * np.linalg.norm(b)


@device
def test_many_iterations_are_replayed_and_are_the_same_to_the_bit():
    A = diffusion(96, 97, 98)
    M, b = kl.GeometricMultigrid(A).to("cuda"), kl.to_cuda(np.ones(A.shape[0]))
    (x, info), (y, again) = (kl.cg(kl.to_cuda(A), b, rtol=1e-10, M=M) for _ in range(2))
    assert info == 0 and np.array_equal(info.residuals, again.residuals)
    assert np.array_equal(host(x), host(y)) and info.iterations < 16
