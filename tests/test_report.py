"""HTML reports: every recorded file can be read, and a real browser has no complaints."""

import json
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import browser
import pytest
from typer.testing import CliRunner

from krylearn.benchmarks.cases import load_suite
from krylearn.benchmarks.html import kinds, page, reading, svg, write_report
from krylearn.benchmarks.plot import performance_ratios
from krylearn.benchmarks.runner import BadResults, run_suite
from krylearn.cli import app

DOCS = Path(__file__).parent.parent / "docs"
RECORDED = [*sorted((DOCS / "recorded").glob("*.json")), DOCS / "papers/dcdm.json"]
MACHINE = {"cpu": "a processor", "threads": 2, "triad_all_threads": 1e10, "triad_1_thread": 1e10,
           "matrix_flops": 1e11, "versions": {"numpy": "2", "cupy": None}}  # fmt: skip


def _row(case, method, seconds=1.0, status="converged", **more):
    return {"case": case, "method": method, "status": status, "rtol": 1e-8, "unknowns": 10,
            "setup_seconds": 0.0, "solve_seconds": seconds, "iterations": 3, "residual": 1e-9,
            "peak_bytes": 1e8, "curve": None, "reason": "", **more}  # fmt: skip


def _suite(rows, **more):
    cases = {row["case"]: {"title": f"a case, {row['case']} x {row['case']}"} for row in rows}
    return {"suite": "s", "title": "A <suite> & more", "machine": MACHINE, "finished": True,
            "cases": cases, "targets": [], "startup": None, "kernels": None, "rows": rows,
            **more}  # fmt: skip


CURVE = {"steps": [0, 1, 2], "residuals": [1.0, 1e-4, 1e-9]}
SMALL = _suite(
    [_row("8", "cg", 2.0, curve=CURVE), _row("8", "slow", 30.0), _row("16", "cg", 9.0, unknowns=40),
     _row("16", "slow", 4.0), _row("16", "<b>odd</b>", 1.0, "not converged", reason="stalled")],
    kernels=[{"kernel": "dot", "bytes": 8e6, "flops": 1e6, "seconds": 1e-3,
              "bytes_per_second": 8e9},
             {"kernel": "csr apply", "bytes": 8e6, "flops": 2e6, "seconds": 1e-3,
              "bytes_per_second": 8e9},
             {"kernel": "axpy", "bytes": 8e6, "seconds": 1e-3, "bytes_per_second": 12e9}],
)  # fmt: skip


class _Strict(HTMLParser):
    """Elements that are opened are closed, in order; what is loaded is noted."""

    VOID = {"meta", "br", "input", "link"}

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.found = [], set(), []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.found += [attrs[k] for k in ("src", "href", "xlink:href") if k in attrs]
        assert attrs.get("id") is None or attrs["id"] not in self.ids
        self.ids.add(attrs.get("id"))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("path", RECORDED, ids=lambda p: p.stem)
def test_recorded_results_become_reports(path, tmp_path):
    out = write_report(path, tmp_path / "deep" / "report.html")
    text = out.read_text()
    assert out.stat().st_size < 1e6
    parser = _Strict()
    parser.feed(text)
    assert not parser.open
    assert all(link[1:] in parser.ids for link in parser.found)  # within the page
    assert "http" not in re.sub(r'xmlns="[^"]*"|http-equiv', "", text)
    assert "nan" not in re.findall(r'[dx]="([^"]*)"', text)
    for figure in re.findall("<figure>.*?</figure>", text, re.S):
        signs = re.findall(r'<svg class="swatch".*?</svg>', figure, re.S)
        assert len(set(signs)) == len(signs)
    read = reading.read(json.loads(path.read_text()))
    assert read.tables and all(len(row) == len(t.columns) for t in read.tables for row in t.rows)
    words = " ".join(read.lacks)
    assert ("Residual histories" in words) == (not read.curves)
    assert ("Roofline" in words) == (not read.rooflines)


def test_what_a_file_has_is_shown_and_what_it_lacks_is_said():
    full = page.page(reading.read(SMALL), "s.json")
    for heading in ("Convergence", "Performance profile", "Roofline", "Time against size",
                    "Machine"):  # fmt: skip
        assert f"<h2>{heading}</h2>" in full
    assert "Not in this file" not in full
    assert "<b>odd" not in full and "&lt;b&gt;odd" in full
    bare = page.page(reading.read(_suite([_row("8", "cg")])), "s.json")
    assert bare.count("<h2>") == 3  # tables, machine, what is lacking
    for word in ("Residual histories", "Performance profile", "Time against size", "Roofline"):
        assert f"<li>{word}" in bare


def test_a_run_of_a_suite_has_its_convergence_curves(tmp_path):
    suite = tmp_path / "tiny.toml"
    suite.write_text('title = "Tiny"\n[[case]]\nname = "a"\ntitle = "2-D Poisson, 8 x 8"\n'
                     'problem = { family = "poisson", shape = [8, 8], seed = 1 }\n'
                     'methods = ["cg", "scipy.cg"]\n')  # fmt: skip
    run_suite(load_suite(str(suite)), tmp_path / "tiny.json")
    read = reading.read(reading.load(tmp_path / "tiny.json"))
    assert [line.label for line in read.curves[0].lines] == ["cg", "scipy.cg"]
    assert read.curves[0].lines[0].y[-1] <= 1e-5


