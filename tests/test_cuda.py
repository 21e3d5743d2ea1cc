"""The CUDA twins: on a device where there is one, else under Numba's simulator on tiny systems."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from on_cuda import (
    DEVICE,
    SHAPE,
    SIMULATED,
    by_themselves,
    close,
    device,
    grid_operator,
    host,
    random,
    runs,
    simulate,
)

import krylearn as kl
from krylearn.cuda import arrays

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the simulator's NaN and Inf
DTYPES = ["f4", "f8", "c8", "c16"]


@by_themselves
def test_everything_under_the_simulator():
    simulate(__file__)


@pytest.mark.skipif(DEVICE or SIMULATED, reason="there is a device")
def test_without_cuda_the_message_says_what_is_missing():
    A, b = sp.eye_array(3, format="csr"), np.ones(3)
    for call in (lambda: kl.solve(A, b, device="cuda"), lambda: kl.to_cuda(A),
                 lambda: kl.Jacobi(A).to("cuda")):  # fmt: skip
        with pytest.raises(arrays.NoCUDA, match="torch|CUDA"):
            call()
    with pytest.raises(ValueError, match="'cpu' or 'cuda', not 'gpu'"):
        kl.solve(A, b, device="gpu")
    x, info = kl.solve(A, b, device="cpu")
    assert info == 0


def convection(dtype="f8"):
    A = grid_operator(dtype=dtype)
    return A + kl.GridOperator.convection(A.grid, (5.0, 2.0, 3.0), dtype=np.dtype(dtype))


# -- kernels -------------------------------------------------------------------------------------


@runs
@pytest.mark.parametrize("dtype", DTYPES)
def test_vector_kernels(dtype):
    from krylearn.cuda.operators import never_stops
    from krylearn.kernels.cuda import scalars, vector
    from krylearn.kernels.cuda.launch import accumulator, blocks_for

    rng, n, log = np.random.default_rng(0), 5001 if DEVICE else 11, never_stops()
    accurate = accumulator(dtype)
    x, y, z, w = random(rng, (4, n), dtype)
    V = random(rng, (4, n), dtype)
    a, b, c = random(rng, 3, dtype)
    S = arrays.upload(np.array([0, 1, -1, a, b, c], accurate))
    sums = arrays.zeros(blocks_for(n), accurate)
    pair = arrays.zeros((2, blocks_for(n)), accurate)

    def up(*vectors):
        return [arrays.upload(v) for v in vectors]

    def total():
        return arrays.download(sums).sum()

    X, Y, Z, W = up(x, y, z, w)
    vector.dot(log, X, Y, sums)
    assert close(total(), np.vdot(x, y), dtype)
    vector.dot_norm2(log, X, Y, pair)
    assert close(arrays.download(pair).sum(axis=1), [np.vdot(x, y), np.vdot(x, x)], dtype)
    vector.step(log, S, 3, X, Y, Z, W, sums)
    assert close(host(Z), z + a * x, dtype) and close(host(W), w - a * y, dtype)
    assert close(total(), np.linalg.norm(w - a * y) ** 2, dtype)
    X, Y, Z, W = up(x, y, z, w)
    vector.axpbypcz(log, S, 3, X, 4, Y, 5, Z, sums)
    assert close(host(Z), a * x + b * y + c * z, dtype)
    vector.axpy_norm2_dot(log, S, 3, X, Y, W, pair)
    t = y + a * x
    assert close(host(Y), t, dtype)
    assert close(arrays.download(pair).sum(axis=1), [np.vdot(w, t), np.vdot(t, t)], dtype)
    X, Y, Z, W = up(x, y, z, w)
    vector.lanczos_step(log, S, 3, X, 4, Y, 5, Z, 3, W)
    t = a * x + b * y + c * z
    assert close(host(Z), t, dtype) and close(host(W), w + a * t, dtype)
    vector.subtract(log, X, Y, Z, sums)
    assert close(host(Z), x - y, dtype)
    vector.xpby(log, S, X, 4, Y)
    assert close(host(Y), x + b * y, dtype)
    vector.axpby_norm2(log, S, 3, X, 4, Y, sums)
    assert close(host(Y), a * x + b * (x + b * y), dtype)

    parts = arrays.zeros((5, blocks_for(n)), accurate)
    h = arrays.zeros(5, accurate)
    (basis,) = up(V)
    (W,) = up(w)
    vector.dots(log, S, scalars.ONE, basis, 4, W, parts)
    scalars.gather(log, S, scalars.ONE, parts, h)
    wanted = np.append(V.conj() @ w, np.vdot(w, w))
    assert close(host(h), wanted, dtype)
    vector.dots(log, S, scalars.ZERO, basis, 4, W, parts)  # not wanted
    vector.project(log, S, scalars.ONE, basis, h, W, sums)  # one row: no iterations so far
    assert close(host(W), w - wanted[0].astype(dtype) * V[0], dtype)
    vector.keep(log, S, 3, X, W, basis)
    assert close(host(basis)[0], a * x, dtype) and close(host(W), a * x, dtype)
    vector.combine(log, basis, arrays.upload(np.array([a, b, c], accurate)), 1, X, W)
    assert close(host(W), x + a * (a * x) + c * V[2], dtype)

    ended = arrays.upload(np.array([1.0, 0.0]))
    vector.xpby(ended, S, X, 4, Y)
    vector.dot(ended, X, X, sums)
    assert close(host(Y), a * x + b * (x + b * y), dtype)


STENCILS = {
    "constant 3-D": lambda d: grid_operator(dtype=d),
    "convection": lambda d: convection(d),
    "constant periodic": lambda d: grid_operator(
        ("periodic", "neumann", "periodic"), (3, 4, 3), d, reaction=0.5),
    "constant 2-D": lambda d: grid_operator(("neumann", "dirichlet"), (5, 6), d),
    "constant 1-D": lambda d: grid_operator("periodic", (7,), d),
    "thin": lambda d: grid_operator("dirichlet", (1, 2, 2), d),
    "variable": lambda d: grid_operator(
        shape=(3, 4, 5), dtype=d, coefficient=1 + np.arange(60.0).reshape(3, 4, 5) % 7),
    "variable periodic": lambda d: grid_operator(
        "periodic", (3, 4), d, coefficient=1 + np.arange(12.0).reshape(3, 4) % 5),
    "masked, not symmetric": lambda d: (
        grid_operator(shape=(4, 5), dtype=d, mask=np.arange(20).reshape(4, 5) % 6 > 0)
        + kl.GridOperator.convection(kl.Grid((4, 5)), (1.0, 2.0), dtype=np.dtype(d))),
}  # fmt: skip


@runs
@pytest.mark.parametrize("dtype", ["f4", "c16"])
@pytest.mark.parametrize("name", STENCILS)
def test_stencils(name, dtype):
    from krylearn.cuda.operators import never_stops

    A = STENCILS[name](dtype).astype(np.dtype(dtype))
    if np.dtype(dtype).kind == "c" and not A._constant:
        A = A * (1 + 0.5j)
    rng, n = np.random.default_rng(1), A.shape[0]
    twin, dense = kl.to_cuda(A), A.tocsr()
    x, out = random(rng, n, dtype), arrays.empty(n, dtype)
    sums = twin.apply_dot(never_stops(), arrays.upload(x), out)
    assert close(host(out), dense @ x, dtype)
    assert close(arrays.download(sums).sum(), np.vdot(x, dense @ x), dtype)
    assert close(host(twin.diagonal()), A.diagonal(), dtype) and twin.to("cpu") is A
    if twin.fuses:
        r, p, x, new = (arrays.upload(v) for v in random(rng, (4, n), dtype))
        before = [host(v).copy() for v in (r, p, x)]
        S = arrays.upload(np.array([0, 1, -1, 0.5, 2.0], np.float64 if dtype == "f4" else dtype))
        sums = twin.direction(never_stops(), S, 3, 4, r, p, x, new)
        q = before[0] + 2 * before[1]
        assert close(host(new), q, dtype) and close(host(x), before[2] + 0.5 * before[1], dtype)
        assert close(arrays.download(sums).sum(), np.vdot(q, dense @ q), dtype)
        low = arrays.empty(n, dtype)
        sums = twin.descend(never_stops(), S, 3, new, r, 4, low)
        r_new = before[0] - 0.5 * (dense @ q)
        assert close(host(r), r_new, dtype) and close(host(low), 2 * r_new, dtype)
        assert close(arrays.download(sums).sum(), np.linalg.norm(r_new) ** 2, dtype)


@runs
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, density", [(9, 0.3), (40, 0.05), (12, 1.0)])
def test_csr(n, density, dtype):
    from krylearn.cuda.operators import CudaCSR, never_stops

    rng = np.random.default_rng(2)
    n = 20 * n if DEVICE else n
    M = sp.random_array((n, n), density=density, format="csr", rng=rng)
    M = (M + 1j * M if np.dtype(dtype).kind == "c" else M).astype(dtype)
    twin = kl.to_cuda(M)
    assert isinstance(twin, CudaCSR)
    x, out = random(rng, n, dtype), arrays.empty(n, dtype)
    for lanes in (1, 2, 4):
        twin._lanes = lanes
        sums = twin.apply_dot(never_stops(), arrays.upload(x), out)
        assert close(host(out), M @ x, dtype)
        assert close(arrays.download(sums).sum(), np.vdot(x, M @ x), dtype)
    assert close(host(twin.diagonal()), M.diagonal(), dtype)
    assert abs(twin.to("cpu") - M).max() == 0


@runs
@pytest.mark.parametrize("dtype", ["f4", "c16"])
def test_diagonals(dtype):
    from krylearn.cuda.operators import CudaCSR, CudaDiagonals, never_stops

    A = grid_operator(shape=(20, 24, 28) if DEVICE else (3, 4, 5))
    A = A + kl.GridOperator.convection(A.grid, (5.0, 2.0, 3.0))
    M = A.tocsr().astype(dtype)
    M.data[3] = 0  # a hole
    twin = CudaDiagonals.of(kl.to_cuda(M))
    assert isinstance(twin, CudaDiagonals) and len(twin.offsets) == 7
    n = M.shape[0]
    x, out = random(np.random.default_rng(3), n, dtype), arrays.empty(n, dtype)
    sums = twin.apply_dot(never_stops(), arrays.upload(x), out)
    assert close(host(out), M @ x, dtype)
    assert close(arrays.download(sums).sum(), np.vdot(x, M @ x), dtype)
    assert close(host(twin.diagonal()), M.diagonal(), dtype)
    assert abs(twin.to("cpu") - M).max() == 0
    assert twin.astype("c16").dtype == np.complex128
    scattered = sp.random_array((n, n), density=0.9 if n < 99 else 0.02, format="csr",
                                rng=np.random.default_rng(4))  # fmt: skip
    assert isinstance(CudaDiagonals.of(kl.to_cuda(scattered)), CudaCSR) or n < 27


# -- methods -------------------------------------------------------------------------------------


def cases():
    spd = grid_operator()
    general = convection().tocsr()
    shifts = np.where(np.arange(spd.shape[0]) % 3 == 0, -3.0, 2.0)
    indefinite = (spd.tocsr() / spd.diagonal()[0] + sp.diags_array(shifts)).tocsr()
    jacobi = kl.Jacobi(sp.diags_array(2.0 + np.arange(spd.shape[0]) % 3).tocsr())
    return {
        "cg, stencil": (kl.cg, spd, {}),
        "cg, variable stencil": (kl.cg, grid_operator(
            coefficient=1 + np.arange(spd.shape[0]).reshape(SHAPE) % 3), {}),
        "cg, CSR, Jacobi": (kl.cg, spd.tocsr(), {"M": jacobi}),
        "cg, Chebyshev": (kl.cg, spd, {"M": kl.Chebyshev(spd.tocsr(), degree=3)}),
        "fcg": (kl.fcg, spd.tocsr(), {"truncate": 2}),
        "fcg, Jacobi": (kl.fcg, spd, {"M": jacobi, "truncate": 1}),
        "minres": (kl.minres, indefinite, {}),
        "minres, Jacobi": (kl.minres, indefinite, {"M": jacobi}),
        "bicgstab": (kl.bicgstab, convection(), {}),
        "bicgstab, Jacobi": (kl.bicgstab, general, {"M": jacobi}),
        "gmres": (kl.gmres, general, {"restart": 5}),
        "gmres, Jacobi": (kl.gmres, convection(), {"M": jacobi, "restart": 6}),
        "fgmres, Jacobi": (kl.fgmres, general, {"M": jacobi, "restart": 5}),
    }  # fmt: skip


@runs
@pytest.mark.parametrize("name", cases() if DEVICE or SIMULATED else [])
def test_methods_do_what_they_do_on_the_cpu(name):
    method, A, options = cases()[name]
    b = random(np.random.default_rng(3), A.shape[0], "f8")
    x, info = method(A, b, rtol=1e-6, **options)
    if "M" in options:
        options = {**options, "M": options["M"].to("cuda")}
    y, twin = method(kl.to_cuda(A), kl.to_cuda(b), rtol=1e-6, **options)
    y = host(y)
    assert twin == 0 and twin.reason is kl.Reason.CONVERGED
    # Scalar products of BiCGSTAB are ill-conditioned: rounding moves its path.
    slack = 0.15 * info.iterations if "bicgstab" in name else 0
    for count in ("iterations", "matvecs", "precond_applies"):
        expected = getattr(info, count)
        if count == "precond_applies" and method is kl.cg and "M" in options:
            expected += 1  # queued before the last norm is known
        assert abs(getattr(twin, count) - expected) <= 2 * slack
    assert len(twin.residuals) == twin.iterations + 1
    assert np.allclose(twin.residuals[:4], info.residuals[:4], rtol=1e-6)
    matrix = A.tocsr()
    true = np.linalg.norm(b - matrix @ y)
    assert true <= 1.0001e-6 * np.linalg.norm(b) and np.isclose(true, twin.residual, rtol=1e-4)
    assert np.linalg.norm(x - y) <= 1e-4 * np.linalg.norm(x)


@runs
@pytest.mark.parametrize("cycle, precision", [("V", "double"), ("W", "double"), ("V", "single")])
def test_algebraic_multigrid(cycle, precision):
    from krylearn.cuda.operators import never_stops

    A = grid_operator(shape=(60, 70) if DEVICE else (5, 6)).tocsr()
    more = {} if DEVICE else {"max_coarse": 3}
    M = kl.ClassicalAMG(A, cycle=cycle, precision=precision, **more)
    assert len(M.levels) >= 3
    twin, rng = M.to("cuda"), np.random.default_rng(10)
    assert twin.symmetric and twin.positive_definite and M.to("cpu") is M
    x, y, b = rng.standard_normal((3, A.shape[0]))
    out = arrays.empty(A.shape[0], np.float64)
    products = []
    for v, w in ((x, y), (y, x)):
        twin.apply(never_stops(), arrays.upload(v), out)
        products.append(host(out) @ w)
    assert np.isclose(*products, rtol=1e-10 if precision == "double" else 1e-4)
    if cycle == "W" and SIMULATED:
        return
    x, info = kl.cg(kl.to_cuda(A), kl.to_cuda(b), rtol=1e-6, M=twin)
    assert info == 0 and np.linalg.norm(b - A @ host(x)) <= 1.001e-6 * np.linalg.norm(b)
    assert info.iterations <= kl.cg(A, b, rtol=1e-6, M=M)[1].iterations + 2


@runs
@pytest.mark.parametrize("dtype", ["f8", "c16"])
def test_one_projection_out_of_a_basis_that_is_not_quite_orthogonal(dtype):
    from krylearn.kernels.cuda import scalars as on
    from krylearn.kernels.cuda import vector
    from krylearn.kernels.cuda.launch import HEAD, RING, blocks_for

    rng, n, m = np.random.default_rng(5), 40 if DEVICE else 14, 5
    basis = np.linalg.qr(random(rng, (n, m), dtype))[0].T
    basis = basis + 1e-5 * random(rng, (m, n), dtype) / n
    V, w = arrays.upload(basis.astype(dtype)), arrays.upload(random(rng, n, dtype))
    before = np.linalg.norm(arrays.download(w))
    S = arrays.upload(np.array([0, 1, -1] + [0] * (on.SLOTS - 3), dtype))
    log, G = arrays.zeros(HEAD + RING, "f8"), arrays.zeros((m, m), dtype)
    parts, near = (arrays.zeros((rows, blocks_for(n)), dtype) for rows in (m + 1, m))
    column, found, h = (arrays.zeros(m + 1, dtype) for _ in range(3))
    sums = arrays.zeros(blocks_for(n), dtype)
    for j in range(m):  # as many columns of V^H V come to be known
        log = arrays.upload(np.array([0.0, j] + [0.0] * RING))
        vector.dots_and_gram(log, V, w, parts, near)
        on.gather(log, S, on.ONE, parts, found)
        on.gather(log, S, on.ONE, near, column)
        on.run(on.gmres_correct, log, S, G, column, found, h)
    vector.project(log, S, on.ONE, V, h, w, sums)
    lacks = np.linalg.norm(np.triu(basis.conj() @ basis.T - np.eye(m)))
    assert lacks > 1e-6 and abs(arrays.download(S)[on.G_LOSS] - lacks) <= 1e-9
    left = np.linalg.norm(basis.conj() @ arrays.download(w))
    assert left <= 2 * lacks**2 * before + 1e-14


@runs
def test_hierarchies_of_pyamg():
    pyamg = pytest.importorskip("pyamg")
    A = grid_operator(shape=(60, 70) if DEVICE else (5, 6)).tocsr()
    M = kl.from_pyamg(pyamg.ruge_stuben_solver(A, **({} if DEVICE else {"max_coarse": 3})))
    b = np.random.default_rng(12).standard_normal(A.shape[0])
    x, info = kl.cg(kl.to_cuda(A), kl.to_cuda(b), rtol=1e-6, M=M.to("cuda"))
    assert info == 0 and np.linalg.norm(b - A @ host(x)) <= 1.001e-6 * np.linalg.norm(b)
    assert info.iterations <= kl.cg(A, b, rtol=1e-6, M=M)[1].iterations + 2


@runs
@pytest.mark.parametrize("dtype", ["f4", "f8", "c16"])
@pytest.mark.parametrize("boundary, shape", [
    ("dirichlet", (5, 4, 6)), (("neumann", ("neumann", "dirichlet")), (5, 7)), ("dirichlet", (9,)),
    (("periodic", "dirichlet"), (6, 5)), (("dirichlet", "periodic", "periodic"), (3, 5, 4)),
])  # fmt: skip
def test_fast_poisson(boundary, shape, dtype):
    A = kl.GridOperator.diffusion(kl.Grid(shape, boundary=boundary), dtype=np.dtype(dtype))
    A = A.astype(np.dtype(dtype))
    x = random(np.random.default_rng(11), A.shape[0], dtype)
    b = (A.tocsr() @ x).astype(dtype)
    rtol = 1e-5 if dtype == "f4" else 1e-12
    y, info = kl.fast_poisson(kl.to_cuda(A), kl.to_cuda(b), rtol=rtol)
    assert info == 0 and info.iterations <= 2 and info.matvecs >= info.iterations
    assert np.linalg.norm(x - host(y)) <= 1e3 * rtol * np.linalg.norm(x)
    y, again = kl.cg(kl.to_cuda(A), kl.to_cuda(b), rtol=rtol, M=kl.FastPoisson(A).to("cuda"))
    assert again == 0 and again.iterations <= 3


@runs
def test_fast_poisson_refuses():
    singular = kl.GridOperator.diffusion(kl.Grid((4, 5), boundary="neumann"))
    x, info = kl.fast_poisson(kl.to_cuda(singular), kl.to_cuda(np.ones(20)))
    assert info != 0 and info.reason is kl.Reason.SINGULAR
    grid = kl.Grid((4, 5), boundary="periodic")
    skewed = kl.GridOperator.diffusion(grid, reaction=1.0) + kl.GridOperator.convection(
        grid, (0.5, 0.0))  # fmt: skip
    with pytest.raises(ValueError, match="with convection the transform of a periodic axis"):
        kl.fast_poisson(kl.to_cuda(skewed), kl.to_cuda(np.ones(20)))
    b = np.random.default_rng(2).standard_normal(20)
    x, info = kl.fast_poisson(kl.to_cuda(skewed.astype("c16")), kl.to_cuda(b), rtol=1e-12)
    assert info == 0 and np.linalg.norm(b - skewed.tocsr() @ host(x)) <= 1e-11
    # What a periodic box without reaction leaves open is the constant.
    free = kl.GridOperator.diffusion(grid)
    x, info = kl.fast_poisson(kl.to_cuda(free), kl.to_cuda(b - b.mean()), rtol=1e-12)
    assert info == 0 and abs(host(x).sum()) <= 1e-12


@runs
@pytest.mark.parametrize("dtype", ["f4", "c8", "c16"])
def test_types(dtype):
    A = grid_operator(dtype="f4" if dtype in ("f4", "c8") else "f8")
    b = random(np.random.default_rng(4), A.shape[0], dtype)
    for method in (kl.cg, kl.gmres):
        more = {"restart": 5} if method is kl.gmres else {}
        x, info = method(kl.to_cuda(A), kl.to_cuda(b), rtol=1e-4, **more)
        assert info == 0 and host(x).dtype == np.dtype(dtype)
        assert np.linalg.norm(b - A.tocsr() @ host(x)) <= 1.001e-4 * np.linalg.norm(b)


@runs
def test_columns_start_and_shapes():
    A = grid_operator()
    n = A.shape[0]
    rng = np.random.default_rng(5)
    X = random(rng, (n, 2), "f8")
    B = A.tocsr() @ X
    on_device = kl.to_cuda(A)
    Y, info = kl.cg(on_device, kl.to_cuda(B), rtol=1e-10)
    assert info == 0 and host(Y).shape == (n, 2) and len(info.columns) == 2
    assert np.allclose(host(Y), X, rtol=1e-7, atol=1e-7)
    y, info = kl.cg(on_device, kl.to_cuda(B[:, :1]), kl.to_cuda(X[:, 0]), rtol=1e-8)
    assert info == 0 and info.iterations == 0 and host(y).shape == (n,)
    y, info = kl.cg(on_device, kl.to_cuda(B[:, 0]), "Mb", rtol=1e-8)
    assert info == 0
    y, info = kl.cg(on_device, kl.to_cuda(np.zeros(n)))
    assert info == 0 and not host(y).any() and info.iterations == 0


# -- honesty -------------------------------------------------------------------------------------


@runs
def test_ends_that_are_no_successes():
    A = grid_operator()
    n = A.shape[0]
    on_device, b = kl.to_cuda(A), np.random.default_rng(6).standard_normal(n)
    bad = b.copy()
    bad[1] = np.nan
    Reason = kl.Reason
    for method in (kl.cg, kl.gmres, kl.minres, kl.bicgstab, kl.fcg):
        x, info = method(on_device, kl.to_cuda(bad))
        assert info < 0 and info.reason is Reason.NONFINITE_RHS and info.iterations == 0
    for most in (0, 1, 3):
        x, info = kl.cg(on_device, kl.to_cuda(b), maxiter=most, rtol=1e-12)
        y, cpu = kl.cg(A, b, maxiter=most, rtol=1e-12)
        assert info.reason is Reason.MAXITER and info.iterations == most
        assert np.allclose(host(x), y, rtol=1e-10, atol=1e-14)
    indefinite = (A.tocsr() - 100 * sp.eye_array(n)).tocsr()
    for method in (kl.cg, kl.fcg):
        x, info = method(kl.to_cuda(indefinite), kl.to_cuda(b), rtol=1e-12)
        assert info.reason is Reason.INDEFINITE
        assert info.matvecs == method(indefinite, b, rtol=1e-12)[1].matvecs
    negative = kl.Jacobi(sp.diags_array(-np.ones(n)).tocsr()).to("cuda")
    with pytest.raises(ValueError, match="cg needs a positive definite M"):
        kl.cg(on_device, kl.to_cuda(b), M=negative)
    negative.positive_definite = None
    x, info = kl.cg(on_device, kl.to_cuda(b), M=negative)
    assert info.reason is Reason.INDEFINITE_M
    singular = kl.to_cuda(sp.diags_array([1.0, 2.0, 0.0, 3.0]).tocsr())
    x, info = kl.minres(singular, kl.to_cuda(np.ones(4)), rtol=1e-10)
    cpu = kl.minres(singular.to("cpu"), np.ones(4), rtol=1e-10)[1]
    assert info != 0 and info.reason is cpu.reason
    x, info = kl.gmres(singular, kl.to_cuda(np.ones(4)), rtol=1e-10)
    assert info != 0 and info.reason is Reason.SINGULAR
    poisoned = indefinite.copy()
    poisoned.data[0] = np.inf
    x, info = kl.bicgstab(kl.to_cuda(poisoned), kl.to_cuda(b))
    assert info.reason is Reason.NONFINITE_OPERATOR


@runs
def test_callbacks():
    A, seen = grid_operator(), []
    b = kl.to_cuda(np.random.default_rng(7).standard_normal(A.shape[0]))

    def stop_after_two(xk):
        seen.append(host(xk).copy())
        if len(seen) == 2:
            raise StopIteration

    x, info = kl.cg(kl.to_cuda(A), b, callback=stop_after_two)
    assert info.reason is kl.Reason.STOPPED and info.iterations == 2
    assert np.array_equal(seen[1], host(x))
    norms = []
    x, info = kl.gmres(kl.to_cuda(A), b, callback=norms.append, callback_type="pr_norm", rtol=1e-4)
    assert info == 0 and len(norms) == info.iterations


@runs
def test_refusals():
    A = grid_operator()
    b = np.ones(A.shape[0])
    on_device, there = kl.to_cuda(A), kl.to_cuda(b)
    for A_, b_, name in ((on_device, b, "b"), (A, there, "A"), (A.tocsr(), there, "A")):
        with pytest.raises(TypeError, match=rf"{name} does not: take kl.to_cuda\({name}\)"):
            kl.cg(A_, b_)
    with pytest.raises(TypeError, match=r"M does not: take kl.to_cuda\(M\)"):
        kl.cg(on_device, there, M=kl.Jacobi(A))
    with pytest.raises(TypeError, match="tfqmr does not run on CUDA; cg, fcg"):
        kl.tfqmr(on_device, there)
    with pytest.raises(ValueError, match="no preconditioner 'ilu0' on CUDA; there are jacobi"):
        kl.cg(on_device, there, M="ilu0")
    with pytest.raises(ValueError, match="b has shape"):
        kl.cg(on_device, kl.to_cuda(b[1:]))
    with pytest.raises(ValueError, match="maxiter"):
        kl.cg(on_device, there, maxiter=-1)
    with pytest.raises(TypeError, match="shift"):
        kl.minres(on_device, there, shift=1.0)


@runs
def test_solve_chooses_and_moves():
    A = grid_operator()
    b = np.random.default_rng(8).standard_normal(A.shape[0])
    x, info = kl.solve(A, b, device="cuda", rtol=1e-6)
    assert info == 0 and isinstance(x, np.ndarray) and "CUDA" in info.choice
    assert info.method == "fast_poisson"
    assert np.linalg.norm(b - A @ x) <= 1.001e-6 * np.linalg.norm(b)
    scaled = (sp.diags_array(1.0 + np.arange(len(b)) % 4) @ convection().tocsr()).tocsr()
    x, info = kl.solve(kl.to_cuda(scaled), kl.to_cuda(b), rtol=1e-6, restart=8)
    assert info == 0 and info.method == "gmres+jacobi"
    assert np.linalg.norm(b - scaled @ host(x)) <= 1.001e-6 * np.linalg.norm(b)
    x, info = kl.solve(kl.to_cuda(A.tocsr()), kl.to_cuda(b), M="chebyshev", rtol=1e-6)
    assert info == 0 and info.method == "cg+chebyshev"


@runs
def test_a_users_own_operator():
    A = grid_operator()
    twin = kl.to_cuda(A)

    class Own:
        shape, dtype = A.shape, A.dtype

        def matvec(self, v):
            return twin.matvec(v)

    b = np.random.default_rng(9).standard_normal(A.shape[0])
    x, info = kl.cg(Own(), kl.to_cuda(b), rtol=1e-6)
    assert info == 0 and info.iterations == kl.cg(A, b, rtol=1e-6)[1].iterations
    assert np.linalg.norm(b - A @ host(x)) <= 1.001e-6 * np.linalg.norm(b)


# -- on a device only ----------------------------------------------------------------------------


@device
def test_answers_come_in_the_kind_of_b():
    import torch

    A = grid_operator()
    b = torch.ones(A.shape[0], dtype=torch.float64, device="cuda")
    twin = kl.to_cuda(A)
    x, _ = kl.cg(twin, b)
    assert isinstance(x, torch.Tensor) and x.is_cuda
    M = A.tocsr()
    sparse = torch.sparse_csr_tensor(
        torch.tensor(M.indptr), torch.tensor(M.indices), torch.tensor(M.data), M.shape
    ).cuda()  # fmt: skip
    y, info = kl.cg(sparse, b)
    assert info == 0 and torch.allclose(x, y, rtol=1e-4)
    y, info = kl.gmres(torch.tensor(M.toarray()).cuda(), b, rtol=1e-8)
    assert info == 0
    cupy = pytest.importorskip("cupy")
    import cupyx.scipy.sparse

    y, info = kl.cg(cupyx.scipy.sparse.csr_matrix(M), cupy.asarray(b))
    assert info == 0 and isinstance(y, cupy.ndarray)
    assert np.allclose(cupy.asnumpy(y), x.cpu().numpy(), rtol=1e-4)


@device
def test_runs_are_the_same_to_the_bit_and_many_iterations_are_replayed():
    A = kl.to_cuda(grid_operator(shape=(40, 50, 60)))
    b = kl.to_cuda(np.random.default_rng(0).standard_normal(A.shape[0]))
    (x, info), (y, again) = (kl.cg(A, b, rtol=1e-9) for _ in range(2))
    assert info == 0 and np.array_equal(info.residuals, again.residuals)
    assert np.array_equal(host(x), host(y))


@device
def test_memory_that_is_not_there_is_named_in_bytes():
    A = kl.to_cuda(grid_operator(shape=(500, 500, 500)))
    with pytest.raises(MemoryError, match="basis of 301 vectors.* takes 301,000,000,000 bytes"):
        kl.gmres(A, kl.to_cuda(np.ones(A.shape[0])), restart=300)


class OutOfMemoryError(RuntimeError):
    """As torch's is called."""


