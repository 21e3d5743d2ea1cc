"""Learned methods beside the fastest classical ones, as recorded runs have them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

from krylearn.benchmarks.runner import BadResults
from krylearn.benchmarks.targets import total


@dataclass
class Comparison:
    """One learned method beside the fastest classical one on the same systems.

    Attributes
    ----------
    socket : str
        Where the learned part plugs in: direction, start, parameter, subspace or choice.
    device, machine : str
        In a word; and in full.
    seconds : tuple of float
        Classical, learned; of one system, set-up included unless `setting` says otherwise.
    training : float or None
        Seconds of training beforehand; None where all learning is within the seconds.
    trained_on : str
        The device of the training.
    caveat : str
        What the classical side lacks, or the measurement.
    beside_fastest : bool
        False where the classical method is not the fastest but a rule that chooses.
    """

    socket: str
    device: str
    machine: str
    family: str
    setting: str
    unknowns: int | None
    rtol: float | None
    classical: str
    learned: str
    seconds: tuple[float, float]
    source: str
    training: float | None = None
    trained_on: str = ""
    caveat: str = ""
    beside_fastest: bool = True

    @property
    def ratio(self) -> float:
        """How many times as fast the learned method is."""
        return self.seconds[0] / self.seconds[1]

    @property
    def break_even(self) -> float:
        """Solves after which learning has paid; infinite if it never does."""
        gain = self.seconds[0] - self.seconds[1]
        return math.ceil((self.training or 0.0) / gain) if gain > 0 else math.inf


def _read(path: Path) -> dict[str, Any] | None:
    """Return the JSON in a file, or None where there is no such file."""
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise BadResults(f"{path} is not a JSON file") from None


def cards() -> dict[str, dict[str, Any]]:
    """Return the cards of the networks that are shipped, by name."""
    folder = resources.files("krylearn") / "learned" / "weights"
    found = (json.loads(file.read_text(encoding="utf-8")) for file in folder.iterdir()
             if file.name.endswith(".json"))  # fmt: skip
    return {card["name"]: card for card in sorted(found, key=lambda card: card["name"])}


def compare(docs: Path) -> list[Comparison]:
    """Return all comparisons that the recorded runs in the documentation's folder allow."""
    found = [*directions(docs), *starts(docs), *subspaces(docs), *parameters(docs), *choices(docs)]
    if not found:
        raise BadResults(f"no recorded results with a learned method lie in {docs}")
    return found


def _fastest(times: Iterable[tuple[str, float]]) -> tuple[str, float]:
    return min(times, key=lambda pair: pair[1])


def directions(docs: Path) -> Iterator[Comparison]:
    """Yield deep conjugate directions beside what needs no network, for each network."""
    data = _read(docs / "papers" / "dcdm.json")
    if data is None:
        return
    gpu, host = data["machine"]["device"], data["machine"]["host"]
    places = {"cuda": (f"CUDA, {_short(gpu)}", gpu), "host": ("CPU, 2 cores", host)}
    for part, rows in data["parts"].items():
        place, _, side = part.partition(" ")
        if place not in places:
            continue
        for rtol in sorted({row["rtol"] for row in rows}, reverse=True):
            solved = [row for row in rows if row["rtol"] == rtol and row["converged"]]
            for setting, measure in (("one system a matrix", total),
                                     ("many right-hand sides", lambda r: r["solve_seconds"])):
                yield from _networks(solved, measure, {
                    "socket": "direction", "device": places[place][0],
                    "machine": places[place][1], "family": "pressure of smoke", "setting": setting,
                    "unknowns": int(side) ** 3, "rtol": rtol, "source": "papers/dcdm.json",
                    "caveat": data.get("notes", {}).get(part, ""),
                })  # fmt: skip


def _networks(rows: list[dict], measure: Any, common: dict[str, Any]) -> Iterator[Comparison]:
    by_network: dict[str, list[tuple[str, float]]] = defaultdict(list)
    known = cards()
    for row in rows:
        network = next((name for name in known if row["method"].endswith(name)), "")
        method = row["method"] + (", dropped" if row.get("dropped") else "")
        by_network[network].append((method, measure(row)))
    classical = by_network.pop("", None)
    for network, times in by_network.items():
        if classical:
            (peer, theirs), (learned, ours) = _fastest(classical), _fastest(times)
            yield Comparison(classical=peer, learned=learned, seconds=(theirs, ours),
                             training=known[network]["seconds"],
                             trained_on=_short(known[network]["device"]), **common)  # fmt: skip


