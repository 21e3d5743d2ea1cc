"""Eigenvectors of tridiagonal matrices, applied as sine, cosine and Fourier transforms.

References
----------
Strang (1999), The discrete cosine transform, SIAM Review 41, 135-147; Pueschel and Moura (2003),
The algebraic approach to the discrete cosine and sine transforms, SIAM Journal on Computing 32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from scipy.linalg import eigh_tridiagonal

from krylearn.kernels.parallel import get_num_threads
from krylearn.solvers.direct.separable import Axis, NotSeparable

# Points up to which the eigenvectors of an axis whose coefficients vary are computed.
DENSE = 1024
# A similarity that stretches more would cost too many digits.
STRETCH = 1e4
# The condition at the low and the high end, each of nodes or cells, and what goes with them.
_TYPES = {
    ("node dirichlet", "node dirichlet"): ("dst", 1),
    ("cell dirichlet", "cell dirichlet"): ("dst", 2),
    ("node dirichlet", "node neumann"): ("dst", 3),
    ("cell dirichlet", "cell neumann"): ("dst", 4),
    ("node neumann", "node neumann"): ("dct", 1),
    ("cell neumann", "cell neumann"): ("dct", 2),
    ("node neumann", "node dirichlet"): ("dct", 3),
    ("cell neumann", "cell dirichlet"): ("dct", 4),
}


@dataclass(frozen=True)
class Transform:
    """The eigenvectors and eigenvalues of ``D^-1 T D``, T being the matrix of an axis.

    Attributes
    ----------
    kind : {'dst', 'dct', 'fft', 'dense', 'none'}
    type : int
        1 to 4, of a sine or cosine transform.
    values : (n,) array
        Eigenvalues less `shift`.
    shift, size : number
        `size` is that of the entries, in units of whose last digit `shift` is uncertain.
    scale : (n,) array or None
        D, where it is not the identity.
    vectors : (n, n) array or None
        Eigenvectors in columns, where 'dense'.
    exact : bool
        Whether eigenvalues that are zero in exact arithmetic come out as zero.
    """

    kind: str
    type: int
    values: np.ndarray
    shift: complex
    size: float
    scale: np.ndarray | None = None
    vectors: np.ndarray | None = None
    exact: bool = True


def diagonalise(axis: Axis, slack: float) -> Transform:
    """Return the transform that makes the matrix of an axis diagonal.

    Parameters
    ----------
    axis : Axis
    slack : float
        Differences that are rounding errors.

    Raises
    ------
    NotSeparable
        If its eigenvectors are not orthogonal, are too skewed, or would take too much room.
    """
    if axis.periodic:
        return _circulant(axis, slack)
    off, scale = _symmetrised(axis)
    middle = axis.diagonal
    size = float(np.abs(middle).max() + 2 * np.abs(off).max(initial=0.0))
    if not np.any(off):
        values = middle.astype(np.result_type(middle, float))
        return Transform("none", 0, values, 0.0, size, scale, exact=False)
    kind, number = _classify(middle, off, slack) if len(middle) > 3 else ("dense", 0)
    if kind == "dense":
        return _dense(middle, off, size, scale)
    n, gamma, k = len(middle), -off[1], np.arange(len(middle))
    angle = {
        ("dst", 1): np.pi * (k + 1) / (n + 1), ("dct", 1): np.pi * k / (n - 1),
        ("dst", 2): np.pi * (k + 1) / n, ("dct", 2): np.pi * k / n,
    }.get((kind, number), np.pi * (k + 0.5) / n)  # fmt: skip
    values = 4 * gamma * np.sin(angle / 2) ** 2
    shift, vectors = middle[1] - 2 * gamma, None
    length = {("dst", 1): n + 1, ("dct", 1): n - 1}.get((kind, number), n)
    if _rough(length) > n:
        vectors = _along(kind, number, np.eye(n), (0,)).T
        kind = "dense"
    return Transform(kind, number, values, shift, size, scale, vectors)


def _symmetrised(axis: Axis) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the couplings of ``D^-1 T D``, which is complex symmetric, and D."""
    upper, lower = axis.upper[:-1], axis.lower[1:]
    if not np.array_equal(upper == 0, lower == 0):
        raise NotSeparable("neighbours are coupled one way only")
    ratio = np.where(upper == 0, 1, lower) / np.where(upper == 0, 1, upper)
    if ratio.dtype.kind != "c" and np.any(ratio < 0):
        raise NotSeparable("convection prevails over diffusion")
    ratio = np.sqrt(ratio)
    off = upper * ratio
    if np.all(np.abs(off.imag) <= 16 * np.finfo(off.dtype).eps * np.abs(off)):
        off = off.real  # Hermitian couplings, whose phases are in D
    if np.all(ratio == 1):
        return off, None
    D = np.concatenate([np.ones(1, ratio.dtype), np.cumprod(ratio)])
    largest, least = np.abs(D).max(), np.abs(D).min()
    if not largest <= STRETCH * least:
        raise NotSeparable("convection is strong, so that the eigenvectors are nearly parallel")
    return off, D / D.real.dtype.type(math.sqrt(largest * least))


