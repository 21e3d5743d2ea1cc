"""What it costs that PETSc calls a preconditioner by way of Python."""

import json
import statistics
import sys
import time

import petsc4py

petsc4py.init(sys.argv)

import numpy as np  # noqa: E402
from petsc4py import PETSc  # noqa: E402

import krylearn as kl  # noqa: E402

side, repeats = PETSc.Options().getInt("side", 100), 25
A = kl.petsc.from_csr(kl.problems.poisson((side,) * 3).A.tocsr())
x, y = A.createVecs()
x.setArray(np.random.default_rng(0).standard_normal(side**3))
pc = PETSc.PC().create()
pc.setOperators(A)
context = kl.petsc.pc(pc, "multigrid")
pc.setUp()


def seconds(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


r, out = x.getArray().copy(), np.empty(side**3)
for _ in range(2):
    context.M.apply(r, out)
    pc.apply(x, y)
# In turns, so that whatever else the machine does meets both.
pairs = [(seconds(lambda: pc.apply(x, y)), seconds(lambda: context.M.apply(r, out)))
         for _ in range(repeats)]  # fmt: skip
through, direct = (statistics.median(times) for times in zip(*pairs))
assert np.allclose(y.getArray(), out)
context._apply = lambda r, out: None
hook = statistics.median(seconds(lambda: pc.apply(x, y)) for _ in range(2000))
print(json.dumps({
    "unknowns": side**3, "preconditioner": type(context.M).__name__, "hook": hook,
    "through": through, "direct": direct, "overhead": hook / direct,
    "difference": through / direct - 1,
}))  # fmt: skip
