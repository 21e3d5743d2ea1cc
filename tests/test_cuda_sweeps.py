"""Stationary methods on the device; else under Numba's simulator on tiny systems."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

import krylearn as kl
from krylearn.cuda import arrays
from krylearn.cuda.operators import never_stops

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def _has_device() -> bool:
    try:
        arrays.require_cuda()
    except arrays.NoCUDA:
        return False
    return not SIMULATED


DEVICE = _has_device()
runs = pytest.mark.skipif(not (DEVICE or SIMULATED), reason="no CUDA device")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:.*Grid size")


@pytest.mark.skipif(DEVICE or SIMULATED, reason="the tests below run by themselves")
def test_everything_under_the_simulator():
    environment = dict(os.environ, NUMBA_ENABLE_CUDASIM="1")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                           str(Path(__file__))], env=environment, text=True, capture_output=True,
                          timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]


def host(x):
    return x.cpu().numpy() if hasattr(x, "cpu") else arrays.download(x)


def dominant(n, dtype="f8", hermitian=True, seed=0):
    rng = np.random.default_rng(seed)
    A = sp.random_array((n, n), density=3 / n, rng=rng)
    if np.dtype(dtype).kind == "c":
        A = A + 1j * sp.random_array((n, n), density=3 / n, rng=rng)
    if hermitian:
        A = A + A.conj().T
    d = np.asarray(abs(A).sum(axis=1)).ravel() + 1 + np.arange(n) % 3
    return (sp.diags_array(d) - A).tocsr().astype(dtype)


def grid():
    return kl.GridOperator.diffusion(kl.Grid((20, 24) if DEVICE else (4, 5)), 2.0)


@runs
@pytest.mark.parametrize("dtype", ["f4", "f8", "c16"])
@pytest.mark.parametrize("make", [
    lambda A: kl.GaussSeidel(A, "multicolour"),
    lambda A: kl.GaussSeidel(A, "multicolour", "backward", sweeps=2),
    lambda A: kl.SOR(A, 1.3, "multicolour"), lambda A: kl.SSOR(A, 1.3, "multicolour"),
    lambda A: kl.SSOR(A, order="multicolour", sweeps=2),
])  # fmt: skip
def test_sweeps_are_those_of_the_cpu(make, dtype):
    n = 700 if DEVICE else 13
    for A in (dominant(n, dtype), dominant(n, dtype, hermitian=False)):
        M = make(A)
        twin = M.to("cuda")
        assert (twin.symmetric, twin.positive_definite) == (M.symmetric, M.positive_definite)
        assert M.to("cpu") is M
        r = np.random.default_rng(1).standard_normal(n).astype(dtype)
        out = arrays.empty(n, dtype)
        twin.apply(never_stops(), arrays.upload(r), out)
        eps = np.finfo(dtype).eps
        assert np.linalg.norm(host(out) - M @ r) <= 100 * eps * np.linalg.norm(r)
        wide = np.result_type(dtype, "f8")
        other = arrays.empty(n, wide)
        twin.astype(wide).apply(never_stops(), arrays.upload(r.astype(wide)), other)
        assert np.linalg.norm(host(other) - M @ r) <= 100 * eps * np.linalg.norm(r)


@runs
@pytest.mark.parametrize("dtype", ["f4", "c16"])
@pytest.mark.parametrize("direction", ["forward", "backward", "symmetric"])
@pytest.mark.parametrize("shape, boundary", [
    ((5,), "dirichlet"), ((4, 6), "periodic"), ((3, 4, 2), ("neumann", "dirichlet")),
])  # fmt: skip
def test_grids_are_swept_without_their_matrix(shape, boundary, direction, dtype):
    from krylearn.cuda.sweeps import CudaGridSweeps, on_device

    box = kl.Grid(shape, boundary=[boundary] * len(shape))
    rng, n = np.random.default_rng(5), box.size
    values = 1 + rng.random(shape)
    wind = kl.GridOperator.convection(box, (3.0,) * len(shape), dtype=np.dtype(dtype))
    for A in (
        kl.GridOperator.diffusion(box, 2.0, 1.0, dtype=np.dtype(dtype)),
        kl.GridOperator.diffusion(box, values, 1.0, dtype=np.dtype(dtype)),
        kl.GridOperator.diffusion(box, values, 1.0, dtype=np.dtype(dtype)) + wind,
    ):
        M = kl.GaussSeidel(A, "multicolour", direction, sweeps=2)
        twin = on_device(M, kl.to_cuda(A))
        assert isinstance(twin, CudaGridSweeps)
        r = rng.standard_normal(n).astype(dtype)
        out = arrays.empty(n, dtype)
        twin.apply(never_stops(), arrays.upload(r), out)
        eps = np.finfo(dtype).eps
        assert np.linalg.norm(host(out) - M @ r) <= 100 * eps * np.linalg.norm(M @ r)
    ring = kl.GridOperator.diffusion(kl.Grid((5,), boundary="periodic"), reaction=1.0)
    M = kl.SSOR(ring, 1.2, "multicolour")
    assert not isinstance(on_device(M, kl.to_cuda(ring)), CudaGridSweeps)


@runs
@pytest.mark.parametrize("name, options", [
    ("jacobi", {}), ("gauss_seidel", {"order": "multicolour"}),
    ("gauss_seidel", {"order": "multicolour", "direction": "symmetric"}),
    ("sor", {"order": "multicolour", "omega": "young"}), ("ssor", {"order": "multicolour"}),
    ("chebyshev", {}),
])  # fmt: skip
def test_methods_do_what_they_do_on_the_cpu(name, options):
    method = getattr(kl, name)
    for A in (grid(), dominant(600 if DEVICE else 17)):
        b = np.random.default_rng(3).standard_normal(A.shape[0])
        x, info = method(A, b, rtol=1e-6, **options)
        y, twin = method(kl.to_cuda(A), kl.to_cuda(b), rtol=1e-6, **options)
        assert twin == 0 and twin.method == name
        # On the CPU a sweep's residual is an estimate, looked into now and then.
        assert abs(twin.iterations - info.iterations) <= 2 + info.iterations // 10
        true = np.linalg.norm(b - A @ host(y))
        assert true <= 1.0001e-6 * np.linalg.norm(b)
        assert twin.residual == pytest.approx(true, rel=1e-3)
        assert len(twin.residuals) == twin.iterations + 1
        assert twin.precond_applies == twin.iterations
        assert np.linalg.norm(x - host(y)) <= 1e-3 * np.linalg.norm(x)


@runs
def test_as_preconditioners_by_name():
    A = grid()
    b = np.random.default_rng(4).standard_normal(A.shape[0])
    for name in ("ssor", "gauss_seidel", "sor"):
        method = kl.cg if name == "ssor" else kl.gmres
        for operator in (A, A.tocsr()):
            x, info = method(kl.to_cuda(operator), kl.to_cuda(b), rtol=1e-6, M=name)
            assert info == 0 and np.linalg.norm(b - A @ host(x)) <= 1.001e-6 * np.linalg.norm(b)
    with pytest.raises(ValueError, match="symmetric"):
        kl.cg(kl.to_cuda(A), kl.to_cuda(b), M="sor")


@runs
def test_ends_that_are_no_solution():
    A = sp.csr_array(np.array([[1.0, 3.0], [3.0, 1.0]]))
    b = kl.to_cuda(np.ones(2))
    for name, options in (("jacobi", {}), ("sor", {"order": "multicolour", "omega": 1.0})):
        _, info = getattr(kl, name)(kl.to_cuda(A), b, maxiter=1000, **options)
        assert info.reason is kl.Reason.DIVERGED
    A = dominant(9)
    _, info = kl.jacobi(kl.to_cuda(A), kl.to_cuda(np.ones(9)), rtol=1e-30, maxiter=3)
    assert info.reason is kl.Reason.MAXITER and info.iterations == 3
    bad = A.copy()
    bad.data[3] = np.nan
    _, info = kl.jacobi(kl.to_cuda(bad), kl.to_cuda(np.ones(9)))
    assert info.reason is kl.Reason.NONFINITE_OPERATOR
    with pytest.raises(ValueError, match="give order='multicolour'"):
        kl.sor(kl.to_cuda(A), kl.to_cuda(np.ones(9)))
    with pytest.raises(ValueError, match="its own preconditioner"):
        kl.jacobi(kl.to_cuda(A), kl.to_cuda(np.ones(9)), M="jacobi")
    with pytest.raises(TypeError, match="lies on the CUDA device, A does not"):
        kl.jacobi(A, kl.to_cuda(np.ones(9)))


@runs
def test_a_policy_hears_what_its_omega_cost():
    class Policy:
        heard = None

        def choose(self, context):
            return 1.2

        def observe(self, loss):
            self.heard = loss

    policy = Policy()
    A, b = kl.to_cuda(dominant(9)), kl.to_cuda(np.ones(9))
    _, info = kl.sor(A, b, omega=policy, order="multicolour")
    assert info == 0 and policy.heard == info.iterations
