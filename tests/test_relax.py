"""Policies that choose omega: estimates, regret, saving, and what solvers tell them."""

import json
import math
import pickle

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp

import krylearn as kl
from krylearn import registry
from krylearn.benchmarks.papers.relax.race import lanes
from krylearn.kernels import bandits
from krylearn.kernels.counting import sor_counts, ssor_cg_counts
from krylearn.learned.relaxation.policy import OMEGAS, Learner

YOUNG = dict(radius=0.95, diagonal=4.0, family="I + cA")


def poisson(m, shift=0.0):
    line = sp.diags_array([-np.ones(m - 1), np.full(m, 2.0), -np.ones(m - 1)], offsets=[-1, 0, 1])
    return (sp.kronsum(line, line) + shift * sp.eye_array(m * m)).tocsr()


def everyone(seed=0):
    """One policy of each kind."""
    return [
        kl.TsallisINF(seed=seed),
        kl.TsallisINF(seed=seed, estimator="reduced_variance"),
        kl.BinnedTsallisINF(3, seed=seed, interval=(0, 10)),
        kl.ChebCB(seed=seed),
        kl.ChebCB(seed=seed, interval=(0, 10), degree=2),
        kl.Young(**YOUNG),
        kl.YoungCB(kl.Young(**YOUNG)),
        kl.Fixed(1.5),
        kl.ExploreThenCommit(trials=2),
    ]


def play(policy, rounds, start=0):
    """Let a policy choose against losses whose best value moves with the context."""
    chosen = []
    for t in range(start, start + rounds):
        c = 5 + 5 * math.sin(t / 7)
        value = policy.choose(c)
        chosen.append(value)
        policy.observe(10 + 90 * (value - 1.2 - 0.06 * c) ** 2 + 0.5 * math.sin(31 * t))
    return chosen


# -- kernels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [2.0, 0.2, 1e-3])
def test_tsallis_distribution(eta):
    rng = np.random.default_rng(0)
    for losses in (np.zeros(5), rng.exponential(50, 20), np.array([0.0, 1e9]), np.zeros(1)):
        p = np.empty(losses.size)
        bandits.tsallis(losses, eta, p)
        x = scipy.optimize.brentq(
            lambda x, losses=losses: np.sum(4 * (eta * (losses - x)) ** -2) - 1,
            losses.min() - 2 * losses.size**0.5 / eta, losses.min() - 1.9 / eta, xtol=1e-13,
        )  # fmt: skip
        assert p == pytest.approx(4 * (eta * (losses - x)) ** -2.0, rel=1e-6, abs=1e-15)
        assert abs(p.sum() - 1) < 1e-14 and np.all(p > 0)


def test_probabilities_do_not_depend_on_where_arrays_lie():
    room, losses = np.zeros(100), np.random.default_rng(0).exponential(50, 20)
    for kernel in (bandits.tsallis, bandits.inverse_gap):
        seen = set()
        for at, to in ((0, 20), (0, 40), (3, 23), (20, 0), (60, 1)):
            y, p = room[at : at + 20], room[to : to + 20]
            y[:] = losses
            kernel(y, 0.05, p)
            seen.add(p.tobytes())
        assert len(seen) == 1


def test_inverse_gaps_and_draws():
    p = np.empty(3)
    bandits.inverse_gap(np.array([3.0, 1.0, 2.0]), 10.0, p)
    assert p == pytest.approx([1 / 23, 1 - 1 / 23 - 1 / 13, 1 / 13])
    assert [bandits.draw(p, u) for u in (0.0, 1 / 22, 0.92, 0.93)] == [0, 1, 1, 2]
    # Rounding may leave the sum below u: still an index that could be drawn.
    assert bandits.draw(np.array([0.5, 0.5 - 1e-12, 0.0]), 1 - 1e-15) == 1


def test_cholesky_of_small_normal_equations():
    rng = np.random.default_rng(1)
    for m in (1, 3, 6):
        X, y = rng.standard_normal((9, m)), rng.standard_normal(9)
        theta, factor = np.empty(m), np.empty((m, m))
        bandits.refit(X.T @ X, X.T @ y, 0.1, theta, factor)
        assert theta == pytest.approx(np.linalg.solve(X.T @ X + 0.1 * np.eye(m), X.T @ y))


