"""When learning pays: the page is what the recorded results give, losses included."""

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from xml.dom import minidom

import pytest
from typer.testing import CliRunner

from krylearn.benchmarks import comparisons, pays
from krylearn.benchmarks.comparisons import Comparison
from krylearn.benchmarks.runner import BadResults
from krylearn.cli import app

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def rows():
    return comparisons.compare(DOCS)


def test_the_committed_page_is_what_the_recorded_results_give(tmp_path):
    copy = tmp_path / "docs"
    shutil.copytree(DOCS, copy, ignore=shutil.ignore_patterns("*.png", "*.html"))
    found = CliRunner().invoke(app, ["bench", "pays", "--docs", str(copy), "--json"])
    assert found.exit_code == 0, found.output
    for name in (pays.PAGE, pays.PICTURE):
        assert (copy / name).read_text() == (DOCS / name).read_text(), (
            f"docs/{name} is not up to date: run `krylearn bench pays`")  # fmt: skip


def test_rows_are_the_figures_of_the_files(rows):
    part = json.loads((DOCS / "papers/dcdm.json").read_text())["parts"]["cuda 256"]
    learned = next(row for row in part if row["method"] == "cg, M = poisson3d")
    plain = next(row for row in part if row["method"] == "multigrid-cg")
    row = next(r for r in rows if r.unknowns == 256**3 and r.setting == "one system a matrix")
    ours = learned["setup_seconds"] + learned["solve_seconds"]
    theirs = plain["setup_seconds"] + plain["solve_seconds"]
    assert (row.classical, row.learned) == ("multigrid-cg", "cg, M = poisson3d")
    assert row.seconds == (theirs, ours) and theirs < ours and row.break_even == math.inf
    row = dataclasses.replace(row, seconds=(2 * ours, ours))
    assert row.break_even == math.ceil(comparisons.cards()["poisson3d"]["seconds"] / ours)


def test_the_classical_side_is_the_fastest_and_has_nothing_learned(rows):
    learned = re.compile(r"dcd|poisson3d|paper64|recycled|Recycled|GCRODR\(|tsallis|Tsallis|ChebCB"
                         r"|bandit|AutoSolver|from darcy-|from multiscale")  # fmt: skip
    for row in rows:
        assert learned.search(row.learned) and not learned.search(
            row.classical.replace("GCRODR(40, 20), not recycled", "restarted")), row
        assert all(0 < seconds < 1e4 for seconds in row.seconds)
    for other in rows:
        same = [row for row in rows if row.beside_fastest and
                (row.device, row.family, row.setting, row.unknowns, row.rtol) ==
                (other.device, other.family, other.setting, other.unknowns, other.rtol)]
        assert min(row.seconds[0] for row in same) <= other.seconds[0]
    assert {row.socket for row in rows} <= set(pays._SOCKETS)


def test_losses_and_wins_are_counted_and_shown(rows):
    own = [row for row in rows if row.beside_fastest]
    page = (DOCS / pays.PAGE).read_text()
    won = sum(row.ratio > 1.2 for row in own)
    lost = sum(row.ratio < 1 / 1.2 for row in own)
    assert f"Of {len(own)} rows" in page and f"in **{won}**" in page and f"**{lost}**" in page
    table = re.findall(r"^\| (?:CPU|CUDA).*\| (\*{0,2}[\d.]+\*{0,2}) \|", page, re.M)
    assert sum(float(cell.strip("*")) < 1 / 1.2 for cell in table) >= lost > won
    assert page.count("| never |") == sum(r.training is not None and r.ratio <= 1 for r in own)


@pytest.mark.parametrize("seconds, training, wanted", [
    ((2.0, 1.0), 10.5, 11), ((2.0, 1.0), None, 0), ((1.0, 1.0), 10.0, math.inf),
    ((1.0, 2.0), None, math.inf),
])  # fmt: skip
def test_break_even(seconds, training, wanted):
    row = Comparison("choice", "CPU", "a cpu", "heat", "all", 9, 1e-8, "cg", "AutoSolver", seconds,
                     "x.json", training)  # fmt: skip
    assert row.break_even == wanted


