"""Readers of the files that the bench commands write, one for each kind."""

from __future__ import annotations

import re
from collections import defaultdict
from statistics import median
from typing import Any

from krylearn.benchmarks.html.reading import Curves, Reading, Roofline, Table
from krylearn.benchmarks.html.svg import Bar, Line
from krylearn.benchmarks.targets import target_rows, total

_KERNELS = {"csr": "CSR products", "diagonals": "products by diagonals", "grid": "grid products",
            "gauss_seidel": "sweeps", "ssor": "sweeps", "ic0": "sweeps", "ilu0": "sweeps"}
_SIZE = re.compile(r",? \d+((?: x \d+)+|\^\d)")


def _family(title: str) -> str:
    """Return what cases of different sizes have in common: the title without the size."""
    match = _SIZE.search(title)
    if match is None:
        return ""
    size = match[0]
    axes = size[-1] if "^" in size else str(size.count(" x ") + 1)
    rest = title.replace(size, "").strip()
    return rest if re.search(r"\d-D", rest) else f"{rest}, {axes}-D"


def read_suite(data: dict[str, Any]) -> Reading:
    """Read what `krylearn bench SUITE` wrote."""
    reading = Reading("suite", data.get("title") or data["suite"], data["machine"])
    if not data.get("finished"):
        reading.notes.append("This run was cut short: rows may be missing.")
    reading.notes.append("A row counts only if the residual that is recomputed is small enough. "
                         "Peak memory is that of the whole process.")  # fmt: skip
    reading.tables += [table for table in (_targets(data), _suite_rows(data)) if table]
    for row in data["rows"]:
        title = data["cases"].get(row["case"], {}).get("title", row["case"])
        if row["status"] != "skipped":
            ok = row["status"] == "converged"
            reading.solved(row["case"], row["method"], total(row) if ok else None)
            family = _family(title)
            if ok and family:
                reading.point(family, row["method"], row["unknowns"], total(row))
    reading.curves += _histories(data)
    if data.get("kernels"):
        reading.rooflines.append(_cpu_roofline(data["kernels"], data["machine"]))
    return reading


def _targets(data: dict[str, Any]) -> Table | None:
    rows = target_rows({"targets": [], **data})
    words = {True: "met", False: "not met", None: "not measured"}
    return rows and Table(
        "What was wanted, and what was measured",
        [("figure", "text"), ("wanted", "text"), ("measured", "figure"), ("unit", "text"),
         ("verdict", "text")],
        [[row["text"] + (f" ({row['beside']})" if row["beside"] else ""), row["wanted"],
          row["measured"], row["unit"].strip(), words[row["met"]]] for row in rows],
    ) or None  # fmt: skip


def _suite_rows(data: dict[str, Any]) -> Table:
    rows, peers = [], set()
    by_name = {(row["case"], row["method"]): row for row in data["rows"]}
    for row in data["rows"]:
        case = data["cases"].get(row["case"], {})
        peer = by_name.get((row["case"], case.get("peer")))
        beside = total(peer) if peer and peer["status"] == "converged" else None
        ok, timed = row["status"] == "converged", "solve_seconds" in row
        if beside and ok:
            peers.add(f"{row['case']}: {case['peer']}")
        chosen = row.get("chosen")
        method = f"{row['method']}: {chosen}" if chosen and chosen != row["method"] else (
            row["method"])  # fmt: skip
        state = row["status"] + (f": {row['reason']}" if row.get("reason") and not ok else "")
        rows.append([
            case.get("title", row["case"]), method, row.get("unknowns"),
            row.get("setup_seconds"), row.get("solve_seconds"), total(row) if timed else None,
            beside / max(total(row), 1e-9) if beside and ok else None, row.get("iterations"),
            row.get("residual"), row.get("peak_bytes"), state,
        ])  # fmt: skip
    notes = []
    if peers:
        notes.append("Times as fast: set-up and solve together, beside " + "; ".join(sorted(peers))
                     + ".")  # fmt: skip
    if any(row.get("systems") for row in data["rows"]):
        notes.append("Where many systems were solved, times are those of one: " + "; ".join(
            f"{row['method']}, {row['solved']} of {row['systems']} solved"
            for row in data["rows"] if row.get("systems")) + ".")  # fmt: skip
    return Table("All rows", [
        ("case", "text"), ("method", "text"), ("unknowns", "count"), ("set-up, s", "seconds"),
        ("solve, s", "seconds"), ("both, s", "seconds"), ("times as fast", "times"),
        ("iterations", "count"), ("true residual", "residual"), ("peak memory", "bytes"),
        ("state", "text"),
    ], rows, notes)  # fmt: skip


