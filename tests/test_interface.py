"""The record of a solve, and columns that advance together."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp

import krylearn as kl
from krylearn.interface import Reason


def laplacian(n, dtype=float):
    line = sp.diags_array([-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1])
    return (sp.kron(line, sp.eye_array(n)) + sp.kron(sp.eye_array(n), line)).tocsr().astype(dtype)


def test_info_is_scipys_integer_and_survives_a_pickle():
    A = laplacian(12)
    b = np.random.default_rng(0).standard_normal(144)
    x, info = kl.cg(A, b, rtol=1e-9)
    assert info == 0 and not info and isinstance(info, int)
    again = pickle.loads(pickle.dumps(info))
    assert again == info and again.reason is Reason.CONVERGED
    assert np.array_equal(again.residuals, info.residuals)
    assert len(info.residuals) == info.iterations + 1
    assert info.residual == pytest.approx(np.linalg.norm(b - A @ x), rel=1e-6)
    x, info = kl.cg(A, b, rtol=1e-9, maxiter=5)
    assert info == 5 and info.reason is Reason.MAXITER and "maxiter" in str(info)


@pytest.mark.parametrize("columns", [2, 5, 40])
def test_columns_get_the_answers_that_they_get_alone(columns):
    A = laplacian(15)
    B = np.random.default_rng(1).standard_normal((225, columns)) ** 3
    B[:, 0] = 0
    X, info = kl.cg(A, B, rtol=1e-8)
    assert X.shape == B.shape and info.converged and len(info.columns) == columns
    residuals = np.linalg.norm(B - A @ X, axis=0)
    assert np.all(residuals <= 1e-8 * np.linalg.norm(B, axis=0))
    alone = [kl.cg(A, B[:, j], rtol=1e-8) for j in range(columns)]
    assert [i.iterations for _, i in alone] == pytest.approx(
        [i.iterations for i in info.columns], abs=1
    )
    assert info.matvecs == sum(i.matvecs for i in info.columns)


def test_columns_share_products():
    calls = []
    dense = laplacian(8).toarray()
    A = sp.linalg.LinearOperator(
        dense.shape, dtype=float, matvec=lambda x: calls.append(1) or dense @ x,
        matmat=lambda X: calls.append(X.shape[1]) or dense @ X,
    )  # fmt: skip
    B = np.random.default_rng(2).standard_normal((64, 6))
    _, info = kl.cg(A, B, rtol=1e-8)
    assert info.converged
    assert max(calls) == 6
    assert len(calls) < info.matvecs / 2


def test_compiled_pass_and_loop_agree():
    A = laplacian(40)
    b = np.random.default_rng(3).standard_normal(1600)
    x, quick = kl.cg(A, b, rtol=1e-10)
    y, loop = kl.cg(sp.linalg.aslinearoperator(A), b, rtol=1e-10)
    assert abs(quick.iterations - loop.iterations) <= 2
    assert np.allclose(x, y, atol=1e-7 * abs(x).max())
    seen = []
    z, watched = kl.cg(A, b, rtol=1e-10, callback=lambda v: seen.append(v[0]))
    assert np.array_equal(x, z) and len(seen) == watched.iterations == quick.iterations
