"""Learned directions and their rivals on the device; else under the simulator on tiny systems."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from on_cuda import DEVICE, by_themselves, runs, simulate  # noqa: E402

import krylearn as kl  # noqa: E402
from krylearn.benchmarks.deflation import Subdomains, subdomains  # noqa: E402
from krylearn.cuda import arrays, preconditioners  # noqa: E402
from krylearn.learned.dcd import account  # noqa: E402
from krylearn.learned.dcd.paper import DirectionNet, PyramidNet  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:.*Grid size")
SHAPE = (20, 24, 16) if DEVICE else (4, 3, 5)


@by_themselves
def test_everything_under_the_simulator():
    simulate(__file__)


def host(x):
    return x.cpu().numpy() if hasattr(x, "cpu") else arrays.download(x)


def plume(shape=SHAPE):
    P = next(kl.problems.smoke(shape, seed=3, obstacles=1, open_top=True, steps=1))
    return P.A, np.random.default_rng(0).standard_normal(P.A.shape[0])


def grid(kind, ends="dirichlet"):
    rng = np.random.default_rng(1)
    coefficient = 2.0 if kind == "constant" else rng.uniform(0.1, 5, SHAPE)
    boundary = [ends if n % 2 == 0 or ends != "periodic" else "neumann" for n in SHAPE]
    return kl.GridOperator.diffusion(kl.Grid(SHAPE, boundary=boundary), coefficient, reaction=0.5)


@runs
@pytest.mark.parametrize("kind", ["constant", "variable"])
@pytest.mark.parametrize("ends", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("dtype", "fd")
def test_incomplete_cholesky_is_that_of_the_host_in_two_colours(kind, ends, dtype):
    A = grid(kind, ends).astype(dtype)
    M = preconditioners.by_name("ic0", kl.to_cuda(A))
    assert M.shift == 0 and M.symmetric and M.positive_definite
    r = np.random.default_rng(2).standard_normal(A.shape[0]).astype(dtype)
    there = host(M.matvec(arrays.upload(r)))
    here = kl.IC0(A, order="multicolour") @ r
    assert np.allclose(there, here, rtol=1e-4 if dtype == "f" else 1e-11)


@runs
def test_conjugate_gradients_take_incomplete_cholesky_by_name():
    A, b = plume()
    x, info = kl.cg(kl.to_cuda(A), arrays.upload(b), rtol=1e-8, M="ic0")
    _, plain = kl.cg(A, b, rtol=1e-8)
    _, twin = kl.cg(A, b, rtol=1e-8, M=kl.IC0(A.tocsr(), order="multicolour"))
    assert info == 0 and np.linalg.norm(b - A @ host(x)) <= 1e-8 * np.linalg.norm(b)
    assert abs(info.iterations - twin.iterations) <= 1 and info.iterations < plain.iterations
    with pytest.raises(TypeError, match="grid operator .* red and black"):
        kl.cg(kl.to_cuda(A.tocsr()), arrays.upload(b), M="ic0")
    with pytest.raises(ValueError, match="positive diagonal"):
        kl.cg(kl.to_cuda(-A), arrays.upload(b), M="ic0")


@runs
@pytest.mark.parametrize("limit", [0.3, np.inf])
def test_directions_on_the_device_end_where_those_on_the_host_do(limit):
    A, b = plume()
    x, info = kl.dcd(kl.to_cuda(A), arrays.upload(b), rtol=1e-8, limit=limit)
    assert info == 0 and np.linalg.norm(b - A @ host(x)) <= 1.001e-8 * np.linalg.norm(b)
    if limit == np.inf:
        _, twin = kl.dcd(A, b, rtol=1e-8, limit=limit)
        assert info.dropped == "" and abs(info.iterations - twin.iterations) <= 1


@runs
@pytest.mark.parametrize("net", [DirectionNet, PyramidNet])
def test_random_weights_on_the_device_cost_a_pass(net):
    torch.manual_seed(0)
    A, b = plume()
    for scale in (1.0, np.nan):
        model = net(3, 2, 2, width=4)
        with torch.no_grad():
            model.head.weight.mul_(scale) if net is DirectionNet else model.finest[
                "head"].weight.mul_(scale)  # fmt: skip
        x, info = kl.dcd(kl.to_cuda(A), arrays.upload(b), rtol=1e-8, model=model)
        assert info == 0 and np.linalg.norm(b - A @ host(x)) <= 1.001e-8 * np.linalg.norm(b)
        assert info.dropped and info.precond_applies <= 2


def test_on_small_grids_launches_cost_more_than_multiplications():
    net = DirectionNet()
    large = account.work_of(net, account.DEVICE_RATE)
    work = [account.work_on_device(net, (n,) * 3) for n in (32, 64, 128, 256)]
    assert work[0] > work[1] > large and work[2] == work[3] == large
    assert account.launched(3, 10) == account.launched(3, 1000)
    pyramid = PyramidNet()
    assert pyramid.launches((256,) * 3) - pyramid.launches((128,) * 3) == pyramid.launches(
        (16,) * 3) - pyramid.launches((8,) * 3) > 0  # fmt: skip


@pytest.mark.parametrize("shape", [(18, 13), (9, 8, 10)])
def test_deflation_takes_the_sums_of_boxes_out_of_the_residual(shape):
    P = next(kl.problems.smoke(shape, seed=3, obstacles=2, open_top=True, steps=1))
    M = Subdomains(P.A, 4)
    boxes = torch.eye(int(np.prod(M._boxes)), dtype=torch.float64)
    W = np.stack([M._spread(box).numpy() for box in boxes])
    E = W @ np.stack([P.A @ w for w in W]).T
    E[np.diag_indices_from(E)] += np.diag(E) == 0
    assert np.allclose(np.linalg.inv(M._inverse.numpy()), E, rtol=1e-9, atol=1e-9 * abs(E).max())
    assert np.allclose(W @ (P.b - P.A @ M.start(P.b)), 0, atol=1e-9 * np.linalg.norm(P.b))
    _, plain = kl.cg(P.A, P.b, rtol=1e-8)
    x, info = kl.cg(P.A, P.b, M.start(P.b), rtol=1e-8, M=M)
    assert info == 0 and info.iterations < 0.8 * plain.iterations
    assert np.linalg.norm(P.b - P.A @ x) <= 1.001e-8 * np.linalg.norm(P.b)


@runs
def test_deflation_on_the_device_takes_the_steps_of_the_host():
    A, b = plume()
    M, twin = subdomains(kl.to_cuda(A), 2), subdomains(A, 2)
    given = arrays.upload(b)
    x, info = kl.cg(kl.to_cuda(A), given, M.start(given), rtol=1e-8, M=M)
    _, there = kl.cg(A, b, twin.start(b), rtol=1e-8, M=twin)
    assert info == there == 0 and abs(info.iterations - there.iterations) <= 1
    assert np.linalg.norm(b - A @ host(x)) <= 1.001e-8 * np.linalg.norm(b)
