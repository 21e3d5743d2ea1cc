"""GCRO-DR, the space it carries, sorting, sequences."""

import numpy as np
import pytest
import scipy.sparse as sp

import krylearn as kl
from krylearn import testing
from krylearn.learned.recycling import features, greedy_order, hilbert_order, order
from krylearn.learned.recycling.order import hilbert_index
from krylearn.solvers.krylov.gcrodr import _Basis
from krylearn.solvers.krylov.subspace import dominant_subspace, orthonormalise

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def slow_matrix(dtype="d", side=20, seed=0):
    """Return a nonsymmetric matrix on a grid, with smooth eigenvectors of small eigenvalues."""
    P = kl.problems.convection_diffusion((side, side), diffusivity=0.05, seed=seed)
    A = P.A.tocsr() / 20
    if np.dtype(dtype).kind == "c":
        A = A * np.exp(0.3j)
    return sp.csr_array(A).astype(dtype), testing.example_vector(side * side, dtype, seed)


# -- small dense algebra ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", "fdFD")
def test_orthonormalise_drops_what_depends(dtype):
    X = np.stack([testing.example_vector(200, dtype, seed=k) for k in range(8)])
    X[5] = X[1] + 2 * X[3]
    X[6] = 0
    X[2] *= 1e-20
    X[4] *= 1e15
    Q, F, kept = orthonormalise(X)
    eps = np.finfo(dtype).eps
    assert Q.dtype == X.dtype and len(Q) == 6 and 6 not in kept
    assert np.abs(Q.conj() @ Q.T - np.eye(6)).max() < 10 * eps
    assert np.abs(F @ X[kept] - Q).max() < 100 * eps
    assert len(orthonormalise(X[6:7])[0]) == 0
    X[0, 0] = np.nan
    assert 0 not in orthonormalise(X)[2]


@pytest.mark.parametrize("dtype", "dD")
@pytest.mark.parametrize("k", [1, 3, 4, 11, 12, 20])
def test_dominant_subspace_is_invariant_and_keeps_pairs_together(dtype, k):
    rng = np.random.default_rng(0)
    E = rng.standard_normal((12, 12)) + (1j * rng.standard_normal((12, 12)) if dtype == "D" else 0)
    values = np.linalg.eigvals(E)
    Z = dominant_subspace(E, k)
    count = 0 if Z is None else Z.shape[1]
    assert count >= min(k, 12) - (dtype == "d")
    if count:
        inside = Z.conj().T @ E @ Z
        assert np.abs(E @ Z - Z @ inside).max() < 1e-12
        largest = np.sort(np.abs(values))[::-1][:count]
        assert np.allclose(np.sort(np.abs(np.linalg.eigvals(inside)))[::-1], largest)


# -- GCRO-DR ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", "fdFD")
def test_deflated_restarts_beat_plain_ones(dtype):
    A, b = slow_matrix(dtype)
    rtol = 1e-3 if dtype in "fF" else 1e-8
    _, plain = kl.gmres(A, b, rtol=rtol, restart=15, maxiter=400)
    x, info = kl.gcrodr(A, b, rtol=rtol, restart=15, k=7)
    assert info == 0 and np.linalg.norm(b - A @ x) <= rtol * np.linalg.norm(b)
    assert info.iterations < 0.8 * plain.iterations
    _, same = kl.gcrodr(A, b, rtol=rtol, restart=15, k=0, maxiter=60)
    assert np.allclose(same.residuals[:31], plain.residuals[:31], rtol=1e-2)


@pytest.mark.parametrize("M", [None, "jacobi"])
def test_the_decomposition_holds_after_each_cycle(M):
    from krylearn.interface import solve_with

    A, b = slow_matrix()
    errors = []

    def loop(s):
        basis = _Basis(s, 12, 5)
        while s.unsolved():
            if basis.j:
                basis.refresh()
                C = basis.W[: basis.kept]
                errors.append(np.abs(C @ C.T - np.eye(len(C))).max())
                errors.append(np.abs((A @ basis.U.T).T - C).max())
            rnorm = basis.begin()
            while basis.has_room() and s.running(rnorm):
                rnorm = basis.extend(rnorm)
            basis.correct()

    _, info = solve_with(loop, A, b, method="gcrodr", rtol=1e-10, M=M)
    assert info == 0 and len(errors) > 9 and max(errors) < 1e-10


