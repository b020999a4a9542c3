"""Arrays without an owner: a view of one then costs no atomic count of references.

A step takes dozens of views, and counting each in and out took a third of the kernels' time.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic


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
