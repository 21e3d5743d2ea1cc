"""Benchmarks: suites are data, every method runs in its own process, peers are methods too."""

from __future__ import annotations

import importlib
from typing import Any

_LAZY = {
    "load_suite": "cases",
    "run_suite": "runner",
    "suite_names": "cases",
    "machine_facts": "machine",
    "save_plots": "plot",
}
__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f"krylearn.benchmarks.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'krylearn.benchmarks' has no attribute {name!r}")