def _classify(middle: np.ndarray, off: np.ndarray, slack: float) -> tuple[str, int]:
    """Return kind and type of the transform whose basis vectors are the eigenvectors."""
    o = off[1]
    root = math.sqrt(2)

    def near(x: Any, y: Any) -> bool:
        return bool(np.all(np.abs(x - y) <= slack))

    def end(coupling: Any, excess: Any) -> str:
        if near(excess, 0) and near(coupling, root * o):
            return "node neumann"
        if not near(coupling, o):
            return "other"
        names = ((0, "node dirichlet"), (-o, "cell dirichlet"), (o, "cell neumann"))
        return next((name for value, name in names if near(excess, value)), "other")

    # A node at a Neumann side couples by the square root of two once it is symmetric.
    if not near(off[1:-1], o) or not near(middle[1:-1], middle[1]):
        return "dense", 0
    ends = end(off[0], middle[0] - middle[1]), end(off[-1], middle[-1] - middle[1])
    return _TYPES.get(ends, ("dense", 0))


def _dense(middle, off, size, scale):
    n = len(middle)
    if n > DENSE:
        raise NotSeparable(f"they vary along an axis of {n} points, more than {DENSE}")
    gamma = off[np.argmax(np.abs(off))] if np.iscomplexobj(off) or np.iscomplexobj(middle) else 1.0
    diagonal, couplings = (middle - middle[0]) / gamma, off / gamma
    if np.iscomplexobj(gamma) or np.iscomplexobj(diagonal):
        worst = max(np.abs(diagonal.imag).max(), np.abs(couplings.imag).max())
        if worst > 64 * np.finfo(middle.dtype).eps * size / abs(gamma):
            raise NotSeparable("complex coefficients vary")
    values, vectors = eigh_tridiagonal(
        diagonal.real.astype(float), couplings.real.astype(float)
    )
    return Transform("dense", 0, gamma * values, middle[0], size, scale, vectors, exact=False)


def _circulant(axis: Axis, slack: float) -> Transform:
    for v in (axis.diagonal, axis.upper, axis.lower):
        if np.abs(v - v[0]).max() > slack:
            raise NotSeparable("coefficients vary along a periodic axis")
    up, down, n = axis.upper[0], axis.lower[0], len(axis)
    angle = 2 * np.pi * np.arange(n) / n
    values = -2 * (up + down) * np.sin(angle / 2) ** 2
    if up != down:
        values = values + 1j * (up - down) * np.sin(angle)
    size = float(abs(axis.diagonal[0]) + abs(up) + abs(down))
    return Transform("fft", 0, values, axis.diagonal[0] + up + down, size)


def _rough(length: int) -> float:
    """Return how many points a dense product may have until a transform is quicker.

    Measured on two cores in float64: an element costs 0.03 ns times the points in a dense
    product, and 1 ns plus 0.1 ns times the prime factors of the length in a transform.
    """
    factors, p = 0, 2
    while p * p <= length:
        while length % p == 0:
            factors, length = factors + p, length // p
        p += 1
    return 40 + 3.3 * (factors + (length if length > 1 else 0))


def _along(kind: str, number: int, x: np.ndarray, axes: tuple[int, ...], inverse: bool = False,
           overwrite: bool = False) -> np.ndarray:  # fmt: skip
    name = {"dst": ("dstn", "idstn"), "dct": ("dctn", "idctn")}[kind][inverse]
    return getattr(scipy.fft, name)(x, number, axes=axes, norm="ortho", overwrite_x=overwrite,
                                    workers=get_num_threads())  # fmt: skip


