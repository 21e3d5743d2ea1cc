"""Files that the command line reads and writes, with messages instead of tracebacks."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

VECTORS = (".npy", ".mtx", ".txt")


def to_json(value: Any) -> str:
    """Return strict JSON: numbers that are not finite become null."""

    def clean(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(key): clean(entry) for key, entry in item.items()}
        if isinstance(item, (list, tuple)):
            return [clean(entry) for entry in item]
        if isinstance(item, float):
            return float(item) if math.isfinite(item) else None
        if isinstance(item, np.generic):
            return clean(item.item())
        return str(item) if isinstance(item, Path) else item

    return json.dumps(clean(value), indent=1, allow_nan=False)


def read_matrix(path: str | Path) -> Any:
    """Read a Matrix Market file as a CSR or dense array.

    Raises
    ------
    ValueError
        If it is missing, not Matrix Market, or does not hold finite numbers.
    """
    import scipy.sparse as sp

    A = _market(Path(path))
    A = sp.csr_array(A) if sp.issparse(A) else np.asarray(A)
    if A.ndim != 2 or 0 in A.shape:
        raise ValueError(f"{path}: the matrix is empty")
    if not np.all(np.isfinite(A.data if sp.issparse(A) else A)):
        raise ValueError(f"{path}: the matrix holds NaN or Inf")
    return A


def read_rhs(path: Path | None, A: Any) -> tuple[np.ndarray, str]:
    """Read b, or make it; return it and where it is from.

    Raises
    ------
    ValueError
        If it cannot be read or does not fit A.
    """
    rows, columns = A.shape
    if path is None:
        return A @ np.ones(columns, A.dtype), "A @ ones (no right-hand side was given)"
    if path.suffix not in VECTORS:
        raise ValueError(f"{path}: a right-hand side is a {', '.join(VECTORS)} file")
    if path.suffix == ".mtx":
        b = _market(path)
        b = b.toarray() if hasattr(b, "toarray") else np.asarray(b)
    else:
        _check_present(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy's "input contained no data"
                b = np.load(path, allow_pickle=False) if path.suffix == ".npy" else _text(path)
        except (ValueError, EOFError, UnicodeDecodeError):
            raise ValueError(f"{path} does not hold numbers") from None
    if b.dtype.kind not in "biufc":
        raise ValueError(f"{path} does not hold numbers")
    if b.size != rows:
        raise ValueError(f"{path} holds {b.size} numbers; A has {rows} rows")
    return np.asarray(b).reshape(-1), str(path)


def _text(path: Path) -> np.ndarray:
    try:
        return np.loadtxt(path)
    except ValueError:
        return np.loadtxt(path, dtype=complex)


def _check_present(path: Path) -> None:
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder")


def _market(path: Path) -> Any:
    from scipy.io import mmread

    _check_present(path)
    try:
        with path.open("rb") as file:
            if not file.read(64).lstrip().lower().startswith((b"%%matrixmarket", b"\x1f\x8b")):
                raise ValueError("it does not begin with %%MatrixMarket")
        return mmread(path)
    except (ValueError, OverflowError, EOFError, TypeError) as error:
        detail = " ".join(str(error).split())
        raise ValueError(f"{path} is not a Matrix Market file: {detail}") from None


def check_outputs(out: Path | None, plot: Path | None) -> None:
    """Refuse before the solve what could not be written after it.

    Raises
    ------
    ValueError, ImportError
        If a suffix is not known, a folder is missing, or matplotlib is absent.
    """
    if out is not None and out.suffix not in VECTORS:
        raise ValueError(f"--out {out}: the name must end in {', '.join(VECTORS)}")
    for path in (out, plot):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"there is no folder {path.absolute().parent}")
    if plot is not None:
        from krylearn.benchmarks.plot import pyplot

        kinds = sorted(pyplot().figure().canvas.get_supported_filetypes())
        if plot.suffix[1:].lower() not in kinds:
            raise ValueError(f"--plot {plot}: the name must end in .{', .'.join(kinds)}")


def write_vector(path: Path, x: np.ndarray) -> None:
    """Write x as its suffix says."""
    if path.suffix == ".npy":
        np.save(path, x)
    elif path.suffix == ".mtx":
        from scipy.io import mmwrite

        mmwrite(path, x.reshape(-1, 1), precision=17)
    else:
        np.savetxt(path, x, fmt="%.17g" if x.dtype.kind == "f" else "%.17g%+.17gj")


def size(b: np.ndarray) -> float:
    """Return the Euclidean norm of b."""
    return float(np.linalg.norm(b))


def plot_history(path: Path, info: Any, tolerance: float) -> None:
    """Draw the residual norm of each iteration."""
    from krylearn.benchmarks.plot import COLOURS, pyplot

    plt = pyplot()
    figure, axis = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    history = np.where(np.isfinite(info.residuals), info.residuals, np.nan)
    axis.semilogy(history, color=COLOURS[0], marker="o", markersize=4, markevery=0.1)
    axis.axhline(tolerance, color="0.6", linewidth=0.8)
    axis.set_xlabel("iteration")
    axis.set_ylabel("residual norm")
    axis.set_title(f"{info.method}: {info.reason.name.lower().replace('_', ' ')}")
    figure.savefig(path, dpi=150)
    plt.close(figure)