def test_residual_never_grows_and_is_true():
    A, b = slow_matrix("D")
    seen = []
    _, info = kl.gcrodr(A, b, rtol=1e-9, restart=12, k=5, callback=lambda x: seen.append(x.copy()))
    assert info == 0 and np.all(info.residuals[1:] <= info.residuals[:-1] * (1 + 1e-9))
    assert np.isclose(np.linalg.norm(b - A @ seen[-1]), info.residual)


# -- the space --------------------------------------------------------------------------------


@pytest.mark.parametrize("M", [None, "jacobi", "ilu0"])
def test_a_space_helps_with_the_next_right_hand_side(M):
    A, b = slow_matrix()
    space = kl.RecycleSpace()
    options = dict(rtol=1e-8, restart=20, k=8, recycle=space, M=M)
    _, first = kl.gcrodr(A, b, **options)
    _, second = kl.gcrodr(A, b[::-1].copy(), **options)
    assert first == second == 0 and second.iterations < first.iterations
    assert second.recycled == 8 and not hasattr(first, "recycled")
    calls = []
    watched = testing.examples.as_operator(A, testing.examples.watched(lambda v: A @ v, calls))
    _, third = kl.gcrodr(watched, b, rtol=1e-8, restart=20, k=8, recycle=space)
    assert third.matvecs == len(calls) >= third.iterations + 8


def test_a_space_survives_changes_of_everything():
    space = kl.RecycleSpace()
    A, b = slow_matrix()
    changes = [
        (A, b, None), (-3 * A, b, "jacobi"), (A, 1j * b, None),
        (A.astype("f"), b.astype("f"), None),
        (A + 0.3j * sp.eye_array(len(b)), b, "ilu0"), (A, b, None), (A.toarray(), b, "jacobi"),
        (sp.eye_array(len(b), format="csr"), b, None), (A, b, sp.diags_array(1 + np.arange(400.0))),
    ]  # fmt: skip
    for matrix, rhs, M in changes:
        rtol = 1e-4 if matrix.dtype == np.float32 else 1e-8
        x, info = kl.gcrodr(matrix, rhs, rtol=rtol, restart=20, k=8, M=M, recycle=space)
        assert info == 0 and np.linalg.norm(rhs - matrix @ x) <= rtol * np.linalg.norm(rhs)
        assert 0 < len(space) <= 8 and x.dtype == np.result_type(matrix.dtype, rhs.dtype)


def test_dependent_zero_and_useless_vectors_are_dropped():
    A, b = slow_matrix()
    X = np.stack([testing.example_vector(400, seed=k) for k in range(4)])
    space = kl.RecycleSpace()
    space.keep(np.stack([X[0], X[1], X[0] + X[1], 0 * X[0], X[2], 1e-9 * X[0] + X[2]]))
    x, info = kl.gcrodr(A, b, rtol=1e-8, recycle=space)
    assert info == 0 and info.recycled == 3
    space.keep(np.zeros((3, 400)))
    assert kl.gcrodr(A, b, rtol=1e-8, recycle=space)[1] == 0
    before = space.vectors
    space.keep(np.full((2, 400), np.nan))
    assert space.vectors is before
    # A that takes part of the space to zero, and a space that holds everything.
    P = sp.diags_array(np.r_[0.0, np.ones(9)]).tocsr()
    space = kl.RecycleSpace()
    space.keep(np.eye(10))
    x, info = kl.gcrodr(P, np.r_[0.0, np.ones(9)], rtol=1e-10, recycle=space)
    assert info == 0 and info.recycled == 9 and info.iterations == 0


def test_the_smallest_eigenvectors_solve_at_once():
    A, b = slow_matrix()
    space = kl.RecycleSpace()
    space.keep(np.linalg.solve(A.toarray(), b)[None, :])
    x, info = kl.gcrodr(A, b, rtol=1e-10, recycle=space)
    assert info == 0 and info.iterations == 0 and info.matvecs <= 3


def test_a_space_of_another_size_is_refused_with_advice():
    A, b = slow_matrix()
    space = kl.RecycleSpace()
    kl.gcrodr(A, b, recycle=space)
    B, c = slow_matrix(side=10)
    with pytest.raises(ValueError, match=r"length 400.*A has 100.*clear\(\)"):
        kl.gcrodr(B, c, recycle=space)
    space.clear()
    assert len(space) == 0 and kl.gcrodr(B, c, recycle=space)[1] == 0
    with pytest.raises(TypeError, match="RecycleSpace"):
        kl.gcrodr(B, c, recycle=[1])


