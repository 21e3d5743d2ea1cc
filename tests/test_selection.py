"""AutoSolver: the race of configurations, its backstop, and that no arm can spoil an answer."""

import io
import math
import pickle
import time

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import splu

import krylearn as kl
from krylearn.interface import Reason, Solve, time_limit
from krylearn.learned.selection import Arm, Race
from krylearn.learned.selection.arms import parse_arm, setup_guess, suited_arms
from krylearn.learned.selection.attempt import POINTS, System
from krylearn.learned.selection.held import Held, Workshop
from krylearn.operators import as_operator


def laplacian(m, shift=0.0):
    line = sp.diags_array([-np.ones(m - 1), np.full(m, 2.0), -np.ones(m - 1)], offsets=[-1, 0, 1])
    return (sp.kronsum(line, line) + shift * sp.eye_array(m * m)).tocsr()


def small_enough(A, x, b, rtol):
    return np.linalg.norm(b - A @ x) <= rtol * np.linalg.norm(b) * (1 + 1e-9)


# -- the race, on costs that a test makes up -------------------------------------------------------


def run(race, cost, rounds, seed=0):
    """Race with costs cost(arm, t); None is a failure. Return the seconds spent."""
    rng = np.random.default_rng(seed)
    spent = 0.0
    for t in range(rounds):
        arm = race.choose()
        seconds, limit, leader = cost(arm, t), race.limit(arm), race.leader
        noisy = None if seconds is None else seconds * math.exp(0.05 * rng.standard_normal())
        if noisy is not None and noisy <= limit:
            race.solved(arm, noisy)
        else:
            # Stopped at the limit; the leader does it again.
            wasted = 0.1 if noisy is None else limit
            noisy = wasted + (cost(leader, t) if leader is not None else 1.0)
            race.missed(arm, noisy, "too slow", None if seconds is None else seconds)
        spent += noisy
    return spent


def racing(arms, **options):
    race = Race(**options)
    for arm in arms:
        race.add(arm)
    return race


@pytest.mark.parametrize("seed", range(5))
def test_race_finds_the_fastest_within_its_budget(seed):
    costs = dict(zip("abcdefghijkl", [3, 2, 1, 1.1, 4, 9, 50, 1.5, 2.5, 30, 8, 6]))
    race = racing(costs)
    spent = run(race, lambda arm, t: costs[arm], 200, seed)
    assert race.leader == "c"
    assert spent < 1.10 * 200
    last = race.tracks["c"].pulls
    run(race, lambda arm, t: costs[arm], 100, seed)
    assert race.tracks["c"].pulls - last > 85
    assert race.worse("f") and race.worse("a") and not race.worse("c")


def test_race_compares_across_systems_that_get_harder():
    # The level rises a hundredfold meanwhile; what counts is the ratio at the same time.
    race = racing("abc")
    for t in range(100):
        arm = race.choose()
        race.solved(arm, 1.05**t * {"a": 1.5, "b": 1.0, "c": 1.2}[arm])
    assert race.leader == "b" and race.tracks["b"].pulls > 60


def test_race_follows_a_change_of_the_best():
    race = racing("ab")
    run(race, lambda arm, t: {"a": 1.0, "b": 2.0}[arm], 100)
    assert race.leader == "a"
    run(race, lambda arm, t: {"a": 3.0, "b": 1.0}[arm], 300, seed=1)
    assert race.leader == "b"


def test_a_failing_arm_gets_three_pulls_at_most():
    race = racing(["bad", "good", "worse"])
    run(race, lambda arm, t: 1.0 if arm == "good" else None, 300)
    assert race.leader == "good"
    assert all(race.tracks[arm].pulls <= 3 and race.tracks[arm].out for arm in ("bad", "worse"))
    race = racing(["bad"])
    run(race, lambda arm, t: None, 3)
    assert race.choose() is None and race.leader is None


def test_expensive_setups_wait_for_their_share():
    race = racing("a", share=0.1, horizon=100)
    race.add("expensive", guess=20.0)
    run(race, lambda arm, t: 1.0, 150)
    assert not race.tracks["expensive"].pulls  # 21 of at most 15 seconds
    run(race, lambda arm, t: 1.0, 150)
    assert race.tracks["expensive"].pulls


