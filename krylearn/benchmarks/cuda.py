"""Benchmarks on a CUDA device, peers in the same run: `krylearn bench cuda`.

Times are medians between events on the device. What a conjugate gradient iteration takes is the
difference of two solves of different length, so that set-up does not count.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from krylearn.benchmarks import cuda_batched

RUNS = 5
SHORT, LONG = 20, 120
# What the project wants: CuPy's time an iteration over ours; a fused iteration's bytes a second
# over those of a copy.
TARGETS = {"cg stencil 256": 3.5, "cg CSR 256": 1.3, "share of the copy rate 512": 0.7}


def milliseconds(work: Callable[[], Any], runs: int = RUNS) -> float:
    """Return the median time of `work` on the device, after one run that does not count."""
    import torch

    work()
    times = []
    for _ in range(runs):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def _an_iteration(solve: Callable[[int], Any]) -> float:
    short, long = (milliseconds(functools.partial(solve, most)) for most in (SHORT, LONG))
    return (long - short) / (LONG - SHORT)


def device_facts() -> dict[str, Any]:
    """Return what the times depend on; the copy rate counts bytes read and written."""
    import torch

    device = torch.cuda.get_device_properties(0)
    x = torch.ones(2**27, dtype=torch.float64, device="cuda")
    y = torch.empty_like(x)
    copy = milliseconds(lambda: y.copy_(x))
    versions = {}
    for name in ("torch", "numba", "numba-cuda", "numpy", "cupy-cuda13x", "cupy-cuda12x"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"device": device.name, "memory_bytes": device.total_memory,
            "multiprocessors": device.multi_processor_count, "cuda": torch.version.cuda,
            "copy_bytes_per_second": 16 * 2**27 / copy * 1e3, "versions": versions}  # fmt: skip


def _operator(side: int, dtype: str) -> tuple[Any, Any, Any]:
    import torch

    import krylearn as kl

    A = kl.GridOperator.diffusion(kl.Grid((side,) * 3), dtype=np.dtype(dtype))
    torch.manual_seed(0)
    b = torch.randn(side**3, dtype=getattr(torch, dtype), device="cuda")
    return A, kl.to_cuda(A), b


def _cupy(matrix: Any, b: Any) -> tuple[Any, Any, dict[str, Callable]] | None:
    """Return CuPy's matrix, its b and its methods, of which each takes a limit, or None."""
    try:
        import cupy
        import cupyx.scipy.sparse as sparse
        import cupyx.scipy.sparse.linalg as linalg
    except ImportError:
        return None
    A = sparse.csr_matrix(
        tuple(map(cupy.asarray, (matrix.data, matrix.indices, matrix.indptr))), shape=matrix.shape
    )
    vector = cupy.asarray(b)

    def method(name: str) -> Callable:
        function = getattr(linalg, name)
        tolerance = "rtol" if "rtol" in inspect.signature(function).parameters else "tol"

        def call(most: int, value: float = 1e-30, **options: Any) -> Any:
            return function(A, vector, maxiter=most, **{tolerance: value}, **options)

        return call

    return A, vector, {name: method(name) for name in ("cg", "minres", "gmres")}


def stencil_rows(side: int, dtype: str, copy_rate: float) -> Iterator[dict[str, Any]]:
    """Yield conjugate gradients on a matrix-free 7-point stencil, and its kernels."""
    import krylearn as kl
    from krylearn.cuda import arrays
    from krylearn.cuda.operators import never_stops
    from krylearn.cuda.solve import record

    _, A, b = _operator(side, dtype)
    n, width = side**3, np.dtype(dtype).itemsize

    def row(name: str, time: float, passes: int) -> dict[str, Any]:
        rate = passes * width * n / time * 1e3
        return {"case": f"{side}^3 stencil {dtype}", "what": name, "milliseconds": time,
                "bytes_per_second": rate, "share_of_copy": rate / copy_rate}  # fmt: skip

    time = _an_iteration(lambda most: kl.cg(A, b, rtol=1e-30, maxiter=most))
    yield row("cg iteration", time, 8)
    vectors = [arrays.view(b.clone()) for _ in range(4)]
    S, log = arrays.upload(np.zeros(4)), never_stops()
    for name, passes, work in (
        ("direction", 5, lambda: A.direction(log, S, 0, 0, *vectors)),
        ("descend", 3, lambda: A.descend(log, S, 0, *vectors[:2])),
        ("apply", 2, lambda: A.apply(log, *vectors[:2])),
    ):
        work()
        graph = record(work, 10)
        yield row(name, milliseconds(graph.replay) / 10, passes)


