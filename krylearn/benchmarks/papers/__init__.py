"""The experiments of papers, each a module: `krylearn bench papers/NAME`.

A module has ``TITLE``; ``parts(full)``, which returns functions by name, each called with
``say(text)`` and returning what JSON can hold; ``show(results, console)`` for the tables; and
``draw(results, folder)``, which returns the paths of the figures it has saved.
"""

from __future__ import annotations

import fnmatch
import importlib
import json
import pkgutil
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from krylearn.benchmarks.files import to_json
from krylearn.benchmarks.machine import machine_facts


def paper_names() -> list[str]:
    """Return the names of the papers whose experiments krylearn repeats."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def run_paper(console: Console | None, name: str, out: str | Path | None = None, *,
              full: bool = False, resume: bool | None = None, only: str | None = None,
              ) -> dict[str, Any]:  # fmt: skip
    """Run the experiments of a paper, keep each part's result as it comes, show and draw all.

    Parameters
    ----------
    console : rich.console.Console or None
        None prints nothing.
    name : str
        Of a module beside this one.
    out : path, optional
        The JSON file; ``results/papers-NAME.json`` by default. Figures go beside it.
    full : bool
        The paper's own sizes, which may take hours.
    resume : bool, optional
        Keep the parts of an earlier run, or none; by default those of one that was cut short.
    only : str, optional
        A shell pattern, or a part, of the names of parts; those chosen are run anew.

    Returns
    -------
    dict
        What the file holds: paper, full, machine, parts, and the seconds that each part took.

    Raises
    ------
    ValueError
        If there is no such paper or part.
    """
    if name not in paper_names():
        raise ValueError(f"no paper is called {name!r}; there are {', '.join(paper_names())}")
    module = importlib.import_module(f"{__name__}.{name}")
    parts = module.parts(full)
    pattern = "*" if only is None else only if "*" in only else f"*{only}*"
    chosen = fnmatch.filter(parts, pattern)
    if not chosen:
        raise ValueError(f"no part matches {only!r}; there are {', '.join(parts)}")
    path = Path(out or Path("results") / f"papers-{name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "paper": name, "full": full, "machine": machine_facts(), "parts": {}, "seconds": {},
    }  # fmt: skip
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if resume is not False and old.get("paper") == name and old.get("full") == full:
        finished = set(parts) <= set(old["parts"])
        if resume or only or not finished:
            results["parts"], results["seconds"] = old["parts"], old.get("seconds", {})
    for part in chosen:
        if part in results["parts"] and not only:
            continue
        if console is not None:
            console.print(f"{time.strftime('%H:%M:%S')}  {part}", markup=False)
        say = (lambda text: None) if console is None else console.log
        started = time.perf_counter()
        results["parts"][part] = json.loads(to_json(parts[part](say)))
        results["seconds"][part] = round(time.perf_counter() - started, 1)
        # In the order of the experiments, whatever order they were run in.
        results["parts"] = {k: results["parts"][k] for k in parts if k in results["parts"]}
        path.write_text(to_json(results), encoding="utf-8")
    if console is not None:
        module.show(results, console)
        try:
            for figure in module.draw(results, path.parent):
                console.print(f"figure: {figure}", markup=False, soft_wrap=True)
        except ImportError as error:
            console.print(f"no figures: {error}", markup=False, soft_wrap=True)
        console.print(f"results: {path}", markup=False, soft_wrap=True)
    return results