def starts(docs: Path) -> Iterator[Comparison]:
    """Yield solves from a predicted field beside those from zero and from a neighbour's."""
    data = _read(docs / "recorded" / "papers-mgno.json") or {"parts": {}}
    known = cards()
    for part, rows in data["parts"].items():
        kind, _, name = part.partition("/")
        if kind != "start" or name not in known:
            continue
        solved = [row for row in rows if row["converged"] == row["samples"]]
        ours = [row for row in solved if row["start"] == "model"]
        others = [(f"{row['solver']} from {row['start']}", row["seconds"]) for row in solved
                  if row["start"] != "model"]  # fmt: skip
        for row in ours if others else ():
            peer, theirs = _fastest(others)
            yield Comparison(
                "start", *_cpu(data, row.get("threads")), name, f"network on {row['network']}",
                math.prod(known[name]["grid"]), 1e-8, peer, f"{row['solver']} from {name}",
                (theirs, row["seconds"]), "recorded/papers-mgno.json", known[name]["seconds"],
                _short(known[name]["device"]),
            )  # fmt: skip


def _cpu(data: dict[str, Any], threads: int | None = None) -> tuple[str, str]:
    """Name the device and the machine; some rows were taken with fewer threads than the rest."""
    machine = data["machine"]
    usable, cores = machine["usable_cores"], machine["cores"]
    named = f"{usable}-core" if usable == cores else f"{usable} pinned cores of {cores},"
    return f"CPU, {threads or machine['threads']} cores", f"{named} {machine['cpu']}"


def _short(device: str) -> str:
    return "CPU" if device == "CPU" else device.removeprefix("NVIDIA ").split()[0]


def subspaces(docs: Path) -> Iterator[Comparison]:
    """Yield recycling, sorted and in the order given, beside all else; then that inside PETSc."""
    from krylearn.benchmarks.papers import skr

    data = _read(docs / "recorded" / "skr.json")
    if data is not None:
        groups: dict[tuple, list[dict]] = defaultdict(list)
        for row in chain(*skr.by_family(data).values()):
            if row["converged"] == row["systems"]:
                groups[row["family"], row["n"], row["rtol"]].append(row)
        for (family, n, rtol), rows in groups.items():
            times: dict[str, list[tuple[str, float]]] = defaultdict(list)
            for row in rows:
                name = row["entrant"] if row["M"] == row["entrant"] else (
                    f"{row['entrant']} + {row['M']}")  # fmt: skip
                kind = ("sorted" if "sorted" in row["entrant"] else "recycled"
                        if "recycled" in row["entrant"] else "")  # fmt: skip
                times[kind].append((name, row["seconds"]))
            peer, theirs = _fastest(times.pop(""))
            direct = any(row["entrant"] == "direct" for row in rows)
            for kind in times:
                learned, ours = _fastest(times[kind])
                yield Comparison(
                    "subspace", *_cpu(data), family, f"sequence of {rows[0]['systems']}", n, rtol,
                    peer, learned, (theirs, ours), "recorded/skr.json",
                    caveat="" if direct else "no direct solver was recorded",
                )  # fmt: skip
    yield from _inside_petsc(docs, "subspace", {"RecycledCG, SSOR, omega young", "GCRODR(40, 20)"})


def _inside_petsc(docs: Path, socket: str, learned: set[str]) -> Iterator[Comparison]:
    """Yield what learns along a sequence inside PETSc beside what does not, by ranks."""
    data = _read(docs / "recorded" / "petsc.json")
    groups: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for name, row in (data or {"rows": {}})["rows"].items():
        case, method, *ranks = name.split(" / ")
        if "seconds" in row and ranks:
            groups[case, ranks[0]].append((method, row["seconds"]))
    ours = {"RecycledCG, SSOR, omega young", "GCRODR(40, 20)", "cg, SSOR, omega tsallis"}
    for (case, ranks), times in groups.items():
        classical = [pair for pair in times if pair[0] not in ours]
        for method, seconds in times:
            if method in learned and classical:
                peer, theirs = _fastest(classical)
                yield Comparison(
                    socket, f"CPU, PETSc, ranks: {ranks}", _cpu(data or {})[1], case,
                    "whole sequence", None, None, peer, method, (theirs, seconds),
                    "recorded/petsc.json",
                )  # fmt: skip