def test_counts_of_sweeps_are_those_of_sor():
    A, rng = poisson(6, 0.3), np.random.default_rng(2)
    b = rng.standard_normal((6, 6))
    b /= np.linalg.norm(b)
    omegas = np.array([1.0, 1.4, 1.8, 1.5, 1.9])
    counts = lanes(sor_counts, omegas, b, 4.3, 1e-8, most=1000)
    L, D = sp.tril(A, -1).toarray(), np.diag(A.diagonal())
    for omega, count in zip(omegas, counts):
        x, sweeps, r = np.zeros(36), 0, b.ravel()
        while np.linalg.norm(r) > 1e-8:
            x += np.linalg.solve(D / omega + L, r)
            r = b.ravel() - A @ x
            sweeps += 1
        assert count == sweeps
    assert lanes(sor_counts, omegas[:1], b, 4.3, 1e-8, most=3)[0] == 3


def test_counts_of_iterations_are_those_of_ssor_cg():
    A, b = 0.7 * poisson(9) + sp.eye_array(81), np.random.default_rng(3).standard_normal(81)
    omegas = np.array([1.0, 1.2, 1.5, 1.7, 1.9])
    tolerance = 1e-8 * np.linalg.norm(b)
    counts = lanes(ssor_cg_counts, omegas, b.reshape(9, 9), 1 + 4 * 0.7, 0.7, tolerance, most=200)
    for omega, count in zip(omegas, counts):
        _, info = kl.cg(A, b, rtol=1e-8, M=kl.SSOR(A, omega=omega))
        assert info.iterations == count


# -- estimates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["importance", "reduced_variance"])
@pytest.mark.parametrize("rounds", [3, 400])
def test_estimates_are_unbiased(estimator, rounds):
    losses = np.array([12.0, 5.0, 30.0, 9.0])
    policy = kl.TsallisINF([1.0, 1.2, 1.4, 1.6], estimator=estimator, seed=3)
    for _ in range(rounds):
        policy.choose()
        policy.observe(losses[policy._arm])
    policy.choose()
    p, mean, text = policy.probabilities, np.zeros(4), policy.to_json()
    for arm in range(4):
        tried = Learner.from_json(text)
        tried._arm, before = arm, tried._losses.copy()
        # The mean loss, which the round changes, is a scale of the whole, not part of the estimate.
        tried._learn(arm, losses[arm])
        mean += p[arm] * (tried._losses - before)
    assert mean == pytest.approx(losses - 1)


def test_least_squares_of_chebcb_and_their_growing_interval():
    fixed, growing = (kl.ChebCB(degree=3, interval=i, ridge=1e-9) for i in ((-4, 9), (0, 1)))
    rng = np.random.default_rng(4)
    seen = []
    for _ in range(300):
        c, loss = rng.uniform(-3, 8), rng.uniform(5, 50)
        arm = int(rng.integers(20))
        for policy in (fixed, growing):
            policy.choose(c)
            policy._arm = arm
            policy.observe(loss)
        seen.append((arm, c, loss))
    at = np.array([(c, loss) for arm, c, loss in seen if arm == 7])
    series = np.polynomial.Chebyshev.fit(*at.T, 3, domain=(-4, 9))
    assert fixed.predict(2.5)[7] == pytest.approx(series(2.5), rel=1e-3)
    assert growing.interval[0] <= -2.9 and growing.interval[1] >= 7.9
    assert growing.predict(2.5) == pytest.approx(fixed.predict(2.5), rel=1e-4)


def test_young_is_analytic_under_a_shift():
    A = poisson(12)
    exact = math.cos(math.pi / 13)
    young = kl.Young(A)
    assert young.radius == pytest.approx(exact, rel=2e-3) and young.diagonal == 4
    for c in (-0.05, 0.0, 0.5, 3.0):
        B = A + c * sp.eye_array(144)
        radius = np.abs(np.linalg.eigvalsh(np.eye(144) - B.toarray() / (4 + c))).max()
        assert kl.Young(radius=exact, diagonal=4.0).radius_at(c) == pytest.approx(radius)
        assert kl.Young(B).choose() == pytest.approx(young.choose(c), abs=0.02)
    crank = kl.Young(radius=exact, diagonal=4.0, family="I + cA")
    for c in (0.01, 0.5, 10.0):
        B = np.eye(144) + c * A.toarray()
        radius = np.abs(np.linalg.eigvalsh(np.eye(144) - B / (1 + 4 * c))).max()
        assert crank.radius_at(c) == pytest.approx(radius)


# -- regret ---------------------------------------------------------------------------------------


