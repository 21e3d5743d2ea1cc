"""`solve`: the method and the preconditioner chosen by a rule on the operator's traits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn import registry
from krylearn.cuda.arrays import lies_on_cuda
from krylearn.grid.matrix import box_of
from krylearn.interface import Reason, SolveInfo
from krylearn.kernels import relaxation
from krylearn.operators import canonical_csr, matrix_like, unsigned_indices

# Where lines cross in measurements on two cores (Darcy, elements with jumps, convection and
# diffusion, Helmholtz, plates). The first number is for matrices with few entries a row, such as
# those of 2-D grids: their factors fill little, and simple preconditioners soon need many steps.
FEW = 5.5
# Below so many unknowns CG with IC(0) is quicker than multigrid;
MULTIGRID = {2: 4_000, 3: 50_000}
# below so many GMRES with ILU(0) is quicker than with aggregates;
AGGREGATES = {2: 2_000, 3: 100_000}
# up to so many sparse LU is worth a try where iterations fail;
FACTORISED = {2: 100_000, 3: 40_000}
# up to so many before multigrid, in any case;
SOON = 5_000
# up to so many it beats MINRES for indefinite matrices.
INDEFINITE = {2: 60_000, 3: 2_000}
# up to so many it beats GMRES where a matrix is not Hermitian and its Hermitian part indefinite.
WAVES = {2: 20_000, 3: 0}
# Share of positive couplings from which those of one sign no longer tell the whole.
MIXED = 0.2
# Iterations after which an attempt gives way to the next.
PATIENCE = 100
# Other outcomes are answers: there is none, or somebody wanted to stop.
_FAILED = (Reason.MAXITER, Reason.STAGNATED, Reason.DIVERGED, Reason.BREAKDOWN, Reason.INDEFINITE,
           Reason.INDEFINITE_M, Reason.OVERFLOW, Reason.NONFINITE_PRECONDITIONER)  # fmt: skip


@dataclass
class Attempt:
    """A method, a preconditioner, and why; `patience` bounds its iterations where a next waits."""

    method: str
    M: str | None
    why: str
    patience: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The text by which suites and `info.method` name it."""
        return f"{self.method}+{self.M}" if self.M else self.method


def solve(A, b, x0=None, *, method="auto", rtol=1e-5, atol=0.0, maxiter=None, M="auto",
          callback=None, device=None, **options):  # fmt: skip
    """Solve ``A x = b`` with a method that suits A.

    Fast transforms where A is separable on a box; multigrid-CG where it is Hermitian with a
    positive diagonal, of a grid or not, and IC(0)-CG where it is small; LU or MINRES where it is
    Hermitian and indefinite; GMRES with ILU(0), then LU, where it is not Hermitian, and LU at once
    for small waves in the plane. What fails is followed by what is slower and fails less.

    Parameters
    ----------
    A, b, x0, rtol, atol, maxiter, callback
        As for `cg`.
    method : str
        The name of a registered method, or 'auto'.
    M : {'auto', None, str, LinearOperator, Preconditioner}
        A preconditioner, the name of one, or 'auto'.
    device : {None, 'cpu', 'cuda'}
        Where to solve; by default where the data lies. With 'cuda' operands on the host are
        copied to the device, and the answer comes back to where b was.
    **options
        Further arguments of the method, such as ``restart`` of gmres.

    Returns
    -------
    x : array
    info : SolveInfo
        ``info.method`` names the choice, ``info.choice`` says why.

    Raises
    ------
    TypeError, ValueError
        On operands that are no numbers or do not fit, a name that nothing has, or an M that does
        not suit.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> P = kl.problems.poisson((20, 30))
    >>> x, info = kl.solve(P.A, P.b, rtol=1e-8)
    >>> info == 0, info.method, info.choice
    (True, 'fast_poisson', 'A is separable on a box of 20 x 30')
    >>> x, info = kl.solve(np.array([[0.0, 2.0], [1.0, 0.0]]), np.array([2.0, 3.0]))
    >>> x.round(6).tolist(), info.method
    ([3.0, 1.0], 'gmres')
    """
    if device not in (None, "cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', not {device!r}")
    if device == "cuda" or lies_on_cuda(A) or lies_on_cuda(b):
        if device == "cpu":
            raise ValueError("A or b lies on the CUDA device: take it to the host, or leave device")
        from krylearn.cuda.choose import solve as solve_on_cuda

        return solve_on_cuda(A, b, x0, method=method, M=M, rtol=rtol, atol=atol, maxiter=maxiter,
                             callback=callback, **options)  # fmt: skip
    if type(A).__module__ == "petsc4py.PETSc":
        from krylearn.petsc.solve import on_one_rank

        return on_one_rank(solve, A, b, x0, method=method, M=M, rtol=rtol, atol=atol,
                           maxiter=maxiter, callback=callback, **options)  # fmt: skip
    A = matrix_like(A)
    ours = isinstance(M, str) and M == "auto"
    box = _on_a_box(A) if ours and method == "auto" else []
    attempts = box or _attempts(A)
    if method != "auto":
        attempts = [_given(method, attempts, ours, M)]
    elif not ours:
        attempts = [_with(attempt, M) for attempt in attempts if _iterative(attempt.method)]
    if ours:
        M = None
    settings = dict(x0=x0, rtol=rtol, atol=atol, maxiter=maxiter, callback=callback)
    answers = []
    story = []
    while attempts:
        attempt = attempts.pop(0)
        last = not attempts and not box
        story.append(attempt.why)
        try:
            x, info = _try(attempt, A, b, M, settings | options, last, ours, story)
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            if last and not answers or not ours:
                raise
            story.append(f"{attempt.label} did not work: {error}")
        else:
            answers.append((x, info))
            # That A is singular a direct method knows, an iterative one suspects.
            suspected = info.reason is Reason.SINGULAR and _iterative(attempt.method)
            failed = info.reason in _FAILED or suspected
            if not failed or _users_limit(info, maxiter):
                break
            if not last:
                story.append(f"{attempt.label} ended as {info.reason.name.lower()}")
        if not attempts and box:
            attempts, box = _attempts(A), []
    x, info = min(answers, key=_badness)
    info.choice = "; ".join(story)
    return x, info