def test_what_looks_better_is_tried_when_nothing_may_be_spent():
    race = racing(["leads", "stopped"], share=0.0)
    for _ in range(3):
        race.solved("leads", 1.0)
    race.missed("stopped", 1.5, "stopped", cost=0.4)
    race.solved("leads", 1.0)
    assert race.choose() == "stopped"


def test_variants_leave_something_for_arms_of_another_kind():
    race = racing(["leads"], share=0.01)
    race.solved("leads", 1.0)
    race.add("another")
    race.add("variant", variant=True)
    assert race.choose() == "variant"
    race.excess = 1.2  # of two seconds
    assert race.choose() == "another"
    race.excess = 1.9
    assert race.choose() == "leads"


def test_what_ran_when_systems_were_easier_is_no_longer_proven_worse():
    race = racing(["leads", "rival"])
    for _ in range(6):
        race.solved("leads", 1.0)
        race.solved("rival", 1.5)
    assert race.worse("rival")
    for _ in range(12):
        race.solved("leads", 6.0)
    assert race.leader == "leads" and not race.worse("rival")


def test_race_knows_how_costs_grow_with_the_feature():
    # "a" is the faster while systems are easy; its cost doubles with each unit, "b" stays.
    race = racing("ab")
    for t in range(60):
        feature = -3.0 if t % 2 else 0.0
        race.arrived(feature)
        arm = race.choose()
        race.solved(arm, {"a": 0.5 * 2.0**-feature, "b": 2.0}[arm])
    picks = {}
    for feature in (0.0, -3.0):
        race.arrived(feature)
        picks[feature] = race.leader
    assert picks == {0.0: "a", -3.0: "b"}
    assert race.expected("b") == pytest.approx(2.0, rel=0.3)
    race.arrived(0.0)
    assert race.expected("a") == pytest.approx(0.5, rel=0.3)


# -- replacement of what is kept -------------------------------------------------------------------


def test_a_kept_preconditioner_is_replaced_at_the_least_mean_cost():
    # Set-up 10; the k-th solve takes 1 + k: the mean is least near k = sqrt(20).
    held = Held(None, (0,), 10.0)
    count = 0
    while not held.due:
        held.served(1.0 + count)
        count += 1
    assert 4 <= count <= 7
    held.renewed((1,), 10.0)
    for _ in range(100):
        held.served(2.0)
    assert not held.due  # it does not age


# -- arms ------------------------------------------------------------------------------------------


def test_updates_that_are_refused_are_not_tried_for_ever(monkeypatch):
    asked = []

    def refuse(self, A):
        asked.append(A)
        raise ValueError("another pattern")

    monkeypatch.setattr(kl.IC0, "update", refuse)
    workshop, arm = Workshop(), Arm("cg", "ic0")
    for k in range(20):
        system = System(laplacian(5, 0.1 * k), np.ones(25), None, {}, [])
        workshop.arrived(system)
        M, seconds = workshop.preconditioner(arm, system)
        assert M is not None and seconds > 0
    assert len(asked) == 3
    assert pickle.loads(pickle.dumps(workshop)).changing == 1.0


def test_arms_by_traits():
    A = laplacian(8)
    names = [str(arm) for arm in suited_arms(A)]
    assert names[0] == "cg+ic0" and "cg" in names and not any("grid" in name for name in names)
    P = kl.problems.poisson(shape=(8, 8))
    assert "fast_poisson" in [str(arm) for arm in suited_arms(P.A)]
    assert suited_arms(A - 3 * sp.eye_array(64))[0].method == "cg"  # who only sees its diagonal
    # Where the rule of `solve` factorises at once, so does the first arm.
    small = suited_arms((A - 5 * sp.eye_array(64)).tocsr())
    assert small[0] == parse_arm("direct") and small[1] == Arm("minres")
    skew = kl.problems.convection_diffusion(shape=(8, 8)).A
    assert {arm.method for arm in suited_arms(skew)} >= {"gmres", "bicgstab", "idrs"}
    products = sp.linalg.aslinearoperator(skew.tocsr())
    assert {str(arm) for arm in suited_arms(products)} >= {"gmres", "bicgstab", "idrs"}
    assert all(not arm.precond for arm in suited_arms(products))
    with pytest.raises(ValueError, match="did you mean cg"):
        parse_arm("cgg+ic0")
    flat, deep = (setup_guess(Arm("gmres", "direct"), kl.problems.poisson(shape=s).A)
                  for s in ((64, 64), (16, 16, 16)))  # fmt: skip
    assert flat < deep


