"""Trained networks that krylearn ships, and how their files are checked.

A model is a pair of files: ``NAME.safetensors`` holds numbers and nothing that could be executed,
``NAME.json``, its card, says what they are and their sha256.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def names(kind: str) -> list[str]:
    """Return the names of the shipped models of a kind."""
    cards = sorted(FOLDER.glob("*.json"))
    return [p.stem for p in cards if json.loads(p.read_text(encoding="utf-8"))["kind"] == kind]


def load(name: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tensors, by name, and the card of a trained model.

    Parameters
    ----------
    name : str or path
        Of a model that krylearn ships, or a .safetensors file with its card beside it.
    kind : str
        What the model must be: 'surrogate' or 'direction'.

    Raises
    ------
    ValueError
        If there is no such model, it is of another kind, or the file is not the one that its
        card describes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as read

    path = Path(name)
    if path.suffix != ".safetensors":
        known = names(kind)
        if str(name) not in known:
            raise ValueError(f"no {kind} is called {str(name)!r}; there are: "
                             f"{', '.join(known) or 'none'}")  # fmt: skip
        path = FOLDER / f"{name}.safetensors"
    try:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} or its card cannot be read: {error}") from None
    if not isinstance(card, dict) or hashlib.sha256(content).hexdigest() != card.get("sha256"):
        raise ValueError(f"{path} is not the file that its card describes: the sha256 differs")
    if card.get("kind") != kind:
        raise ValueError(f"{path} holds a {card.get('kind')}, and a {kind} is needed")
    try:
        return read(content), card
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from None


def save(path: Path, tensors: dict[str, Any]) -> str:
    """Write tensors to a .safetensors file; return its sha256."""
    from safetensors.torch import save as to_bytes

    content = to_bytes({k: v.detach().cpu().contiguous() for k, v in tensors.items()})
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def fill(model: Any, tensors: dict[str, Any], path: str | Path) -> Any:
    """Give a model its weights; return it.

    Raises
    ------
    ValueError
        If they are those of another model.
    """
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path} holds the weights of another model: {error}") from None
    return model
