"""Several right-hand sides at once: each column runs the method's own loop, in step.

Every column's loop runs in a greenlet. When it asks for a product with A (or M) it pauses; when
all columns have asked, one product with a block serves them all, so that the matrix passes
through memory once for all columns. A column that is done drops out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any

import numpy as np
from greenlet import getcurrent, greenlet

from krylearn.operators import Operator

# Columns in step at a time: bounds the memory of methods that keep a basis a column.
GROUP = 16


class _Asking(Operator):
    """What a column sees in place of A or M: hands the product over to the group."""

    def __init__(self, operator: Operator) -> None:
        super().__init__(operator.shape, operator.dtype)
        self.operator = operator
        self.identity = operator.identity

    def apply(self, x, out):
        if self.identity:
            return x
        return getcurrent().parent.switch((self.operator, x, out))

    def adjoint(self, x, out):
        return self.operator.adjoint(x, out)


def run_together(make: Callable[[Operator, Operator, int], Any], run: Callable[[Any], None],
                 A: Operator, M: Operator, columns: int) -> list[Any]:  # fmt: skip
    """Run one solve a column, in groups that share their products; return the solves in order."""
    solves: list[Any] = []
    for first in range(0, columns, GROUP):
        group = [
            make(_Asking(A), _Asking(M), j) for j in range(first, min(first + GROUP, columns))
        ]
        loops = [greenlet(run) for _ in group]
        for loop in loops:
            loop.gr_context = copy_context()  # NumPy's error state among others
        _run_group(loops, group)
        solves += group
    return solves


def _run_group(loops: list[greenlet], solves: list[Any]) -> None:
    asking = [(loop, loop.switch(solve)) for loop, solve in zip(loops, solves)]
    while True:
        asking = [(loop, request) for loop, request in asking if not loop.dead]
        if not asking:
            return
        # Columns may stand at different points of the loop: serve the operator most asked for.
        operators = [request[0] for _, request in asking]
        operator = max(operators, key=operators.count)
        served = [(loop, request) for loop, request in asking if request[0] is operator]
        waiting = [(loop, request) for loop, request in asking if request[0] is not operator]
        block = np.stack([x for _, (_, x, _) in served], axis=1)
        result = np.empty((operator.shape[0], len(served)), operator.dtype)
        operator.apply_block(block, result)
        answered = []
        for column, (loop, (_, _, out)) in enumerate(served):
            out[:] = result[:, column]
            answered.append((loop, loop.switch(out)))
        asking = waiting + answered