def _badness(answer: tuple[np.ndarray, SolveInfo]) -> tuple[bool, float]:
    info = answer[1]
    return not info.converged, info.residual if np.isfinite(info.residual) else np.inf


def _users_limit(info: SolveInfo, maxiter: int | None) -> bool:
    return info.reason is Reason.MAXITER and maxiter is not None and int(info) >= maxiter


def _try(attempt: Attempt, A: Any, b: Any, M: Any, settings: dict[str, Any], last: bool,
         ours: bool, story: list[str]) -> tuple[np.ndarray, SolveInfo]:  # fmt: skip
    """Make the preconditioner and run the method."""
    settings, label = settings | attempt.options, attempt.label
    if attempt.method == "lsmr" and not settings["atol"]:
        del settings["atol"]  # whose own atol is another thing
    if attempt.patience and not last:
        limit = settings["maxiter"]
        settings["maxiter"] = attempt.patience if limit is None else min(limit, attempt.patience)
    if attempt.M is not None:
        try:
            M = registry.preconditioner(attempt.M, A)
            if getattr(M, "choice", ""):
                story.append(f"{attempt.M} is {type(M).__name__}: {M.choice}")
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            if not last or not ours:  # whoever names a preconditioner wants this one or an error
                raise
            story.append(f"{attempt.M} was left out: {error}")
            label = attempt.method
    if M is not None:
        settings["M"] = M
    x, info = registry.find("method", attempt.method).load()(A, b, **settings)
    info.method = label
    return x, info


def _given(method: str, attempts: list[Attempt], ours: bool, M: Any) -> Attempt:
    """Return the attempt with the method that the user named."""
    entry = registry.find("method", method)
    why = "the method was given"
    if not ours:
        return Attempt(method, M if isinstance(M, str) else None, why)
    suited = None
    if _iterative(method) and method != "lsmr":
        # A method for Hermitian matrices would refuse the M that goes with GMRES.
        fits = [a.M for a in attempts if a.M and (
            entry.matrix == "general" or registry.find("method", a.method).matrix != "general"
        )]  # fmt: skip
        suited = fits[0] if fits else None
    return Attempt(method, suited, why)


def _with(attempt: Attempt, M: Any) -> Attempt:
    """Return an attempt with the preconditioner that the user gave."""
    name = M if isinstance(M, str) else None
    return Attempt(attempt.method, name, attempt.why, None, attempt.options)


