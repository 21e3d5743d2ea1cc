"""Learned parts: each fits a socket of a classical solver, none can spoil an answer."""

from __future__ import annotations

from typing import Any

__all__ = ["DCD"]


def __getattr__(name: str) -> Any:
    if name == "DCD":
        from krylearn.learned.dcd.direction import DCD

        return DCD
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
