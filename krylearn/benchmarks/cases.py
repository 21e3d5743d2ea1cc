"""What a suite says: cases, each a problem and the methods that are tried on it."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from krylearn import registry
from krylearn.benchmarks.systems import SOURCES
from krylearn.benchmarks.targets import MEASURES, pairs

SUITES = Path(__file__).parent / "suites"
# What a case, or the head of a suite, may set.
SETTINGS: dict[str, Any] = dict(rtol=1e-8, maxiter=10000, runs=3, timeout=120.0, history=True,
                                ranks=1, work=False, sample=5)  # fmt: skip
PEERS = ("scipy", "pyamg", "petsc", "cupy")
# These take one of our preconditioners or, in PETSc, one of its own.
_TAKES_M = ("scipy", "petsc")


@dataclass(frozen=True)
class Suite:
    """A suite as its file has it, with one job a row of the result.

    Attributes
    ----------
    name, title : str
    jobs : list of dict
        What a worker reads: case, problem, method, rtol, maxiter, runs, timeout, history;
        ranks, the MPI processes that a row runs on; work, whether a product with A is timed, in
        units of which the solve is told; sample, how many of ``problem.systems`` are solved by
        a method that takes one at a time.
    cases : dict of str to dict
        For the report: title and the peer that ratios refer to.
    targets : list of dict
        Ratios that are wanted, see `krylearn.benchmarks.targets.target_rows`.
    startup : bool
        Whether import and first-call times are measured too.
    kernels : int
        Points along the edge of the cube on which the kernels are timed; 0 leaves them out.
    """

    name: str
    title: str
    jobs: list[dict[str, Any]]
    cases: dict[str, dict[str, Any]]
    targets: list[dict[str, Any]] = field(default_factory=list)
    startup: bool = False
    kernels: int = 0


def suite_names() -> list[str]:
    """Return the names of the suites that krylearn ships."""
    return sorted(path.stem for path in SUITES.glob("*.toml"))


def load_suite(name: str, device: str = "cpu", **overrides: Any) -> Suite:
    """Read a suite and check that what it names exists.

    Parameters
    ----------
    name : str
        A shipped suite, or the path of a TOML file.
    device : {'cpu', 'cuda'}
        'cuda' adds to each row of ours one on that device.
    **overrides
        `runs` or `timeout`, in place of what the file says; None leaves it.

    Returns
    -------
    Suite

    Raises
    ------
    ValueError
        If there is no such suite, or the file is not one, or no such device.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device is 'cpu' or 'cuda', not {device!r}")
    path = Path(name)
    if path.suffix != ".toml":
        path = SUITES / f"{name}.toml"
        if name not in suite_names():
            raise ValueError(
                f"no suite is called {name!r}; there are {', '.join(suite_names())}, "
                "or give the path of a .toml file"
            )
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from None
    given = {key: value for key, value in overrides.items() if value is not None}
    jobs: list[dict[str, Any]] = []
    cases: dict[str, dict[str, Any]] = {}
    try:
        for case in _expanded(_of(list, data.get("case"), "[[case]]")):
            label = str(case["name"])
            if label in cases:
                raise ValueError(f"two cases are called {label!r}")
            cases[label] = {"title": case.get("title", label), "peer": case.get("peer")}
            problem = _problem(_of(dict, case.get("problem"), f"{label}: problem"), path.parent)
            for entry in _of(list, case.get("methods"), f"{label}: methods"):
                method = parse_method(entry)
                job: dict[str, Any] = {"case": label, "problem": problem, "method": method}
                for key, default in SETTINGS.items():
                    value = case.get(key, data.get(key, default))
                    value = given.get(key, method["options"].pop(key, value))
                    job[key] = type(default)(value)
                if job["ranks"] > 1 and not method["base"].startswith("petsc."):
                    raise ValueError(f"{method['base']} does not run on several ranks")
                if (method["base"] == "batch") > ("systems" in problem):
                    raise ValueError("batch solves several systems: the problem names one")
                jobs.append(job)
                if device == "cuda" and _is_ours(method["base"]) and "device" not in method:
                    twin = {"label": f"{method['label']} on cuda", "device": device}
                    jobs.append(job | {"method": method | twin})
        targets = [_over_cases(target, list(cases)) for target in data.get("target", [])]
        _check_labels(jobs, cases, targets)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is not a suite: {reason}") from None
    return Suite(path.stem, data.get("title", path.stem), jobs, cases, targets,
                 bool(data.get("startup", False)), int(data.get("kernels", 0)))  # fmt: skip