def test_variants():
    assert "gmres+direct, M kept" in {str(v) for v in parse_arm("direct").variants()}
    assert str(parse_arm("direct")) == "direct" and parse_arm("direct").precond == "direct"
    arm = Arm("cg", "ssor")
    names = {str(v) for v in arm.variants()}
    assert {"cg+ssor, x0 previous", "cg+ssor, M kept", "cg+ssor(omega=1.5)"} <= names
    assert "cg, x0 extrapolated" in {str(v) for v in Arm("cg", start="previous").variants()}
    assert not list(Arm("mine", call=kl.cg).variants())


# -- AutoSolver ------------------------------------------------------------------------------------




def raises(A, b, **ignored):
    raise ZeroDivisionError("on purpose")


def lies(A, b, **ignored):
    return np.ones(len(b)), 0


def nans(A, b, **ignored):
    return np.full(len(b), np.nan), 0


def nothing(A, b, **ignored):
    return None, 0


def scalar(A, b, **ignored):
    return 3.0, 0


def explodes(A, b, x0=None, **ignored):
    return 1e200 * b, 7


def hangs(A, b, x0=None, **settings):
    # Diverges slowly: a splitting that does not converge, to maxiter.
    return kl.jacobi(A - 0.9 * sp.diags_array(A.diagonal()), b, x0, **settings)


def worsens(A, b, x0=None, **settings):
    x, info = kl.cg(A, b, x0, **settings)
    return x + 1.0, info


def creeps(A, b, x0=None, maxiter=None, **ignored):
    # Comes nearer all the time, and never there.
    x = np.zeros(len(b)) if x0 is None else np.array(x0)
    for _ in range(200):
        x += 1e-7 * (b - A @ x)
    return x, 200


def to_maxiter(A, b, x0=None, **settings):
    return kl.cg(A, b, x0, **(settings | {"maxiter": 1}))


POISONS = [raises, lies, nans, nothing, scalar, explodes, hangs, worsens, creeps, to_maxiter]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("poison", POISONS, ids=lambda f: f.__name__)
def test_a_poisoned_arm_costs_three_pulls_and_never_the_answer(poison, first):
    rng = np.random.default_rng(0)
    arms = [poison, "cg+ic0", "cg"] if first else ["cg+ic0", "cg", poison]
    solver = kl.AutoSolver(arms, rtol=1e-8, share=5.0)
    for k in range(25):
        A, b = laplacian(9, 0.01 * k), rng.standard_normal(81)
        x, info = solver.solve(A, b)
        assert info == 0 and info.converged and small_enough(A, x, b, 1e-8)
        assert len(info.residuals) >= 1 and info.residual <= 1e-8 * np.linalg.norm(b)
        assert poison.__name__ not in info.method
    (lane,) = solver._lanes.values()
    track = next(t for arm, t in lane.race.tracks.items() if arm.call is poison)
    assert 1 <= track.pulls <= 3 and track.solved == 0 and track.missed
    assert poison.__name__ in solver.explanation() and solver.solved == 25


def test_all_arms_poisoned():
    A, b = laplacian(6), np.ones(36)
    solver = kl.AutoSolver([raises, lies, nans])
    for _ in range(12):
        x, info = solver.solve(A, b)
        assert (info == 0) == small_enough(A, x, b, 1e-5)
        assert info == 0  # the rule of kl.solve takes over


def test_what_nobody_can_solve_is_not_called_solved():
    A = sp.csr_array(np.diag([1.0, 2.0, 3.0, 0.0]))  # b is outside its range
    solver = kl.AutoSolver(rtol=1e-8)
    for _ in range(4):
        x, info = solver.solve(A, np.ones(4))
        assert info != 0 and not info.converged
    assert solver.solved == 0 and "nothing has solved" in solver.explanation()


