"""One line a method, preconditioner and problem: tests, docs, CLI and PETSc names read it.

Nothing is imported until a name is asked for, so that ``import krylearn`` stays quick.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A registered name.

    Attributes
    ----------
    name : str
        What the user types.
    kind : str
        'method', 'preconditioner', 'policy' or 'problem'.
    target : str
        'module:attribute' below ``krylearn``.
    matrix : str
        What it needs of A: 'spd', 'hermitian', 'general', 'dominant' (a stationary method,
        which converges on diagonally dominant or SPD matrices) or 'separable' (constant
        coefficients on a box). Of a policy: what it looks at, 'context' or 'nothing'.
    summary : str
        One line for tables.
    needs_entries : bool
        Whether A must have explicit entries rather than products only.
    flexible : bool
        For a method: M may change from step to step or be nonlinear.
    adjoint : bool
        Whether products with the adjoint of A are needed.
    direct : bool
        Exact but for rounding: an iteration more is a refinement, and few are ever useful.
    cuda : bool
        Whether it also runs on a CUDA device.
    """

    name: str
    kind: str
    target: str
    matrix: str
    summary: str
    needs_entries: bool = False
    flexible: bool = False
    adjoint: bool = False
    direct: bool = False
    cuda: bool = False

    def load(self) -> Callable[..., Any]:
        """Import and return what the name stands for."""
        module, attribute = self.target.split(":")
        return getattr(importlib.import_module(f"krylearn.{module}"), attribute)


_ENTRIES: dict[tuple[str, str], Entry] = {}


def register(name: str, kind: str, target: str, matrix: str, summary: str, **more: bool) -> None:
    """Add a name; a later entry of the same kind and name replaces an earlier one."""
    _ENTRIES[kind, name] = Entry(name, kind, target, matrix, summary, **more)


def entries(kind: str) -> list[Entry]:
    """Return all entries of a kind, in the order of registration."""
    return [entry for entry in _ENTRIES.values() if entry.kind == kind]


