"""Preconditioners on the device."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from krylearn import registry
from krylearn.cuda import arrays
from krylearn.cuda.arrays import download, empty, shared, upload
from krylearn.cuda.operators import CudaOperator, never_stops
from krylearn.kernels.cuda import vector


class CudaJacobi(CudaOperator):
    """The inverse of the diagonal, ``omega * inv(D)``.

    Parameters
    ----------
    scale : (n,) array
        On the host.
    """

    def __init__(self, scale: np.ndarray) -> None:
        super().__init__((len(scale), len(scale)), scale.dtype)
        self._host = scale
        self._scale = upload(scale)
        self.symmetric = not np.any(scale.imag)
        self.positive_definite = bool(self.symmetric and np.all(scale.real > 0))

    def apply(self, log, x, out):
        vector.times(log, self._scale, x, out)

    def astype(self, dtype):
        return self if np.dtype(dtype) == self.dtype else CudaJacobi(self._host.astype(dtype))


class CudaChebyshev(CudaOperator):
    """The Chebyshev polynomial of a degree in ``inv(D) A``: see `krylearn.Chebyshev`.

    Parameters
    ----------
    A : CudaOperator
    scale : (n,) array
        ``1 / D``, on the host.
    coefficients : list of (float, float)
        Of the steps: Saad (2003), Algorithm 12.1.
    """

    symmetric = True
    positive_definite = True

    def __init__(self, A: CudaOperator, scale: np.ndarray, coefficients: list,
                 on_device: Any = None) -> None:  # fmt: skip
        super().__init__(A.shape, A.dtype)
        self._A, self._host, self._coefficients = A, scale, coefficients
        self.scale = upload(scale.astype(A.dtype)) if on_device is None else on_device
        self._work = [empty(A.shape[0], A.dtype) for _ in range(3)]
        self.captures = A.captures

    def apply(self, log, x, out):
        q, rest, d = self._work
        (_, gain), *steps = self._coefficients
        vector.chebyshev_start(log, gain, self.scale, x, rest, d, out)
        for keep, gain in steps:
            self._A.apply(log, d, q)
            vector.chebyshev_step(log, keep, gain, self.scale, q, rest, d, out)

    def fresh(self):
        return CudaChebyshev(self._A.fresh(), self._host, self._coefficients, self.scale)

    def astype(self, dtype):
        if np.dtype(dtype) == self.dtype:
            return self
        return CudaChebyshev(self._A.astype(dtype), self._host, self._coefficients)


def _diagonal(A: CudaOperator, name: str) -> np.ndarray:
    d = download(A.diagonal())
    zero = np.flatnonzero(d == 0)
    if len(zero):
        raise ValueError(f"{name} divides by the diagonal, which is zero in row {zero[0]}")
    if not np.all(np.isfinite(d)):
        raise ValueError(f"{name}: A holds NaN or Inf")
    return d


def jacobi(A: CudaOperator, omega: float = 1.0) -> CudaJacobi:
    """Return damped Jacobi for a matrix on the device."""
    started = time.perf_counter()
    d = _diagonal(A, "jacobi")
    if np.all(np.abs(d.imag) <= 100 * np.finfo(A.dtype).eps * np.abs(d)):
        d = d.real
    M = CudaJacobi((omega / d).astype(A.dtype))
    M.setup_seconds = time.perf_counter() - started
    return M


def chebyshev(A: CudaOperator, degree: int = 4, ratio: float = 30.0) -> CudaChebyshev:
    """Return the Chebyshev polynomial for a Hermitian positive definite matrix on the device."""
    from krylearn.solvers.relaxation.chebyshev import UPPER, recurrence

    started = time.perf_counter()
    d = _diagonal(A, "chebyshev").real
    if not np.all(d > 0):
        raise ValueError(f"chebyshev needs a positive diagonal; row {np.argmin(d)} has none")
    scale = 1 / d
    high = UPPER * _largest(A, scale)
    steps = recurrence((high / ratio, high))
    M = CudaChebyshev(A, scale, [next(steps) for _ in range(degree)])
    M.setup_seconds = time.perf_counter() - started
    return M


def _largest(A: CudaOperator, scale: np.ndarray, steps: int = 12) -> float:
    """Return the largest Ritz value of ``inv(D) A`` after a few steps of Lanczos."""
    from scipy.linalg import eigvalsh_tridiagonal

    n = A.shape[0]
    x, y = upload(np.random.default_rng(0).standard_normal(n).astype(A.dtype)), empty(n, A.dtype)
    root, q, w = (shared(array) for array in (upload(np.sqrt(scale).astype(A.dtype)), x, y))
    v = q / float(abs(q @ q.conj())) ** 0.5
    last = 0 * v
    alphas: list[float] = []
    betas: list[float] = []
    for _ in range(min(steps, n)):
        q[:] = root * v
        A.apply(never_stops(), x, y)
        w *= root
        w -= (betas[-1] if betas else 0.0) * last
        alphas.append(float((v.conj() @ w).real))
        w -= alphas[-1] * v
        beta = float((w.conj() @ w).real) ** 0.5
        if not beta > 1e-8 * max(map(abs, alphas)) or not math.isfinite(beta):
            break
        betas.append(beta)
        last, v = v, w / beta
    return float(eigvalsh_tridiagonal(np.array(alphas), np.array(betas[: len(alphas) - 1]))[-1])


_BY_NAME: dict[str, Any] = {"jacobi": jacobi, "chebyshev": chebyshev}

_SET_UP_ON_HOST = ("multigrid", "geometric_multigrid", "classical_amg", "smoothed_aggregation",
                   "fast_poisson")  # fmt: skip
_SWEEPS = ("gauss_seidel", "sor", "ssor")


@arrays.naming_bytes()
def by_name(name: str, A: CudaOperator) -> Any:
    """Make the preconditioner `name` for a matrix on the device.

    Raises
    ------
    ValueError
        If there is none of that name; the message says which there are.
    """
    if name in _BY_NAME:
        return _BY_NAME[name](A)
    if name in ("multigrid", "geometric_multigrid"):
        from krylearn.cuda.hierarchy import multigrid

        M = multigrid(A, "auto" if name == "multigrid" else "geometric")
        if M is not None:
            return M
    if name in _SET_UP_ON_HOST and hasattr(A, "to"):
        return registry.preconditioner(name, A.to("cpu")).to("cuda")
    if name in _SWEEPS and hasattr(A, "to"):
        from krylearn.cuda.sweeps import on_device

        return on_device(registry.preconditioner(name, A.to("cpu"), order="multicolour"), A)
    if name == "ic0":
        from krylearn.cuda.incomplete import ic0

        return ic0(A)
    known = ", ".join((*_BY_NAME, "ic0", *_SWEEPS, *_SET_UP_ON_HOST))
    raise ValueError(f"no preconditioner {name!r} on CUDA; there are {known}")


@arrays.naming_bytes()
def moved(M: Any, device: str) -> Any:
    """Return a preconditioner that has a twin on 'cuda' there, or itself for 'cpu'."""
    if device == "cpu":
        return M
    if device != "cuda":
        raise ValueError(f"device must be 'cpu' or 'cuda', not {device!r}")
    arrays.require_cuda()
    if getattr(M, "name", "") == "jacobi":
        return CudaJacobi(M._scale)
    if hasattr(M, "sweep"):
        from krylearn.cuda.sweeps import CudaSweeps

        return CudaSweeps(M)
    if hasattr(M, "shape_of_box"):
        from krylearn.cuda.fast_poisson import CudaFastPoisson

        return CudaFastPoisson(M)
    if hasattr(M, "_hierarchy"):
        from krylearn.cuda.geometric import CudaGeometricMultigrid

        return CudaGeometricMultigrid(M)
    if hasattr(M, "levels"):
        from krylearn.cuda.multigrid import CudaMultigrid

        return CudaMultigrid(M)
    from krylearn.cuda.operators import to_cuda

    steps = M.coefficients()
    return CudaChebyshev(to_cuda(M._operator._matrix), M._scale,
                         [next(steps) for _ in range(M.degree)])  # fmt: skip
