"""Registered preconditioners as PETSc preconditioners of type python."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from krylearn import registry
from krylearn.interface import Reason, SolveInfo, check_traits
from krylearn.petsc import library
from krylearn.petsc.convert import Entries
from krylearn.petsc.hooks import Context, hook, report
from krylearn.petsc.options import Option, Reader, options_of
from krylearn.petsc.ranks import Ranks
from krylearn.petsc.together import TOGETHER, grid_of, make_together
from krylearn.solvers.multigrid.structured import as_grid_operator

# What the methods of PETSc need of a preconditioner; those that are left out take any map.
_SYMMETRIC = ("linear", "symmetric", "positive_definite")
NEEDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("cg", "pipecg", "groppcg", "cgls", "nash", "stcg", "gltr", "cr", "pipecr",
                     "minres", "symmlq", "chebyshev"), _SYMMETRIC),
    **dict.fromkeys(("gmres", "lgmres", "dgmres", "bcgs", "ibcgs", "bcgsl", "bicg", "cgs", "tfqmr",
                     "tcqmr", "qmrcgs"), ("linear",)),
}  # fmt: skip
class Preconditioner(Context):
    """A registered preconditioner in PETSc.

    Attributes
    ----------
    M : krylearn.Preconditioner or None
        Made by `setUp`, updated by later ones.
    """

    _group = "pc_"
    _left = ("PCSetType", b"none")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.M: Any = None
        self.failed = False
        self._entries: Entries | None = None
        self._began: float | None = None
        self._refused = ""
        self._checked: tuple = ()
        self._state = -1

    @property
    def entry(self) -> Any:
        """What is registered under the name."""
        return registry.find("preconditioner", self.name)

    def listed(self):
        return options_of(self.entry.load())

    def _changed(self):
        self._close()

    # -- set-up ----------------------------------------------------------------------------

    @hook
    def setUp(self, pc):
        ranks = self.ranks(pc)
        failed = False
        try:
            self._set_up(pc, ranks)
        except Exception as error:
            # Not kept: its frames hold what PETSc has to destroy on all ranks together.
            failed, self.M = True, None
            report(error, f"{type(self).__name__}.setUp", ranks.rank)
        self.failed = ranks.any(failed)
        self._checked = ()
        library.set_failed(pc, self.failed)

    def _set_up(self, pc: Any, ranks: Ranks) -> None:
        """Make the preconditioner of this rank's block, or give it new values."""
        matrix = pc.getOperators()[1]
        if ranks.size > 1 and self.name in TOGETHER:
            self._set_up_together(pc, matrix, ranks)
            return
        self._entries = Entries(matrix) if self._entries is None else self._entries.read(matrix)
        A = self._entries.csr()
        if self.M is not None and self.M.shape == A.shape:
            try:
                self.M.update(self._suitable(A, matrix, pc))
                return
            except (ValueError, NotImplementedError):
                self.M = None  # another pattern; or what is wrong is said below
        self.M = self._make(self._suitable(A, matrix, pc), matrix)

    def _set_up_together(self, pc: Any, matrix: Any, ranks: Ranks) -> None:
        """Make the preconditioner of the whole matrix, or give it new values."""
        state = library.pattern_state(matrix)
        if getattr(self.M, "together", False) and self._state == state:
            self.M.update(matrix)
            return
        self._close()
        self.M = self._make_together(matrix, grid_of(pc, matrix), ranks)
        self._state = state

    def _make_together(self, matrix: Any, dm: Any, ranks: Ranks) -> Any:
        return make_together(self.name, matrix, dm, ranks, self._with_space(self.settings, matrix))

    def _close(self) -> None:
        if hasattr(self.M, "close"):
            self.M.close()
        self.M = self._entries = None

    def _suitable(self, A: Any, matrix: Any, pc: Any) -> Any:
        """Return the matrix in the form that the preconditioner takes best."""
        if self.name in ("multigrid", "fast_poisson") and grid_of(pc, matrix) is not None:
            try:
                return as_grid_operator(A, self.name)
            except ValueError:
                return A
        size = matrix.getBlockSize()
        blocked = size > 1 and A.shape[0] % size == 0
        return A.tobsr((size, size)) if blocked and self._takes_blocks else A

    @property
    def _takes_blocks(self) -> bool:
        return self.name in ("multigrid", "smoothed_aggregation")

    def _make(self, A: Any, matrix: Any) -> Any:
        return self.entry.load()(A, **self._with_space(self.settings, matrix))

    def _with_space(self, options: dict[str, Any], matrix: Any) -> dict[str, Any]:
        """Add this rank's part of the vectors that the user has told PETSc of."""
        space = matrix.getNearNullSpace()
        if self._takes_blocks and space.handle and "B" not in options:
            vectors = space.getVecs()
            if vectors and options.get("coarsening") not in ("geometric", "classical"):
                options["B"] = np.stack([v.getArray(readonly=True) for v in vectors], axis=1).copy()
        return options

    # -- application -----------------------------------------------------------------------

    def _applied(self, pc: Any, function: Callable, x: Any, y: Any) -> None:
        """Let `function` write into y; what goes wrong ends the solve on all ranks.

        PETSc's methods take Inf in a vector as the sign of a failed preconditioner, which reaches
        every rank with the next inner product.
        """
        if not (self.failed or self._refused):
            try:
                if self._entries is not None and self._entries.stale:
                    raise RuntimeError(
                        "the matrix has another pattern than at the set-up: let PETSc set the "
                        "preconditioner up again (KSPSetReusePreconditioner)"
                    )
                function(library.writable(x.getArray(readonly=True)), y.getArray())
                return
            except Exception as error:
                self.failed = True
                report(error, type(self).__name__, pc.getComm().getRank())
                if getattr(self.M, "together", False):  # the other ranks wait for this one
                    library.abort()
        library.set_failed(pc)
        y.set(np.inf)

    @hook
    def apply(self, pc, x, y):
        self._applied(pc, self._apply, x, y)

    def _apply(self, r: np.ndarray, out: np.ndarray) -> None:
        if len(r):
            self.M.apply(r, out)

    @hook
    def applyTranspose(self, pc, x, y):
        self._applied(pc, self._apply_transposed, x, y)

    def _apply_transposed(self, r: np.ndarray, out: np.ndarray) -> None:
        if np.iscomplexobj(r):
            out[:] = np.conj(self.M.rmatvec(np.conj(r)))
        elif self.M.symmetric:
            self._apply(r, out)
        else:
            out[:] = self.M.rmatvec(r)

    @hook
    def matApply(self, pc, X, Y):
        source, target = X.getDenseArray(), Y.getDenseArray()
        for j in range(source.shape[1]):
            column = np.ascontiguousarray(source[:, j])
            try:
                result = np.empty_like(column)
                self._apply(column, result)
            except Exception as error:
                report(error, type(self).__name__, pc.getComm().getRank())
                library.set_failed(pc)
                result = np.full_like(column, np.inf)
            target[:, j] = result
        Y.assemble()

    # -- around a solve --------------------------------------------------------------------

    @hook
    def preSolve(self, pc, ksp, b, x):
        self._refuse(pc, ksp)
        if self.M is not None and getattr(self.M, "policy", None) is not None:
            if not self.M._untold:
                # A stays, yet the policy is to choose for this solve.
                self.M.update(self._entries.csr())
        self._began = time.perf_counter()

    def _refuse(self, pc: Any, ksp: Any) -> None:
        """Find out whether the method can do with this preconditioner; if not, end the solve."""
        if self.M is None or self._checked == (ksp.getType(), id(self.M)):
            return
        self._checked = ksp.getType(), id(self.M)
        self._refused = ""
        try:
            needs = NEEDS.get(ksp.getType(), ())
            check_traits(self.M, f"-ksp_type {ksp.getType()}", needs)
        except ValueError as refusal:
            self._refused = str(refusal)
            if pc.getComm().getRank() == 0:
                sys.stderr.write(f"krylearn, {type(self).__name__}: {refusal}\n")
                sys.stderr.flush()

    @hook
    def postSolve(self, pc, ksp, b, x):
        if self._refused or self.failed:
            # The next solve is to try again: PETSc would end it before it looks at what is new.
            library.set_failed(pc, False)
        if self.M is None or self._began is None:
            return
        ranks = self.ranks(pc)
        reason = ksp.getConvergedReason()
        # Every rank's policy hears the same, and so chooses the same.
        seconds = time.perf_counter() - self._began
        setup = float(self.M.setup_seconds)
        if getattr(getattr(self.M, "policy", None), "loss", "") == "seconds":
            seconds, setup = ranks.max(seconds), ranks.max(setup)
        residual = float(ksp.getResidualNorm())
        self.M.observe(SolveInfo(
            Reason.CONVERGED if reason > 0 else Reason.MAXITER,
            iterations=ksp.getIterationNumber(), matvecs=0, precond_applies=0,
            residuals=np.array([residual]), residual=residual, setup_seconds=setup,
            solve_seconds=seconds, method=ksp.getType() or "",
        ))  # fmt: skip
        self._began = None

    # -- the end ---------------------------------------------------------------------------

    @hook
    def view(self, pc, viewer):
        self.view_settings(viewer, self.M)
        if self.M is not None:
            for line in repr(self.M).splitlines():
                viewer.printfASCII(f"    {line}\n".replace("%", "%%"))

    @hook
    def reset(self, pc):
        self._close()


