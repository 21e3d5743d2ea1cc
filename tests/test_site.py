"""The site's sources: pages a name, examples that stand alone, counted costs that are true."""

import ast
import sys
from pathlib import Path

import pytest

import krylearn as kl
from krylearn import registry

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
sys.path.insert(0, str(ROOT / "docs" / "_ext"))


def test_there_are_examples():
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_has_a_title_and_a_picture(path):
    lines = ast.get_docstring(ast.parse(path.read_text())).splitlines()
    assert lines[1] == "=" * len(lines[0])
    assert "plt.show()" in path.read_text()


def test_every_registered_name_has_a_page(tmp_path, monkeypatch):
    import counting
    import method_pages

    monkeypatch.setattr(counting, "of_method", lambda entry: [])  # the build itself counts
    monkeypatch.setattr(counting, "of_preconditioner", lambda entry: [])
    method_pages.write_pages(tmp_path)
    for kind in method_pages.KINDS:
        for entry in registry.entries(kind):
            text = (tmp_path / kind / f"{entry.name}.rst").read_text()
            assert entry.summary in text and entry.load().__name__ in text


def test_every_public_name_is_on_the_site():
    import method_pages

    registered = {entry.load().__name__ for kind in method_pages.KINDS
                  for entry in registry.entries(kind)}  # fmt: skip
    listed = {name for names in method_pages.OTHERS.values() for name in names if "." not in name}
    modules = {"problems", "testing", "benchmarks", "data", "petsc", "learned", "registry"}
    assert set(kl.__all__) == registered & set(kl.__all__) | listed | modules


@pytest.mark.parametrize("name, cost", [
    ("cg", "1 product with A and 1 application of M"),
    ("bicgstab", "2 products with A and 2 applications of M"),
    ("sor", "1 sweep"),
])  # fmt: skip
def test_costs_are_counted(name, cost):
    import counting

    assert dict(counting.of_method(registry.find("method", name)))["An iteration costs"] == cost


def test_memory_is_counted():
    import counting

    entry = registry.find("preconditioner", "jacobi")
    rows = dict(counting.of_preconditioner(entry))
    assert rows["Memory"].startswith("1.0 vectors")  # the diagonal; the pattern is A's own
    assert rows["Symmetric"].startswith("yes")


def test_classes_show_what_they_are_called_with():
    import method_pages

    shown, _ = method_pages.class_signature(None, "class", "", kl.ClassicalAMG)
    assert shown.startswith("(A, *, theta=0.25")