def parameters(docs: Path) -> Iterator[Comparison]:
    """Yield learned omegas, and AutoSolver on the same systems, beside what needs no learning."""
    learned = {"Tsallis-INF", "ChebCB", "Young and bandit", "AutoSolver"}
    for _, found, cpu in _relax(docs, "clock"):
        rows = [(row["solver"], row["seconds"] / found["steps"]) for row in found["rows"]]
        peer, theirs = _fastest(row for row in rows if row[0] not in learned)
        for name, seconds in rows:
            if name in learned:
                yield Comparison(
                    "choice" if name == "AutoSolver" else "parameter", *cpu, "heat",
                    f"sequence of {found['steps']}", found["nx"] ** 2, None, peer, name,
                    (theirs, seconds), "recorded/papers-relax.json",
                )  # fmt: skip
    yield from _inside_petsc(docs, "parameter", {"cg, SSOR, omega tsallis"})


def choices(docs: Path) -> Iterator[Comparison]:
    """Yield AutoSolver beside the fastest in hindsight, and beside the rule of `kl.solve`."""
    for which, found, cpu in _relax(docs, "auto"):
        count, rule = found["systems"], ("kl.solve", found["rule"])
        fixed = [(f"{name}, in hindsight", seconds) for name, seconds in found["fixed"].items()]
        best = _fastest([rule, *fixed])
        for beside_fastest, (name, seconds) in ((True, best), (False, rule)):
            yield Comparison(
                "choice", *cpu, which, f"sequence of {count}", found["unknowns"], None, name,
                "AutoSolver", (seconds / count, found["auto"] / count),
                "recorded/papers-relax.json", beside_fastest=beside_fastest,
            )  # fmt: skip


def _relax(docs: Path, kind: str) -> Iterator[tuple[str, dict[str, Any], tuple[str, str]]]:
    data = _read(docs / "recorded" / "papers-relax.json") or {"parts": {}}
    for part, found in data["parts"].items():
        if part.startswith(f"{kind}/"):
            # A part may have been recorded on another machine than the rest.
            yield part.partition("/")[2], found, _cpu(found if "machine" in found else data)


def iterations_only(docs: Path) -> list[tuple[str, int | None, str, float, str, float]]:
    """Return sequences of which iterations were recorded and no seconds.

    Each is family, unknowns, fastest classical and its iterations, fastest learned and its.
    """
    rows = []
    learned = {"Tsallis-INF", "Tsallis-INF, reduced variance", "Tsallis-INF, 6 bins", "ChebCB",
               "ChebCB, interval unknown", "Young and bandit", "explore, then commit"}  # fmt: skip
    for kind in ("shifted", "heat"):
        for which, found, _ in _relax(docs, kind):
            times = [(row["policy"], row["iterations"]) for row in found["rows"]
                     if row["policy"] != "instance-optimal"]  # fmt: skip
            name = f"heat, {found['steps']} systems" if kind == "heat" else f"SOR, c by {which}"
            unknowns = int(which) ** 2 if kind == "heat" else None
            rows.append((name, unknowns, *_fastest(t for t in times if t[0] not in learned),
                         *_fastest(t for t in times if t[0] in learned)))  # fmt: skip
    return rows


def classical_only(docs: Path) -> list[tuple[str, int, str, float, str]]:
    """Return cases of suites, in which no learned method took part.

    Each is title, unknowns, fastest method, its seconds with set-up, and the file.
    """
    found: dict[str, tuple[str, int, str, float, str]] = {}
    for name in ("foundation", "multigrid", "darcy1000"):
        data = _read(docs / "recorded" / f"{name}.json") or {"cases": {}, "rows": []}
        for row in data["rows"]:
            title = data["cases"][row["case"]]["title"]
            if row["status"] == "converged" and (
                title not in found or total(row) < found[title][3]
            ):
                found[title] = (title, row["unknowns"], row["method"], total(row),
                                f"recorded/{name}.json")  # fmt: skip
    return list(found.values())