def _iterative(method: str) -> bool:
    return registry.find("method", method).target.startswith("solvers.krylov")


# -- rules -----------------------------------------------------------------------------------


def krylov_method(A: Any) -> str:
    """Return the name of the Krylov method that the traits of A call for."""
    return next(a.method for a in _attempts(matrix_like(A)) if _iterative(a.method))


def first_choice(A: Any) -> str:
    """Return what is tried first for A, such as 'cg+ic0', were it not separable."""
    return _attempts(matrix_like(A))[0].label


def _on_a_box(A: Any) -> list[Attempt]:
    """Return the attempt by fast transforms, if A is separable on a box."""
    if not sp.issparse(A) and not hasattr(A, "grid"):
        return []
    from krylearn.solvers.direct.fast_poisson import FastPoisson

    try:
        M = FastPoisson(A)
    except (ValueError, TypeError, ArithmeticError):
        return []
    box = " x ".join(map(str, M.shape_of_box))
    return [Attempt("fast_poisson", None, f"A is separable on a box of {box}", None, {"M": M})]


def _attempts(A: Any) -> list[Attempt]:
    """Return what to try, in order."""
    n = A.shape[0]
    if A.shape[0] != A.shape[1]:
        return [Attempt("lsmr", None, "A is not square")]
    if isinstance(A, np.ndarray):
        return _dense(A)
    if not sp.issparse(A) and not hasattr(A, "grid"):
        if getattr(A, "symmetric", False):
            if getattr(A, "positive_definite", None) is False:
                return [Attempt("minres", None, "A is a symmetric operator and not definite")]
            return [Attempt("cg", None, "A is a symmetric operator"),
                    Attempt("minres", None, "minres needs no definiteness")]  # fmt: skip
        return [Attempt("gmres", None, "nothing is known of A but its products")]
    return _sparse(A, n)


def _dense(A: np.ndarray) -> list[Attempt]:
    n, diagonal = A.shape[0], A.diagonal()
    rescue = Attempt("direct", None, "LU cannot fail but on singular matrices")
    if is_hermitian(A):
        if np.all(diagonal.real > 0):
            why = f"A ({n:,} unknowns, dense) is Hermitian with a positive diagonal"
            return [Attempt("cg", "jacobi", why, PATIENCE),
                    Attempt("minres", None, "minres needs no definiteness", PATIENCE),
                    rescue]  # fmt: skip
        return [Attempt("minres", None, "A is Hermitian and not definite", PATIENCE), rescue]
    return [Attempt("gmres", None, "A is not Hermitian", PATIENCE, dict(restart=50)), rescue]


def _sparse(A: Any, n: int) -> list[Attempt]:
    """Return what to try for a sparse matrix or a grid operator."""
    hermitian, positive, row, axes = _traits(A)
    planar = axes == 2 if axes else row <= FEW
    kind = 2 if planar else 3  # dimensions
    rescue = [Attempt("direct", None, "LU cannot fail but on singular matrices")]
    rescue = rescue if n <= FACTORISED[kind] else []
    semidefinite = getattr(A, "nullspace", None) is not None
    size = f"A ({n:,} unknowns)"
    if not hermitian:
        why = f"{size} is not Hermitian"
        if n <= WAVES[kind] and _indefinite(A):
            why += ", its Hermitian part indefinite"
            rescue = [Attempt("direct", None, f"{why}; its factors fill little")]
            return [*rescue, *_unsymmetric(why, n, kind, positive is not None, [])]
        return _unsymmetric(why, n, kind, positive is not None, rescue)
    minres = Attempt("minres", None, "minres needs no definiteness")
    if not positive or (getattr(A, "positive_definite", None) is False and not semidefinite):
        why = f"{size} is Hermitian and not definite"
        if n <= INDEFINITE[kind]:
            return [Attempt("direct", None, f"{why}; it is small enough for LU"), minres]
        return [Attempt("minres", None, why, 20 * PATIENCE if rescue else None), *rescue]
    why = f"{size} is Hermitian with a positive diagonal"
    small = Attempt("cg", "ic0", why, PATIENCE)
    patient = Attempt("cg", "ic0", "incomplete factors serve any such matrix")
    if _mixed(A):
        # Several unknowns a node, as in elasticity, whose rigid motions nobody has told.
        small = Attempt("cg", "ic0", f"{why}; couplings have either sign", 4 * PATIENCE)
        return [small, *rescue, *_multigrid("ic0 was slow"), patient, minres]
    if n < MULTIGRID[kind]:
        soon = rescue if n <= SOON else []
        return [small, *soon, *_multigrid("ic0 was slow"), patient, *rescue, minres]
    return [*_multigrid(why), *rescue, patient, minres]