def test_a_poisoned_preconditioner(monkeypatch):
    def broken(r, out):
        out[:] = np.nan
        return out

    def blind(r, out):
        out[:] = 0.0  # sees one unknown: CG goes on to maxiter, or to the time limit
        out[0] = r[0]
        return out

    for bad in (broken, blind, lambda r, out: np.multiply(r, -1.0, out=out)):
        monkeypatch.setattr(kl.IC0, "apply", lambda self, r, out, bad=bad: bad(r, out))
        solver = kl.AutoSolver(["cg+ic0", "cg+jacobi"], rtol=1e-8)
        for k in range(12):
            A, b = laplacian(9, 0.01 * k), np.ones(81)
            x, info = solver.solve(A, b)
            assert info == 0 and small_enough(A, x, b, 1e-8) and "jacobi" in info.method
        (lane,) = solver._lanes.values()
        assert lane.race.tracks[Arm("cg", "ic0")].pulls <= 3


@pytest.mark.parametrize("family, options", [
    ("heat", {}), ("darcy", {}), ("convection_diffusion", {}), ("helmholtz", dict(wavenumber=9.0)),
    ("helmholtz", dict(wavenumber=9.0, damping=0.2)), ("elasticity", {}), ("smoke", {}),
    ("diffusion", dict(kind="walls")),
])  # fmt: skip
def test_answers_are_true_on_every_kind_of_sequence(family, options):
    solver = kl.AutoSolver(rtol=1e-7)
    for P in kl.problems.sequence(family, 12, shape=(12, 12), **options):
        x, info = solver.solve(P.A, P.b, P.params.get("previous"))
        assert info == 0 and small_enough(P.A, x, P.b, 1e-7)
        assert info.setup_seconds >= 0 and info.solve_seconds > 0 and info.choice
        assert len(info.residuals) >= info.iterations + 1
    assert solver.solved == 12


def test_a_matrix_that_never_changes_is_set_up_once(monkeypatch):
    made = []
    original = kl.IC0.__init__

    def counting(self, *args, **options):
        made.append(args)
        return original(self, *args, **options)

    monkeypatch.setattr(kl.IC0, "__init__", counting)
    monkeypatch.setattr(kl.IC0, "update", counting)
    A, rng = laplacian(30), np.random.default_rng(1)
    solver = kl.AutoSolver(["cg+ic0"], rtol=1e-8)
    for _ in range(10):
        x, info = solver.solve(A.copy(), rng.standard_normal(900))
        assert info == 0
    assert len([args for args in made if args[0].shape[0] == 900]) == 1
    A.data *= 2  # in place
    x, info = solver.solve(A, np.ones(900))
    assert info == 0 and small_enough(A, x, np.ones(900), 1e-8)
    assert len([args for args in made if args[0].shape[0] == 900]) <= 2


def test_starts_are_learned():
    A, rng = laplacian(20), np.random.default_rng(2)
    b0, b1 = rng.standard_normal((2, 400))
    solver = kl.AutoSolver(["cg"], rtol=1e-8)
    for t in range(60):
        x, info = solver.solve(A, b0 + 0.01 * t * b1)
        assert info == 0
    assert info.iterations <= 2  # extrapolated, the solution is exact
    assert "extrapolated" in info.method


def test_changing_operands():
    solver, rng = kl.AutoSolver(rtol=1e-8), np.random.default_rng(3)
    for m in (5, 9, 5, 20):
        A = laplacian(m)
        for B in (A, A.toarray(), A.astype(np.float32), sp.linalg.aslinearoperator(A), A.tocoo()):
            rtol = 1e-8
            if B.dtype == np.float32:
                continue
            b = rng.standard_normal(m * m)
            x, info = solver.solve(B, b)
            assert info == 0 and small_enough(A, x, b, rtol)
    B = rng.standard_normal((25, 3))
    x, info = solver.solve(laplacian(5), B)
    assert info == 0 and x.shape == (25, 3) and small_enough(laplacian(5), x, B, 1e-7)
    x, info = solver.solve(laplacian(5), np.zeros(25))
    assert info == 0 and not x.any()
    x, info = solver.solve(laplacian(5), np.full(25, np.nan))
    assert info < 0
    x, info = solver.solve(laplacian(5) * np.nan, np.ones(25))
    assert info != 0
    x, info = solver.solve(sp.csr_array(np.ones((4, 2))), np.ones(4))
    assert info.converged  # least squares
    for A, b in ((np.eye(3), np.ones(4)), (np.eye(3), np.array(["x"] * 3)), ("A", np.ones(3))):
        with pytest.raises((ValueError, TypeError)):
            solver.solve(A, b)


