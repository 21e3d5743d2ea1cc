"""What the python types for preconditioners and for methods share: how PETSc calls them."""

from __future__ import annotations

import atexit
import ctypes
import functools
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from krylearn.petsc import library
from krylearn.petsc.options import Option, Reader
from krylearn.petsc.ranks import Ranks

# Contexts that PETSc holds: the C pointers of their objects. Those that are still there when the
# interpreter ends are let go, since PetscFinalize would call into it when it is gone.
_held: dict[int, tuple[str, bytes, int]] = {}


@functools.cache
def _let_go_at_exit() -> None:
    @atexit.register
    def _let_go() -> None:
        while _held:  # letting one go may end others
            function, kind, address = _held.popitem()[1]
            library.call(function, ctypes.c_void_p(address), kind)


def report(error: BaseException, where: str, rank: int) -> None:
    """Print a traceback: PETSc keeps silent about exceptions in compiled programs."""
    text = "".join(traceback.format_exception(error))
    sys.stderr.write(f"krylearn, rank {rank}, {where}: {error}\n{text}")
    sys.stderr.flush()


def hook(function: Callable) -> Callable:
    """Let PETSc call a method: calls are counted, and errors printed before they are lost."""
    name = function.__name__

    @functools.wraps(function)
    def called(self, thing, *arguments):
        self.calls[name] += 1
        try:
            return function(self, thing, *arguments)
        except Exception as error:
            report(error, f"{type(self).__name__}.{name}", thing.getComm().getRank())
            raise

    return called


class Context:
    """Base of the classes that ``-pc_python_type`` and ``-ksp_python_type`` name.

    PETSc makes one without arguments, calls the hooks, and hands options over by its database;
    from Python `krylearn.petsc.pc` and `krylearn.petsc.ksp` do the same with keywords.

    Attributes
    ----------
    options : dict
        By keyword; those of PETSc's database come before them.
    calls : Counter
        How often PETSc has called each hook.
    """

    name: ClassVar[str] = ""
    # What the options begin with, and what to make of an object that is left at the end.
    _group: ClassVar[str] = ""
    _left: ClassVar[tuple[str, bytes]]

    def __init__(self, **options: Any) -> None:
        self.options: dict[str, Any] = options
        self.calls: Counter = Counter()
        self._read: dict[str, Any] = {}
        self._ranks: Ranks | None = None

    def ranks(self, thing: Any) -> Ranks:
        """Return the ranks of a PETSc object."""
        if self._ranks is None:
            self._ranks = Ranks(thing.getComm())
            if self._ranks.size > 1:
                library.one_thread_a_rank()
        return self._ranks

    def listed(self) -> list[Option]:
        """Return the options that there are."""
        raise NotImplementedError

    @property
    def settings(self) -> dict[str, Any]:
        """The options that were given."""
        return {**self.options, **self._read}

    @hook
    def create(self, thing):
        _let_go_at_exit()
        _held[id(self)] = (*self._left, thing.handle)

    @hook
    def setFromOptions(self, thing):
        reader = Reader(thing.getOptionsPrefix(), f"{self._group}{self.name}_")
        reader.help(f"{type(self).__module__}.{type(self).__name__}", self.listed())
        read = reader.read(self.listed())
        if read != self._read:
            self._changed()
        self._read = read

    def _changed(self) -> None:
        """Take note that options are others than before."""

    def view_settings(self, viewer: Any, owner: Any = None) -> None:
        """Print the options in effect, and what `owner` has made of them."""
        settings = self.settings
        for option in self.listed():
            value = settings.get(option.name, option.default)
            now = getattr(owner, option.name, value)
            if value is None and now is None:
                continue
            mark = "" if option.name in settings else " (default)"
            if isinstance(now, int | float | str) and now != value:
                mark += f", now {now}"
            viewer.printfASCII(f"    {option.name} = {value}{mark}\n".replace("%", "%%"))

    @hook
    def reset(self, thing):
        pass

    @hook
    def destroy(self, thing):
        _held.pop(id(self), None)
        type(self).reset.__wrapped__(self, thing)
        if self._ranks is not None:
            self._ranks.close()
            self._ranks = None