def test_kernels_stand_below_the_roofs_of_memory_and_flops():
    (roof,) = reading.read(SMALL).rooflines
    assert roof.points == {"vectors": [(0.125, 1e9)], "CSR products": [(0.25, 2e9)]}
    text = page.page(reading.read(SMALL), "s.json")
    assert "they meet at 10 flops a byte" in text and "100 GFLOP/s" in text
    kernels = [{k: v for k, v in row.items() if k != "flops"} for row in SMALL["kernels"]]
    bare = page.page(reading.read({**SMALL, "kernels": kernels}), "s.json")
    assert "roof of memory alone" in bare and "flops a byte" not in bare
    machine = {k: v for k, v in MACHINE.items() if k != "matrix_flops"}
    assert "not in the file" in page.page(reading.read({**SMALL, "machine": machine}), "s.json")


def test_a_history_is_added_to_rows_whose_times_stay(tmp_path):
    suite, out = tmp_path / "tiny.toml", tmp_path / "tiny.json"
    text = ('title = "Tiny"\nhistory = false\n[[case]]\nname = "a"\n'
            'problem = { family = "poisson", shape = [30, 30], seed = 1 }\n'
            'methods = ["cg", "scipy.spsolve"]\n')  # fmt: skip
    suite.write_text(text)
    before = run_suite(load_suite(str(suite)), out)["rows"]
    suite.write_text(text.replace("false", "true"))
    after = run_suite(load_suite(str(suite)), out, resume=True)["rows"]
    assert [row.pop("curve") for row in before] == [None, None]
    curve, none = (row.pop("curve") for row in after)
    assert before == after and len(curve["steps"]) <= 60 and none == {}
    assert curve["residuals"][-1] <= 1e-8


@pytest.mark.parametrize("data", [
    [], 3, {}, {"rows": []}, {"machine": {}, "rows": [{"case": "a"}]},
    {"suite": "s", "machine": {}, "cases": {}, "rows": [{"case": "a"}]},
    {"paper": "skr", "machine": {}, "parts": {"a": [{}]}}, {"runs": []}, {"runs": [3]},
])  # fmt: skip
def test_other_files_are_refused_in_a_line(data, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(data))
    with pytest.raises(BadResults, match="x.json"):
        write_report(tmp_path / "x.json")
    found = CliRunner().invoke(app, ["bench", "report", str(tmp_path / "x.json")])
    assert found.exit_code == 2 and "Traceback" not in found.output
    assert not (tmp_path / "x.html").exists()


def test_the_command_writes_beside_the_results(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(SMALL))
    found = CliRunner().invoke(app, ["bench", "report", str(tmp_path / "s.json"), "--json"])
    assert json.loads(found.output)["report"] == str(tmp_path / "s.html")
    assert (tmp_path / "s.html").read_text().startswith("<!DOCTYPE html>")
    for name in ("missing.json", "s.html"):
        assert CliRunner().invoke(app, ["bench", "report", str(tmp_path / name)]).exit_code == 2


def test_a_paper_without_a_reader_keeps_its_tables():
    read = reading.read({"paper": "new", "parts": {"a": [{"x": 1.5, "who": "me", "deep": [1]}],
                                                   "b": {"rows": [{"y": None}]}}})  # fmt: skip
    assert [[h for h, _ in t.columns] for t in read.tables] == [["x", "who"], ["y"]]
    assert "Machine" in " ".join(read.lacks)


def test_performance_ratios_are_those_of_dolan_and_more():
    inf = math.inf
    times = {"1": {"a": 1.0, "b": 2.0}, "2": {"a": 6.0, "b": 2.0}, "3": {"a": inf, "b": 1.0},
             "4": {"a": 1.0}, "5": {"a": inf, "b": inf}, "6": {"b": 4.0, "c": 1.0}}  # fmt: skip
    ratios, tried, cases = performance_ratios(times)
    assert cases == 4
    assert ratios == {"a": [1.0, 3.0], "b": [1.0, 1.0, 2.0, 4.0]}
    assert tried == {"a": 3, "b": 4, "c": 1}


def test_families_join_sizes_and_nothing_else():
    names = ("3-D Poisson, 32 x 32 x 32", "thin Neumann walls, 64 x 64",
             "2-D Poisson, 1000 unknowns", "inclusions, contrast 1e4, 8 x 8 x 8")  # fmt: skip
    assert [kinds._family(name) for name in names] == [
        "3-D Poisson", "thin Neumann walls, 2-D", "", "inclusions, contrast 1e4, 3-D"]


@pytest.mark.parametrize("lo, hi, log", [(0, 1, False), (-3, 900, False), (1e-9, 1, True),
                                         (1, 4, True), (2, 2, True), (5, 5, False)])  # fmt: skip
