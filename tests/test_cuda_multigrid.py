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


@runs
def test_what_stands_for_amli_is_named():
    A = diffusion(5, 6, 7, coefficient=jumping(5, 6, 7))
    M = kl.GeometricMultigrid(A, "AMLI", pre=2, post=2, transfer="constant")
    assert "AMLI(2,2), red_black" in repr(M)
    assert "CudaGeometricMultigrid: V(1,1), red_black, float64 inside" in repr(M.to("cuda"))


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


# Levels made on the device: the operator, and options of the cycle.
SET_UP = {
    "2-D": (lambda: diffusion(9, 19, coefficient=varied(9, 19)), {}),
    "sides mixed": (lambda: diffusion(5, 4, 11, coefficient=varied(5, 4, 11), boundary=MIXED), {}),
    "cells, reaction": (lambda: diffusion(5, 6, 7, coefficient=varied(5, 6, 7), reaction=2.0,
                                          centering="cell"), {}),
    "periodic": (lambda: diffusion(7, 6, coefficient=varied(7, 6), boundary="periodic",
                                   reaction=0.5), {}),
    "1-D": (lambda: diffusion(50, coefficient=varied(50)), {}),
    "anisotropy": (lambda: diffusion(6, 9, coefficient=[varied(6, 9), 0.01 * varied(6, 9)]), {}),
    "mask": (lambda: diffusion(6, 7, 8, mask=solid(6, 7, 8)), {}),
    "mask, open top": (lambda: diffusion(6, 5, 8, mask=solid(6, 5, 8), centering="cell", boundary=[
        "neumann", "neumann", ("neumann", "dirichlet")]), {}),
    "mask, solid at zero": (lambda: diffusion(9, 8, mask=solid(9, 8), solid="dirichlet"), {}),
    "mask, singular": (lambda: diffusion(9, 8, mask=solid(9, 8), boundary="neumann"), {}),
    "walls": (lambda: diffusion(12, 12, mask=walls(12, 12), boundary="neumann"), {}),
    "joined": (lambda: diffusion(5, 6, 7, coefficient=jumping(5, 6, 7)),
               {"transfer": "constant"}),
    "joined, cells": (lambda: diffusion(6, 11, coefficient=jumping(6, 11), centering="cell",
                                        boundary=MIXED[:2]), {"transfer": "constant"}),
    "joined, ring": (lambda: diffusion(6, 7, coefficient=jumping(6, 7), boundary="periodic",
                                       reaction=1.0), {"transfer": "constant"}),
    "joined, mask": (lambda: diffusion(6, 7, 8, mask=solid(6, 7, 8)), {"transfer": "constant"}),
    "lines": (lambda: diffusion(9, 12, coefficient=varied(9, 12)), {"smoother": "line"}),
}  # fmt: skip


def walls(*shape):
    mask = np.ones(shape, bool)
    mask[3, 1:-1], mask[8, :7] = False, False
    return mask


@runs
@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("name", SET_UP)
def test_levels_made_on_the_device_are_the_hosts(name, precision):
    from krylearn.cuda.hierarchy import _SetUpThere, sets_up

    make, options = SET_UP[name]
    A = make()
    there = kl.to_cuda(A)
    assert sets_up(there)
    ours = _SetUpThere(there, precision=precision, **options)._hierarchy
    hosts = kl.GeometricMultigrid(A, precision=precision, **options)._hierarchy
    assert arrays.lies_on_cuda(ours.coef) and ours.shapes == hosts.shapes
    for field in ("geo", "places", "fp", "ip"):
        assert np.array_equal(getattr(ours, field), getattr(hosts, field)), field
    assert ours.scale == hosts.scale and ours.variable
    rounding = 1e-13 if precision == "double" else 2e-6
    coef = host(ours.coef)
    assert coef.dtype == hosts.coef.dtype
    assert np.allclose(coef, hosts.coef, rtol=rounding, atol=rounding)
    assert np.array_equal(coef == 0, hosts.coef == 0)
    size = np.abs(hosts.dense).max()
    assert np.allclose(ours.dense, hosts.dense, rtol=0, atol=(2e-12 if rounding < 1e-9 else 1e-4)
                       * size)  # fmt: skip


@device
@pytest.mark.parametrize("make, options", [
    (lambda: diffusion(64, 60, 70, coefficient=varied(64, 60, 70), boundary=MIXED), {}),
    (lambda: diffusion(64, 60, 70, mask=solid(64, 60, 70), centering="cell", boundary=[
        "neumann", "neumann", ("neumann", "dirichlet")]), {}),
    (lambda: diffusion(300, 333, coefficient=jumping(300, 333)), {"transfer": "constant"}),
    (lambda: diffusion(64, 60, 70, mask=solid(64, 60, 70)), {"transfer": "constant"}),
])  # fmt: skip
def test_large_levels_made_on_the_device_are_the_hosts(make, options):
    A = make()
    hosts = kl.GeometricMultigrid(A, **options)
    ours = kl.multigrid(kl.to_cuda(A), coarsening="geometric", **options)
    coef = host(ours._numbers[2])
    assert np.allclose(coef, hosts._hierarchy.coef, rtol=1e-5, atol=1e-6)
    b = random(np.random.default_rng(5), A.shape[0], "f8")
    b = b if A.mask is None else b * A.mask.ravel()
    x, info = kl.cg(A, b, rtol=1e-8, M=hosts)
    y, twin = kl.cg(kl.to_cuda(A), kl.to_cuda(b), rtol=1e-8, M=ours)
    assert twin == 0 and abs(twin.iterations - info.iterations) <= 1


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
