"""Additive Schwarz: the blocks, the two variants, and what they converge like."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp

import krylearn as kl
from krylearn import testing

A = kl.problems.convection_diffusion((24, 24)).A.tocsr()
b = testing.example_vector(576)


def by_hand(A, inner, widened, r, restricted):
    out = np.zeros_like(r)
    for rows, wide in zip(inner, widened):
        local = np.linalg.solve(A[wide][:, wide].toarray(), r[wide])
        kept = np.isin(wide, rows) if restricted else np.full(len(wide), True)
        out[wide[kept]] += local[kept]
    return out


@pytest.mark.parametrize("variant", ["restricted", "additive"])
@pytest.mark.parametrize("overlap", [0, 1, 2])
def test_exact_blocks_are_the_textbooks(variant, overlap):
    inner = [np.arange(0, 24 * 10), np.arange(24 * 10, 576)]
    widened = [np.arange(0, 24 * (10 + overlap)), np.arange(24 * (10 - overlap), 576)]
    M = kl.AdditiveSchwarz(A, blocks=inner, overlap=overlap, local="exact", variant=variant)
    assert M.sizes == tuple(map(len, widened))
    assert np.allclose(M @ b, by_hand(A, inner, widened, b, variant == "restricted"))
    again = pickle.loads(pickle.dumps(M))
    assert np.array_equal(again @ b, M @ b)


def test_one_block_is_the_local_solver():
    assert np.allclose(kl.AdditiveSchwarz(A, blocks=1) @ b, kl.ILU0(A) @ b)
    assert np.allclose(A @ (kl.AdditiveSchwarz(A, blocks=1, local="exact") @ b), b)


@pytest.mark.parametrize("partition", ["graph", "index"])
@pytest.mark.parametrize("count", [1, 3, 8, 576])
def test_blocks_are_a_partition_of_like_sizes(partition, count):
    M = kl.AdditiveSchwarz(A, blocks=count, overlap=0, partition=partition)
    assert len(M.sizes) == count and sum(M.sizes) == 576
    assert max(M.sizes) <= 2 * min(M.sizes)


def test_pieces_that_nothing_connects_are_taken():
    B = sp.block_diag([A, sp.eye_array(30), A], format="csr")
    r = testing.example_vector(B.shape[0])
    for count in (1, 2, 7):
        M = kl.AdditiveSchwarz(B, blocks=count)
        assert kl.gmres(B, r, M=M, restart=60, rtol=1e-8)[1] == 0


def test_overlap_and_exact_solves_help():
    counts = {}
    for overlap in (0, 1, 3):
        for local in ("ilu0", "exact"):
            M = kl.AdditiveSchwarz(A, blocks=6, overlap=overlap, local=local)
            counts[local, overlap] = kl.gmres(A, b, M=M, restart=200, rtol=1e-8)[1].iterations
    assert counts["exact", 3] < counts["exact", 1] < counts["exact", 0]
    assert counts["exact", 1] < counts["ilu0", 1]


def test_symmetric_variants_serve_cg():
    P = kl.problems.darcy((24, 24), coefficient="lognormal")
    for local in ("ic0", "exact"):
        M = kl.AdditiveSchwarz(P.A, blocks=4, variant="additive", local=local)
        assert M.symmetric
        assert kl.cg(P.A, P.b, M=M, rtol=1e-8)[1] == 0
    with pytest.raises(ValueError, match="gmres"):
        kl.cg(P.A, P.b, M=kl.AdditiveSchwarz(P.A, blocks=4))


def test_options_that_make_no_sense_are_refused():
    for bad in (
        {"local": "lu"}, {"variant": "multiplicative"}, {"partition": "metis"}, {"overlap": -1},
        {"blocks": 0}, {"blocks": 2.5}, {"blocks": [np.arange(500)]},
        {"blocks": [np.arange(576), np.arange(3)]}, {"local": "ic0"},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            kl.AdditiveSchwarz(A, **bad)
    singular = A.tolil()
    singular[5] = 0
    with pytest.raises(ArithmeticError, match="singular"):
        kl.AdditiveSchwarz(singular.tocsr(), local="exact")


def test_single_nodes_are_not_searched_from(monkeypatch):
    from krylearn.solvers.domain import additive_schwarz

    searches = []
    found = additive_schwarz.breadth_first_order
    monkeypatch.setattr(additive_schwarz, "breadth_first_order",
                        lambda *a, **k: searches.append(1) or found(*a, **k))  # fmt: skip
    A = kl.problems.thermal((40, 40)).A.tocsr()  # nodes outside the disc stand alone
    M = kl.AdditiveSchwarz(A, blocks=4)
    assert len(M.sizes) == 4 and len(searches) < 50