def _expanded(cases: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the cases, one of several ``shapes`` as one for each of them."""
    for case in cases:
        if "shapes" not in case:
            yield case
            continue
        for shape in _of(list, case["shapes"], f"{case['name']}: shapes"):
            box = "x".join(map(str, shape))
            title = f"{case.get('title', case['name'])}, {box.replace('x', ' x ')}"
            problem = _of(dict, case.get("problem"), f"{case['name']}: problem")
            yield case | {"name": f"{case['name']} {box}", "title": title,
                          "problem": problem | {"shape": shape}}  # fmt: skip


def _over_cases(target: dict[str, Any], cases: list[str]) -> dict[str, Any]:
    """Return a target whose case, where it is a pattern, is the list of those that match."""
    pattern = target["case"]
    if not isinstance(pattern, str) or not any(sign in pattern for sign in "*?["):
        return target
    found = fnmatch.filter(cases, pattern)
    if not found:
        raise ValueError(f"no case matches {pattern!r}")
    return target | {"case": found}


def _check_labels(jobs: list, cases: dict, targets: list[dict[str, Any]]) -> None:
    labels = [(job["case"], job["method"]["label"]) for job in jobs]
    if len(set(labels)) < len(labels):
        raise ValueError("a method occurs twice in a case; give one of them a label")
    wanted = [(name, case["peer"]) for name, case in cases.items() if case["peer"]]
    for target in targets:
        wanted += pairs(target, "method") + pairs(target, "peer")
    for case, method in wanted:
        if (case, method) not in labels:
            raise ValueError(f"{method!r}, to compare with, is no method of case {case!r}")
    for target in targets:
        if target["measure"] not in MEASURES:
            raise ValueError(f"a target's measure is one of {', '.join(MEASURES)}")
        if ("at_least" in target) == ("at_most" in target):
            raise ValueError("a target has one of at_least and at_most")
        if target.get("over", "worst") not in ("worst", "median"):
            raise ValueError("a target is the 'worst' or the 'median' over its cases")


def _of(kind: type, value: Any, what: str) -> Any:
    if not isinstance(value, kind) or not value:
        raise ValueError(f"{what} must be a {'list' if kind is list else 'table'}")
    return value


def _problem(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    if sum(source in spec for source in SOURCES) != 1:
        raise ValueError(f"a problem needs one of {', '.join(SOURCES)}")
    if "family" in spec:
        registry.find("problem", spec["family"])
    elif "systems" in spec:
        raise ValueError("several systems are of a family, one a seed")
    elif spec.get("rhs", "ones") not in ("ones", "random"):
        raise ValueError(f"rhs is 'ones' or 'random', not {spec['rhs']!r}")
    # A file lies beside the suite that names it, wherever the command was typed.
    return spec | {"file": str(folder / spec["file"])} if "file" in spec else spec


_METHOD = re.compile(
    r"(?P<base>[\w.:-]+?)(\((?P<restart>\d+)\))?(\+(?P<precond>\w+))?(@(?P<form>csr|grid))?"
)


def parse_method(entry: str | dict[str, Any]) -> dict[str, Any]:
    """Return a method's record from the text of a suite.

    Parameters
    ----------
    entry : str or dict
        'cg', 'cg+ic0', 'gmres(30)+ilu0', 'cg@grid' (matrix-free), 'auto', 'scipy.cg',
        'module:function' of a third party; or a table with ``method`` and further options, of
        which ``precond`` goes to the preconditioner (to PETSc, its database), ``label`` names
        the row and ``device = "cuda"`` runs a method of ours there. 'batch' solves all of
        ``problem.systems`` in one call.

    Returns
    -------
    dict
        With label, base, precond, form, options and precond_options; device where it is 'cuda'.

    Raises
    ------
    ValueError
        If the text is no method, or names one that does not exist.

    Examples
    --------
    >>> parse_method("gmres(30)+ilu0")["options"]
    {'restart': 30}
    """
    table: dict[str, Any] = {"method": entry} if isinstance(entry, str) else dict(entry)
    text = str(table.pop("method"))
    match = _METHOD.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no method")
    label = table.pop("label", text)
    precond_options: dict[str, Any] = table.pop("precond", {})
    if match["restart"]:
        table["restart"] = int(match["restart"])
    _check(match["base"], match["precond"])
    device = table.pop("device", "cpu")
    if device not in ("cpu", "cuda") or (device == "cuda" and not _is_ours(match["base"])):
        raise ValueError(f"{text} does not run on {device!r}")
    there = {} if device == "cpu" else {"device": device}
    return there | {
        "label": label, "base": match["base"], "precond": match["precond"],
        "form": match["form"] or "csr", "options": table, "precond_options": precond_options,
    }  # fmt: skip


def _is_ours(base: str) -> bool:
    return "." not in base and ":" not in base


def _check(base: str, precond: str | None) -> None:
    if ":" in base:
        return  # a third party's: only the worker imports it
    library = base.split(".", 1)[0] if "." in base else ""
    if library and library not in PEERS:
        raise ValueError(f"no peer is called {library!r}; there are {', '.join(PEERS)}")
    if not library and base not in ("auto", "batch"):
        registry.find("method", base)
    if precond and library and library not in _TAKES_M:
        raise ValueError(f"{base} takes no preconditioner here")
    if precond and library != "petsc":
        registry.find("preconditioner", precond)


def fingerprint(job: dict[str, Any]) -> str:
    """Return a short hash of everything that makes a row comparable."""
    plain = job | {"history": False}  # of no matter to times
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
