"""What a bandit does at every decision, in one call: microseconds, where NumPy takes tens."""

from __future__ import annotations

import math

import numpy as np

from krylearn.kernels.parallel import jit


@jit
def plain_sum(p):
    """Return the sum of p.

    A loop that also stores is vectorised or not by where its arrays lie in memory, which the
    rounding of a sum would show: the same seed would not give the same choices.
    """
    total = 0.0
    for value in p:
        total += value
    return total


@jit
def draw(p, u):
    """Return the first index at which the running sum of `p` exceeds `u`, uniform in [0, 1)."""
    total = 0.0
    for i in range(p.shape[0]):
        total += p[i]
        if u < total:
            return i
    # Rounding has left the sum just below u: the last index that could be drawn.
    return np.flatnonzero(p > 0)[-1]


@jit
def tsallis(losses, eta, p):
    """Write ``p_i = 4 / (eta (losses_i - x))**2`` with the x that makes them sum to one.

    With ``g_i = losses_i - min(losses)`` and ``y = min(losses) - x > 0`` this is
    ``h(y) = (sum (g_i + y)**-2)**-1/2 = 2 / eta``. h is increasing and concave, and
    ``h(2 / eta) <= 2 / eta``: from there Newton's iterates increase to the root without passing
    it, and x, which falls, stays below the smallest loss.
    """
    least = losses.min()
    goal = 2 / eta
    y = goal
    for _ in range(50):
        squares = cubes = 0.0
        for g in losses:
            w = 1 / (g - least + y)
            squares += w * w
            cubes += w * w * w
        # h' = cubes / squares**1.5
        change = (goal - 1 / math.sqrt(squares)) * squares * math.sqrt(squares) / cubes
        y += change
        if abs(change) <= 4e-16 * y:
            break
    for i in range(p.shape[0]):
        w = goal / (losses[i] - least + y)
        p[i] = w * w
    total = plain_sum(p)
    for i in range(p.shape[0]):
        p[i] /= total


@jit
def tsallis_draw(losses, eta, u, p):
    """Write the probabilities of `tsallis`; return an index drawn by `u`."""
    tsallis(losses, eta, p)
    return draw(p, u)


@jit
def reduced_variance(losses, p, rounds, unit, arm, loss):
    """Take a loss into the estimates, less the mean where arms are tried often enough for that.

    What is subtracted before weighing is added to all: no estimate is biased.
    """
    for i in range(p.shape[0]):
        if rounds * p[i] >= 16:
            losses[i] += unit
            if i == arm:
                loss -= unit
    losses[arm] += loss / p[arm]


@jit
def chebyshev(z, features):
    """Write ``T_0(z), T_1(z), ...``."""
    features[0] = 1.0
    if features.shape[0] > 1:
        features[1] = z
    for k in range(2, features.shape[0]):
        features[k] = 2 * z * features[k - 1] - features[k - 2]


@jit
def predict(theta, features, y):
    """Write ``theta @ features``."""
    for i in range(y.shape[0]):
        total = 0.0
        for k in range(features.shape[0]):
            total += theta[i, k] * features[k]
        y[i] = total


@jit
def inverse_gap(y, eta, p):
    """Write ``p_i = 1 / (d + eta (y_i - min y))``; the rest goes to the minimum."""
    best = y.argmin()
    for i in range(y.shape[0]):
        p[i] = 1 / (y.shape[0] + eta * (y[i] - y[best]))
    p[best] = 0.0
    p[best] = 1 - plain_sum(p)


@jit
def inverse_gap_draw(theta, z, eta, u, features, y, p):
    """Write the Chebyshev features of z, the predictions and `inverse_gap`; return an index."""
    chebyshev(z, features)
    predict(theta, features, y)
    inverse_gap(y, eta, p)
    return draw(p, u)


@jit
def factorise(gram, ridge, L):
    """Write the lower Cholesky factor of ``gram + ridge I``, its diagonal inverted."""
    for i in range(gram.shape[0]):
        for j in range(i):
            total = gram[i, j]
            for k in range(j):
                total -= L[i, k] * L[j, k]
            L[i, j] = total * L[j, j]
        total = gram[i, i] + ridge
        for k in range(i):
            total -= L[i, k] * L[i, k]
        # Rounding may leave a pivot of a nearly singular matrix below zero.
        L[i, i] = 1 / math.sqrt(max(total, 1e-14 * ridge))