def test_a_space_is_saved_and_loaded(tmp_path):
    A, b = slow_matrix("D")
    space = kl.RecycleSpace()
    space.save(tmp_path / "empty")
    assert len(kl.RecycleSpace.load(tmp_path / "empty")) == 0
    kl.gcrodr(A, b, rtol=1e-8, M="jacobi", recycle=space)
    space.save(tmp_path / "space.npz")
    again = kl.RecycleSpace.load(tmp_path / "space.npz")
    assert np.array_equal(again.vectors, space.vectors)
    bad = {
        "text": b"no", "pickled": None, "integers": {"vectors": np.ones((2, 3), int)},
        "flat": {"vectors": np.ones(3)}, "NaN": {"vectors": np.full((2, 3), np.nan)},
        "other": {"x": np.ones((2, 3))},
    }  # fmt: skip
    for name, content in bad.items():
        path = tmp_path / f"{name}.npz"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content = {"vectors": np.array([{}], object)} if content is None else content
            np.savez(path, **content)
        with pytest.raises(ValueError, match="no recycle space"):
            kl.RecycleSpace.load(path)
    with pytest.raises(FileNotFoundError):
        kl.RecycleSpace.load(tmp_path / "absent.npz")


def test_columns_share_the_space_one_after_the_other():
    A, b = slow_matrix()
    B = np.stack([b, b[::-1], np.roll(b, 7)], axis=1)
    space = kl.RecycleSpace()
    X, info = kl.gcrodr(A, B, rtol=1e-8, restart=20, k=8, recycle=space)
    assert info == 0 and np.linalg.norm(B - A @ X, axis=0).max() < 1e-8 * np.linalg.norm(b) * 1.01
    first, second, third = (column.iterations for column in info.columns)
    assert second < first and third < first
    assert [getattr(column, "recycled", 0) for column in info.columns] == [0, 8, 8]


def test_settings_that_make_no_sense_are_refused():
    A, b = slow_matrix()
    for bad in ({"restart": 0}, {"k": -1}, {"restart": 2.5}, {"callback_type": "legacy"}):
        with pytest.raises(ValueError):
            kl.gcrodr(A, b, **bad)


def test_nan_leaves_the_space_as_it_was():
    A, b = slow_matrix()
    space = kl.RecycleSpace()
    kl.gcrodr(A, b, recycle=space)
    before = space.vectors.copy()
    A.data[5] = np.nan
    _, info = kl.gcrodr(A, b, recycle=space)
    assert info.reason is kl.Reason.NONFINITE_OPERATOR and np.array_equal(before, space.vectors)


# -- sorting ----------------------------------------------------------------------------------


def path_length(points, path):
    return np.linalg.norm(np.diff(points[path], axis=0), axis=1).sum()


@pytest.mark.parametrize("axes, bits", [(1, 4), (2, 4), (3, 3), (4, 2)])
def test_the_curve_visits_each_cell_once_and_never_jumps(axes, bits):
    cells = np.stack(np.meshgrid(*[np.arange(2**bits)] * axes), -1).reshape(-1, axes)
    index = hilbert_index(cells, bits)
    assert np.array_equal(np.sort(index), np.arange(len(cells)))
    steps = np.abs(np.diff(cells[np.argsort(index)], axis=0)).sum(axis=1)
    assert np.all(steps == 1)


@pytest.mark.parametrize("sorter", [greedy_order, hilbert_order])
def test_orders_are_short_and_complete(sorter):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((400, 3)) @ rng.standard_normal((3, 20))
    path = sorter(points)
    assert path[0] == 0 and np.array_equal(np.sort(path), np.arange(400))
    assert path_length(points, path) < 0.35 * path_length(points, np.arange(400))
    assert len(sorter(np.zeros((0, 3)))) == 0 and sorter(np.zeros((5, 2))).tolist()[0] == 0


def test_fields_are_sorted_by_their_smooth_part():
    fields = [kl.problems.gaussian_random_field((16, 16), seed=k) for k in range(1200)]
    points = features(fields)
    path = order(fields)  # long enough for the curve
    assert path_length(points, path) < 0.65 * path_length(points, np.arange(1200))
    assert features(fields, modes=2).shape == (1200, 18)