def test_axes_have_a_few_round_ticks(lo, hi, log):
    axis = svg.Axis("", log).fit([lo, hi])
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 10
    assert all(-1e-9 <= axis.share(v) <= 1 + 1e-9 for v in ticks)
    assert 0 <= axis.share(lo) <= axis.share(hi) <= 1


def test_no_two_lines_look_the_same():
    look = svg.looks(map(str, range(35)))
    assert len(set(look.values())) == 35
    assert len({(marker, dash) for _, marker, dash in look.values()}) == 35  # without colour, too


def test_lines_that_share_a_look_on_the_page_do_not_in_a_figure():
    labels = [str(k) for k in range(40)]
    look = svg.looks(labels)
    assert look["0"] == look["35"]
    own = page._look(["0", "35", "36"], look)
    assert len(set(own.values())) == 3
    assert page._look(["3", "4"], look) == {"3": look["3"], "4": look["4"]}


@pytest.fixture(scope="module")
def window():
    path = browser.find()
    if path is None:
        assert not os.environ.get("CI"), "make test installs a browser; here is none"
        pytest.skip("no Chromium is installed")
    window = browser.Browser(path)
    yield window
    window.close()


@pytest.fixture
def opened(window, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(SMALL))
    window.open(write_report(tmp_path / "s.json").as_uri())
    return window


def _column(window, table, k):
    return window.run(f"[...document.querySelectorAll('table')[{table}].tBodies[0].rows]"
                      f".map(row => row.cells[{k}].textContent)")  # fmt: skip


def test_a_click_on_a_heading_sorts(opened):
    before = _column(opened, 0, 5)
    head = "thead th:nth-child(6)"
    aria = f"document.querySelector('{head}').getAttribute('aria-sort')"
    opened.click(f"{head} button")
    assert _column(opened, 0, 5) == ["1.000", "2.000", "4.000", "9.000", "30.0"]
    assert opened.run(aria) == "ascending"
    opened.click(f"{head} button")
    assert _column(opened, 0, 5) == ["30.0", "9.000", "4.000", "2.000", "1.000"]
    assert opened.run(aria) == "descending"
    opened.click(f"{head} button")
    assert _column(opened, 0, 5) == before and opened.run(aria) is None
    opened.run(f"document.querySelector('{head} button').focus()")
    opened.press("Enter")
    assert opened.run(aria) == "ascending"
    opened.click("table thead th:nth-child(2) button")  # words, and only one heading is marked
    assert _column(opened, 0, 1) == ["<b>odd</b>", "cg", "cg", "slow", "slow"]
    assert opened.run("document.querySelectorAll('[aria-sort]').length") == 1
    assert opened.complaints() == []


@pytest.mark.parametrize("path", RECORDED, ids=lambda p: p.stem)
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_a_browser_opens_reports_without_complaint(window, path, width, tmp_path):
    out = write_report(path, tmp_path / "report.html")
    window.open(out.as_uri(), width)
    assert window.complaints() == []
    assert window.requests() == [out.as_uri()]
    assert window.run("document.documentElement.scrollWidth") <= width
    for script in ("[...document.querySelectorAll('th button')].every(b => b.closest('th'))",
                   "[...document.querySelectorAll('table')].every(t => t.caption.textContent)",
                   "[...document.querySelectorAll('figure > svg')].every(s => s.ariaLabel)",
                   "[...document.querySelectorAll('th')].every(t => t.scope)"):  # fmt: skip
        assert window.run(script), script


def test_nothing_from_outside_could_load(opened):
    opened.run("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    opened.run("document.body.insertAdjacentHTML('beforeend', '<p onclick=\"1\" id=p>x</p>')")
    opened.run("document.querySelector('#p').click()")
    assert any("Content Security Policy" in words for words in opened.complaints())
    failed = [e["params"] for e in opened.events if e.get("method") == "Network.loadingFailed"]
    assert [f["blockedReason"] for f in failed] == ["csp"]


def test_a_filter_leaves_rows_that_hold_its_words(window, tmp_path):
    window.open(write_report(DOCS / "recorded/multigrid.json", tmp_path / "m.html").as_uri())
    window.run("document.querySelectorAll('.filter input')[1].value = 'darcy petsc'")
    window.run("document.querySelectorAll('.filter input')[1].dispatchEvent(new Event('input'))")
    shown = window.run("[...document.querySelectorAll('table')[1].tBodies[0].rows]"
                       ".filter(r => !r.hidden).map(r => r.textContent.toLowerCase())")  # fmt: skip
    assert shown and all("darcy" in text and "petsc" in text for text in shown)


def test_it_prints(window, tmp_path):
    window.open(write_report(DOCS / "recorded/foundation.json", tmp_path / "f.html").as_uri())
    paper = window.pdf()
    assert paper.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type ?/Page\b", paper)) <= 6
    window.send("Emulation.setEmulatedMedia", media="print")
    head = "getComputedStyle(document.querySelector('th button')).display"
    assert window.run(head) == "contents"  # a box there keeps headings off all sheets but the first
    assert window.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    window.send("Emulation.setEmulatedMedia", media="")
