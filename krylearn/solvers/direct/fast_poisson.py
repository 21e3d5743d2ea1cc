"""Fast solvers for constant coefficients on boxes, by sine, cosine and Fourier transforms."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from krylearn.cuda.arrays import dtype_of, lies_on_cuda
from krylearn.interface import solve_dtype, solve_with
from krylearn.operators import Preconditioner, matrix_like
from krylearn.solvers.direct.refinement import refine, refine_with
from krylearn.solvers.direct.separable import Axis, separate
from krylearn.solvers.direct.spectrum import Spectrum
from krylearn.solvers.direct.transforms import Transforms, diagonalise
from krylearn.solvers.relaxation.splitting import all_finite, square_csr, working_dtype

__all__ = ["FastPoisson", "fast_poisson"]


class FastPoisson(Preconditioner):
    """The inverse of a separable operator on a box, by fast transforms.

    Parameters
    ----------
    A : {GridOperator, sparse array, ndarray}, shape (n, n)
        A sum of tridiagonal matrices, one along each axis: ``-div(c grad u) + a u`` where a is a
        number and c is one for each axis, or an array that varies along its own axis alone. Each
        side may be Dirichlet, Neumann or periodic; points may be nodes or cells; a may be
        negative or complex. A sparse matrix is taken where it is that of such a box without
        periodic sides, numbered line by line.

    Attributes
    ----------
    shape_of_box : tuple of int
        Points along each axis.
    singular : bool
        An eigenvalue is zero, as with Neumann or periodic conditions all around. The map is then
        the pseudo-inverse in the symmetric form of A.
    symmetric : bool
        A is Hermitian.
    positive_definite : bool or None
        None where A is positive semi-definite.
    setup_seconds : float
        What making it, or its last update, cost.

    Raises
    ------
    TypeError
        If A gives products only.
    ValueError
        If A is not square or not separable.

    References
    ----------
    Buzbee, Golub and Nielson (1970), On direct methods for solving Poisson's equations, SIAM
    Journal on Numerical Analysis 7, 627-656.
    Lynch, Rice and Thomas (1964), Direct solution of partial difference equations by tensor
    product methods, Numerische Mathematik 6, 185-199.
    Swarztrauber (1977), SIAM Review 19, 490-501.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = kl.GridOperator.diffusion(kl.Grid((3, 3), lengths=4.0))
    >>> M = kl.FastPoisson(A)
    >>> (M @ (A @ np.arange(1.0, 10.0))).round(6).tolist()
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    """

    def __init__(self, A):
        started = time.perf_counter()
        if not hasattr(A, "grid"):
            A = square_csr(A, "fast_poisson")
        super().__init__(A.shape, working_dtype(A))
        self._set(separate(A))
        self.setup_seconds = time.perf_counter() - started

    def update(self, A: Any) -> FastPoisson:
        """Take another separable operator of the same shape.

        Parameters
        ----------
        A : {GridOperator, sparse array, ndarray}, shape (n, n)

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If A is not separable or of another size.
        """
        started = time.perf_counter()
        if tuple(A.shape) != self.shape:
            raise ValueError(f"update needs a matrix of shape {self.shape}, not {tuple(A.shape)}")
        self._set(separate(A))
        self.setup_seconds = time.perf_counter() - started
        return self

    def _set(self, axes: list[Axis]) -> None:
        with np.errstate(all="ignore"):
            self._diagonalise(axes)
        if not self.spectrum.finite:
            raise ArithmeticError("fast_poisson: the eigenvalues over- or underflow: scale A")

    def _diagonalise(self, axes: list[Axis]) -> None:
        eps = float(np.finfo(self.dtype).eps)
        entry = sum(float(np.abs(axis.diagonal).max()) for axis in axes)
        entry += max(float(np.abs(axis.upper).max()) for axis in axes)
        transforms = [diagonalise(axis, 64 * eps * entry) for axis in axes]
        shape = tuple(map(len, axes))
        plan = Transforms(transforms, shape, self.dtype)
        shift, size = sum(t.shift for t in transforms), sum(t.size for t in transforms)
        exact = abs(shift) <= 4 * eps * size and all(t.exact for t in transforms)
        values = [t.values for t in transforms]
        if plan.halved is not None:
            values[plan.halved] = values[plan.halved][: shape[plan.halved] // 2 + 1]
        self.spectrum = Spectrum(values, 0.0 if exact else shift,
                                 0.0 if exact else 16 * eps * size, self.dtype)  # fmt: skip
        self._transforms, self.shape_of_box = plan, shape
        self.singular = self.spectrum.singular
        self._before: list[np.ndarray] = []
        self._after: list[np.ndarray] = []
        for d, (axis, t) in enumerate(zip(axes, transforms)):
            after = np.ones(1) if t.scale is None else t.scale
            before = 1 / (after * axis.weights)
            for scales, scale in ((self._before, before), (self._after, after)):
                if np.any(scale != 1):
                    place = [-1 if e == d else 1 for e in range(len(shape))]
                    scales.append(scale.reshape(place).astype(np.result_type(scale, self.dtype)
                                  if self.dtype.kind == "c" else self.dtype))  # fmt: skip
        self.symmetric = not self.spectrum.wide and all(_hermitian(axis) for axis in axes)
        self.positive_definite = None
        if not self.symmetric or self.spectrum.negative:
            self.positive_definite = False
        elif not self.singular:
            self.positive_definite = True

    def apply(self, r, out):
        """Write the solution for the right-hand side `r` into `out`."""
        x, ours = r.reshape(self.shape_of_box), False
        for scale in self._before:
            x, ours = (np.multiply(x, scale, out=x) if ours else x * scale), True
        y = self._transforms.forward(x, ours)
        y = np.multiply(y, self.spectrum.inverse, out=None if y is x else y)
        x = self._transforms.backward(y)
        for scale in self._after:
            x *= scale
        out[:] = x.ravel()
        return out

    def to(self, device: str) -> Any:
        """Return the preconditioner on another device: 'cuda', or 'cpu', where it lies."""
        from krylearn.cuda.preconditioners import moved

        return moved(self, device)

    def _matvec(self, x):
        # scipy hands over what its caller has; a complex vector has two real parts.
        if np.iscomplexobj(x) and self.dtype.kind != "c":
            return self._matvec(x.real) + 1j * self._matvec(x.imag)
        return super()._matvec(x)

    def __repr__(self) -> str:
        box = " x ".join(map(str, self.shape_of_box))
        return f"<FastPoisson on a box of {box}, dtype {self.dtype}>"


def _hermitian(axis: Axis) -> bool:
    slack = 64 * float(np.finfo(axis.diagonal.dtype).eps)
    ahead = axis.weights * axis.upper
    back = np.roll(np.conj(axis.weights * axis.lower), -1)
    close = np.abs(ahead - back).max() <= slack * float(np.abs(ahead).max())
    return bool(close and np.abs(axis.diagonal.imag).max() == 0)


def fast_poisson(A, b, x0=None, *, rtol=1e-5, atol=0.0, maxiter=None, M=None, callback=None):
    """Solve ``A x = b`` for constant coefficients on a box, by fast transforms.

    Parameters
    ----------
    A : {GridOperator, sparse array, ndarray}, shape (n, n)
        A sum of tridiagonal matrices, one along each axis, as `FastPoisson` describes it. It may
        be indefinite, or singular, as with Neumann or periodic conditions all around.
    b : array, shape (n,), (n, 1) or (n, k)
        Right-hand side, or k of them.
    x0 : array, optional
        Starting guess, zero by default. Never changed.
    rtol, atol : float
        Converged when the recomputed ``norm(b - A @ x) <= max(rtol * norm(b), atol)``.
    maxiter : int, optional
        Most corrections. One reaches rounding level but for badly conditioned systems.
    M : {None, FastPoisson}
        That of A, or of an operator near it, made before.
    callback : callable, optional
        Called as ``callback(xk)`` after each correction with a read-only view of the iterate.
        Raise StopIteration in it to end the solve.

    Returns
    -------
    x : array
        Shaped like b; (n,) where b is (n, 1), as in scipy.
    info : SolveInfo
        An int: 0 converged, >0 not converged, <0 breakdown; it carries the record. Its
        ``reason`` is ``Reason.SINGULAR`` where A is singular and b is not in its range.

    Raises
    ------
    TypeError
        If A gives products only, or an operand is no array of numbers.
    ValueError
        If A is not square or not separable: it has a mask, coefficients that vary across their
        axis, or strong convection.

    References
    ----------
    Buzbee, Golub and Nielson (1970), On direct methods for solving Poisson's equations, SIAM
    Journal on Numerical Analysis 7, 627-656.

    Examples
    --------
    >>> import numpy as np, krylearn as kl
    >>> A = kl.GridOperator.diffusion(kl.Grid((8, 8), boundary="neumann"))
    >>> b = A @ np.arange(64.0)
    >>> x, info = kl.fast_poisson(A, b, rtol=1e-10)
    >>> info == 0, info.iterations
    (True, 1)
    """
    settings = dict(rtol=rtol, atol=atol, maxiter=maxiter, callback=callback)
    if lies_on_cuda(A) or lies_on_cuda(b):
        A = matrix_like(A)
        if M is None and hasattr(A, "to"):
            dtype = solve_dtype(A.dtype, dtype_of(b))
            M = FastPoisson(A.to("cpu").astype(dtype)).to("cuda")
        if not hasattr(M, "shape_of_box"):
            raise ValueError("fast_poisson takes a FastPoisson for M, and needs the entries of A")
        loop = refine_with(M.singular)
        return solve_with(loop, A, b, x0, method="fast_poisson", M=M, **settings)
    if M is not None:
        if not isinstance(M, FastPoisson):
            raise ValueError("fast_poisson takes a FastPoisson for M, and no other")
        return solve_with(refine_with(M.singular), A, b, x0, method="fast_poisson", M=M, **settings)
    if not hasattr(A, "grid"):
        entries = square_csr(A, "fast_poisson", working_dtype(A, b, x0))
        if not all_finite(entries):
            return solve_with(refine, A, b, x0, method="fast_poisson", **settings)
        P = FastPoisson(entries)
    else:
        P = FastPoisson(A.astype(working_dtype(A, b, x0)))
    loop = refine_with(P.singular)
    return solve_with(loop, A, b, x0, method="fast_poisson", M=P, **settings)