def test_features_take_what_the_systems_share():
    mixed = [{"a": np.eye(2) * k, "c": k, "t": "text", 1: [k, 2j]} for k in range(3)]
    assert features(mixed).shape[0] == 3 and np.isfinite(features(mixed)).all()
    assert np.array_equal(features([1.0, 1.0]), np.zeros((2, 1)))
    assert features([(1.0, np.ones(3)), (2.0, np.ones(3))]).shape[0] == 2
    for none in ([None, None], [{"a": 1}, {"b": 2}], ["x", "y"]):
        with pytest.raises(ValueError, match="sort=False"):
            features(none)


# -- sequences --------------------------------------------------------------------------------


def darcy(count, **options):
    return list(kl.problems.sequence("darcy", count, shape=(16, 16), **options))


@pytest.mark.parametrize("sort", [False, True, lambda P: P.params["coefficient"].mean()])
def test_solutions_come_in_the_callers_order(sort):
    Ps = darcy(7)
    answers = list(kl.solve_sequence(Ps, sort=sort, rtol=1e-9, M="ilu0"))
    assert len(answers) == 7
    for P, (x, info) in zip(Ps, answers):
        assert info == 0 and np.linalg.norm(P.b - P.A @ x) <= 1e-9 * np.linalg.norm(P.b)
    positions = [info.position for _, info in answers]
    assert sorted(positions) == list(range(7)) and (positions != list(range(7))) == bool(sort)
    for _, info in answers:
        assert info.preconditioner == ("updated" if info.position else "made")
        assert hasattr(info, "recycled") == bool(info.position)


def test_systems_are_read_as_solutions_are_asked_for():
    read = []

    def systems():
        for P in darcy(3):
            read.append(P)
            yield P.A, P.b

    answers = kl.solve_sequence(systems(), method="cg")
    assert not read
    next(answers)
    assert len(read) == 1
    assert len(list(answers)) == 2


def test_preconditioners_are_kept_updated_and_made():
    A, b = slow_matrix()
    other = sp.csr_array(A + sp.diags_array(np.full(399, 0.1), offsets=-1, shape=A.shape))
    changed = A.copy()
    systems = [(A, b), (A.copy(), b), (changed, b), (2 * A, b), (other, b)]
    how = [info.preconditioner for _, info in kl.solve_sequence(systems, M="jacobi")]
    assert how == ["made", "kept", "kept", "updated", "made"]

    def in_place():
        yield changed, b
        changed.data *= 2
        yield changed, b

    answers = list(kl.solve_sequence(in_place(), M=lambda A: kl.Jacobi(A)))
    assert [info.preconditioner for _, info in answers] == ["made", "updated"]
    (_, info), = kl.solve_sequence([(A, b)], M=kl.Jacobi(A))
    assert info.preconditioner == "kept"
    thermal = kl.problems.sequence("thermal", 3, shape=(12, 12))
    how = [info.preconditioner for _, info in kl.solve_sequence(thermal, method="cg", M="ssor")]
    assert how == ["made", "kept", "kept"]


@pytest.mark.parametrize("warm_start", ["previous", "nearest", True])
def test_warm_starts_help_where_little_changes(warm_start):
    A, b = slow_matrix()
    systems = [(A, b + 1e-3 * k, {"k": k}) for k in (0.0, 1.0, 5.0)]
    cold = list(kl.solve_sequence(systems, method="gmres", restart=50))
    warm = list(kl.solve_sequence(systems, method="gmres", restart=50, warm_start=warm_start))
    assert all(info == 0 for _, info in warm)
    assert warm[1][1].iterations < cold[1][1].iterations
    assert warm[1][1].residuals[0] < 0.1 * cold[1][1].residuals[0]


def test_sizes_may_change_and_methods_need_not_recycle():
    systems = [slow_matrix(side=n) for n in (10, 14, 10)]
    answers = list(kl.solve_sequence(systems, warm_start="previous"))
    recycled = [getattr(info, "recycled", 0) for _, info in answers]
    assert recycled[:2] == [0, 0] and recycled[2] in (19, 20)  # a pair may have been left out
    for method in ("gmres", "auto", kl.bicgstab):
        assert all(info == 0 for _, info in kl.solve_sequence(systems[:2], method=method))
    off = list(kl.solve_sequence(systems, recycle=False))
    assert not any(hasattr(info, "recycled") for _, info in off)
    space = kl.RecycleSpace()
    list(kl.solve_sequence(systems[:1], recycle=space))
    assert len(space) in (19, 20)


