"""What a suite says: cases, each a problem and the methods that are tried on it."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

SUITES = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Suite:
    """A suite as its file has it, with one job a row of the result.

    Attributes
    ----------
    name, title : str
    jobs : list of dict
        What a worker reads: case, problem, method, rtol, maxiter, runs, timeout, history.
    cases : dict of str to dict
        For the report: title and the peer that ratios refer to.
    targets : list of dict
        Ratios that are wanted, see `krylearn.benchmarks.report.target_rows`.
    startup : bool
        Whether import and first-call times are measured too.
    """

    name: str
    title: str
    jobs: list[dict[str, Any]]
    cases: dict[str, dict[str, Any]]
    targets: list[dict[str, Any]] = field(default_factory=list)
    startup: bool = False


def suite_names() -> list[str]:
    """Return the names of the suites that krylearn ships."""
    return sorted(path.stem for path in SUITES.glob("*.toml"))


def load_suite(name: str, **overrides: Any) -> Suite:
    """Read a suite.

    Parameters
    ----------
    name : str
        A shipped suite, or the path of a TOML file.
    **overrides
        `runs` or `timeout`, in place of what the file says; None leaves it.

    Returns
    -------
    Suite

    Raises
    ------
    ValueError
        If there is no such suite, or the file is not one.
    """
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
    settings: dict[str, Any] = dict(rtol=1e-8, maxiter=10000, runs=3, timeout=120, history=True)
    settings.update({key: data[key] for key in settings if key in data})
    jobs, cases = [], {}
    try:
        for case in data["case"]:
            label = case["name"]
            cases[label] = {"title": case.get("title", label), "peer": case.get("peer")}
            for entry in case["methods"]:
                method = parse_method(entry)
                job = {"case": label, "problem": case["problem"], "method": method}
                for key in settings:
                    job[key] = method["options"].pop(key, case.get(key, settings[key]))
                job.update({k: v for k, v in overrides.items() if v is not None})
                jobs.append(job)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a suite: {error}") from None
    return Suite(path.stem, data.get("title", path.stem), jobs, cases,
                 data.get("target", []), bool(data.get("startup", False)))  # fmt: skip


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
        which ``precond`` goes to the preconditioner and ``label`` names the row.

    Returns
    -------
    dict
        With label, base, precond, form, options and precond_options.

    Examples
    --------
    >>> parse_method("gmres(30)+ilu0")["options"]
    {'restart': 30}
    """
    table = {"method": entry} if isinstance(entry, str) else dict(entry)
    text = table.pop("method")
    match = _METHOD.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no method")
    label = table.pop("label", text)
    precond_options = table.pop("precond", {})
    if match["restart"]:
        table["restart"] = int(match["restart"])
    return {
        "label": label, "base": match["base"], "precond": match["precond"],
        "form": match["form"] or "csr", "options": table, "precond_options": precond_options,
    }  # fmt: skip


def fingerprint(job: dict[str, Any]) -> str:
    """Return a short hash of everything that makes a row comparable."""
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:16]


@dataclass
class Loaded:
    """A problem in memory: the matrix, the grid operator where there is one, and b."""

    csr: Any
    grid: Any
    b: np.ndarray


def load_problem(spec: dict[str, Any], small: bool = False) -> Loaded:
    """Make the system that a suite's ``problem`` table asks for.

    Parameters
    ----------
    spec : dict
        One of ``family`` (a function of `krylearn.problems`, with its arguments), ``example``
        (a matrix that pyamg installs), ``file`` (Matrix Market) or ``stencil`` (a shape: the
        5- or 7-point Laplacian). ``rhs`` is 'random', 'ones' (b = A @ ones) or absent.
    small : bool
        Shrink it, for a warm-up.

    Returns
    -------
    Loaded
    """
    import scipy.sparse as sp

    spec = dict(spec)
    rhs, seed = spec.pop("rhs", None), int(spec.get("seed", 0))
    grid, b = None, None
    if "family" in spec:
        from krylearn import registry

        family = registry.find("problem", spec.pop("family")).load()
        for key in ("shape", "n"):
            if isinstance(spec.get(key), list):
                spec[key] = tuple(12 if small else size for size in spec[key])
        problem = family(**spec)
        b = problem.b
        if hasattr(problem.A, "tocsr") and not sp.issparse(problem.A):
            grid = problem.A
        csr = problem.A.tocsr()
    elif "example" in spec:
        from pyamg.gallery import load_example

        csr = load_example(spec["example"])["A"].tocsr()
    elif "file" in spec:
        from scipy.io import mmread

        csr = sp.csr_array(mmread(spec["file"]))
    elif "stencil" in spec:
        csr = stencil([12 if small else size for size in spec["stencil"]])
    else:
        raise ValueError("a problem needs one of family, example, file, stencil")
    csr = sp.csr_array(csr)
    if rhs == "ones":
        b = csr @ np.ones(csr.shape[1], csr.dtype)
    elif b is None or rhs == "random":
        b = np.random.default_rng(seed).standard_normal(csr.shape[0]).astype(csr.dtype)
    return Loaded(csr, grid, np.asarray(b).reshape(-1))


def stencil(shape: list[int]) -> Any:
    """Return the Laplacian's 3-, 5- or 7-point matrix with Dirichlet sides, unit spacing."""
    import scipy.sparse as sp

    A: Any = sp.csr_array((1, 1))
    for size in shape:
        line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(size, size))
        A = sp.kron(A, sp.eye_array(size)) + sp.kron(sp.eye_array(A.shape[0]), line)
    return sp.csr_array(A)
