"""Arrays without an owner, and views of them that cost nothing.

A step takes dozens of views. Counting the references to each took a third of the kernels' time;
numba's reshape, which asks a C function whether it can, another tenth.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array


def _type_borrow(typingctx, value):
    return value(value), _borrow


borrow: Any = intrinsic(_type_borrow)
"""`borrow(value)`: the same array, or tuple of arrays, unowned; the caller keeps it alive."""


def _borrow(context, builder, signature, args):
    return _unowned(context, builder, signature.return_type, args[0])


def _unowned(context, builder, kind, value):
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value=value)
        array.meminfo = context.get_constant_null(types.MemInfoPointer(kind.dtype))
        array.parent = context.get_constant_null(types.pyobject)
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        for index, part in enumerate(tuple(kind)):  # type: ignore[arg-type]
            found = _unowned(context, builder, part, builder.extract_value(value, index))
            value = builder.insert_value(value, found, index)
    return value


def _type_matrix(typingctx, array, start, rows, columns):
    assert array.layout == "C"
    return types.Array(array.dtype, 2, "C")(array, start, rows, columns), _view


matrix: Any = intrinsic(_type_matrix)
"""`matrix(array, start, rows, columns)`: an unowned view from element `start` of a C-contiguous
array, whatever its shape. Nothing is checked."""


def _type_vector(typingctx, array):
    assert array.layout == "C"
    return types.Array(array.dtype, 1, "C")(array), _flat


vector: Any = intrinsic(_type_vector)
"""`vector(array)`: all of a C-contiguous array, flat, unowned."""


def _flat(context, builder, signature, args):
    source = context.make_array(signature.args[0])(context, builder, value=args[0])
    return _made(context, builder, signature.return_type, source.data, [source.nitems])


def _view(context, builder, signature, args):
    source = context.make_array(signature.args[0])(context, builder, value=args[0])
    intp = context.get_value_type(types.intp)
    start, *sizes = (builder.sext(n, intp) if n.type.width < intp.width else n for n in args[1:])
    return _made(context, builder, signature.return_type, builder.gep(source.data, [start]), sizes)


def _made(context, builder, kind, data, sizes):
    intp = context.get_value_type(types.intp)
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    itemsize = strides = intp(size)
    steps = [itemsize]
    for length in reversed(sizes[1:]):
        strides = builder.mul(strides, length)
        steps.insert(0, strides)
    array = context.make_array(kind)(context, builder)
    shape, strides = cgutils.pack_array(builder, sizes), cgutils.pack_array(builder, steps)
    populate_array(array, data=data, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
    return array._getvalue()