def test_bad_arguments():
    for arguments in (dict(arms=[]), dict(arms=["cg+nothing"]), dict(horizon=0), dict(share=-1)):
        with pytest.raises(ValueError):
            kl.AutoSolver(**arguments)
    with pytest.raises(TypeError, match="an arm is"):
        kl.AutoSolver([3])


def test_pickle_and_explain():
    solver = kl.AutoSolver(rtol=1e-8)
    assert solver.explanation() == "nothing yet"
    for P in kl.problems.sequence("darcy", 8, shape=(12, 12)):
        solver.solve(P.A, P.b)
    text = io.StringIO()
    solver.explain(text)
    copy = pickle.loads(pickle.dumps(solver))
    assert copy.explanation() == solver.explanation() and "leads" in text.getvalue()
    x, info = copy.solve(P.A, P.b)
    assert info == 0 and copy.solved == 9 and solver.solved == 8


@pytest.mark.parametrize("arm", ["direct", "cg+ic0"])
def test_entries_written_into_a_matrix_that_stays(arm):
    """Only a sample of a matrix that is the same object is looked at."""
    A, b = laplacian(12), np.ones(144)
    solver = kl.AutoSolver([arm, "cg"], rtol=1e-10)
    for t in range(12):
        if t == 4:
            A.data[A.indptr[1] + 1] += 30.0  # one entry of the diagonal, which is not looked at
        if t == 8:
            A.setdiag(9.0)
        x, info = solver.solve(A, b)
        assert info == 0 and small_enough(A, x, b, 1e-10)


def test_options_of_an_arm_near_the_leader_are_tried():
    """SSOR with omega = 1.8 was never tried where multigrid led, though it was faster."""
    race = Race(share=10.0)
    for arm in ("leads", "near", "far"):
        race.add(arm)
    for arm, cost in (("leads", 1.0), ("near", 1.2), ("far", 4.0)) * 3:
        race.solved(arm, cost)
    assert race.near("near", 1.3) and not race.near("far", 1.3)
    A = kl.problems.darcy((12, 12)).A
    assert "cg+ssor(omega=1.8)" in {str(arm) for arm in suited_arms(A)}


# -- the time limit --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cg", "minres", "gmres", "bicgstab", "idrs", "jacobi", "ssor"])
def test_time_limit(method):
    A, b = laplacian(60, -1e-9), np.ones(3600)
    with time_limit(0.0):
        x, info = getattr(kl, method)(A, b, rtol=1e-12)
    assert info > 0 and info.reason is Reason.TIME_LIMIT and info.iterations <= 64
    assert info.residual == pytest.approx(np.linalg.norm(b - A @ x))
    began = time.perf_counter()
    with time_limit(math.inf), time_limit(0.05), time_limit(100.0):
        x, info = kl.jacobi(A, b, rtol=1e-13, maxiter=10**9)
    assert info.reason is Reason.TIME_LIMIT and time.perf_counter() - began < 5
    x, info = kl.cg(A, b)
    assert info == 0


def test_pace():
    # Jacobi would take far more than two seconds; half of that tells.
    A, b = laplacian(150), np.ones(22500)
    began = time.perf_counter()
    with time_limit(2.0, pace=[0.0, 0.0, 0.9, 1.0]):
        x, info = kl.jacobi(A, b, rtol=1e-12, maxiter=10**9)
    assert info.reason is Reason.TIME_LIMIT and time.perf_counter() - began < 1.9
    with time_limit(60.0, pace=[0.0, 0.3, 1.0]):
        assert kl.cg(A, b)[1] == 0