def totals(steps, policies, law=(2.0, 6.0), seed=0):
    """Run SOR counts on shifted Laplacians; return totals of the policies and of each omega."""
    rng = np.random.default_rng(seed)
    total, grid = np.zeros(len(policies)), np.zeros(OMEGAS.size)
    for _ in range(steps):
        c = -0.15 + 0.6 * rng.beta(*law)
        b = rng.standard_normal((10, 10))
        b /= np.linalg.norm(b)
        omegas = np.append(OMEGAS, [policy.choose(c) for policy in policies])
        counts = lanes(sor_counts, omegas, b, 4 + c, 1e-8, most=10000)
        grid += counts[: OMEGAS.size]
        total += counts[OMEGAS.size :]
        for policy, loss in zip(policies, counts[OMEGAS.size :]):
            policy.observe(loss)
    return total, grid


def test_regret_on_shifted_laplacians():
    young = kl.Young(radius=math.cos(math.pi / 11), diagonal=4.0)
    misled = [kl.Young(radius=told, diagonal=4.0) for told in (0.5, 0.8, 0.93, 0.98)]
    (tsallis, reduced, cheb, formula, joint, wrong, *mended), grid = totals(
        2000, [kl.TsallisINF(), kl.TsallisINF(estimator="reduced_variance"), kl.ChebCB(),
               young, kl.YoungCB(young), misled[0], *map(kl.YoungCB, misled)],
    )  # fmt: skip
    assert tsallis < 1.25 * grid.min() and reduced < 1.25 * grid.min()
    assert grid.max() > 5 * grid.min()
    assert cheb < grid.min() and cheb < tsallis
    assert formula < 0.9 * cheb
    assert joint < 1.02 * formula
    # Where the formula is told a wrong radius, the bandit on it is no worse than one without it.
    assert wrong > 2 * formula and max(mended) < 1.02 * cheb


def test_joint_policy_keeps_to_young_where_contexts_are_hard():
    # Losses that rise steeply in the hardest contexts: what Young would have cost is known there.
    young = kl.Young(radius=math.cos(math.pi / 11), diagonal=4.0)
    (formula, joint), _ = totals(3000, [young, kl.YoungCB(young)], law=(0.5, 1.5), seed=3)
    assert joint < 1.01 * formula


def test_committing():
    policy = kl.ExploreThenCommit([1.0, 1.5, 1.9], trials=2)
    chosen = play(policy, 10)
    assert chosen[:6] == [1.0, 1.5, 1.9] * 2 and set(chosen[6:]) == {1.5}


# -- failures, saving -----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", everyone(), ids=lambda p: type(p).__name__)
def test_a_failure_is_no_bargain(policy):
    policy.choose(1.0)
    policy.observe(math.inf)  # before anything is known
    for _ in range(400):
        value = policy.choose(1.0)
        policy.observe(math.nan if value < 1.2 else 50.0)
    assert np.isfinite(policy.probabilities).all()
    if policy.values.size > 1:
        assert policy.best(1.0) >= 1.2


@pytest.mark.parametrize("k", range(len(everyone())), ids=[type(p).__name__ for p in everyone()])
def test_seeds_pickles_and_json(k, tmp_path):
    policy = everyone(5)[k]
    assert play(policy, 60) == play(everyone(5)[k], 60)
    policy.choose(3.0)  # which waits for its loss
    policy.save(tmp_path / "policy.json")
    copies = [
        pickle.loads(pickle.dumps(policy)), Learner.from_json(policy.to_json()),
        type(policy).load(tmp_path / "policy.json"),
    ]  # fmt: skip
    policy.observe(33.0)
    expected = play(policy, 60, start=60)
    for copy in copies:
        assert type(copy) is type(policy)
        copy.observe(33.0)
        assert play(copy, 60, start=60) == expected
        assert np.array_equal(copy.probabilities, policy.probabilities)
    p = policy.probabilities
    assert p.sum() == pytest.approx(1) and np.all(p >= 0)
    assert policy.rounds == 121 and f"{policy.rounds} rounds" in repr(policy)


def test_seeds_matter():
    assert play(kl.TsallisINF(seed=1), 50) != play(kl.TsallisINF(seed=2), 50)