class Method(Preconditioner):
    """Any registered preconditioner: ``-pc_krylearn_method NAME``, and its options as of NAME."""

    __module__ = "krylearn.petsc"
    name = "multigrid"

    @hook
    def setFromOptions(self, pc):
        named = Reader(pc.getOptionsPrefix(), "pc_krylearn_").read(
            [Option("method", "multigrid", "name", "A registered preconditioner")]
        )
        if "method" in named:
            registry.find("preconditioner", named["method"])
            if self.name != named["method"]:
                self._close()
            self.name = named["method"]
        Context.setFromOptions.__wrapped__(self, pc)


def class_name(entry: Any) -> str:
    """Return what the class of a registered preconditioner is called: that of its own class."""
    attribute = entry.target.split(":")[1]
    if attribute[0].isupper():
        return attribute.removesuffix("Cycle")
    return "".join(part.capitalize() for part in attribute.split("_"))


def classes() -> dict[str, type[Preconditioner]]:
    """Return the classes by name, one for each registered preconditioner and those by hand."""
    from krylearn.petsc.networks import DCD, MgNO
    from krylearn.petsc.pyamg import FromPyAMG

    made: dict[str, type[Preconditioner]] = {
        "Method": Method, "FromPyAMG": FromPyAMG, "DCD": DCD,
    }  # fmt: skip
    by_hand = {"mgno": MgNO}
    for entry in registry.entries("preconditioner"):
        name = class_name(entry)
        if entry.name in by_hand:
            made[name] = by_hand[entry.name]
        made.setdefault(name, type(name, (Preconditioner,), {
            "name": entry.name, "__module__": "krylearn.petsc",
            "__doc__": f"{entry.summary[:1].upper()}{entry.summary[1:]}, as a preconditioner of "
                       "PETSc.",
        }))  # fmt: skip
    return made
