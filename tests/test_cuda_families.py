"""CPU and CUDA agree on every problem family, in both precisions."""

from __future__ import annotations

import numpy as np
import pytest
from on_cuda import DEVICE, by_themselves, host, runs, simulate

import krylearn as kl
from krylearn import problems, registry

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the simulator's NaN and Inf

FAMILIES = {
    "poisson": {"shape": (32, 30, 29)}, "darcy": {"shape": (64, 60)},
    # Single precision carries no contrast of 1e4, on either device.
    "diffusion": {"shape": (64, 60), "contrast": 100.0},
    "convection_diffusion": {"shape": (48, 40)},
    "helmholtz": {"shape": (24, 20)}, "thermal": {"shape": (64, 60)},
    "heat": {"shape": (64, 60), "steps": 1}, "smoke": {"shape": (20, 18, 19), "steps": 1},
    "elasticity": {"shape": (16, 15)}, "mesh": {"shape": (30, 28)},
} if DEVICE else {
    "poisson": {"shape": (5, 4)}, "darcy": {"shape": (6, 7)}, "diffusion": {"shape": (5, 4)},
    "convection_diffusion": {"shape": (4, 4)}, "helmholtz": {"shape": (4, 3)},
    "thermal": {"shape": (6, 5)}, "heat": {"shape": (5, 4), "steps": 1},
    "smoke": {"shape": (4, 4), "steps": 1}, "elasticity": {"shape": (2, 2)},
    "mesh": {"shape": (4, 4)},
}  # fmt: skip


def test_no_family_is_left_out():
    names = {entry.name for entry in registry.entries("problem")}
    assert names == {*FAMILIES, "matrix_market"}


@by_themselves
def test_everything_under_the_simulator():
    simulate(__file__)


@runs
@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("name", FAMILIES)
def test_cpu_and_cuda_agree(name, dtype):
    P = next(iter(problems.sequence(name, 1, seed=3, **FAMILIES[name])))
    complex_ = np.dtype(P.A.dtype).kind == "c"
    dtype = np.dtype({"f8": "c16", "f4": "c8"}[dtype] if complex_ else dtype)
    A, b = P.A.astype(dtype), P.b.astype(dtype)
    rtol = 1e-9 if dtype.itemsize in (8, 16) and dtype != np.complex64 else 1e-4
    x, info = kl.solve(A, b, rtol=rtol)
    y, twin = kl.solve(A, b, rtol=rtol, device="cuda")
    assert info == 0 and twin == 0, (info, twin)
    matrix = A.tocsr() if hasattr(A, "tocsr") else A
    size = np.linalg.norm(b)
    assert np.linalg.norm(b - matrix @ y) <= 1.01 * rtol * size and y.dtype == dtype
    # Both lie within the residual; a singular matrix leaves constants open.
    assert np.linalg.norm(matrix @ (x - y)) <= 2.1 * rtol * size


@runs
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_krylov_methods_agree(dtype):
    side = 24 if DEVICE else 4
    P = problems.convection_diffusion((side, side))
    A, b = P.A.tocsr().astype(dtype), P.b.astype(dtype)
    rtol = 1e-8 if dtype == "f8" else 1e-4
    for method in (kl.gmres, kl.bicgstab) if DEVICE else (kl.bicgstab,):
        x, info = method(A, b, rtol=rtol)
        y, twin = method(kl.to_cuda(A), kl.to_cuda(b), rtol=rtol)
        assert info == 0 and twin == 0
        assert np.linalg.norm(A @ (x - host(y))) <= 2.1 * rtol * np.linalg.norm(b)