@pytest.mark.parametrize("error, told", [
    (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has ..."),
     "takes about 2,684,354,560 bytes"),
    (OutOfMemoryError("CUDA out of memory. Tried to allocate 512 B"), "takes about 512 bytes"),
    (RuntimeError("CUDA error: out of memory\nSearch for ..."), "CUDA error: out of memory"),
    (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "CUBLAS_STATUS_ALLOC"),
    (RuntimeError("[CUresult.CUDA_ERROR_OUT_OF_MEMORY] Call to cuModuleLoad"), "cuModuleLoad"),
])  # fmt: skip
def test_memory_that_is_short_is_told_in_bytes(error, told):
    @arrays.naming_bytes()
    def fails(error):
        raise error

    with pytest.raises(MemoryError, match="the CUDA device has not enough memory: ") as caught:
        fails(error)
    assert told in str(caught.value)
    for other in (ValueError("out of memory"), MemoryError("mine"), RuntimeError("CUDA error: x")):
        with pytest.raises(type(other)) as kept:
            fails(other)
        assert kept.value is other


@device
def test_memory_that_is_short_in_the_middle_of_a_solve():
    import torch

    class Greedy:
        shape, dtype = (64, 64), torch.float64

        def matvec(self, x):
            return x + torch.empty(2**45, dtype=torch.float64, device="cuda")[:64]

    with pytest.raises(MemoryError, match=r"takes about 281,474,976,710,656 bytes, and of"):
        kl.cg(Greedy(), torch.ones(64, dtype=torch.float64, device="cuda"))
