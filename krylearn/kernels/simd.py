"""Eight neighbouring numbers as one value of a kernel: a vector register.

Whether a compiler vectorises a loop hangs on whether it can prove that arrays do not overlap, which
it gives up on when there are more than a few. A kernel that loads, computes and stores eight at
a time leaves nothing to prove. Every processor has registers for it, one or several for a value.

Indices are not checked, and negative ones do not count from the end.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, overload, register_model

LANES = 8
# Products may be joined with sums, as in kernels that `parallel.jit` compiles.
_FLAGS = ("contract",)


class Eight(types.Type):
    """The type of eight numbers of a floating-point type."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(f"Eight({dtype})")


def _register(dtype: types.Float) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if dtype == types.float32 else ir.DoubleType(), LANES)


@register_model(Eight)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _register(kind.dtype))


def _place(context, builder, kind, array, at):
    """Return the address of an element of a contiguous array as that of eight."""
    data = context.make_array(kind)(context, builder, array).data
    place = builder.gep(data, [at])
    return builder.bitcast(place, ir.PointerType(_register(kind.dtype)))


@intrinsic
def load(typing, array, at):
    """Return the eight elements from ``array[at]`` on."""

    def code(context, builder, signature, arguments):
        kind = signature.args[0]
        place = _place(context, builder, kind, *arguments)
        return builder.load(place, align=kind.dtype.bitwidth // 8)

    return Eight(array.dtype)(array, at), code


@intrinsic
def store(typing, array, at, values):
    """Write eight elements from ``array[at]`` on."""

    def code(context, builder, signature, arguments):
        kind = signature.args[0]
        place = _place(context, builder, kind, *arguments[:2])
        builder.store(arguments[2], place, align=kind.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, at, values), code


@intrinsic
def eight(typing, value):
    """Return the same number eight times."""

    def code(context, builder, signature, arguments):
        kind = _register(signature.args[0])
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), arguments[0], _int(0))
        same = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), same)

    return Eight(value)(value), code


def _int(value: int) -> ir.Constant:
    return ir.Constant(ir.IntType(32), value)


def _arithmetic(name: str):
    @intrinsic
    def compute(typing, a, b):
        def code(context, builder, signature, arguments):
            return getattr(builder, name)(*arguments, flags=_FLAGS)

        return a(a, b), code

    return compute


def _binary(sign, name: str) -> None:
    compute = _arithmetic(name)

    @overload(sign)
    def operate(a, b):
        if isinstance(a, Eight) and a == b:
            return lambda a, b: compute(a, b)


for _sign, _name in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):  # fmt: skip
    _binary(_sign, _name)


@intrinsic
def reciprocal(typing, a):
    """Return 1 / a where a is positive, and 0 elsewhere."""

    def code(context, builder, signature, arguments):
        kind = _register(signature.args[0].dtype)
        one, zero = ir.Constant(kind, [1.0] * LANES), ir.Constant(kind, [0.0] * LANES)
        positive = builder.fcmp_ordered(">", arguments[0], zero)
        return builder.select(positive, builder.fdiv(one, arguments[0]), zero)

    return a(a), code


@intrinsic
def above(typing, a, limit):
    """Return a where it is above the limit, and 0 elsewhere."""

    def code(context, builder, signature, arguments):
        zero = ir.Constant(_register(signature.args[0].dtype), [0.0] * LANES)
        return builder.select(builder.fcmp_ordered(">", *arguments), arguments[0], zero)

    return a(a, limit), code


def _shuffle(order: list[int]):
    @intrinsic
    def shuffle(typing, a, b):
        def code(context, builder, signature, arguments):
            mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), order)
            return builder.shuffle_vector(*arguments, mask)

        return a(a, b), code

    return shuffle


# Of the sixteen elements of two: those of even and of odd number; of two alternating, the first
# and the last eight.
evens = _shuffle(list(range(0, 2 * LANES, 2)))
odds = _shuffle(list(range(1, 2 * LANES, 2)))
first = _shuffle([i // 2 + i % 2 * LANES for i in range(LANES)])
last = _shuffle([i // 2 + i % 2 * LANES for i in range(LANES, 2 * LANES)])


def _convert(name: str, dtype: types.Float):
    @intrinsic
    def convert(typing, a):
        def code(context, builder, signature, arguments):
            return getattr(builder, name)(arguments[0], _register(dtype))

        return Eight(dtype)(a), code

    return convert


single = _convert("fptrunc", types.float32)
double = _convert("fpext", types.float64)


@intrinsic
def total(typing, a):
    """Return the sum of the eight, always in the same order."""

    def code(context, builder, signature, arguments):
        parts = [builder.extract_element(arguments[0], _int(i)) for i in range(LANES)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [builder.fadd(x, y) for x, y in zip(parts[:half], parts[half:])]
        return parts[0]

    return a.dtype(a), code