def _multiply(Q: np.ndarray, x: np.ndarray, axis: int) -> np.ndarray:
    """Return x with each of its lines along an axis multiplied by Q."""
    shape, n = x.shape, x.shape[axis]
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    if after == 1:
        return (x.reshape(before, n) @ Q.T).reshape(shape)
    return np.matmul(Q, x.reshape(before, n, after)).reshape(shape)


class Transforms:
    """The transforms of all axes of a box, those of one kind together.

    Parameters
    ----------
    axes : list of Transform
    shape : tuple of int
    dtype : dtype
        Of the vectors.
    """

    def __init__(self, axes: list[Transform], shape: tuple[int, ...], dtype: Any) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        single = np.empty(0, dtype).real.dtype
        together: dict[tuple[str, int], list[int]] = {}
        self._vectors: list[tuple[int, np.ndarray]] = []
        for d, axis in enumerate(axes):
            if axis.kind == "dense":
                assert axis.vectors is not None
                self._vectors.append((d, axis.vectors.astype(single)))
            elif axis.kind in ("dst", "dct"):
                together.setdefault((axis.kind, axis.type), []).append(d)
        self.axes = axes
        self._quick = [(*key, tuple(ds)) for key, ds in together.items()]
        self._periodic = tuple(d for d, axis in enumerate(axes) if axis.kind == "fft")
        self.halved = self._periodic[-1] if self._periodic and self.dtype.kind != "c" else None

    def forward(self, x: np.ndarray, overwrite: bool) -> np.ndarray:
        """Return the coefficients of x in the eigenvectors; x may be overwritten if so said."""
        for d, Q in self._vectors:
            x, overwrite = _multiply(Q.T, x, d), True
        for kind, number, axes in self._quick:
            x, overwrite = _along(kind, number, x, axes, overwrite=overwrite), True
        if self._periodic:
            transform = scipy.fft.fftn if self.halved is None else scipy.fft.rfftn
            x = transform(x, axes=self._periodic, overwrite_x=overwrite,
                          workers=get_num_threads())  # fmt: skip
        return x

    def backward(self, y: np.ndarray) -> np.ndarray:
        """Return the vector with coefficients y, which are overwritten."""
        if self._periodic:
            sizes = [self.shape[d] for d in self._periodic]
            transform = scipy.fft.ifftn if self.halved is None else scipy.fft.irfftn
            y = transform(y, sizes, axes=self._periodic, overwrite_x=True,
                          workers=get_num_threads())  # fmt: skip
        for kind, number, axes in reversed(self._quick):
            y = _along(kind, number, y, axes, inverse=True, overwrite=True)
        for d, Q in reversed(self._vectors):
            y = _multiply(Q, y, d)
        return y


def matrices(plan: Transforms) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """Return the matrices of the forward and the backward transform of each axis.

    Axes that are alike share theirs; it is None where an axis is left alone.

    A periodic axis with a symmetric matrix has that of Hartley (1942), which is real.

    Raises
    ------
    ValueError
        If there is convection along a periodic axis of a real box.
    """
    made: dict[tuple, tuple[np.ndarray, np.ndarray]] = {}
    pairs: list[tuple[np.ndarray, np.ndarray] | None] = []
    for axis, n in zip(plan.axes, plan.shape):
        if axis.kind == "none":
            pairs.append(None)
        elif axis.kind == "fft":
            pairs.append(_periodic(n, np.iscomplexobj(axis.values), plan.dtype.kind == "c"))
        elif axis.vectors is not None:
            same = [p for p in pairs if p is not None and np.array_equal(p[1], axis.vectors)]
            pairs.append(same[0] if same else (np.ascontiguousarray(axis.vectors.T), axis.vectors))
        else:
            key = axis.kind, axis.type, n
            if key not in made:
                unit = np.eye(n)
                made[key] = (_along(axis.kind, axis.type, unit, (0,)),
                             _along(axis.kind, axis.type, unit, (0,), inverse=True))  # fmt: skip
            pairs.append(made[key])
    return pairs


def _periodic(n: int, skewed: bool, fits: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrices of a periodic axis: Hartley's, or Fourier's where A is not symmetric."""
    angle = 2 * np.pi / n * (np.outer(np.arange(n), np.arange(n)) % n)
    if not skewed:
        hartley = (np.cos(angle) + np.sin(angle)) / math.sqrt(n)
        return hartley, hartley
    if not fits:
        raise ValueError("with convection the transform of a periodic axis is no real matrix")
    fourier = np.exp(-1j * angle) / math.sqrt(n)
    return fourier, np.conj(fourier)