def test_what_is_no_saved_policy():
    record = json.loads(kl.TsallisINF().to_json())
    for change in (
        {"policy": "object"}, {"policy": 3}, {"state": {}}, {"settings": {"values": "x"}},
        {"settings": {"nothing": 1}}, {"random": {}}, {"state": record["state"] | {"_losses": [1]}},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            Learner.from_json(json.dumps(record | change))
    for text in ("", "[]", "3", '"x"', pickle.dumps(kl.TsallisINF()).hex()):
        with pytest.raises(ValueError):
            Learner.from_json(text)
    # What the state has besides is not taken over.
    record["state"]["choose"] = "gone"
    assert Learner.from_json(json.dumps(record)).choose() in OMEGAS


def test_bad_settings_are_refused():
    for make in (
        lambda: kl.TsallisINF([]), lambda: kl.TsallisINF([1.0, math.nan]),
        lambda: kl.TsallisINF(estimator="best"), lambda: kl.TsallisINF(loss="euros"),
        lambda: kl.BinnedTsallisINF(0), lambda: kl.BinnedTsallisINF([0.5, 0.2]),
        lambda: kl.ChebCB(degree=-1), lambda: kl.ChebCB(interval=(1, 1)), lambda: kl.ChebCB(eta=0),
        lambda: kl.Young(), lambda: kl.Young(np.zeros((2, 2))), lambda: kl.Young(family="A"),
        lambda: kl.ExploreThenCommit(trials=0), lambda: kl.YoungCB(kl.Young(**YOUNG), reach=0),
        lambda: kl.YoungCB(kl.Young(**YOUNG), limits=(1.0, 2.0)),
        lambda: kl.ChebCB().choose(math.nan),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            make()


def test_every_policy_is_registered_and_follows_the_protocol():
    for entry in registry.entries("policy"):
        assert getattr(kl, entry.load().__name__) is entry.load()
    assert {entry.load() for entry in registry.entries("policy")} == {type(p) for p in everyone()}
    assert all(isinstance(policy, kl.Policy) for policy in everyone())


# -- in solvers -----------------------------------------------------------------------------------


class Recorder:
    def __init__(self, value=1.3, loss="iterations"):
        self.value, self.loss, self.contexts, self.losses = value, loss, [], []

    def choose(self, context=None):
        self.contexts.append(context)
        return self.value

    def observe(self, loss):
        self.losses.append(loss)


def test_preconditioned_cg_tells_the_policy():
    A, b, policy = poisson(8), np.ones(64), Recorder()
    M = kl.SSOR(A, omega=policy, context=1.0)
    first = kl.cg(A, b, M=M)[1].iterations
    kl.cg(A, b, M=M)  # the choice has been paid for
    M.update(A, context=2.0)
    policy.value = 1.7
    M.update(A, context=3.0)
    second = kl.gmres(A, b, M=M)[1].iterations
    assert policy.contexts == [1.0, 2.0, 3.0] and policy.losses == [first, second]
    assert M.omega == 1.7 and first != second
    copy = pickle.loads(pickle.dumps(M))
    copy.update(A, context=4.0)
    assert copy.policy.contexts[-1] == 4.0 and policy.contexts[-1] == 3.0


def test_losses_in_seconds_and_of_failures():
    A, b, policy = poisson(8), np.ones(64), Recorder(loss="seconds")
    _, info = kl.sor(A, b, omega=policy)
    assert policy.losses == [info.setup_seconds + info.solve_seconds]
    for call in (
        lambda p: kl.ssor(A, b, omega=p, maxiter=2), lambda p: kl.sor(A, b * np.nan, omega=p),
        lambda p: kl.cg(A, b, M=kl.SSOR(A, omega=p), maxiter=1),
        # Diverges in few sweeps: a bargain for who counts them.
        lambda p: kl.sor(sp.csr_array([[1.0, 5.0], [5.0, 1.0]]), b[:2], omega=p),
    ):  # fmt: skip
        failed = Recorder()
        assert call(failed)[1] != 0 and failed.losses == [math.inf]

    def stop(x):
        raise StopIteration

    stopped = Recorder()
    _, info = kl.sor(A, b, omega=stopped, callback=stop)
    assert info != 0 and stopped.losses == [1]
    with pytest.raises(ValueError, match="between 0 and 2"):
        kl.SSOR(A, omega=Recorder(2.0))


def test_policies_learn_in_solvers():
    A, rng = poisson(12), np.random.default_rng(6)
    policy, M = kl.TsallisINF([0.2, 1.0, 1.6], seed=0), None
    for _ in range(60):
        B = A + rng.uniform(0, 0.05) * sp.eye_array(144)
        M = kl.SSOR(B.tocsr(), omega=policy) if M is None else M.update(B)
        _, info = kl.cg(B, rng.standard_normal(144), rtol=1e-8, M=M)
        assert info == 0
    assert policy.rounds == 60 and policy.best() == 1.6
    joint = kl.YoungCB(kl.Young(A))
    for _ in range(20):
        c = rng.uniform(0, 0.05)
        x, info = kl.sor(A + c * sp.eye_array(144), np.ones(144), omega=joint, context=c)
        assert info == 0
    assert joint.rounds == 20


def test_policies_in_a_sequence():
    A = poisson(10)
    systems = [((A + c * sp.eye_array(100)).tocsr(), np.ones(100), c) for c in (0.0, 0.1, 0.1, 0.3)]
    policy = Recorder()
    told = dict(context=lambda system: system[2])
    make = dict(method="cg", M=lambda A: kl.SSOR(A, omega=policy))
    counts = [info.iterations for _, info in kl.solve_sequence(systems, **make, **told)]
    # The first M is made by the caller's function, which has not asked for a context.
    assert policy.contexts == [None, 0.1, 0.1, 0.3] and policy.losses == counts
    policy = Recorder()
    answers = kl.solve_sequence(systems, method="sor", omega=policy, **told)
    assert [info.iterations for _, info in answers] == policy.losses
    assert policy.contexts == [0.0, 0.1, 0.1, 0.3]


# -- the benchmark ---------------------------------------------------------------------------------


def test_papers_command(tmp_path, monkeypatch):
    from functools import partial

    from krylearn.benchmarks.papers import paper_names, relax, run_paper
    from krylearn.benchmarks.papers.relax import auto, decisions, heat, joint, shifted

    assert "relax" in paper_names()
    small = {
        "shifted/Beta(2, 6)": partial(shifted.run, "Beta(2, 6)", 1, 60),
        "heat/10": partial(heat.count, 10, 250, range(2)),
        "heat/12": partial(heat.count, 12, 500, range(1)),
        "joint/0.5": partial(joint.run, "0.5", 50),
        "decisions/10": partial(decisions.run, 10, 5),
        "clock/10": partial(heat.clock, 10, 1000),
        "auto/darcy": partial(auto.run, "darcy", 6),
    }
    monkeypatch.setattr(relax, "parts", lambda full: small)
    monkeypatch.setitem(auto.SEQUENCES, "darcy", lambda count: kl.problems.sequence(
        "darcy", count, shape=(12, 12)))  # fmt: skip
    out = tmp_path / "here" / "relax.json"
    results = run_paper(None, "relax", out)
    assert list(results["parts"]) == list(small)
    rows = {row["policy"]: row for row in results["parts"]["heat/10"]["rows"]}
    assert rows["best fixed omega"]["to_best_fixed"] == 1.0
    assert rows["instance-optimal"]["iterations"] <= rows["best fixed omega"]["iterations"]
    assert rows["CG"]["iterations"] > rows["omega = 1"]["iterations"]
    assert results["parts"]["heat/10"]["marks"][-1] == 20
    assert len(rows["Young"]["regret_fixed"]) == 20
    told = {row["policy"]: row["iterations"] for row in results["parts"]["joint/0.5"]["rows"]}
    assert told["instance-optimal"] <= told["best fixed omega"] < told["Young"]
    assert all(row["cold_us"] > 0 for row in results["parts"]["decisions/10"]["rows"])
    run = results["parts"]["auto/darcy"]
    assert run["fixed"][run["best"]] == min(run["fixed"].values()) and run["auto"] > 0
    # A finished run is made anew; with a pattern, the other parts stay.
    again = run_paper(None, "relax", out, only="clock")
    assert again["parts"]["heat/10"] == results["parts"]["heat/10"]
    assert again["parts"]["clock/10"] != results["parts"]["clock/10"]
    for wrong in (dict(name="nothing"), dict(name="relax", only="nothing")):
        with pytest.raises(ValueError):
            run_paper(None, **wrong)
    from rich.console import Console

    lines = tmp_path / "tables.txt"
    with lines.open("w") as file:
        run_paper(Console(file=file, width=120), "relax", out, resume=True)
    text = lines.read_text()
    assert all(word in text for word in ("Young and bandit", "AutoSolver", "multigrid-CG"))
    pytest.importorskip("matplotlib")
    assert {p.name for p in out.parent.glob("*.png")} == {
        "relax-regret.png", "relax-sizes.png", "relax-auto.png"}  # fmt: skip