def matrix_rows(side: int, copy_rate: float) -> Iterator[dict[str, Any]]:
    """Yield methods on the 7-point matrix in CSR form beside CuPy's, which knows no stencils."""
    import torch

    import krylearn as kl
    from krylearn.cuda import arrays
    from krylearn.cuda.operators import CudaCSR, never_stops
    from krylearn.cuda.solve import record

    grid_operator, stencil, b = _operator(side, "float64")
    matrix = grid_operator.tocsr()
    A, n = kl.to_cuda(matrix), side**3
    case = f"{side}^3 CSR float64"
    x, y = arrays.view(b), arrays.empty(n, np.float64)
    rows: list[dict[str, Any]] = []
    parts = (matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), matrix.data)
    in_rows = CudaCSR(matrix.shape, *map(arrays.upload, parts))
    forms = ((A, "product, by diagonals", 8 * 7 * n + 16 * n),
             (in_rows, "product, in rows", 12 * matrix.nnz + 20 * n))  # fmt: skip
    for B, what, bytes_ in forms:
        work = functools.partial(B.apply, never_stops(), x, y)
        work()
        time = milliseconds(record(work, 10).replay) / 10
        rate = bytes_ / time * 1e3
        rows.append({"case": case, "what": what, "milliseconds": time, "bytes_per_second": rate,
                     "share_of_copy": rate / copy_rate})  # fmt: skip
    methods: dict[str, Callable[..., Any]] = {"cg": kl.cg, "minres": kl.minres, "gmres": kl.gmres}
    for name, method in methods.items():
        def solve(most: int, method: Callable = method, name: str = name) -> Any:
            cycles = {"maxiter": most // 20, "restart": 20} if name == "gmres" else {
                "maxiter": most}  # fmt: skip
            return method(A, b, rtol=1e-30, **cycles)

        rows.append({"case": case, "what": f"{name} iteration",
                     "milliseconds": _an_iteration(solve)})  # fmt: skip
    peer = _cupy(matrix, b)
    if peer is not None:
        theirs, vector, peers = peer
        rows[0]["peer_milliseconds"] = milliseconds(lambda: theirs @ vector)
        rows[1]["peer_milliseconds"] = rows[0]["peer_milliseconds"]
        for entry, name in zip(rows[2:], methods):
            more = {"restart": 20} if name == "gmres" else {}
            entry["peer_milliseconds"] = _an_iteration(functools.partial(peers[name], **more))
    yield from rows
    fused = _an_iteration(lambda most: kl.cg(stencil, b, rtol=1e-30, maxiter=most))
    yield {"case": f"{side}^3 stencil float64", "what": "cg iteration, CuPy's on CSR",
           "milliseconds": fused,
           "peer_milliseconds": rows[2].get("peer_milliseconds")}  # fmt: skip
    whole: dict[str, Any] = {"case": f"{side}^3 to 1e-8", "what": "cg, whole solve"}
    whole["milliseconds"] = milliseconds(lambda: kl.cg(stencil, b, rtol=1e-8), 3)
    x, info = kl.cg(stencil, b, rtol=1e-8)
    whole["iterations"], whole["converged"] = info.iterations, info.converged
    if peer is not None:
        whole["peer_milliseconds"] = milliseconds(lambda: peers["cg"](10 * n, 1e-8), 3)
    torch.cuda.synchronize()
    yield whole