def test_a_residual_that_wavers_does_not_lag():
    # The least residual so far is compared, not that of the moment.
    one = as_operator(np.eye(2), float)
    s = Solve(one, np.ones(2), np.zeros(2), one, rtol=1e-8, atol=0.0, maxiter=9, callback=None)
    s.residuals, s.pace = [1.0], (0.0, 1.0, [0.0, 0.2, 0.5])
    s.tolerance = 1e-8
    assert not s._lags(1e-6, 0.1) and not s._lags(10.0, 0.6)
    s._least = 1.0
    assert s._lags(10.0, 0.6) and not s._lags(10.0, 0.2)


def test_what_lags_is_judged_by_the_course_of_its_method():
    # Residuals that stay where they are for long say little; a course that is known, more.
    solver = kl.AutoSolver(["cg", "bicgstab", "minres"])
    for P in kl.problems.sequence("darcy", 3, shape=(12, 12)):
        solver.solve(P.A, P.b)
    lane = next(iter(solver._lanes.values()))
    course = np.maximum(POINTS - 0.5, 0.0) * 2
    lane.courses = {"cg": course}
    cg, other = Arm("cg", "jacobi"), Arm("bicgstab")
    assert lane._gone(cg, 0.0) == pytest.approx(0.5) and lane._gone(cg, 0.45) == pytest.approx(0.7)
    assert lane._gone(other, 0.45) == pytest.approx(0.7)
    paces = np.array([lane._pace(cg), lane._pace(other)])
    assert (paces <= course + 1e-12).all() and (paces[1] <= paces[0]).all()
    assert (paces[:, POINTS < 0.3] == 0).all() and paces[0, -1] > 0.5


# -- in a sequence ---------------------------------------------------------------------------------


def test_solve_sequence_by_itself():
    problems = list(kl.problems.sequence("darcy", 6, shape=(12, 12)))
    for P, (x, info) in zip(problems, kl.solve_sequence(problems, method="auto", rtol=1e-8)):
        assert info == 0 and small_enough(P.A, x, P.b, 1e-8) and info.choice
    solver = kl.AutoSolver(["cg+ic0", "cg+ssor"])
    answers = list(kl.solve_sequence(problems, method=solver, sort=True, rtol=1e-9))
    assert solver.solved == 6 and all(info == 0 for _, info in answers)
    assert all(small_enough(P.A, x, P.b, 1e-9) for P, (x, _) in zip(problems, answers))
    with pytest.raises(TypeError, match="leave M out"):
        kl.solve_sequence(problems, method="auto", M="ic0")


def _tripled(A, b, **settings):
    return 3 * b, 0


def _factorised(A, b, **settings):
    return splu(A.tocsc()).solve(b), 0


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_a_wrong_answer_is_seen_and_a_right_one_believed_at_all_scales(scale):
    P = kl.problems.darcy((20, 20), seed=1)
    A, b = P.A.tocsr(), scale * P.b
    solver = kl.AutoSolver([_tripled, "cg+ic0"], rtol=1e-8)
    for _ in range(3):
        x, info = solver.solve(A, b)
        assert info == 0 and "_tripled" not in info.method
        assert np.linalg.norm(P.b - A @ (x / scale)) <= 1.001e-8 * np.linalg.norm(P.b)
    x, info = kl.AutoSolver([_factorised], rtol=1e-8).solve(A, b)
    # What has squares beyond all numbers is left to the rule.
    assert info == 0 and ("_factorised" in info.method) == (scale < 1)


def test_what_is_slow_only_once_does_not_count():
    """As an arm is whose kernels are compiled at its first pull."""
    calls = []

    def compiled(A, b, x0=None, **settings):
        calls.append(1)
        time.sleep(0.4 if len(calls) == 1 else 0)
        return splu(A.tocsc()).solve(b), 0

    def steady(A, b, x0=None, **settings):
        time.sleep(0.03)
        return splu(A.tocsc()).solve(b), 0

    solver, A = kl.AutoSolver([steady, compiled]), laplacian(6)
    for t in range(12):
        assert solver.solve(A + 0.1 * t * sp.eye_array(36), np.ones(36))[1] == 0
    race = next(iter(solver._lanes.values())).race
    assert race.leader.call is compiled and race.expected(race.leader) < 0.02