def test_sequences_refuse_at_once_what_makes_no_sense():
    systems = [slow_matrix()]
    for kind, bad in (
        (ValueError, {"method": "gcrodd"}), (ValueError, {"warm_start": "cold"}),
        (ValueError, {"rtol": -1.0}), (ValueError, {"M": "ilu"}),
        (TypeError, {"method": "cg", "recycle": kl.RecycleSpace()}),
    ):  # fmt: skip
        with pytest.raises(kind):
            kl.solve_sequence(systems, **bad)
    with pytest.raises(TypeError, match=r"\(A, b\)"):
        list(kl.solve_sequence([3]))
    with pytest.raises(ValueError, match="no parameters in common"):
        list(kl.solve_sequence(systems * 2, sort=True))
    with pytest.raises(ValueError) as refused:
        list(kl.solve_sequence([systems[0], (np.eye(3), np.ones(4))]))
    assert "system 1" in refused.value.__notes__[0]


# -- recycled conjugate gradients -------------------------------------------------------------


def laplacian(dtype="d", side=24):
    A = kl.problems.darcy((side, side), coefficient="lognormal").A.tocsr()
    if np.dtype(dtype).kind == "c":
        phase = sp.diags_array(np.exp(1j * np.arange(side * side)))
        A = phase @ A @ phase.conj()
    return sp.csr_array(A).astype(dtype), testing.example_vector(side * side, dtype)


@pytest.mark.parametrize("M", [None, "jacobi", "ssor"])
@pytest.mark.parametrize("dtype", "dD")
def test_recycled_cg_extracts_the_smallest_eigenvectors(dtype, M):
    A, b = laplacian(dtype)
    space = kl.RecycleSpace()
    _, plain = kl.cg(A, b, rtol=1e-10, M=M)
    counts = []
    for shift in range(4):
        rhs = np.roll(b, shift)
        x, info = kl.recycled_cg(A, rhs, rtol=1e-10, k=8, M=M, recycle=space)
        assert info == 0 and np.linalg.norm(rhs - A @ x) <= 1e-10 * np.linalg.norm(rhs)
        counts.append(info.iterations)
    assert abs(counts[0] - plain.iterations) <= 1  # with an empty space it is cg
    assert counts[3] < (0.95 if M == "ssor" else 0.8) * plain.iterations and info.recycled == 8
    if M is None:
        lowest = np.linalg.eigvalsh(A.toarray())[:4]
        Q = np.linalg.qr(space.vectors.T)[0]
        found = np.linalg.eigvalsh(Q.conj().T @ (A @ Q))[:4]
        assert np.allclose(found, lowest, rtol=1e-4)


def test_recycled_cg_without_a_space_is_cg():
    A, b = laplacian()
    x, plain = kl.cg(A, b, rtol=1e-8, M="ssor")
    y, info = kl.recycled_cg(A, b, rtol=1e-8, M="ssor")
    assert info.iterations == plain.iterations and np.allclose(x, y)


def test_recycled_cg_survives_changes_and_dependent_vectors():
    A, b = laplacian()
    space = kl.RecycleSpace()
    X = np.stack([testing.example_vector(576, seed=k) for k in range(3)])
    space.keep(np.stack([X[0], X[1], X[0] - X[1], 0 * X[0], X[2], X[2] + 1e-12 * X[1]]))
    for matrix, rhs, M, rtol in (
        (A, b, None, 1e-8), (5 * A, b, "jacobi", 1e-8), (A.astype("f"), b.astype("f"), None, 1e-3),
        (A, 1j * b, "ssor", 1e-8), (sp.eye_array(576, format="csr"), b, None, 1e-8),
    ):  # fmt: skip
        x, info = kl.recycled_cg(matrix, rhs, rtol=rtol, M=M, recycle=space)
        assert info == 0 and np.linalg.norm(rhs - matrix @ x) <= rtol * np.linalg.norm(rhs)
        assert 3 <= info.recycled <= 10
    # The methods may share a space; an indefinite matrix is told, not solved wrongly.
    assert kl.gcrodr(A, b, rtol=1e-8, recycle=space)[1] == 0
    _, info = kl.recycled_cg(A - 500.0 * sp.eye_array(576), b, rtol=1e-8, recycle=space)
    assert info < 0 and info.reason is kl.Reason.INDEFINITE
    with pytest.raises(ValueError, match="clear"):
        kl.recycled_cg(*laplacian(side=10), recycle=space)
    with pytest.raises(ValueError):
        kl.recycled_cg(A, b, k=0)
    with pytest.raises(TypeError):
        kl.recycled_cg(A, b, recycle=True)


