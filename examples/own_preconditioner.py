"""
Your own preconditioner in one file
===================================

A preconditioner derives from `kl.Preconditioner`, fills in ``apply``, and says truly whether it is
linear, symmetric and positive definite. Here: a polynomial in the matrix, by Neumann's series.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.sparse import csr_array

import krylearn as kl
from krylearn.testing import check_preconditioner

plt.style.use("tableau-colorblind10")


class Neumann(kl.Preconditioner):
    """The sum of ``(I - A / d)^k / d`` for k from 0 to a degree, d bounding A's eigenvalues."""

    linear = symmetric = positive_definite = True

    def __init__(self, A, degree=4):
        A = csr_array(A)
        if A.ndim != 2 or A.shape[0] != A.shape[1]:
            raise ValueError(f"A must be square, not {A.shape}")
        super().__init__(A.shape, A.dtype)
        self.degree = degree
        self.update(A)

    def update(self, A):
        self.A = csr_array(A)
        self.bound = float(abs(self.A).sum(axis=1).max())  # Gershgorin
        return self

    def apply(self, r, out):
        out[:] = r / self.bound
        for _ in range(self.degree):
            out += (r - self.A @ out) / self.bound
        return out


# %%
# The contract that our own preconditioners pass, as a test of yours.

check_preconditioner(Neumann)

# %%
# It fits every method that takes an M, ours and scipy's.

P = kl.problems.diffusion((64, 64), contrast=10.0, seed=1)
A = P.A.tocsr()
tried = {"no M": (None, "-"), "Neumann, degree 4": (Neumann(A), "--"), "SSOR": (kl.SSOR(A), ":")}
for label, (M, dash) in tried.items():
    x, info = kl.cg(A, P.b, rtol=1e-8, M=M)
    print(f"{label:18} {info.iterations:4} iterations, {info.solve_seconds * 1e3:7.1f} ms")
    plt.semilogy(info.residuals / np.linalg.norm(P.b), dash, label=label)
plt.xlabel("iteration")
plt.ylabel("relative residual")
plt.legend()
plt.tight_layout()
plt.show()
