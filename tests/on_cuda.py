"""What tests of the CUDA twins share: on a device where there is one, else under the simulator."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import krylearn as kl
from krylearn.cuda import arrays

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
by_themselves = pytest.mark.skipif(DEVICE or SIMULATED, reason="the tests below run by themselves")
SHAPE = (20, 24, 28) if DEVICE else (3, 2, 3)


def simulate(file: str) -> None:
    """Run the tests of a file under the simulator."""
    environment = dict(os.environ, NUMBA_ENABLE_CUDASIM="1")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                           file], env=environment, text=True, capture_output=True,
                          timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]


def random(rng, shape, dtype):
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


def host(x):
    return x.cpu().numpy() if hasattr(x, "cpu") else arrays.download(x)


def close(a, b, dtype):
    eps = np.finfo(dtype).eps
    # A sum of products with signs may be small by chance: n of them are about 5000 here.
    return np.linalg.norm(np.asarray(a) - b) <= 100 * eps * max(np.linalg.norm(b), 100)


def grid_operator(boundary="dirichlet", shape=SHAPE, dtype="f8", **more):
    grid = kl.Grid(shape, boundary=boundary)
    return kl.GridOperator.diffusion(grid, dtype=np.dtype(dtype), **more)