def _unsymmetric(why: str, n: int, kind: int, diagonal: bool, rescue: list[Attempt]
                 ) -> list[Attempt]:  # fmt: skip
    """Return what to try for a matrix that is not Hermitian."""
    suited, short = "ilu0" if diagonal else None, dict(restart=40)
    incomplete = Attempt("gmres", suited, why, 1, short)
    aggregates = Attempt("gmres", "smoothed_aggregation", why, 1, short)
    first = [incomplete, aggregates] if n < AGGREGATES[kind] else [aggregates, incomplete]
    first = first if diagonal else [incomplete]
    return [*first, *rescue, Attempt("bicgstab", suited, "it needs no restart", 10 * PATIENCE),
            Attempt("gmres", suited, "a longer restart", None, dict(restart=200))]  # fmt: skip


def _multigrid(why: str) -> list[Attempt]:
    """Return multigrid-CG of the kind that suits, and of one that stands more."""
    return [Attempt("cg", "multigrid", why, PATIENCE),
            Attempt("cg", "classical_amg", "interpolation that follows strong couplings",
                    2 * PATIENCE)]  # fmt: skip


def _mixed(A: Any) -> bool:
    """Return whether much of a sparse matrix is positive off the diagonal."""
    if hasattr(A, "grid") or A.dtype.kind not in "biuf":
        return False
    size, diagonal = float(np.abs(A.data).sum()), float(np.abs(A.diagonal()).sum())
    positive = (float(A.data.sum(dtype=float)) + size) / 2 - diagonal
    return positive > MIXED * (size - diagonal)


def _indefinite(A: Any) -> bool:
    """Return whether the Hermitian part of a matrix of the plane seems to be indefinite.

    Where it is definite, GMRES converges at some rate; where it is not, as with waves, at none
    that could be told. Its rows lack dominance by more than the lowest mode of the Laplacian on a
    square makes up for: 2 pi^2 h^2 of a diagonal of 4, with n = 1 / h^2 unknowns.
    """
    A = canonical_csr(A.tocsr())
    hermitian_part = (A + A.conj().T) / 2
    diagonal = hermitian_part.diagonal().real
    size = np.abs(diagonal)
    lack = np.asarray(abs(hermitian_part).sum(axis=1)).ravel() - size - diagonal
    return bool(np.mean(np.maximum(lack, 0)) > 0.5 * np.pi**2 / A.shape[0] * np.mean(size))


def _traits(A: Any) -> tuple[bool, bool | None, float, int]:
    """Return whether A is Hermitian, its diagonal positive, entries a row, and axes of its grid.

    The second is None where an entry of the diagonal is zero.
    """
    if hasattr(A, "grid"):
        stack = A._stack
        diagonal, row, axes = stack[0], 2 * A.grid.ndim + 1, max(2, A.grid.ndim)
        hermitian = bool(A.symmetric)
    else:
        A = canonical_csr(A)
        pattern = unsigned_indices(A)
        data = A.data if A.dtype.kind in "fc" else A.data.astype(float)
        if data.dtype.itemsize > 16 or data.dtype == np.longdouble:
            data = data.astype(np.complex128 if data.dtype.kind == "c" else np.float64)
        hermitian = relaxation.is_hermitian(*pattern, data)
        diagonal = relaxation.diagonal(*pattern, data)
        box = box_of(A)
        row, axes = A.nnz / max(1, A.shape[0]), max(2, len(box)) if box else 0
    positive = bool(np.all(diagonal.real > 0)) and not np.any(diagonal.imag)
    return hermitian, positive if np.all(diagonal != 0) else None, row, axes


def is_hermitian(A: Any) -> bool:
    """Return whether an explicit matrix equals its adjoint up to rounding."""
    difference = abs(A - A.conj().T)
    largest = abs(A).max() if A.shape[0] else 0.0
    eps = np.finfo(np.result_type(A.dtype, np.float32)).eps
    return bool(difference.max() <= 16 * eps * largest) if A.shape[0] else True
