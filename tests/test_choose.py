"""`solve` takes what suits the operator, says why, and goes on safely where that fails."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla

import krylearn as kl
from krylearn import choose
from krylearn.interface import Reason
from krylearn.testing import example_matrix, example_vector, require_honest


def chosen(A, b=None, rtol=1e-8, **more):
    b = example_vector(A.shape[0]) if b is None else b
    x, info = kl.solve(A, b, rtol=rtol, **more)
    dense = A.tocsr().toarray() if hasattr(A, "tocsr") else A
    if not isinstance(A, spla.LinearOperator) or hasattr(A, "grid"):
        require_honest(dense, b, x, info, rtol)
    assert info.choice
    return info


def varying(shape, seed=0, **more):
    return kl.problems.darcy(shape, seed=seed, **more).A


@pytest.mark.parametrize("make, method", [
    (lambda: kl.GridOperator.diffusion(kl.Grid((9, 8), boundary="periodic"), reaction=1.0),
     "fast_poisson"),
    (lambda: kl.GridOperator.diffusion(kl.Grid((9, 8))).tocsr(), "fast_poisson"),
    (lambda: kl.GridOperator.diffusion(kl.Grid((9, 8)), reaction=-30.0).tocsr(), "fast_poisson"),
    (lambda: varying((12, 11)), "cg+ic0"),
    (lambda: varying((12, 11)).tocsr(), "cg+ic0"),
    (lambda: example_matrix("spd"), "cg+ic0"),
    (lambda: example_matrix("spd").toarray(), "cg+jacobi"),
    (lambda: example_matrix("hermitian"), "direct"),
    (lambda: example_matrix("hermitian").toarray(), "minres"),
    (lambda: example_matrix("general"), "gmres+ilu0"),
    (lambda: example_matrix("general").toarray(), "gmres"),
    (lambda: spla.aslinearoperator(example_matrix("general")), "gmres"),
])  # fmt: skip
def test_what_suits_small_systems(make, method):
    info = chosen(make())
    assert info == 0 and info.method == method and "A " in info.choice


def test_a_positive_diagonal_is_not_definiteness():
    # Quasi-definite with the sign of half the rows turned: cg breaks down, LU does not.
    A = example_matrix("spd", "d", 9).tolil()
    A[0, 1] = A[1, 0] = 30.0
    info = chosen(A.tocsr())
    assert info == 0 and info.method == "direct" and "indefinite" in info.choice
    info = chosen(A.toarray())
    assert info == 0 and info.method in ("minres", "direct") and "indefinite" in info.choice


def test_slow_convergence_gives_way_to_lu():
    A = kl.problems.convection_diffusion((40, 40), velocity=(50.0, 3.0), diffusivity=1e-3).A
    b = example_vector(1600)
    M = kl.ILU0(A)
    _, slow = kl.gmres(A, b, rtol=1e-12, M=M, restart=40, maxiter=2)
    info = chosen(A, b, rtol=1e-12)
    assert info == 0
    assert info.method == ("gmres+ilu0" if slow == 0 else "direct")
    stiff = sp.diags_array(np.logspace(0, 9, 300)) + example_matrix("general", "d", 18)[:300, :300]
    info = chosen(sp.csr_array(stiff @ stiff), b[:300])
    assert info == 0


def test_a_setup_that_fails_is_told_and_passed_over(monkeypatch):
    def refuse(A):
        raise ArithmeticError("no factors today")

    monkeypatch.setattr("krylearn.solvers.factorized.ic0.IC0", refuse)
    info = chosen(varying((12, 11)))
    assert info == 0 and info.method == "direct" and "no factors today" in info.choice


def test_the_users_limit_and_stop_are_respected():
    A, b = varying((20, 20)), example_vector(400)
    x, info = kl.solve(A, b, rtol=1e-10, maxiter=3)
    assert info == 3 and info.reason is Reason.MAXITER and info.method == "cg+ic0"

    def stop(x):
        raise StopIteration

    x, info = kl.solve(A, b, rtol=1e-10, callback=stop)
    assert info.reason is Reason.STOPPED and info.iterations == 1


def test_what_the_user_names_is_used_or_refused():
    A, b = varying((12, 11)), example_vector(132)
    for named, label in (("jacobi", "cg+jacobi"), (None, "cg"), (kl.SSOR(A), "cg")):
        x, info = kl.solve(A, b, M=named)
        assert info == 0 and info.method == label
    assert kl.solve(A, b, method="gmres")[1].method == "gmres+ic0"
    assert kl.solve(A, b, method="direct")[1].method == "direct"
    unsymmetric = example_matrix("general")
    with pytest.raises(ValueError, match="ilu0"):
        kl.solve(unsymmetric, b[:49], M="ic0")
    with pytest.raises(ValueError, match="did you mean"):
        kl.solve(unsymmetric, b[:49], method="gmre")


def test_singular_systems():
    room = kl.GridOperator.diffusion(kl.Grid((14, 13), boundary="neumann", centering="cell"))
    c = 1 + np.random.default_rng(0).random((14, 13))
    rough = kl.GridOperator.diffusion(room.grid, c)
    for A in (room, room.tocsr(), rough, rough.tocsr()):
        assert chosen(A, A @ example_vector(182)) == 0
        info = chosen(A, np.ones(182))
        assert info != 0 and len(str(info.reason)) > 20
    zero_row = example_matrix("spd").tolil()
    zero_row[3] = 0.0
    assert chosen(zero_row.tocsr()) != 0
    assert chosen(sp.csr_array([[4.0]]), np.ones(1)) == 0


@pytest.fixture
def everything_is_large(monkeypatch):
    for name in ("INDEFINITE", "MULTIGRID", "AGGREGATES", "FACTORISED"):
        monkeypatch.setattr(choose, name, {2: 0, 3: 0})


def test_large_systems(everything_is_large):
    assert chosen(example_matrix("hermitian")).method == "minres"
    for A, kind in ((varying((20, 20)), "GeometricMultigrid"),
                    (varying((20, 20)).tocsr(), "SmoothedAggregation")):  # fmt: skip
        info = chosen(A)
        assert info == 0 and info.method == "cg+multigrid" and kind in info.choice
    for kind, contrast in (("inclusions", 1e6), ("walls", 1.0)):
        P = kl.problems.diffusion((24, 24), kind=kind, contrast=contrast)
        info = chosen(P.A, P.b)
        assert info.method == "cg+multigrid" and "ClassicalAMG" in info.choice
    P = kl.problems.convection_diffusion((20, 20), seed=1)
    assert chosen(P.A, P.b).method == "gmres+smoothed_aggregation"


def test_couplings_of_either_sign():
    P = kl.problems.elasticity((50, 50), seed=1)
    assert P.A.shape[0] > choose.SOON
    info = chosen(P.A, P.b)
    assert info == 0 and info.method == "cg+ic0" and "either sign" in info.choice


def test_what_gmres_takes_for_singular_is_tried_otherwise():
    # Incomplete factors of this matrix are huge, so that GMRES in single precision gives up.
    line = sp.diags_array([1.0, -1.0, 1e3], offsets=[1, 0, -1], shape=(4, 4)).tolil()
    line[0, 3], line[3, 0] = 1e3, 1.0
    hold = sp.diags_array([1e-3], offsets=[4], shape=(32, 32))
    A = sp.csr_array(sp.block_diag([line] * 8) + hold, dtype=np.float32)
    x, info = kl.solve(A, example_vector(32, "f"), rtol=1e-4)
    assert info == 0


def test_multigrid_that_fails_is_followed(everything_is_large, monkeypatch):
    def refuse(A):
        raise np.linalg.LinAlgError("no levels today")

    monkeypatch.setattr("krylearn.solvers.multigrid.multigrid.multigrid", refuse)
    monkeypatch.setattr(choose, "PATIENCE", 2)
    info = chosen(varying((20, 20)))
    assert info == 0 and info.method == "cg+ic0"
    assert "no levels today" in info.choice and "ended as maxiter" in info.choice
    indefinite = example_matrix("spd", "d", 9).tolil()
    indefinite[0, 1] = indefinite[1, 0] = 30.0
    info = chosen(indefinite.tocsr())
    assert info == 0 and info.method == "minres"


def test_small_waves_are_factorised_and_flows_are_not():
    """A complex Helmholtz problem of the plane took GMRES ten times as long as its LU."""
    for A in (_waves(15.0).A, _waves(15.0).A.tocsr()):
        assert choose._attempts(A)[0].method == "direct"
    x, info = kl.solve(_waves(15.0).A, _waves(15.0).b, rtol=1e-8)
    assert info.method == "direct" and "indefinite" in info.choice
    require_honest(_waves(15.0).A.tocsr(), _waves(15.0).b, x, info, 1e-8)
    assert choose.krylov_method(_waves(15.0).A) == "gmres"
    # A wave longer than the square leaves the Hermitian part definite, and so does a flow.
    assert choose._attempts(_waves(2.0).A)[0].method == "gmres"
    for velocity in ((1.0, 0.3), (40.0, 9.0)):
        flow = kl.problems.convection_diffusion((48, 48), velocity=velocity, seed=0)
        assert choose._attempts(flow.A)[0].method == "gmres"
    # In space factors fill too much.
    box = kl.problems.helmholtz((12, 12, 12), wavenumber=10.0, damping=0.1, roughness=0.1, seed=0)
    assert choose._attempts(box.A)[0].method == "gmres"


def _waves(wavenumber):
    return kl.problems.helmholtz((48, 48), wavenumber=wavenumber, damping=0.1, roughness=0.1,
                                 seed=0)  # fmt: skip
