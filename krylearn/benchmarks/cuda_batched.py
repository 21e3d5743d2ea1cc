"""Many systems or columns at once on a CUDA device, and sweeps: a part of `krylearn bench cuda`.

Times of batches and data sets are a system's: over the number of systems.
"""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

# Systems of a batch; systems that a peer solves one by one; samples of a data set.
SYSTEMS, ALONE, SAMPLES = 4096, 8, 8192


def rows(side: int = 128) -> Iterator[dict[str, Any]]:
    """Yield Darcy systems, 12 or 3 by the sign of a Gaussian field, to 1e-8; and data sets."""
    import torch

    yield from column_rows(side)
    yield from sweep_rows(side)
    yield from batch_rows(side)
    torch.cuda.empty_cache()
    for dtype in ("float64", "float32"):
        yield _data_set(side, dtype)


def column_rows(side: int, columns: int = 8) -> Iterator[dict[str, Any]]:
    """Yield conjugate gradients on the 7-point matrix for several right-hand sides at once."""
    import torch

    import krylearn as kl
    from krylearn.benchmarks.cuda import milliseconds

    A = kl.GridOperator.diffusion(kl.Grid((side,) * 3))
    torch.manual_seed(0)
    B = torch.randn(side**3, columns, dtype=torch.float64, device="cuda")
    case = f"{side}^3 CSR float64 to 1e-8, {columns} columns"
    for form, M in ((A.tocsr(), None), (A.tocsr(), "jacobi"), (A, None)):
        there = kl.to_cuda(form)
        what = f"cg, {'matrix' if form is not A else 'stencil'}{', ' + M if M else ''}; peer: "
        cg = functools.partial(kl.cg, there, rtol=1e-8, M=M)
        together = milliseconds(functools.partial(cg, B), 3)
        alone = sum(milliseconds(functools.partial(cg, B[:, j]), 1) for j in range(columns))
        _, info = cg(B)
        yield {"case": case, "what": what + "one by one", "milliseconds": together,
               "peer_milliseconds": alone, "iterations": info.iterations,
               "converged": info.converged}  # fmt: skip


def sweep_rows(side: int) -> Iterator[dict[str, Any]]:
    """Yield conjugate gradients on a matrix with varied coefficients, by preconditioner."""
    import torch

    import krylearn as kl
    from krylearn.benchmarks.cuda import milliseconds
    from krylearn.cuda.preconditioners import by_name

    c = np.exp(np.random.default_rng(0).standard_normal((side,) * 3))
    operator = kl.GridOperator.diffusion(kl.Grid((side,) * 3), c)
    torch.manual_seed(0)
    b = torch.randn(side**3, dtype=torch.float64, device="cuda")
    for form, name in (
        ("CSR", None), ("CSR", "jacobi"), ("CSR", "ssor"), ("stencil", None), ("stencil", "jacobi"),
        ("stencil", "ssor"),
    ):  # fmt: skip
        A = kl.to_cuda(operator.tocsr() if form == "CSR" else operator)
        M = None if name is None else by_name(name, A)
        cg = functools.partial(kl.cg, A, b, rtol=1e-8, M=M)
        spent = milliseconds(cg, 3)
        _, info = cg()
        yield {"case": f"{side}^3 {form}, lognormal, to 1e-8", "what": f"cg, M {name}",
               "milliseconds": spent, "iterations": info.iterations,
               "converged": info.converged}  # fmt: skip


def batch_rows(side: int, systems: int = SYSTEMS) -> Iterator[dict[str, Any]]:
    """Yield a batch of systems."""
    import torch

    import krylearn as kl
    from krylearn.benchmarks.cuda import milliseconds
    from krylearn.data.cuda import CudaMaker
    from krylearn.data.layout import find_layout
    from krylearn.data.plan import Plan

    case = f"{systems} Darcy {side}^2 to 1e-8"
    plan = Plan.make("darcy", samples=systems, grid=side, device="cuda")
    maker = CudaMaker(plan, find_layout(plan))
    c, b = (torch.as_tensor(a, device="cuda") for a in maker.draw(0, systems))
    grid = maker.grid
    time_ = milliseconds(lambda: kl.solve_batch(c, b[0], grid=grid), 3)
    X, infos = kl.solve_batch(c, b[0], grid=grid)
    true = max(
        float(np.linalg.norm(1 - A @ X[i].cpu().numpy()) / side)
        for i, A in ((i, _operator(grid, c[i])) for i in range(ALONE))
    )
    ours = {"case": case, "what": "solve_batch, a system", "milliseconds": time_ / systems,
            "systems_per_second": 1e3 * systems / time_, "iterations": infos.iterations.mean(),
            "converged": bool(infos.converged.all()), "true_residual": true}  # fmt: skip
    yield ours | _cupy(grid, c)
    yield {"case": case, "what": "solve_batch on the host, a system",
           "milliseconds": _on_host(grid, c)}  # fmt: skip
    yield {"case": case, "what": "drawing the fields, a system",
           "milliseconds": milliseconds(lambda: maker.draw(0, systems), 3) / systems}  # fmt: skip


def _operator(grid: Any, c: Any) -> Any:
    import krylearn as kl

    return kl.GridOperator.diffusion(grid, c.cpu().numpy().reshape(grid.shape))


def _cupy(grid: Any, c: Any) -> dict[str, float]:
    """Return what CuPy's conjugate gradients take for a system of the same batch."""
    try:
        import cupy
        import cupyx.scipy.sparse as sparse
        from cupyx.scipy.sparse.linalg import cg
    except ImportError:
        return {}
    import inspect

    name = "rtol" if "rtol" in inspect.signature(cg).parameters else "tol"
    vector, times = cupy.ones(grid.size), []
    for i in range(ALONE + 1):
        A = _operator(grid, c[i % ALONE]).tocsr()
        A = sparse.csr_matrix(tuple(map(cupy.asarray, (A.data, A.indices, A.indptr))),
                              shape=A.shape)  # fmt: skip
        cupy.cuda.Device().synchronize()
        started = time.perf_counter()
        _, info = cg(A, vector, **{name: 1e-8})
        cupy.cuda.Device().synchronize()
        times.append(1e3 * (time.perf_counter() - started))
        assert info == 0
    return {"peer_milliseconds": float(np.median(times[1:]))}  # the first one compiles


def _on_host(grid: Any, c: Any, systems: int = 256) -> float:
    import krylearn as kl

    values, b = c[:systems].cpu().numpy().reshape(-1, *grid.shape), np.ones(grid.size)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        kl.solve_batch(values, b, grid=grid)
        times.append(1e3 * (time.perf_counter() - started) / len(values))
    return min(times)


def _data_set(side: int, dtype: str) -> dict[str, Any]:
    """Return what a sample takes from the call to the finished file."""
    import krylearn as kl

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "darcy.h5"
        report = kl.generate("darcy", samples=SAMPLES, grid=side, out=out, dtype=dtype,
                             device="cuda")  # fmt: skip
        size = out.stat().st_size
    return {"case": f"{SAMPLES} samples of Darcy {side}^2, {dtype}", "what": "generate, a sample",
            "milliseconds": 1e3 * report.seconds / SAMPLES, "bytes_per_second":
            size / report.seconds, "converged": report.valid == SAMPLES}  # fmt: skip