def test_the_picture_is_sound_and_tells_losses_without_colour(rows):
    text = (DOCS / pays.PICTURE).read_text()
    minidom.parseString(text)
    own = [row for row in rows if row.beside_fastest]
    assert text.count('class="below"') == sum(row.ratio < 1 for row in own)
    assert text.count('class="bar"') == sum(row.ratio >= 1 for row in own)
    assert ".below{fill:#fff" in text  # hollow bars, not only another colour
    labels = re.findall(r'text-anchor="end">([^<]*)<', text)
    assert len(set(labels)) == len(labels) == len(own)


def test_a_folder_without_results_is_refused_and_one_file_is_enough(tmp_path):
    found = CliRunner().invoke(app, ["bench", "pays", "--docs", str(tmp_path)])
    assert found.exit_code == 2 and "recorded" in found.output
    (tmp_path / "recorded").mkdir()
    shutil.copy(DOCS / "recorded/petsc.json", tmp_path / "recorded")
    assert [path.name for path in pays.write(tmp_path)] == [pays.PAGE, pays.PICTURE]
    assert "## Direction" not in (tmp_path / pays.PAGE).read_text()
    (tmp_path / "recorded/skr.json").write_text("{")
    with pytest.raises(BadResults, match="skr.json"):
        pays.write(tmp_path)


def recorded(name):
    return json.loads((DOCS / "recorded" / f"{name}.json").read_text())


def readme_rows():
    """Return the rows of the README's table by the beginning of what they are about."""
    rows = re.findall(r"^\| ([^|]+?) \| ([\d.]+) \| ([\d.]+)[^|]*\| ([\d.]+) \|$",
                      (DOCS.parent / "README.md").read_text(), re.M)  # fmt: skip
    return {what: numbers for what, *numbers in rows}


def agrees(shown, value):
    """Return whether a number was rounded to what is shown."""
    digits = len(shown.partition(".")[2])
    return abs(float(shown) - value) <= 0.501 * 10.0**-digits


def test_the_table_of_the_readme_is_what_was_recorded():
    mg = {(row["case"], row["method"]): row["setup_seconds"] + row["solve_seconds"]
          for row in recorded("multigrid")["rows"] if row.get("solve_seconds")}  # fmt: skip
    parts = recorded("skr")["parts"]

    def skr(part, rtol, *entrants):
        return min(row["seconds"] for row in parts[part]
                   if row["rtol"] == rtol and row["entrant"] in entrants)  # fmt: skip

    hypre = "petsc.cg+hypre tuned 2 ranks"
    best = mg["poisson128", hypre]
    expected = {
        "Poisson 128³, matrix-free": (mg["poisson128", "cg+multigrid@grid"], best),
        "the same by `kl.solve`": (mg["poisson128", "auto@grid"], best),
        "Darcy 128³": (mg["darcy128", "cg+multigrid@grid"], mg["darcy128", hypre]),
        "Poisson 128³, assembled": (mg["poisson128", "cg+smoothed_aggregation"], best),
        "the same by classical": (mg["poisson128", "cg+classical_amg"], best),
        "finite elements": (mg["fe triangles", "auto"], mg["fe triangles", "pyamg.rs-cg"]),
        "elasticity": (mg["fe plate", "cg+smoothed_aggregation"],
                       mg["fe plate", "petsc.cg+gamg"]),
        "one of 1000": (mg["darcy1000", "batch"], mg["darcy1000", "petsc.cg+hypre"]),
        "learned, subspace: damped": (skr("damped waves in 3-D: ilu0", 1e-6, "recycled"),
                                      skr("damped waves in 3-D: ilu0", 1e-6, "IDR(4)")),
        "learned, subspace: Darcy": (skr("darcy: ic0", 1e-8, "recycled CG, sorted"),
                                     skr("darcy: ic0", 1e-8, "CG", "CG, warm")),
    }  # fmt: skip
    rows = readme_rows()
    for what, (ours, other) in expected.items():
        (numbers,) = [shown for name, shown in rows.items() if name.startswith(what)]
        assert agrees(numbers[0], ours) and agrees(numbers[1], other), (what, ours, other)
        assert agrees(numbers[2], other / ours), (what, other / ours)
