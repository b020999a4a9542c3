"""Elementary functions that the compiler can turn into vector instructions.

In float32 they are polynomials, right to about 2e-7 of the value; in float64, which is for
checking, they are the C library's. NaN in gives NaN out; infinities are not told apart. None of
them may be compiled with `reassoc`: the rounding trick in `exp` would be simplified away.
"""

# pyright: reportCallIssue=false
# an intrinsic is called without its first parameter, the typing context

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

EXACT: Any = {"fastmath": {"contract"}}
LOWEST = -87.0  # exp of it is the smallest normal float32, about
NEAR = 0.625  # tanh is a series within it
_I32 = ir.IntType(32)
_SQRT_HALF = 0x3F3504F3  # the bits of sqrt(1/2) in float32


def _i32(value: int) -> ir.Constant:
    return ir.Constant(_I32, value)


@intrinsic
def _two_to(typingctx, shifted):
    """2^n, for n that was rounded by adding 1.5 x 2^23: its last bits are n."""

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], _I32)
        bits = builder.shl(builder.add(bits, _i32(127)), _i32(23))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32), codegen


def _exponent_bits(builder, bits):
    """The n of x = m 2^n with m in [sqrt(1/2), sqrt(2))."""
    return builder.ashr(builder.sub(bits, _i32(_SQRT_HALF)), _i32(23))


@intrinsic
def _exponent(typingctx, x):
    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], _I32)
        return builder.sitofp(_exponent_bits(builder, bits), ir.FloatType())

    return types.float32(types.float32), codegen


@intrinsic
def _mantissa(typingctx, x):
    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], _I32)
        shifted = builder.shl(_exponent_bits(builder, bits), _i32(23))
        return builder.bitcast(builder.sub(bits, shifted), ir.FloatType())

    return types.float32(types.float32), codegen


@intrinsic
def _guess_inverse_root(typingctx, x):
    """1 / sqrt(x) within 4 %, by halving the exponent in the bits."""

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(args[0], _I32)
        bits = builder.sub(_i32(0x5F3759DF), builder.lshr(bits, _i32(1)))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32), codegen


def inverse_root(x):
    """1 / sqrt(x), for normal x > 0. A vector of square roots and a division cost four times it."""
    return 1 / math.sqrt(x)


@overload(inverse_root, jit_options=EXACT)
def _inverse_root(x):
    if x == types.float64:
        return lambda x: 1 / math.sqrt(x)
    half, three_halves = np.float32(0.5), np.float32(1.5)

    def inverse_root32(x):
        halved = half * x
        y = _guess_inverse_root(x)
        y = y * (three_halves - halved * y * y)  # Newton's steps, each squares the error
        y = y * (three_halves - halved * y * y)
        y = y * (three_halves - halved * y * y)
        return y + y * (half - halved * y * y)

    return inverse_root32


def exp(x):
    """e^x for x <= 88; under `LOWEST` it stays at its value there, which no sum can see."""
    return math.exp(x)


@overload(exp, jit_options=EXACT)
def _exp(x):
    if x == types.float64:
        return lambda x: math.exp(x)
    lowest, per_ln2 = np.float32(LOWEST), np.float32(1 / math.log(2))
    round_off = np.float32(1.5 * 2**23)
    ln2_high, ln2_low = np.float32(0.693359375), np.float32(math.log(2) - 0.693359375)
    one, half = np.float32(1), np.float32(1 / 2)
    c3, c4, c5, c6 = (np.float32(1 / math.factorial(n)) for n in (3, 4, 5, 6))

    def exp32(x):
        x = lowest if x < lowest else x
        shifted = x * per_ln2 + round_off
        n = shifted - round_off
        r = (x - n * ln2_high) - n * ln2_low
        series = ((((c6 * r + c5) * r + c4) * r + c3) * r + half) * r + one
        return (series * r + one) * _two_to(shifted)

    return exp32


def log(x):
    """ln x, for normal x > 0."""
    return math.log(x)


