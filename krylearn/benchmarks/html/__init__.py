"""Reports as one self-contained HTML file: `krylearn bench report`."""

from krylearn.benchmarks.html.page import write_report

__all__ = ["write_report"]
