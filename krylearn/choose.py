"""`solve`: the method and the preconditioner chosen by a rule on the operator's traits."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from krylearn import registry
from krylearn.operators import matrix_like


def solve(A, b, x0=None, *, method="auto", rtol=1e-5, atol=0.0, maxiter=None, M="auto",
          callback=None, **options):  # fmt: skip
    """Solve ``A x = b`` with a method that suits A.

    Parameters
    ----------
    A, b, x0, rtol, atol, maxiter, callback
        As for `cg`.
    method : str
        The name of a registered method, or 'auto'.
    M : {'auto', None, str, LinearOperator, Preconditioner}
        A preconditioner, the name of one, or 'auto'.
    **options
        Further arguments of the method, such as ``restart`` of gmres.

    Returns
    -------
    x : array
    info : SolveInfo
        ``info.method`` names the choice, ``info.choice`` says why.
    """
    A = matrix_like(A)
    chosen, suited, why = _rule(A)
    if method == "auto":
        method = chosen
    else:
        why = "the method was given"
    entry = registry.find("method", method)
    ours = isinstance(M, str) and M == "auto"
    if ours:
        krylov = entry.target.startswith("solvers.krylov") and method != "lsmr"
        # A method for Hermitian matrices would refuse the M of a matrix that is not.
        fits = suited != "ilu0" or entry.matrix == "general"
        M = suited if krylov and fits else None
    label = f"{method}+{M}" if isinstance(M, str) else method
    if isinstance(M, str):
        try:
            M = registry.preconditioner(M, A)
        except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            if not ours:  # whoever names a preconditioner wants this one or an error
                raise
            why += f"; {M} was left out: {error}"
            M, label = None, method
    function = entry.load()
    if M is not None:
        options["M"] = M
    if atol or method != "lsmr":  # whose own atol is another thing
        options["atol"] = atol
    x, info = function(A, b, x0=x0, rtol=rtol, maxiter=maxiter, callback=callback, **options)
    if not info.converged and chosen == method == "cg" and info.reason.name.startswith("INDEF"):
        # A symmetric matrix with a positive diagonal need not be definite: try again, safely.
        x, info = registry.find("method", "minres").load()(
            A, b, x0, rtol=rtol, atol=atol, maxiter=maxiter, callback=callback
        )
        why += "; cg found A indefinite, so minres took over"
        label = "minres"
    info.method, info.choice = label, why
    return x, info


def _rule(A: Any) -> tuple[str, str | None, str]:
    """Return method, preconditioner and the reason for them."""
    suited: str | None
    n = A.shape[0]
    if A.shape[0] != A.shape[1]:
        return "lsmr", None, "A is not square"
    if sp.issparse(A) or isinstance(A, np.ndarray):
        hermitian = is_hermitian(A)
        diagonal = A.diagonal()
        positive = bool(np.all(diagonal.real > 0)) and not np.any(diagonal.imag)
        if hermitian and positive:
            suited = "ic0" if sp.issparse(A) else "jacobi"
            return "cg", suited, f"A ({n} x {n}) is Hermitian with a positive diagonal"
        if hermitian:
            return "minres", None, "A is Hermitian and not definite"
        suited = "ilu0" if sp.issparse(A) and np.all(diagonal != 0) else None
        return "gmres", suited, "A is not Hermitian"
    if getattr(A, "symmetric", False):
        singular = getattr(A, "nullspace", None) is not None
        if getattr(A, "positive_definite", None) is False and not singular:
            return "minres", None, "A is a symmetric operator and not definite"
        return "cg", "ssor" if hasattr(A, "grid") else None, "A is a symmetric operator"
    return "gmres", None, "nothing is known of A but its products"


def is_hermitian(A: Any) -> bool:
    """Return whether an explicit matrix equals its adjoint up to rounding."""
    difference = abs(A - A.conj().T)
    largest = abs(A).max() if A.shape[0] else 0.0
    eps = np.finfo(np.result_type(A.dtype, np.float32)).eps
    return bool(difference.max() <= 16 * eps * largest) if A.shape[0] else True