def test_recycled_cg_halves_the_iterations_of_a_darcy_sequence():
    systems = list(kl.problems.sequence("darcy", 4, shape=(40, 40)))
    plain = [info.iterations for _, info in kl.solve_sequence(systems, method="cg", M="ic0")]
    recycled = [
        info.iterations
        for _, info in kl.solve_sequence(systems, method="recycled_cg", M="ic0", k=20, rtol=1e-5)
    ]
    assert recycled[3] < 0.6 * plain[3]


# -- the paper's table ------------------------------------------------------------------------


def test_papers_table(tmp_path, monkeypatch):
    from rich.console import Console

    from krylearn.benchmarks.papers import paper_names, run_paper, skr
    from krylearn.benchmarks.papers.skr import cases, rounds

    assert "skr" in paper_names()
    small = {
        "darcy, published": cases.Family(
            cases.sequence("darcy", shape=(12, 12), variant="published"), (None, "ilu0"), (1e-5,)),
        "darcy": cases.Family(
            cases.sequence("darcy", shape=(12, 12)), ("ic0",), (1e-5,), symmetric=True,
            definite=True, others=("direct", "AMG")),
        "helmholtz": cases.Family(cases.waves((10, 10), 5.0, 0.0), (None,), (1e-5,),
                                symmetric=True),
        "convection": cases.Family(
            cases.sequence("convection_diffusion", shape=(12, 12)), ("sor",), (1e-5,)),
        "damped waves in 3-D": cases.Family(cases.waves((5, 5, 5), 5.0, 0.1), (None,), (1e-5,)),
        "waves in a changing medium": cases.Family(
            cases.changing((6, 6, 6), 5.0, 0.1, 0.1), ("ilu0",), (1e-5,)),
        "waves in changing rock": cases.Family(
            lambda count: cases.rock((6, 6, 6), 4.0, 0.7, 0.15, 2 * count), ("ilu0",), (1e-5,)),
    }  # fmt: skip
    monkeypatch.setattr(skr, "families", lambda full: small)
    monkeypatch.setattr(rounds, "SEQUENCES", ((0, 12), (3, 12)))
    monkeypatch.setattr(rounds, "SHAPE", (6, 6, 6))
    monkeypatch.setattr(rounds, "WAVENUMBER", 4.0)
    with Console(file=open(tmp_path / "log", "w"), width=140) as console:
        results = run_paper(console, "skr", tmp_path / "skr.json")
    text = (tmp_path / "log").read_text()
    assert "Does it pay?" in text
    assert (tmp_path / "skr-iterations.png").exists() and (tmp_path / "skr-seconds.png").exists()
    for name, rows in results["parts"].items():
        if name.startswith("rounds"):
            assert len(rows[0]["rounds"]) == rounds.ROUNDS
            heard = {(row["systems"], len(row["rounds"])) for row in rows}
            assert heard <= {(rounds.FEW, 1), (12, rounds.ROUNDS)}
            assert rows[0]["iterations"] < rows[3]["iterations"]  # than fresh
        assert all(row["converged"] == row["systems"] for row in rows if "error" not in row), name
    found = {row["entrant"] for row in skr.by_family(results)["darcy"]}
    assert {"CG", "recycled CG, sorted", "AMG", "direct", "GMRES(40)"} <= found
    assert len(skr.winners(results)) == 7
    assert set(results["seconds"]) == set(results["parts"])


def test_waves_in_rock_have_solvers_of_their_positive_part_beside_them():
    from krylearn.benchmarks.papers.skr import cases, race

    def make(count):
        return cases.rock((8, 8, 8), 4.0, 0.7, 0.15, 6 * count)

    family = cases.Family(make, ("ilu0",), (1e-8,), others=("multigrid of div", "fast transforms"))
    rows = race.run_others(family, "rock", 1, lambda text: None)
    assert len(rows) == 6 and all(row["converged"] == 6 for row in rows)
    by = {(row["M"], row["entrant"]): row["iterations"] for row in rows}
    assert by["multigrid of div", "GMRES(100)"] < by["fast transforms", "GMRES(100)"]
