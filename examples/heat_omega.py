"""
A heat simulation whose omega learns
====================================

Conduction in a plate under a circling flame, by Crank-Nicolson; the conductivity swings, and with
it how hard each step's system is. SSOR-CG solves them, warm-started. Its omega is 1, or that of a
bandit that looks at nothing, of one that looks at the step, or of Young's formula (Khodak et al.,
ICLR 2024).
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import krylearn as kl

plt.style.use("tableau-colorblind10")
SIDE, STEPS = (100, 1000) if "--large" in sys.argv else (40, 300)

# %%
# Each system is ``I + c L``, and c is known before it is solved: the context of a policy. The flame
# is out at half of the time, when the plate hardly conducts.

L = kl.GridOperator.diffusion(kl.Grid((SIDE, SIDE))).tocsr()
policies = {
    "omega = 1": kl.Fixed(1.0),
    "Tsallis-INF": kl.TsallisINF(seed=0),
    "ChebCB": kl.ChebCB(seed=0),
    "Young, one eigenvalue": kl.Young(L, family="I + cA"),
}
steps = list(kl.problems.heat((SIDE, SIDE), steps=STEPS, dt=1 / STEPS))
iterations, omegas = {}, {}
for name, policy in policies.items():
    M, counts, chosen = None, [], []
    for P in steps:
        A, c = P.A.tocsr(), P.params["kappa"] / (2 * STEPS)
        M = M.update(A, context=c) if M else kl.SSOR(A, omega=policy, context=c)
        x, info = kl.cg(A, P.b, x0=P.params["previous"], rtol=1e-8, M=M)
        assert info.converged
        counts.append(info.iterations)
        chosen.append(M.omega)
    iterations[name], omegas[name] = np.array(counts), np.array(chosen)
    print(f"{name:24}{sum(counts):7} iterations")

# %%
# What was paid, added up, and what was chosen.

time = np.arange(1, STEPS + 1) / STEPS
fig, (above, below) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, layout="constrained")
for (name, counts), dash in zip(iterations.items(), ("-", "--", "-.", ":")):
    above.plot(time, counts.cumsum(), dash, linewidth=2, label=name)
for (name, chosen), marker in zip(omegas.items(), ("_", ".", "x", "-")):
    below.plot(time, chosen, marker, markersize=4, label=name)
above.set(ylabel="iterations so far")
above.legend()
below.set(xlabel="time", ylabel="omega")
below.legend(ncols=2, fontsize="small")
plt.show()

# %%
# The plate.

fig, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
for ax, k in zip(axes, np.linspace(STEPS // 8, STEPS - 1, 4).astype(int)):
    ax.imshow(steps[k].exact.reshape(SIDE, SIDE).T, origin="lower", cmap="inferno")
    ax.set(title=f"t = {time[k]:.2f}", xticks=[], yticks=[])
plt.show()
