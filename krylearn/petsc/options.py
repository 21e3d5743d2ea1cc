"""PETSc options made from the signatures of registered functions and classes."""

from __future__ import annotations

import ast
import difflib
import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from krylearn import registry

# What a caller gives by other means than options.
NOT_OPTIONS = frozenset({
    "self", "A", "b", "B", "x0", "rtol", "atol", "maxiter", "M", "callback", "callback_type",
    "context", "levels", "show", "check", "btol",
})  # fmt: skip
_EMPTY = inspect.Parameter.empty


@dataclass(frozen=True)
class Option:
    """An option: its name without prefix, its default, what its docstring says."""

    name: str
    default: Any
    kind: str
    help: str

    @property
    def takes_policy(self) -> bool:
        """Whether the value may be the name of a registered policy."""
        return "policy" in self.kind


def options_of(function: Callable) -> list[Option]:
    """Return the options of a registered function or class.

    A function that hands ``**options`` on names its targets in an attribute ``hands_to``.

    Examples
    --------
    >>> import krylearn as kl
    >>> [option.name for option in options_of(kl.SSOR)]
    ['omega', 'order', 'sweeps']
    """
    found: dict[str, Option] = {}
    told = _told(function)
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if parameter.name in NOT_OPTIONS or parameter.name in found:
            continue
        default = None if parameter.default is _EMPTY else parameter.default
        kind, text = told.get(parameter.name, ("", ""))
        found[parameter.name] = Option(parameter.name, default, kind, text)
    for target in getattr(function, "hands_to", ()):
        for option in options_of(target):
            found.setdefault(option.name, option)
    return list(found.values())


def _told(function: Callable) -> dict[str, tuple[str, str]]:
    """Return type and first sentence of each parameter in a docstring of numpydoc's form."""
    text = inspect.cleandoc(function.__doc__ or "")
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)", text, re.M | re.S)
    told: dict[str, tuple[str, str]] = {}
    if section is None:
        return told
    for names, kind, body in re.findall(
        r"^([\w, *]+?)(?: : ([^\n]*))?\n((?:[ \t]+[^\n]*\n?|\n(?=[ \t]))*)", section[1], re.M
    ):
        sentence = re.split(r"(?<=[.;])\s", " ".join(body.split()))[0].rstrip(";")
        for name in names.split(","):
            told[name.strip()] = (kind, sentence)
    return told


def value_of(text: str) -> Any:
    """Return the value that a text stands for: a number, a tuple, a truth value, None or a text.

    Examples
    --------
    >>> value_of("3"), value_of("1e-3"), value_of("0.1,1.1"), value_of("W"), value_of("none")
    (3, 0.001, (0.1, 1.1), 'W', None)
    """
    simple = {"none": None, "true": True, "false": False, "yes": True, "no": False}
    if text.lower() in simple:
        return simple[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


class Reader:
    """Reads the options of one object from PETSc's database.

    Parameters
    ----------
    prefix : str
        Of the object, such as 'sub_' or ''.
    group : str
        What follows it, such as 'pc_ssor_'.
    """

    def __init__(self, prefix: str | None, group: str) -> None:
        from krylearn.petsc.library import petsc

        self.prefix, self.group = prefix or "", group
        self.database = petsc().Options()

    def key(self, name: str) -> str:
        """Return the whole name of an option, without the dash."""
        return f"{self.prefix}{self.group}{name}"

    def text(self, name: str) -> str | None:
        """Return what the database holds, or None."""
        key = self.key(name)
        return self.database.getString(key, "") if self.database.hasName(key) else None

    def read(self, options: Iterable[Option]) -> dict[str, Any]:
        """Return the values that were given.

        Raises
        ------
        ValueError
            If one of the group is not known; the message names the nearest.
        """
        found: dict[str, Any] = {}
        known: set[str] = set()
        for option in options:
            known.add(option.name)
            text = self.text(option.name)
            policy = self._policy(option, text, known) if option.takes_policy else None
            if policy is not None:
                found[option.name] = policy
            elif text is not None:
                # A name alone switches something on.
                found[option.name] = True if text == "" else value_of(text)
        self._refuse_unknown(known)
        return found

    def _policy(self, option: Option, text: str | None, known: set[str]) -> Any:
        """Return a new policy where the text names one; its own options follow the option's."""
        if not text:
            return None
        names = [entry.name for entry in registry.entries("policy")]
        named = [name for name in names if text == name] or [
            name for name in names if text and name.startswith(text)
        ]
        if not named or repr(text) in option.kind:
            return None
        make = registry.find("policy", named[0]).load()
        settings = options_of(make)
        group = f"{self.group}{option.name}_"
        known.update(f"{option.name}_{setting.name}" for setting in settings)
        return make(**Reader(self.prefix, group).read(settings))

    def _refuse_unknown(self, known: set[str]) -> None:
        start = f"{self.prefix}{self.group}"
        for key in self.database.getAll():
            name = key[len(start) :]
            if key.startswith(start) and name not in known:
                near = difflib.get_close_matches(name, known, 1) or sorted(known)
                meant = " or ".join(f"-{start}{other}" for other in near)
                raise ValueError(f"there is no option -{key}; is {meant} meant?")

    def help(self, title: str, options: Iterable[Option]) -> None:
        """Print the options as PETSc does, where -help asks for it."""
        if not self.database.hasName("help"):
            return
        from krylearn.petsc.library import petsc

        lines = [f"{title} options", "-" * 40]
        for option in options:
            value = "" if option.default is None else f" <{option.default}>"
            told = " ".join(part for part in (option.kind + ":" if option.kind else "",
                                              option.help) if part)  # fmt: skip
            lines.append(f"  -{self.key(option.name)}{value}: {told}".rstrip(": "))
        petsc().Sys.Print("\n".join(lines))