@overload(log, jit_options=EXACT)
def _log(x):
    if x == types.float64:
        return lambda x: math.log(x)
    # ln(1 + m) = m - m^2/2 + m^3 P(m) on [sqrt(1/2) - 1, sqrt(2) - 1], P fitted in `_log_series`
    p0, p1, p2, p3, p4, p5, p6, p7, p8 = (np.float32(c) for c in _log_series())
    one, half, ln2 = np.float32(1), np.float32(0.5), np.float32(math.log(2))

    def log32(x):
        m = _mantissa(x) - one
        series = p8 * m + p7
        series = ((series * m + p6) * m + p5) * m + p4
        series = (((series * m + p3) * m + p2) * m + p1) * m + p0
        found = (series * m - half) * (m * m) + m + _exponent(x) * ln2
        return found if x == x else x

    return log32


def _log_series() -> np.ndarray:
    """The coefficients of P, lowest first, by interpolation at Chebyshev points in float64."""
    low, high = math.sqrt(0.5) - 1, math.sqrt(2) - 1
    nodes = np.polynomial.chebyshev.chebpts1(9) * (high - low) / 2 + (high + low) / 2
    values = (np.log1p(nodes) - nodes + nodes**2 / 2) / nodes**3
    return np.polynomial.Polynomial.fit(nodes, values, 8).convert().coef


def log1p(x):
    """ln(1 + x) for x in [0, 1], right to the last digits of a small x too."""
    return math.log1p(x)


@overload(log1p, jit_options=EXACT)
def _log1p(x):
    if x == types.float64:
        return lambda x: math.log1p(x)
    one = np.float32(1)

    def log1p32(x):
        y = one + x
        return log(y) - ((y - one) - x) / y

    return log1p32


def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1 / (1 + math.exp(-x))


@overload(sigmoid, jit_options=EXACT)
def _sigmoid(x):
    one = np.float32(1) if x == types.float32 else 1.0

    def impl(x):
        small = exp(-abs(x))
        return (one if x >= 0 else small) / (one + small)

    return impl


def tanh(x):
    """(1 - e^-2x) / (1 + e^-2x)."""
    return math.tanh(x)


@overload(tanh, jit_options=EXACT)
def _tanh(x):
    if x == types.float64:
        return lambda x: math.tanh(x)
    # near 0, where 1 - e^-2x cancels: tanh x = x + x^3 P(x^2), P fitted in `_tanh_series`
    p0, p1, p2, p3, p4, p5 = (np.float32(c) for c in _tanh_series())
    one, two, near = np.float32(1), np.float32(2), np.float32(NEAR)

    def tanh32(x):
        z = x * x
        series = ((((p5 * z + p4) * z + p3) * z + p2) * z + p1) * z + p0
        inner = x + x * z * series
        small = exp(-two * abs(x))
        outer = (one - small) / (one + small)
        outer = -outer if x < 0 else outer
        return inner if abs(x) < near else outer

    return tanh32


def _tanh_series() -> np.ndarray:
    """The coefficients of P, lowest first, by interpolation at Chebyshev points in float64."""
    z = (np.polynomial.chebyshev.chebpts1(6) + 1) * NEAR**2 / 2
    values = (np.tanh(np.sqrt(z)) / np.sqrt(z) - 1) / z
    return np.polynomial.Polynomial.fit(z, values, 5).convert().coef


def softplus(x):
    """ln(1 + e^x)."""
    return max(x, 0) + math.log1p(math.exp(-abs(x)))


@overload(softplus, jit_options=EXACT)
def _softplus(x):
    zero = np.float32(0) if x == types.float32 else 0.0

    def impl(x):
        return (zero if x < zero else x) + log1p(exp(-abs(x)))

    return impl


def cross_entropy(x, target):
    """-target ln p - (1 - target) ln(1 - p), p = sigmoid(x); right to the last digits when tiny."""
    return max(x, 0) - x * target + math.log1p(math.exp(-abs(x)))


@overload(cross_entropy, jit_options=EXACT)
def _cross_entropy(x, target):
    zero = np.float32(0) if x == types.float32 else 0.0

    def impl(x, target):
        sure = (zero if x < zero else x) - x * target  # 0 for a right answer
        return sure + log1p(exp(-abs(x)))

    return impl