@jit
def backsolve(L, b, x):
    """Write the solution of ``L L' x = b``, L being from `factorise`; x may be b."""
    n = b.shape[0]
    for i in range(n):
        total = b[i]
        for k in range(i):
            total -= L[i, k] * x[k]
        x[i] = total * L[i, i]
    for i in range(n - 1, -1, -1):
        total = x[i]
        for k in range(i + 1, n):
            total -= L[k, i] * x[k]
        x[i] = total * L[i, i]


@jit
def refit(gram, moment, ridge, theta, L):
    """Solve the least squares of one arm, `gram` and `moment` being its sums."""
    factorise(gram, ridge, L)
    backsolve(L, moment, theta)


@jit
def regress(features, loss, gram, moment, ridge, theta, L):
    """Take one more loss into the sums of one arm and `refit`."""
    for i in range(features.shape[0]):
        moment[i] += loss * features[i]
        for j in range(features.shape[0]):
            gram[i, j] += features[i] * features[j]
    refit(gram, moment, ridge, theta, L)


@jit
def posterior(gram, moment, features, centre, noise, spread, ridge, theta, y, sd, L, v):
    """Write every arm's expected loss and its standard deviation, Gaussian both.

    The coefficients of an arm lie about those of its neighbour towards the centre with standard
    deviation `spread`; `noise` is that of a loss.
    """
    d, m = y.shape[0], features.shape[0]
    for rank in range(d):
        # Outwards from the centre: up to the last arm, then down to the first.
        arm = centre + rank if centre + rank < d else d - 1 - rank
        inner = arm - 1 if arm > centre else arm + 1
        weight = ridge if arm == centre else (noise / spread) ** 2
        if gram[arm, 0, 0] == 0 and arm != centre:
            # Never tried: what its neighbour promises.
            theta[arm] = theta[inner]
            y[arm] = y[inner]
            sd[arm] = spread * math.sqrt(np.sum(features * features))
            continue
        factorise(gram[arm], weight, L)
        for k in range(m):
            prior = 0.0 if arm == centre else theta[inner, k]
            theta[arm, k] = moment[arm, k] + weight * prior
        backsolve(L, theta[arm], theta[arm])
        y[arm] = variance = 0.0
        for i in range(m):
            y[arm] += theta[arm, i] * features[i]
            total = features[i]
            for k in range(i):
                total -= L[i, k] * v[k]
            v[i] = total * L[i, i]
            variance += v[i] ** 2
        sd[arm] = noise * math.sqrt(variance)


@jit
def leader(y, centre):
    """Return the index of the least y, the nearest to the centre where several are equal."""
    lead = centre
    for away in range(1, y.shape[0]):
        for arm in (centre - away, centre + away):
            if 0 <= arm < y.shape[0] and y[arm] < y[lead] - 1e-6 * abs(y[lead]):
                lead = arm
    return lead


@jit
def hopeful(y, sd, lead, confidence):
    """Return which of the leader and its neighbours may, with confidence, have the least loss."""
    best = lead
    for arm in (lead - 1, lead + 1):
        if 0 <= arm < y.shape[0]:
            if y[arm] - confidence * sd[arm] < y[best] - confidence * sd[best]:
                best = arm
    return best


@jit
def guided(z, gram, moment, centre, noise, spread, ridge, confidence, features, theta, y, sd, L, v):
    """Write the features of z and the `posterior`; return the arm to try."""
    chebyshev(z, features)
    posterior(gram, moment, features, centre, noise, spread, ridge, theta, y, sd, L, v)
    return hopeful(y, sd, leader(y, centre), confidence)


@jit
def remember(features, loss, arm, memory, gram, moment):
    """Take one more loss into the sums of an arm, after all sums have faded by `memory`."""
    moment *= memory
    gram *= memory
    for k in range(features.shape[0]):
        moment[arm, k] += loss * features[k]
        for m in range(features.shape[0]):
            gram[arm, k, m] += features[k] * features[m]


@jit
def sums(values):
    """Return the sum and the sum of squares of real numbers, in one pass over them.

    Four sums at once: of a single one every addition waits for the one before it.
    """
    a = b = c = d = 0.0
    aa = bb = cc = dd = 0.0
    whole = values.shape[0] // 4 * 4
    for i in range(0, whole, 4):
        a += values[i]
        aa += values[i] * values[i]
        b += values[i + 1]
        bb += values[i + 1] * values[i + 1]
        c += values[i + 2]
        cc += values[i + 2] * values[i + 2]
        d += values[i + 3]
        dd += values[i + 3] * values[i + 3]
    for i in range(whole, values.shape[0]):
        a += values[i]
        aa += values[i] * values[i]
    return (a + b) + (c + d), (aa + bb) + (cc + dd)
