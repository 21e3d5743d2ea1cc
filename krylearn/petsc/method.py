"""Krylov methods of this library as PETSc methods of type python."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from krylearn import registry
from krylearn.interface import Reason
from krylearn.petsc.convert import PetscMatrix
from krylearn.petsc.hooks import Context, hook
from krylearn.petsc.library import petsc
from krylearn.petsc.options import Option, options_of
from krylearn.petsc.solve import OVER_RANKS, DistributedSolve
from krylearn.solvers.krylov.recycle import RecycleSpace


def converged_reason(reason: Reason) -> int:
    """Return PETSc's number for the reason why a solve ended."""
    R = petsc().KSP.ConvergedReason
    # Later PETScs give it a longer name.
    normal = next(n for n in ("CONVERGED_RTOL_NORMAL_EQUATIONS", "CONVERGED_RTOL_NORMAL")
                  if hasattr(R, n))  # fmt: skip
    return {
        Reason.CONVERGED: R.CONVERGED_RTOL,
        Reason.LEAST_SQUARES: getattr(R, normal), Reason.MAXITER: R.DIVERGED_MAX_IT,
        Reason.DIVERGED: R.DIVERGED_DTOL, Reason.STAGNATED: R.DIVERGED_BREAKDOWN,
        Reason.INDEFINITE: R.DIVERGED_INDEFINITE_MAT,
        Reason.INDEFINITE_M: R.DIVERGED_INDEFINITE_PC,
        Reason.NONFINITE_PRECONDITIONER: R.DIVERGED_PCSETUP_FAILED,
    }.get(reason, R.DIVERGED_NANORINF if "NONFINITE" in reason.name else R.DIVERGED_BREAKDOWN)


class Method(Context):
    """A registered Krylov method in PETSc: on distributed vectors, with the PC of the KSP.

    Attributes
    ----------
    info : SolveInfo or None
        The record of the last solve.
    space : RecycleSpace
        What a recycling method carries from solve to solve; `reset` empties it.
    """

    _group = "ksp_"
    _left = ("KSPSetType", b"preonly")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.info: Any = None
        self.space = RecycleSpace()

    @property
    def entry(self) -> Any:
        """What is registered under the name."""
        return registry.find("method", self.name)

    @property
    def recycles(self) -> bool:
        """Whether the method carries a space."""
        return any(option.name == "recycle" for option in options_of(self.entry.load()))

    def listed(self):
        kept = [option for option in options_of(self.entry.load()) if option.name != "recycle"]
        if self.recycles:
            told = "Carry a deflation space from solve to solve"
            kept.append(Option("recycle", True, "bool", told))
        return kept

    @hook
    def setUp(self, ksp):
        pass

    @hook
    def solve(self, ksp, b, x):
        try:
            self._solve(ksp, b, x)
        except (ValueError, TypeError) as error:  # a refusal, the same on every rank
            if self.ranks(ksp).rank == 0:
                sys.stderr.write(f"krylearn, {type(self).__name__}: {error}\n")
                sys.stderr.flush()
            ksp.setConvergedReason(petsc().KSP.ConvergedReason.DIVERGED_PCSETUP_FAILED)

    def _solve(self, ksp: Any, b: Any, x: Any) -> None:
        rtol, atol, _, maxiter = ksp.getTolerances()
        pc, A = ksp.getPC(), PetscMatrix(ksp.getOperators()[0])

        class Watched(DistributedSolve):
            def unsolved(self):
                first = not self.residuals
                goes_on = super().unsolved()
                if first:
                    tell(ksp, 0, self.rnorm)
                return goes_on

            def count(self, rnorm):
                super().count(rnorm)
                tell(ksp, self.iterations, rnorm)

        A.solve_class = Watched
        settings: dict[str, Any] = dict(self.settings)
        if settings.pop("recycle", True) and self.recycles:
            settings["recycle"] = self.space
        if self.name == "lsmr":  # its atol is another, and rtol holds for the gradient too
            if pc.getType() != "none":
                raise ValueError("lsmr takes no preconditioner: -pc_type none")
        else:
            settings.update(atol=atol, M=None if pc.getType() == "none" else pc)
        solved, info = self.entry.load()(
            A, b, x0=x if ksp.getInitialGuessNonzero() else None, rtol=rtol, maxiter=maxiter,
            **settings,
        )  # fmt: skip
        solved.copy(x)
        solved.destroy()
        self.info = info
        ksp.setIterationNumber(info.iterations)
        ksp.setResidualNorm(info.residual)
        ksp.setConvergedReason(converged_reason(info.reason))

    @hook
    def view(self, ksp, viewer):
        self.view_settings(viewer)
        if self.recycles:
            viewer.printfASCII(f"    holds {len(self.space)} recycled vectors\n")

    @hook
    def reset(self, ksp):
        self.space.clear()


def tell(ksp: Any, iterations: int, rnorm: float) -> None:
    """Let a KSP know how far its solve has come."""
    ksp.setIterationNumber(iterations)
    ksp.setResidualNorm(float(np.real(rnorm)))
    ksp.logConvergenceHistory(rnorm)
    ksp.monitor(iterations, rnorm)


def class_name(name: str) -> str:
    """Return what the class of a registered method is called: GCRODR, FCG, RecycledCG."""
    parts = name.split("_")
    return "".join([part.capitalize() for part in parts[:-1]] + [parts[-1].upper()])


def classes() -> dict[str, type[Method]]:
    """Return the classes by name, one for each registered method that runs over ranks."""
    return {
        class_name(entry.name): type(class_name(entry.name), (Method,), {
            "name": entry.name, "__module__": "krylearn.petsc",
            "__doc__": f"{entry.summary[:1].upper()}{entry.summary[1:]}, as a method of PETSc.",
        })
        for entry in registry.entries("method") if entry.name in OVER_RANKS
    }  # fmt: skip
