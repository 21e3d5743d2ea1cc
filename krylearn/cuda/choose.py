"""What `krylearn.solve` does on the device: the method and the preconditioner, chosen by rule."""

from __future__ import annotations

from typing import Any

import numpy as np

from krylearn import choose, registry
from krylearn.cuda import arrays
from krylearn.cuda.arrays import download, empty, lies_on_cuda, shared, upload
from krylearn.cuda.hierarchy import facts_of, sets_up
from krylearn.cuda.operators import (
    CudaCSR,
    CudaDense,
    CudaDiagonals,
    CudaGridOperator,
    never_stops,
    to_cuda,
)
from krylearn.operators import matrix_like

# Points along all axes together up to which products with dense matrices beat multigrid: so many
# times two operations an unknown, each way. And unknowns up to which coefficients that are given
# point by point are worth a look on the host.
TRANSFORMED, LOOKED_AT = 4096, 2**18


@arrays.naming_bytes()
def solve(A: Any, b: Any, x0: Any, *, method: str, M: Any, **options: Any) -> tuple[Any, Any]:
    """Bring operands to the device where they are not there yet, choose, solve.

    The answer comes back to where b was.
    """
    arrays.require_cuda()
    chosen, why = None, "the method was given"
    # What a Hermitian grid operator calls for is seen there, sooner than on the host.
    if method == "auto" and not (lies_on_cuda(A) or hasattr(A, "_stencil") and A.symmetric):
        chosen, why = choose.krylov_method(A), "the traits of A call for it"
    from_host = not lies_on_cuda(b)
    A, b = (operand if lies_on_cuda(operand) else to_cuda(operand) for operand in (A, b))
    A = matrix_like(A)
    if x0 is not None and not isinstance(x0, str) and not lies_on_cuda(x0):
        x0 = to_cuda(x0)
    ours = method == "auto" and isinstance(M, str) and M == "auto"
    if ours and isinstance(A, CudaGridOperator) and _may_be_transformed(A):
        x, info = _on_a_box(A, b, x0, options)
        if info is not None and info.converged:
            return _to_host(x) if from_host else x, info
    if method == "auto":
        if chosen is None:
            chosen, why = _rule(A)
        method = chosen
    label = method
    if isinstance(M, str) and M == "auto":
        M = _suited(A, method)
    elif not (M is None or isinstance(M, str) or lies_on_cuda(M)):
        M = to_cuda(M)
    if isinstance(M, str):
        label = f"{method}+{M}"
    x, info = registry.find("method", method).load()(A, b, x0, M=M, **options)
    if not info.converged and chosen == "cg" and info.reason.name == "INDEFINITE":
        common = {key: options[key] for key in ("rtol", "atol", "maxiter", "callback")}
        x, info = registry.find("method", "minres").load()(A, b, x0, **common)
        why += "; cg found A indefinite, so minres took over"
        label = "minres"
    info.method, info.choice = label, f"{why}; on CUDA"
    return _to_host(x) if from_host else x, info


def _may_be_transformed(A: Any) -> bool:
    """Return whether it is worth finding out if A is separable."""
    quick = A.wrapped._constant or A.shape[0] < LOOKED_AT
    return bool(quick and sum(A.grid.shape) <= TRANSFORMED)


def _on_a_box(A: Any, b: Any, x0: Any, options: dict[str, Any]) -> tuple[Any, Any]:
    """Solve by fast transforms; return (None, None) where A is not separable."""
    from krylearn.solvers.direct.fast_poisson import fast_poisson

    common = {key: options[key] for key in ("rtol", "atol", "maxiter", "callback")}
    try:
        x, info = fast_poisson(A, b, x0, **common)
    except (ValueError, ArithmeticError, MemoryError):
        return None, None
    info.choice = f"A is separable on a box of {' x '.join(map(str, A.grid.shape))}; on CUDA"
    return x, info


def _suited(A: Any, method: str) -> str | None:
    """Return the name of the preconditioner that suits A and the method."""
    from krylearn.cuda.hierarchy import lattice_fails
    from krylearn.solvers.multigrid.multigrid import JUMPS, WALLS

    if isinstance(A, CudaGridOperator) and method in ("cg", "fcg"):
        positive, why = _has_positive_diagonal(A), lattice_fails(A)
        # In space cells are joined where coefficients jump: see `krylearn.multigrid`.
        if positive and (not why or (why in (JUMPS, WALLS) and A.grid.ndim == 3)):
            return "multigrid"
    # A constant diagonal is no help, and the operator without M takes the fewest passes.
    if not isinstance(A, CudaCSR | CudaDiagonals | CudaDense | CudaGridOperator):
        return None
    d = download(A.diagonal())
    varies = bool(np.ptp(np.abs(d)) > 0.01 * np.max(np.abs(d))) if len(d) else False
    fits = np.all(d.real > 0) if method in ("cg", "minres") else np.all(d != 0)
    return "jacobi" if varies and fits else None


def _has_positive_diagonal(A: CudaGridOperator) -> bool:
    if sets_up(A):
        return facts_of(A).positive_diagonal
    return bool(np.all(A.wrapped._stack[0].real > 0))


def _rule(A: Any) -> tuple[str, str]:
    """Return a method and the reason for it."""
    n = A.shape[0]
    if A.symmetric is None:
        hermitian, told = _looks_hermitian(A), "looks Hermitian on random vectors"
    else:
        hermitian, told = A.symmetric, "is Hermitian"
    if not hermitian:
        return "gmres", f"A ({n} x {n}) is not Hermitian"
    if isinstance(A, CudaCSR | CudaDiagonals | CudaDense):
        d = download(A.diagonal())
        if not np.all(d.real > 0):
            return "minres", f"A ({n} x {n}) {told} and is not definite"
    elif isinstance(A, CudaGridOperator):
        if not _has_positive_diagonal(A):
            return "minres", f"A ({n} x {n}) {told} and is not definite"
    elif A.positive_definite is False:
        return "minres", f"A ({n} x {n}) {told} and is not definite"
    return "cg", f"A ({n} x {n}) {told}"


def _looks_hermitian(A: Any) -> bool:
    n, rng = A.shape[0], np.random.default_rng(0)
    drawn = rng.standard_normal((2, n))
    if A.dtype.kind == "c":
        drawn = drawn + 1j * rng.standard_normal((2, n))
    u, v = (upload(row.astype(A.dtype)) for row in drawn)
    Au, Av = empty(n, A.dtype), empty(n, A.dtype)
    A.apply(never_stops(), u, Au)
    A.apply(never_stops(), v, Av)
    u, v, Au, Av = map(shared, (u, v, Au, Av))
    size = float(abs(Au.conj() @ Au)) ** 0.5 * float(abs(v.conj() @ v)) ** 0.5
    difference = float(abs(Au.conj() @ v - u.conj() @ Av))
    return difference <= float(np.finfo(A.dtype).eps) ** (2 / 3) * size


def _to_host(x: Any) -> np.ndarray:
    return download(x) if arrays.simulated() else x.cpu().numpy()