def _histories(data: dict[str, Any]) -> list[Curves]:
    found: dict[str, Curves] = {}
    for row in data["rows"]:
        curve = row.get("curve")
        if not curve:
            continue
        title = data["cases"].get(row["case"], {}).get("title", row["case"])
        curves = found.setdefault(row["case"], Curves(
            title, [], "iteration + 1", "relative residual", True, True, row["rtol"],
            f"rtol {row['rtol']:g}"))  # fmt: skip
        curves.lines.append(Line(row["method"], [k + 1 for k in curve["steps"]],
                                 curve["residuals"]))  # fmt: skip
    return list(found.values())


def _cpu_roofline(kernels: list[dict[str, Any]], facts: dict[str, Any]) -> Roofline:
    rate = facts["triad_all_threads"]
    return Roofline(
        "Kernels of the CPU", [_kernel(row["kernel"], row["bytes_per_second"], rate)
                               for row in kernels], rate,
        "the STREAM triad, which fetches what it overwrites without counting that: kernels that "
        "work in place may reach 133 %",
        _intensities(kernels), facts.get("matrix_flops"))  # fmt: skip


def _intensities(kernels: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Return flops a byte and flops a second, by kind of kernel, where flops are known."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in kernels:
        if row.get("flops"):
            name = row["kernel"].split(",")[0].split(" ")[0]
            kind = _KERNELS.get(name, "vectors")
            found[kind].append((row["flops"] / row["bytes"], row["flops"] / row["seconds"]))
    return {kind: sorted(points) for kind, points in found.items()}


def _kernel(name: str, speed: float, rate: float) -> Bar:
    return Bar(name, 100 * speed / rate, f"{speed / 1e9:,.3g} GB/s" if speed < 1e12 else
               f"{speed / 1e12:.2f} TB/s")  # fmt: skip


def read_kernels(data: dict[str, Any]) -> Reading:
    """Read what `krylearn bench kernels --json` printed."""
    reading = Reading("kernels", f"Kernels on a cube of {data['side']}³ points", data["machine"])
    reading.rooflines.append(_cpu_roofline(data["kernels"], data["machine"]))
    reading.tables.append(Table("Kernels", [
        ("kernel", "text"), ("bytes to move", "bytes"), ("flops", "count"), ("seconds", "seconds"),
        ("speed", "rate"),
    ], [[r["kernel"], r["bytes"], r.get("flops"), r["seconds"], r["bytes_per_second"]]
        for r in data["kernels"]]))  # fmt: skip
    return reading


def read_cuda(data: dict[str, Any], title: str = "CUDA: kernels and methods") -> Reading:
    """Read what `krylearn bench cuda` wrote."""
    reading = Reading("cuda", title, data["machine"])
    columns = [("case", "text"), ("what", "text"), ("milliseconds", "figure"),
               ("peer, milliseconds", "figure"), ("times as fast", "times"),
               ("iterations", "count"), ("speed", "rate"), ("state", "text")]  # fmt: skip
    rows, speeds = [], defaultdict(list)
    rate = data["machine"].get("copy_bytes_per_second")
    for row in data["rows"]:
        ms, peer = row["milliseconds"], row.get("peer_milliseconds")
        state = {True: "converged", False: "not converged"}.get(row.get("converged"), "")
        rows.append([row["case"], row["what"], ms, peer, peer / ms if peer else None,
                     row.get("iterations"), row.get("bytes_per_second"), state])  # fmt: skip
        if peer:
            reading.solved(f"{row['case']}, {row['what']}", "krylearn", ms / 1e3)
            reading.solved(f"{row['case']}, {row['what']}", "peer", peer / 1e3)
        if row.get("bytes_per_second") and rate and "sample" not in row["what"]:
            speeds[row["case"]].append(_kernel(row["what"], row["bytes_per_second"], rate))
        cube = re.match(r"(\d+)\^3 (.*)", row["case"])
        if cube and row.get("converged") is not False:
            reading.point(f"cube, {cube[2]}", row["what"], int(cube[1]) ** 3, ms / 1e3)
    reading.tables.append(Table("All rows", columns, rows,
                                ["The peer is CuPy where nothing else is named."]))  # fmt: skip
    reading.rooflines += [
        Roofline(case, bars, rate, "a copy on the device") for case, bars in speeds.items()
    ]  # fmt: skip
    return reading


def read_cuda_runs(data: dict[str, Any]) -> Reading:
    """Read several runs of CUDA measurements, joined in a file."""
    parts = [read_cuda(run) for run in data["runs"]]
    whole = Reading("cuda", "CUDA: batches, recorded in several runs", parts[0].facts)
    for k, part in enumerate(parts, 1):
        part.tables[0].title = f"Run {k}: {_device(part.facts)}"
        whole.tables += part.tables
        whole.rooflines += part.rooflines
        whole.times |= part.times
        for key, line in part.sizes.items():
            whole.sizes.setdefault(key, []).extend(line)
    if any(part.facts != parts[0].facts for part in parts):
        whole.notes.append("The runs do not all come from one machine; the facts are the first's.")
    return whole


def _device(facts: dict[str, Any]) -> str:
    rate = facts.get("copy_bytes_per_second")
    return str(facts.get("device", "")) + (f", copy {rate / 1e12:.2f} TB/s" if rate else "")


def read_petsc(data: dict[str, Any]) -> Reading:
    """Read what `krylearn bench petsc` wrote."""
    reading = Reading("petsc", "Inside PETSc", data["machine"])
    solves, sequences, others = [], [], []
    for name, row in data["rows"].items():
        *case, ranks = name.split(" / ")
        if "solve" in row:
            setup, solve = median(row["setup"]), median(row["solve"])
            solves.append([*case, int(ranks), setup, solve, setup + solve, row["iterations"],
                           row["residual"], len(row["solve"])])  # fmt: skip
            reading.solved(f"{case[0]}, {ranks} ranks", case[1], setup + solve)
        elif "seconds" in row:
            sequences.append([*case, int(ranks), row["seconds"], row["iterations"]])
            reading.solved(f"{case[0]}, {ranks} ranks", case[1], row["seconds"])
        else:
            others += [[case[0], int(ranks), key, value if isinstance(value, int | float) else None,
                        "" if isinstance(value, int | float) else str(value)]
                       for key, value in row.items()]  # fmt: skip
    common = [("case", "text"), ("method", "text"), ("ranks", "count")]
    reading.tables += [table for table in (
        Table("Set-up and solve, medians", [
            *common, ("set-up, s", "seconds"), ("solve, s", "seconds"), ("both, s", "seconds"),
            ("iterations", "count"), ("true residual", "residual"), ("runs", "count")], solves),
        Table("Sequences of systems", [*common, ("all, s", "seconds"), ("iterations", "count")],
              sequences),
        Table("Crossing from PETSc to krylearn and back", [
            ("case", "text"), ("ranks", "count"), ("figure", "text"), ("value", "figure"),
            ("", "text")], others),
    ) if table.rows]  # fmt: skip
    return reading


def read_generation(data: dict[str, Any]) -> Reading:
    """Read what `krylearn bench generation --json` printed."""
    cores = data.get("cores")
    reading = Reading("generation", f"{data['samples']:,} samples of {data['family']}, "
                      f"{data['grid']} points an axis", {"cores": cores} if cores else {})
    ours = f"krylearn generate, {data['solver']}"
    seconds = {ours: data["seconds_a_sample"]}
    rows = [[ours, data["seconds_a_sample"], None, None,
             f"{data['valid']:,} of {data['samples']:,} valid to {data['rtol']:g}"]]
    for peer in data.get("peers", ()):
        fine = peer.get("converged")
        rows.append([peer["method"], peer.get("seconds_a_sample"),
                     peer["seconds_a_sample"] / data["seconds_a_sample"] if fine else None,
                     peer.get("worst_residual"), "converged" if fine else "not converged"])
        if fine:
            seconds[peer["method"]] = peer["seconds_a_sample"]
    for method, value in seconds.items():
        reading.solved("a sample", method, value)
    reading.tables.append(Table("Seconds a sample", [
        ("method", "text"), ("a sample, s", "seconds"), ("ours is times as fast", "times"),
        ("worst residual", "residual"), ("state", "text")], rows, [
            f"krylearn draws, solves, verifies and writes in {cores or 'several'} processes; peers "
            "only solve, in one. Would they run on all cores at no loss, the ratio to the best "
            f"were {data['ratio_all_cores']:.3g}." if data.get("ratio_all_cores") else ""]))
    reading.lacks.append("Machine: the file has no more than the number of cores.")
    return reading


def read_dcdm(data: dict[str, Any]) -> Reading:
    """Read deep conjugate directions."""
    reading = Reading("paper", "Deep conjugate directions (Kaneda et al., ICML 2023)",
                      data["machine"])  # fmt: skip
    rows = []
    for part, found in data["parts"].items():
        place, _, side = part.partition(" ")
        if place in ("training", "safety"):
            continue
        for row in found:
            both = row["setup_seconds"] + row["solve_seconds"]
            state = "converged" if row["converged"] else "not converged"
            rows.append([place, int(side), row["method"], row["rtol"], row["setup_seconds"],
                         row["solve_seconds"], both, row["iterations"], row.get("apply_seconds"),
                         row.get("memory_bytes"), row.get("dropped") or state])  # fmt: skip
            case = f"{place}, {side}^3, to {row['rtol']:g}"
            reading.solved(case, row["method"], both if row["converged"] else None)
            if row["converged"]:
                reading.point(f"{place}, to {row['rtol']:g}", row["method"], int(side) ** 3, both)
    reading.tables.append(Table("All rows", [
        ("where", "text"), ("points an axis", "count"), ("method", "text"), ("rtol", "residual"),
        ("set-up, s", "seconds"), ("solve, s", "seconds"), ("both, s", "seconds"),
        ("iterations", "count"), ("one application, s", "seconds"), ("memory", "bytes"),
        ("state", "text")], rows, ["A state such as “the residual has not halved” says why the "
                                   "network was dropped; conjugate gradients went on."]))
    return reading


def read_skr(data: dict[str, Any]) -> Reading:
    """Read recycling along sorted sequences."""
    reading = Reading("paper", "Sorted Krylov recycling (Wang et al., ICLR 2024)", data["machine"])
    rows: list[list[Any]] = []
    rounds: list[list[Any]] = []
    for part, found in data["parts"].items():
        along = []
        for row in found:
            done, count = row["converged"], row["systems"]
            if part.startswith("rounds: "):
                times = row["rounds"]
                rounds.append([f"{row['family']}, {part.removeprefix('rounds: ')}", row["M"],
                               row["entrant"], row["iterations"], min(times), median(times),
                               max(times), len(times), f"{done} of {count}"])  # fmt: skip
                continue
            rows.append([row["family"], row["n"], row["rtol"], row["M"], row["entrant"],
                         row["seconds"], row.get("iterations"), row.get("matvecs"),
                         f"{done} of {count}"])  # fmt: skip
            if part != "scipy" and row["M"] != row["entrant"]:
                reading.solved(f"{row['family']}, {row['rtol']:g}, {row['M']}", row["entrant"],
                               row["seconds"] if done == count else None)  # fmt: skip
            if row.get("along"):
                along.append(Line(row["entrant"], range(1, 1 + len(row["along"])), row["along"]))
        if along:
            reading.curves.append(Curves(f"Iterations along the sequence, {part}", along,
                                         "system", "iterations", log_y=True))  # fmt: skip
    if rows:
        reading.tables.append(Table("Means a system", [
            ("family", "text"), ("unknowns", "count"), ("rtol", "residual"), ("M", "text"),
            ("method", "text"), ("a system, s", "seconds"), ("iterations", "figure"),
            ("products with A", "figure"), ("converged", "text")], rows,
            ["Set-up of the preconditioner and sorting are in the seconds."]))  # fmt: skip
    if rounds:
        reading.tables.append(Table("A system, in rounds in which all take turns", [
            ("sequence", "text"), ("M", "text"), ("method", "text"), ("iterations", "figure"),
            ("least, s", "seconds"), ("median, s", "seconds"), ("most, s", "seconds"),
            ("rounds", "count"), ("converged", "text")], rounds,
            ["One round is of eight systems: too slow on these to go on."]))  # fmt: skip
    if data.get("full") is False:
        reading.notes.append("Eight systems a family, not the hundred of the paper.")
    return reading


def read_relax(data: dict[str, Any]) -> Reading:
    """Read parameters learned online."""
    reading = Reading("paper", "Learning to relax (Khodak et al., ICLR 2024), and the choice of "
                      "whole configurations", data["machine"])  # fmt: skip
    policies, heat, clock, auto, decisions = [], defaultdict(list), [], [], []
    for part, found in data["parts"].items():
        kind, _, which = part.partition("/")
        for row in found.get("rows", ()):
            if kind == "clock":
                clock.append([row["solver"], row["seconds"], row["iterations"]])
                reading.solved(part, row["solver"], row["seconds"])
            elif kind == "decisions":
                decisions.append([row["policy"], row["warm_us"], row["cold_us"]])
            else:
                policies.append([part, row["policy"], row["iterations"], row.get("to_best_fixed"),
                                 row.get("to_optimal")])  # fmt: skip
                if kind == "heat":
                    heat[row["policy"]].append((int(which) ** 2, row["iterations"] /
                                                found["steps"]))  # fmt: skip
        if kind == "auto":
            auto.append([which, found["unknowns"], found["auto"], min(found["fixed"].values()),
                         found["best"], found["rule"], found["auto"] /
                         min(found["fixed"].values())])  # fmt: skip
            for method, seconds in {"AutoSolver": found["auto"], "kl.solve": found["rule"],
                                    **found["fixed"]}.items():  # fmt: skip
                reading.solved(part, method, seconds)
            lines = [Line("AutoSolver" if name == "auto" else name, range(1, 1 + len(sums)), sums)
                     for name, sums in found["cumulated"].items()]  # fmt: skip
            reading.curves.append(Curves(f"Seconds along the sequence, {which}", lines, "system",
                                         "seconds so far"))  # fmt: skip
        elif "marks" in found:
            lines = [Line(row["policy"], found["marks"], row["regret_fixed"])
                     for row in found["rows"] if "regret_fixed" in row
                     and not row["policy"].startswith("omega =")]  # fmt: skip
            reading.curves.append(Curves(f"Regret beside the best fixed omega, {part}", lines,
                                         "system", "iterations more"))  # fmt: skip
    if heat:
        lines = [Line(name, [n for n, _ in line], [count for _, count in line])
                 for name, line in heat.items()]  # fmt: skip
        reading.curves.append(Curves("Heat: iterations a system against size", lines, "unknowns",
                                     "iterations a system", True, True))  # fmt: skip
    reading.tables += [table for table in (
        Table("Policies", [("sequence", "text"), ("policy", "text"), ("iterations", "count"),
                           ("of the best fixed", "times"), ("of the optimal", "times")], policies),
        Table("Seconds, everything included", [("method", "text"), ("seconds", "seconds"),
                                               ("iterations", "count")], clock),
        Table("AutoSolver, seconds of all systems", [
            ("sequence", "text"), ("unknowns", "count"), ("AutoSolver, s", "seconds"),
            ("best fixed, s", "seconds"), ("which", "text"), ("kl.solve, s", "seconds"),
            ("AutoSolver of best fixed", "times")], auto),
        Table("One decision, microseconds", [("policy", "text"), ("caches warm", "figure"),
                                             ("caches cold", "figure")], decisions),
    ) if table.rows]  # fmt: skip
    return reading


def read_mgno(data: dict[str, Any]) -> Reading:
    """Read multigrid neural operators."""
    reading = Reading("paper", "Multigrid neural operators (He, Liu and Xu, ICLR 2024)",
                      data["machine"])  # fmt: skip
    errors, elsewhere, speeds, starts, cycles, rivals = [], [], [], [], [], []
    norms = ("l2", "h1", "frequency")
    for part, found in data["parts"].items():
        kind, _, name = part.partition("/")
        if kind == "errors":
            errors += [[name, what, found["samples"], *(row[norm] for norm in norms)]
                       for what, row in (("predicted", found),
                                         ("solved on its grid", found["coarse_grid"]))]  # fmt: skip
        elif kind == "transfer":
            elsewhere += [[name, row["what"], *(row[norm] for norm in norms)] for row in found]
        elif kind == "speed":
            speeds += [[name, row["what"], row["a_second"], row["l2"]] for row in found]
        elif kind == "start":
            for row in found:
                done = row["converged"] == row["samples"]
                starts.append([name, row["solver"], row["start"], row["residual"],
                               row["iterations"], row["seconds"],
                               f"{row['converged']} of {row['samples']}"])  # fmt: skip
                reading.solved(name, f"{row['solver']} from {row['start']}",
                               row["seconds"] if done else None)  # fmt: skip
        elif kind == "cycle":
            for row in found:
                both = row["setup_seconds"] + row["solve_seconds"]
                cycles.append([row["family"], row["side"], row["M"], row["iterations"],
                               row["setup_seconds"], row["solve_seconds"],
                               row.get("apply_seconds")])  # fmt: skip
                reading.solved(f"{row['family']}, {row['side']}^2", f"cg, M {row['M']}",
                               both if row["converged"] else None)  # fmt: skip
        elif kind == "rivals":
            trained = [row for row in found["rows"] if "error" not in row]
            rivals += [[row["network"], row["parameters"], *(row[norm] for norm in norms),
                        row["seconds"], row["prediction_seconds"]] for row in trained]  # fmt: skip
            lines = [Line(f"{row['network']}, {row['parameters']:,}",
                          [point["epoch"] for point in row["curve"]],
                          [point["l2"] for point in row["curve"]]) for row in trained]  # fmt: skip
            reading.curves.append(Curves("Rivals: L2 error in validation", lines, "epoch",
                                         "relative L2 error", log_y=True))  # fmt: skip
    three = [("L2", "residual"), ("H1", "residual"), ("by frequencies", "residual")]
    reading.tables += [table for table in (
        Table("Errors on samples held out", [("model", "text"), ("field", "text"),
                                             ("samples", "count"), *three], errors),
        Table("On other grids and contrasts", [("model", "text"), ("what", "text"), *three],
              elsewhere),
        Table("Fields a second", [("model", "text"), ("what", "text"), ("a second", "figure"),
                                  ("L2 error", "residual")], speeds),
        Table("Starts, to 1e-8", [
            ("model", "text"), ("solver", "text"), ("from", "text"),
            ("first residual over b", "residual"), ("iterations", "figure"),
            ("seconds", "seconds"), ("converged", "text")], starts),
        Table("The linear cycle, CG to 1e-8", [
            ("family", "text"), ("points an axis", "count"), ("M", "text"),
            ("iterations", "count"), ("set-up, s", "seconds"), ("solve, s", "seconds"),
            ("one application, s", "seconds")], cycles),
        Table("Networks of equal size, data and epochs", [
            ("network", "text"), ("parameters", "count"), *three, ("training, s", "seconds"),
            ("one prediction, s", "seconds")], rivals),
    ) if table.rows]  # fmt: skip
    return reading


def read_paper(data: dict[str, Any]) -> Reading:
    """Read a paper that has no reader of its own: its tables as they are."""
    reading = Reading("paper", f"Paper: {data['paper']}", data.get("machine") or {})
    for part, found in data["parts"].items():
        rows = found.get("rows") if isinstance(found, dict) else found
        if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
            rows = [found] if isinstance(found, dict) else []
        names = [k for k in dict.fromkeys(key for row in rows for key in row)
                 if not any(isinstance(row.get(k), list | dict) for row in rows)]
        if names:
            kinds = ["text" if any(isinstance(row.get(k), str | bool) for row in rows) else
                     "figure" for k in names]  # fmt: skip
            reading.tables.append(Table(part, list(zip(names, kinds)), [
                [row.get(k) if kind == "figure" else str(row.get(k, "")) for k, kind in
                 zip(names, kinds)] for row in rows]))  # fmt: skip
    reading.lacks.append("Pictures: there is no reader for this paper's figures; the tables are "
                         "as they were recorded.")  # fmt: skip
    return reading


PAPERS = {"dcdm": read_dcdm, "mgno": read_mgno, "skr": read_skr, "relax": read_relax}