def poisson_rows(side: int, copy_rate: float) -> Iterator[dict[str, Any]]:
    """Yield Poisson's equation to 1e-8 by multigrid-CG, set-up included, and what it consists of.

    The floor is what the vectors take that must pass through memory, at the rate of a copy: 64
    bytes a point for an iteration of CG, 13 for each level's part of a cycle in single precision.
    """
    import krylearn as kl
    from krylearn.cuda import arrays
    from krylearn.cuda.operators import never_stops
    from krylearn.cuda.solve import record

    on_host, A, b = _operator(side, "float64")
    n, case = side**3, f"{side}^3 to 1e-8"
    cycle_bytes, bytes_ = 13 * n * 8 / 7, (64 + 13 * 8 / 7) * n

    def solve() -> Any:
        return kl.cg(kl.to_cuda(on_host), b, rtol=1e-8, M=kl.multigrid(on_host).to("cuda"))

    x, info = solve()
    time, true = milliseconds(solve), float((b - A.matvec(x)).norm() / b.norm())
    floor = info.iterations * bytes_ / copy_rate * 1e3
    yield {"case": case, "what": "cg with multigrid, set-up included", "milliseconds": time,
           "iterations": info.iterations, "converged": info.converged, "residual": true,
           "floor_milliseconds": floor, "share_of_copy": floor / time}  # fmt: skip
    M = kl.multigrid(on_host).to("cuda").fresh()
    time = _an_iteration(lambda most: kl.cg(A, b, rtol=1e-30, maxiter=most // 4, M=M)) * 4
    yield {"case": case, "what": "cg iteration with multigrid", "milliseconds": time,
           "bytes_per_second": bytes_ / time * 1e3,
           "share_of_copy": bytes_ / time * 1e3 / copy_rate}  # fmt: skip
    r, z = (arrays.empty(n, M.inside) for _ in range(2))
    arrays.shared(r).copy_(b)
    M.apply_inside(never_stops(), r, z)
    time = milliseconds(record(lambda: M.apply_inside(never_stops(), r, z), 5).replay) / 5
    yield {"case": case, "what": "a cycle, V(1,1), float32", "milliseconds": time,
           "bytes_per_second": cycle_bytes / time * 1e3,
           "share_of_copy": cycle_bytes / time * 1e3 / copy_rate}  # fmt: skip


def kinds_rows(side: int) -> Iterator[dict[str, Any]]:
    """Yield other cycles, coefficients and ways to the same solution, set-up not included."""
    import krylearn as kl

    on_host, A, b = _operator(side, "float64")
    case = f"{side}^3 to 1e-8"

    def row(what: str, A: Any, M: Any, case: str = case, b: Any = b) -> dict[str, Any]:
        x, info = kl.cg(A, b, rtol=1e-8, M=M)
        return {"case": case, "what": what, "iterations": info.iterations,
                "converged": info.converged,
                "milliseconds": milliseconds(lambda: kl.cg(A, b, rtol=1e-8, M=M), 3)}  # fmt: skip

    for what, options in (("V(1,1)", {}), ("W(1,1)", {"cycle": "W"}),
                          ("Chebyshev", {"smoother": "chebyshev"}),
                          ("in double precision", {"precision": "double"})):  # fmt: skip
        yield row(f"cg with multigrid, {what}", A, kl.GeometricMultigrid(on_host, **options).to(
            "cuda"))  # fmt: skip
    grid, shape = kl.Grid((side,) * 3), (side,) * 3
    noise = np.random.default_rng(0).standard_normal(shape)
    varied = kl.GridOperator.diffusion(grid, coefficient=np.exp(0.5 * noise))
    yield row("cg with multigrid, variable coefficients", kl.to_cuda(varied),
              kl.GeometricMultigrid(varied).to("cuda"))  # fmt: skip
    periodic = kl.GridOperator.diffusion(kl.Grid(shape, boundary="periodic"), reaction=1.0)
    yield row("cg with multigrid, periodic", kl.to_cuda(periodic),
              kl.GeometricMultigrid(periodic).to("cuda"))  # fmt: skip


def multigrid_rows(side: int) -> Iterator[dict[str, Any]]:
    """Yield the solve phase of algebraic multigrid; of pyamg's hierarchy beside pyamg's own."""
    import time

    import krylearn as kl

    grid_operator, _, b = _operator(side, "float64")
    matrix, case = grid_operator.tocsr(), f"{side}^3 CSR to 1e-8"
    A, on_host = kl.to_cuda(matrix), b.cpu().numpy()

    def row(what: str, M: Any) -> dict[str, Any]:
        x, info = kl.cg(A, b, rtol=1e-8, M=M)
        spent = milliseconds(lambda: kl.cg(A, b, rtol=1e-8, M=M), 3)
        return {"case": case, "what": what, "milliseconds": spent,
                "iterations": info.iterations, "converged": info.converged}  # fmt: skip

    yield row("cg, smoothed aggregation", kl.SmoothedAggregation(matrix).to("cuda"))
    try:
        import pyamg
    except ImportError:
        return
    for name, make in (("smoothed aggregation", pyamg.smoothed_aggregation_solver),
                       ("Ruge-Stuben", pyamg.ruge_stuben_solver)):  # fmt: skip
        ml = make(matrix)
        ours = row(f"cg, pyamg's {name}; peer: pyamg", kl.from_pyamg(ml).to("cuda"))
        norms: list[float] = []
        started = time.perf_counter()
        ml.solve(on_host, tol=1e-8, accel="cg", residuals=norms)
        yield ours | {"peer_milliseconds": 1e3 * (time.perf_counter() - started),
                      "peer_iterations": len(norms) - 1}  # fmt: skip


def fast_rows(side: int) -> Iterator[dict[str, Any]]:
    """Yield Poisson's equation to 1e-8 by fast transforms, set-up included."""
    import krylearn as kl

    on_host, _, b = _operator(side, "float64")

    def solve() -> Any:
        return kl.fast_poisson(kl.to_cuda(on_host), b, rtol=1e-8)

    _, info = solve()
    yield {"case": f"{side}^3 to 1e-8", "what": "fast_poisson, set-up included",
           "milliseconds": milliseconds(solve), "iterations": info.iterations,
           "converged": info.converged}  # fmt: skip


def _around_balls(side: int) -> Any:
    """Return the pressure operator of a flow around two balls in a box with an open top."""
    import krylearn as kl

    grid = kl.Grid((side,) * 3, centering="cell", boundary=[
        "neumann", "neumann", ("neumann", "dirichlet")])  # fmt: skip
    middle = (np.arange(side) + 0.5) / side
    fluid = np.ones(grid.shape, bool)
    for centre, radius in (((0.3, 0.4, 0.5), 0.12), ((0.7, 0.6, 0.4), 0.15)):
        z, y, x = ((middle - at) ** 2 for at in centre)
        fluid &= z[:, None, None] + y[:, None] + x > radius**2
    return kl.GridOperator.diffusion(grid, mask=fluid)


def setup_rows(side: int) -> Iterator[dict[str, Any]]:
    """Yield the set-up of multigrid where coefficients or masks vary, beside the host's."""
    import time

    import torch

    import krylearn as kl

    cases = [("around balls", n, _around_balls(n)) for n in (side // 4, side // 2, side)]
    cases.append(("Darcy 12/3", side, kl.problems.darcy((side,) * 3, seed=1).A))
    for name, n, operator in cases:
        A, case = kl.to_cuda(operator), f"{n}^3 {name}"
        rhs = np.random.default_rng(0).standard_normal(n**3)
        b = kl.to_cuda(rhs if operator.mask is None else rhs * operator.mask.ravel())

        def anew(A: Any = A) -> Any:
            A._facts = A._mask = None
            return kl.multigrid(A)

        if n == cases[0][1]:
            kl.multigrid(operator)  # compiles
        started = time.perf_counter()
        kl.multigrid(operator).to("cuda")
        torch.cuda.synchronize()
        on_host = 1e3 * (time.perf_counter() - started)
        yield {"case": case, "what": "multigrid, set-up; peer: on the host",
               "milliseconds": milliseconds(anew), "peer_milliseconds": on_host}  # fmt: skip
        M = anew()
        x, info = kl.cg(A, b, rtol=1e-8, M=M)
        for what, solve in (
            ("cg with multigrid", lambda A=A, b=b, M=M: kl.cg(A, b, rtol=1e-8, M=M)),
            ("cg with multigrid, set-up included",
             lambda A=A, b=b, anew=anew: kl.cg(A, b, rtol=1e-8, M=anew())),
        ):  # fmt: skip
            yield {"case": case + " to 1e-8", "what": what, "milliseconds": milliseconds(solve),
                   "iterations": info.iterations, "converged": info.converged}  # fmt: skip


def sections(side: int) -> dict[str, Callable[[float], Iterator[dict[str, Any]]]]:
    """Return the parts of `run`, each given the rate of a copy; `side` is the largest cube's."""
    sides = (side // 4, side // 2, side)

    def stencils(rate: float) -> Iterator[dict[str, Any]]:
        for each in sides:
            for dtype in ("float64", "float32"):
                yield from stencil_rows(each, dtype, rate)

    def poisson(rate: float) -> Iterator[dict[str, Any]]:
        for each in sides[1:]:
            yield from poisson_rows(each, rate)

    return {
        "stencil": stencils,
        "matrix": lambda rate: matrix_rows(side // 2, rate),
        "multigrid": poisson,
        "fast": lambda rate: (row for each in sides for row in fast_rows(each)),
        "setup": lambda rate: setup_rows(side // 2),
        "kinds": lambda rate: kinds_rows(side // 4),
        "amg": lambda rate: multigrid_rows(3 * side // 16),
        "batched": lambda rate: cuda_batched.rows(side // 4),
    }


def run(side: int = 512, only: str = "", after: Callable[[dict[str, Any]], None] | None = None,
        say: Callable[[str], Any] = str) -> dict[str, Any]:  # fmt: skip
    """Measure everything, or the sections named in `only`; return facts and rows.

    Parameters
    ----------
    side : int
        Points along the edge of the largest cube.
    only : str
        Names of `sections`, between commas.
    after : callable, optional
        Given the results so far after each section, so that a run cut short is not lost.
    say : callable, optional
        Told what is measured next.

    Raises
    ------
    NoCUDA
        If there is no device.
    ValueError
        If there is no section of a name.
    """
    from krylearn.cuda.arrays import require_cuda

    parts = sections(side)
    names = [name.strip() for name in only.split(",")] if only else list(parts)
    for name in names:
        if name not in parts:
            raise ValueError(f"no section is called {name!r}; there are {', '.join(parts)}")
    require_cuda()
    import torch

    facts, rows = device_facts(), []  # type: ignore[var-annotated]
    results = {"machine": facts, "rows": rows}
    for name in names:
        say(f"timing on the device: {name}")
        rows += [{"section": name, **row} for row in parts[name](facts["copy_bytes_per_second"])]
        torch.cuda.empty_cache()
        if after is not None:
            after(results)
    return results


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return `new` with those sections of `old` that it lacks, if device and versions agree."""
    facts = [{k: v for k, v in found.get("machine", {}).items() if k != "copy_bytes_per_second"}
             for found in (old, new)]  # fmt: skip
    if facts[0] != facts[1]:
        return new
    made = {row["section"] for row in new["rows"]}
    kept = [row for row in old["rows"] if row.get("section", None) not in {*made, None}]
    return {**old, **new, "rows": kept + new["rows"]}


def tests_of(junit: Path) -> dict[str, Any]:
    """Return how the tests went that pytest recorded in a file of JUnit's form.

    Raises
    ------
    OSError, ValueError
        If it is none.
    """
    import xml.etree.ElementTree as ET

    try:
        root = ET.parse(junit).getroot()
    except ET.ParseError as error:
        raise ValueError(f"{junit} is no record of tests: {error}") from None
    suite = root if root.tag == "testsuite" else root.find("testsuite")
    if suite is None:
        raise ValueError(f"{junit} is no record of tests")
    count = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    failed = sorted(case.get("name", "") for case in suite.iter("testcase")
                    if case.find("failure") is not None or case.find("error") is not None)
    return {**count, "seconds": float(suite.get("time", 0)), "failed": failed}  # fmt: skip


def table(results: dict[str, Any]) -> str:
    """Return the results as a table in Markdown."""
    facts = results["machine"]
    lines = [
        f"{facts['device']}, CUDA {facts['cuda']}, "
        + ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        + f"; a copy moves {facts['copy_bytes_per_second'] / 1e12:.2f} TB/s (read and written).",
        *_tests_line(results.get("tests")), "",
        "| case | what | ms | TB/s | of a copy | peer, ms | peer over ours |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in results["rows"]:
        rate, peer = row.get("bytes_per_second"), row.get("peer_milliseconds")
        cells = [
            row["case"], row["what"], f"{row['milliseconds']:.3f}",
            f"{rate / 1e12:.2f}" if rate else "",
            f"{row['share_of_copy']:.0%}" if "share_of_copy" in row else "",
            f"{peer:.3f}" if peer else "", f"{peer / row['milliseconds']:.2f}" if peer else "",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _tests_line(tests: dict[str, Any] | None) -> list[str]:
    if tests is None:
        return []
    bad = tests["failures"] + tests["errors"]
    passed = tests["tests"] - bad - tests["skipped"]
    return ["", f"Tests on the device: {passed} passed, {bad} failed, {tests['skipped']} skipped, "
            f"in {tests['seconds']:.0f} s."]  # fmt: skip
