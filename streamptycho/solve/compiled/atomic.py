"""Atomic counters, yielding, prefetching and calls through an address, which numba lacks."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

give_way = types.ExternalFunction("sched_yield", types.int32())
"""Let another thread have the core (POSIX)."""


def _atomic(operation: str) -> Any:
    """Intrinsic (array of int64, index, value) -> the old element; sequentially consistent."""

    def typed(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            return builder.atomic_rmw(operation, builder.gep(data, [arguments[1]]), arguments[2], "seq_cst")

        return types.int64(array, types.int64, types.int64), generate

    return intrinsic(typed)


fetch_add = _atomic("add")
swap = _atomic("xchg")


def _call_transform(typing_context: Any, function: Any, plan: Any, data: Any) -> Any:
    """Call ``void function(plan, data, data)``, all given as addresses: FFTW's new-array execution, in place."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word, word, word])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1], arguments[2], arguments[2]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.intp), generate


call_transform: Any = intrinsic(_call_transform)


def _prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Fetch an element of a one-dimensional array to the second-level cache; a hint, which never fails."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [address.type], kind)
        builder.call(function, [address, number(0), number(2), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


prefetch: Any = intrinsic(_prefetch)
