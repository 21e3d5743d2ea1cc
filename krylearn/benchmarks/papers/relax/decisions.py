"""What a decision costs: choosing and learning, at once and between solves that empty caches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import krylearn as kl
from krylearn.benchmarks.papers.relax import heat
from krylearn.benchmarks.papers.relax.race import policies
from krylearn.learned.relaxation import Policy

# Decisions that are not counted, the first ones of a policy.
BEFORE = 50


def run(nx: int, rounds: int, say: Callable[[str], Any]) -> dict[str, Any]:
    """Return the median microseconds of a decision, warm and cold.

    Warm: one decision after the other. Cold: each after an SSOR-CG solve of one step of the heat
    equation, as in use; its vectors and factors have taken the place of everything else in the
    caches near the processor.
    """
    problem = next(iter(heat.systems(nx, 750)))
    A = problem.A.tocsr()
    M, rng = kl.SSOR(A, omega=1.5), np.random.default_rng(0)
    contexts = rng.uniform(0.1, 10.0, 2 * rounds + BEFORE)
    rows = []
    for name, (policy, *_) in policies((0.0, 10.0), heat.young(nx), [0]).items():
        for c in contexts[:BEFORE]:
            _decide(policy, c)
        warm = [_decide(policy, c) for c in contexts[BEFORE : BEFORE + rounds]]
        cold = []
        for c in contexts[BEFORE + rounds :]:
            kl.cg(A, problem.b, problem.params["previous"], rtol=heat.RTOL, M=M)
            cold.append(_decide(policy, c))
        rows.append({"policy": name, "warm_us": float(np.median(warm) * 1e6),
                     "cold_us": float(np.median(cold) * 1e6),
                     "cold_us_90": float(np.quantile(cold, 0.9) * 1e6)})  # fmt: skip
        say(f"{name}: {rows[-1]['warm_us']:.1f} us warm, {rows[-1]['cold_us']:.1f} cold")
    return {"nx": nx, "rounds": rounds, "rows": rows}


def _decide(policy: Policy, context: float) -> float:
    """Return the seconds of one choice and of learning from what it has cost."""
    started = time.perf_counter()
    omega = policy.choose(context)
    chosen = time.perf_counter()
    loss = 10 + round(200 * (omega - 1.2 - 0.06 * context) ** 2)
    told = time.perf_counter()
    policy.observe(loss)
    return time.perf_counter() - told + chosen - started
