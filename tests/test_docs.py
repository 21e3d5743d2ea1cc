"""README, pages and docstrings: every example runs, every method is named."""

import contextlib
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import krylearn
from krylearn import registry

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")),
         *sorted((ROOT / "docs").glob("[!_]*/*.md"))]  # fmt: skip
MODULES = [
    m.name for m in pkgutil.walk_packages(krylearn.__path__, "krylearn.")
    if not m.name.startswith("krylearn.petsc")
]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_programs_run(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    programs = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))  # some register their own
    names: dict = {}
    for program in programs:
        exec(compile(program, page.name, "exec"), names)
    assert programs or page.name != "README.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("module", MODULES)
def test_docstrings_run(module):
    with contextlib.suppress(ModuleNotFoundError):  # an optional package
        result = doctest.testmod(importlib.import_module(module),
                                 optionflags=doctest.NORMALIZE_WHITESPACE)  # fmt: skip
        assert result.failed == 0


@pytest.mark.parametrize("kind, page", [
    ("method", "methods"), ("preconditioner", "methods"), ("problem", "problems"),
    ("policy", "learning"),
])  # fmt: skip
def test_every_registered_name_is_in_the_tables(kind, page):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    tables = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]+?) \|", text, re.M)
    for entry in registry.entries(kind):
        assert (entry.name, entry.matrix, entry.summary) in tables


def test_every_public_name_has_a_docstring():
    for name in krylearn.__all__:
        assert getattr(krylearn, name).__doc__, name