def find(kind: str, name: str) -> Entry:
    """Return an entry.

    Raises
    ------
    ValueError
        If there is none; the message names the nearest.
    """
    try:
        return _ENTRIES[kind, name]
    except KeyError:
        names = [entry.name for entry in entries(kind)]
        near = difflib.get_close_matches(name, names, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
        raise ValueError(f"no {kind} is called {name!r}; {hint}") from None


def preconditioner(name: str, A: Any, **options: Any) -> Any:
    """Make the registered preconditioner `name` for `A`."""
    return find("preconditioner", name).load()(A, **options)


def _method(name: str, where: str, matrix: str, summary: str, **more: bool) -> None:
    more.setdefault("cuda", name in _ON_CUDA)
    register(name, "method", f"solvers.{where}:{name}", matrix, summary, **more)


_ON_CUDA = ("cg", "fcg", "minres", "gmres", "fgmres", "bicgstab", "fast_poisson", "jacobi",
            "gauss_seidel", "sor", "ssor", "chebyshev")  # fmt: skip
_K, _R, _F = "krylov", "relaxation", "factorized"
_method("cg", f"{_K}.cg", "spd", "conjugate gradients")
_method("recycled_cg", f"{_K}.recycled_cg", "spd", "deflated conjugate gradients with recycling")
_method("fcg", f"{_K}.fcg", "spd", "flexible conjugate gradients, truncated", flexible=True)
_method("cr", f"{_K}.cr", "hermitian", "conjugate residuals")
_method("minres", f"{_K}.minres", "hermitian", "minimal residuals")
_method("gmres", f"{_K}.gmres", "general", "restarted generalised minimal residuals")
_method("fgmres", f"{_K}.fgmres", "general", "flexible GMRES", flexible=True)
_method("gcrodr", f"{_K}.gcrodr", "general", "GMRES with deflated restarting and recycling",
        flexible=True)  # fmt: skip
_method("bicgstab", f"{_K}.bicgstab", "general", "stabilised biconjugate gradients")
_method("idrs", f"{_K}.idrs", "general", "induced dimension reduction, IDR(s)")
_method("tfqmr", f"{_K}.tfqmr", "general", "transpose-free quasi-minimal residuals")
_method("lsmr", f"{_K}.lsmr", "general", "least squares by Golub-Kahan", adjoint=True)

for _name, _class, _matrix, _summary in (
    ("jacobi", "Jacobi", "dominant", "damped Jacobi"),
    ("block_jacobi", "BlockJacobi", "dominant", "Jacobi with dense diagonal blocks"),
    ("gauss_seidel", "GaussSeidel", "dominant", "Gauss-Seidel sweeps"),
    ("sor", "SOR", "dominant", "successive over-relaxation"),
    ("ssor", "SSOR", "dominant", "symmetric successive over-relaxation"),
    ("chebyshev", "Chebyshev", "spd", "Chebyshev polynomial in the Jacobi-scaled matrix"),
):
    _method(_name, f"{_R}.{_name}", _matrix, _summary, needs_entries=True)
    register(_name, "preconditioner", f"solvers.{_R}.{_name}:{_class}", _matrix, _summary,
             needs_entries=True)  # fmt: skip
for _name, _class, _matrix, _summary in (
    ("ic0", "IC0", "spd", "incomplete Cholesky without fill"),
    ("ilu0", "ILU0", "general", "incomplete LU without fill"),
):
    _method(_name, f"{_F}.{_name}", _matrix, _summary, needs_entries=True)
    register(_name, "preconditioner", f"solvers.{_F}.{_name}:{_class}", _matrix, _summary,
             needs_entries=True)  # fmt: skip
register("additive_schwarz", "preconditioner", "solvers.domain.additive_schwarz:AdditiveSchwarz",
         "general", "overlapping blocks, solved one by one", needs_entries=True)  # fmt: skip
register("geometric_multigrid", "preconditioner",
         "solvers.multigrid.geometric:GeometricMultigrid", "spd",
         "a multigrid cycle on the levels of a structured grid", needs_entries=True)  # fmt: skip

for _name, _module, _class, _matrix, _summary in (
    ("direct", "sparse_direct", "SparseDirect", "general", "sparse LU with refinement"),
    ("fast_poisson", "fast_poisson", "FastPoisson", "separable",
     "constant coefficients on a box, by fast transforms"),
):  # fmt: skip
    _method(_name, f"direct.{_module}", _matrix, _summary, needs_entries=True, direct=True)
    register(_name, "preconditioner", f"solvers.direct.{_module}:{_class}", _matrix, _summary,
             needs_entries=True, direct=True)  # fmt: skip

for _name, _module, _class, _matrix, _summary in (
    ("smoothed_aggregation", "aggregation", "SmoothedAggregation", "general",
     "algebraic multigrid on aggregates; near-nullspace vectors"),
    ("classical_amg", "classical", "ClassicalAMG", "general",
     "algebraic multigrid on a subset, extended+i interpolation"),
):  # fmt: skip
    register(_name, "preconditioner", f"solvers.multigrid.{_module}:{_class}", _matrix, _summary,
             needs_entries=True)  # fmt: skip
register("multigrid", "preconditioner", "solvers.multigrid.multigrid:multigrid", "general",
         "multigrid of the kind that suits A", needs_entries=True)  # fmt: skip

register("dcd", "method", "learned.dcd.dcd:dcd", "spd",
         "deep conjugate directions: a network proposes, cg takes over where it fails",
         needs_entries=True, cuda=True)  # fmt: skip

register("mgno", "preconditioner", "learned.mgno.preconditioner:MgNOCycle", "separable",
         "a linear multigrid neural operator: a V-cycle of learned convolutions",
         needs_entries=True)  # fmt: skip

for _name, _class, _looks_at, _summary in (
    ("tsallis_inf", "TsallisINF", "nothing", "regularised leaders, Tsallis entropy"),
    ("binned_tsallis_inf", "BinnedTsallisINF", "context", "Tsallis-INF in each bin of the context"),
    ("cheb_cb", "ChebCB", "context", "losses as polynomials of the context"),
    ("young", "Young", "context", "Young's formula, from one eigenvalue"),
    ("young_cb", "YoungCB", "context", "Young's formula and a bandit on what it gets wrong"),
    ("fixed", "Fixed", "nothing", "always the same value"),
    ("explore_then_commit", "ExploreThenCommit", "nothing", "each value in turns, then the best"),
):
    register(_name, "policy", f"learned.relaxation:{_class}", _looks_at, _summary)

for _name, _matrix, _summary in (
    ("poisson", "spd", "Poisson, 2-D or 3-D"),
    ("darcy", "spd", "Darcy flow through a random medium"),
    ("diffusion", "spd", "diffusion: anisotropic, rotated, jumping coefficients"),
    ("convection_diffusion", "general", "convection and diffusion"),
    ("helmholtz", "general", "Helmholtz, shifted or damped"),
    ("thermal", "spd", "steady heat in an irregular domain"),
    ("heat", "spd", "a time sequence of heat conduction"),
    ("smoke", "spd", "pressure projections past moving obstacles, a sequence"),
    ("elasticity", "spd", "plane strain"),
    ("mesh", "spd", "diffusion with jumps on an unstructured mesh"),
    ("matrix_market", "general", "a Matrix Market file"),
):
    register(_name, "problem", f"problems:{_name}", _matrix, _summary)
