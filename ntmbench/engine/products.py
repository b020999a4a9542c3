"""Matrix products in which one operand streams through the registers once for several rows.

All arrays are C-contiguous; every inner loop runs along the last axis. `C +=` throughout.
Shape suffixes: P rows (steps or sequences), K summed over, G columns.
"""

from __future__ import annotations

from numba import njit

from ntmbench.engine.borrowed import vector

FAST = {"reassoc", "contract", "arcp", "nsz", "afn"}
"""Every fast-math flag but those that assume there is no NaN and no infinity."""

kernel = njit(fastmath=FAST, error_model="numpy", nogil=True)
"""How the engine's functions are compiled."""

inlined = njit(fastmath=FAST, error_model="numpy", forceinline=True)
"""For what is called from one place, once a step: a call copies the description of every array."""

glue = njit(fastmath=FAST, error_model="numpy", inline="always")
"""For functions that only pass arrays on: a call would copy the description of each."""


@kernel
def add_product(a_PK, b_KG, c_PG):
    """c += a b: four rows of a at a time, so that each b is read once for four."""
    rows, inner = a_PK.shape
    row = 0
    while row + 4 <= rows:
        _add_product_4(a_PK, b_KG, c_PG, row)
        row += 4
    while row < rows:
        a_K, c_G = a_PK[row], c_PG[row]
        k = 0
        while k + 8 <= inner:
            _add_8(a_K, b_KG, c_G, k)
            k += 8
        if k + 4 <= inner:
            _add_4(a_K, b_KG, c_G, k)
            k += 4
        while k < inner:
            a, b_G = a_K[k], b_KG[k]
            for g in range(c_G.size):
                c_G[g] += a * b_G[g]
            k += 1
        row += 1


@kernel
def _add_8(a_K, b_KG, c_G, k):
    a0, a1, a2, a3 = a_K[k], a_K[k + 1], a_K[k + 2], a_K[k + 3]
    a4, a5, a6, a7 = a_K[k + 4], a_K[k + 5], a_K[k + 6], a_K[k + 7]
    b0, b1, b2, b3 = b_KG[k], b_KG[k + 1], b_KG[k + 2], b_KG[k + 3]
    b4, b5, b6, b7 = b_KG[k + 4], b_KG[k + 5], b_KG[k + 6], b_KG[k + 7]
    for g in range(c_G.size):
        low = a0 * b0[g] + a1 * b1[g] + a2 * b2[g] + a3 * b3[g]
        c_G[g] += low + a4 * b4[g] + a5 * b5[g] + a6 * b6[g] + a7 * b7[g]


@kernel
def _add_4(a_K, b_KG, c_G, k):
    a0, a1, a2, a3 = a_K[k], a_K[k + 1], a_K[k + 2], a_K[k + 3]
    b0, b1, b2, b3 = b_KG[k], b_KG[k + 1], b_KG[k + 2], b_KG[k + 3]
    for g in range(c_G.size):
        c_G[g] += a0 * b0[g] + a1 * b1[g] + a2 * b2[g] + a3 * b3[g]


@kernel
def _add_product_4(a_PK, b_KG, c_PG, row):
    a0, a1, a2, a3 = a_PK[row], a_PK[row + 1], a_PK[row + 2], a_PK[row + 3]
    c0, c1, c2, c3 = c_PG[row], c_PG[row + 1], c_PG[row + 2], c_PG[row + 3]
    inner, k = a_PK.shape[1], 0
    while k + 4 <= inner:
        b0, b1, b2, b3 = b_KG[k], b_KG[k + 1], b_KG[k + 2], b_KG[k + 3]
        a00, a01, a02, a03 = a0[k], a0[k + 1], a0[k + 2], a0[k + 3]
        a10, a11, a12, a13 = a1[k], a1[k + 1], a1[k + 2], a1[k + 3]
        a20, a21, a22, a23 = a2[k], a2[k + 1], a2[k + 2], a2[k + 3]
        a30, a31, a32, a33 = a3[k], a3[k + 1], a3[k + 2], a3[k + 3]
        for g in range(c0.size):
            x0, x1, x2, x3 = b0[g], b1[g], b2[g], b3[g]
            c0[g] += a00 * x0 + a01 * x1 + a02 * x2 + a03 * x3
            c1[g] += a10 * x0 + a11 * x1 + a12 * x2 + a13 * x3
            c2[g] += a20 * x0 + a21 * x1 + a22 * x2 + a23 * x3
            c3[g] += a30 * x0 + a31 * x1 + a32 * x2 + a33 * x3
        k += 4
    while k < inner:
        b0 = b_KG[k]
        x0, x1, x2, x3 = a0[k], a1[k], a2[k], a3[k]
        for g in range(c0.size):
            c0[g] += x0 * b0[g]
            c1[g] += x1 * b0[g]
            c2[g] += x2 * b0[g]
            c3[g] += x3 * b0[g]
        k += 1


@kernel
def add_product_transposed(a_PG, b_KG, c_PK):
    """c += a b^T: dot products of rows, 2 x 4 of them at a time."""
    rows, outer = a_PG.shape[0], b_KG.shape[0]
    row = 0
    while row < rows:
        pair = row + 1 < rows
        k = 0
        while k + 4 <= outer:
            if pair:
                _dot_2_4(a_PG, b_KG, c_PK, row, k)
            else:
                _dot_1_4(a_PG[row], b_KG, c_PK[row], k)
            k += 4
        while k < outer:
            c_PK[row, k] += dot(a_PG[row], b_KG[k])
            if pair:
                c_PK[row + 1, k] += dot(a_PG[row + 1], b_KG[k])
            k += 1
        row += 2


@kernel
def dot(a_G, b_G):
    """The sum of a b."""
    total = a_G.dtype.type(0)
    for g in range(a_G.size):
        total += a_G[g] * b_G[g]
    return total


@kernel
def _dot_1_4(a_G, b_KG, c_K, k):
    b0, b1, b2, b3 = b_KG[k], b_KG[k + 1], b_KG[k + 2], b_KG[k + 3]
    s0 = s1 = s2 = s3 = a_G.dtype.type(0)
    for g in range(a_G.size):
        x = a_G[g]
        s0 += x * b0[g]
        s1 += x * b1[g]
        s2 += x * b2[g]
        s3 += x * b3[g]
    c_K[k] += s0
    c_K[k + 1] += s1
    c_K[k + 2] += s2
    c_K[k + 3] += s3


@kernel
def _dot_2_4(a_PG, b_KG, c_PK, row, k):
    a0, a1 = a_PG[row], a_PG[row + 1]
    b0, b1, b2, b3 = b_KG[k], b_KG[k + 1], b_KG[k + 2], b_KG[k + 3]
    s0 = s1 = s2 = s3 = a_PG.dtype.type(0)
    t0 = t1 = t2 = t3 = a_PG.dtype.type(0)
    for g in range(a0.size):
        x, y = a0[g], a1[g]
        s0 += x * b0[g]
        s1 += x * b1[g]
        s2 += x * b2[g]
        s3 += x * b3[g]
        t0 += y * b0[g]
        t1 += y * b1[g]
        t2 += y * b2[g]
        t3 += y * b3[g]
    c0, c1 = c_PK[row], c_PK[row + 1]
    c0[k] += s0
    c0[k + 1] += s1
    c0[k + 2] += s2
    c0[k + 3] += s3
    c1[k] += t0
    c1[k + 1] += t1
    c1[k + 2] += t2
    c1[k + 3] += t3


@kernel
def add_outer_products(a_PK, b_PG, c_KG):
    """c += a^T b: the gradient of weights, all steps and sequences in one product."""
    rows, outer = a_PK.shape
    k = 0
    while k + 4 <= outer:
        _add_outer_4(a_PK, b_PG, c_KG, k)
        k += 4
    while k < outer:
        c_G = c_KG[k]
        for row in range(rows):
            a, b_G = a_PK[row, k], b_PG[row]
            for g in range(c_G.size):
                c_G[g] += a * b_G[g]
        k += 1


@kernel
def _add_outer_4(a_PK, b_PG, c_KG, k):
    c0, c1, c2, c3 = c_KG[k], c_KG[k + 1], c_KG[k + 2], c_KG[k + 3]
    rows, row = a_PK.shape[0], 0
    while row + 4 <= rows:
        b0, b1, b2, b3 = b_PG[row], b_PG[row + 1], b_PG[row + 2], b_PG[row + 3]
        a0, a1, a2, a3 = a_PK[row], a_PK[row + 1], a_PK[row + 2], a_PK[row + 3]
        a00, a01, a02, a03 = a0[k], a0[k + 1], a0[k + 2], a0[k + 3]
        a10, a11, a12, a13 = a1[k], a1[k + 1], a1[k + 2], a1[k + 3]
        a20, a21, a22, a23 = a2[k], a2[k + 1], a2[k + 2], a2[k + 3]
        a30, a31, a32, a33 = a3[k], a3[k + 1], a3[k + 2], a3[k + 3]
        for g in range(c0.size):
            x0, x1, x2, x3 = b0[g], b1[g], b2[g], b3[g]
            c0[g] += a00 * x0 + a10 * x1 + a20 * x2 + a30 * x3
            c1[g] += a01 * x0 + a11 * x1 + a21 * x2 + a31 * x3
            c2[g] += a02 * x0 + a12 * x1 + a22 * x2 + a32 * x3
            c3[g] += a03 * x0 + a13 * x1 + a23 * x2 + a33 * x3
        row += 4
    while row < rows:
        b_G, a_K = b_PG[row], a_PK[row]
        x0, x1, x2, x3 = a_K[k], a_K[k + 1], a_K[k + 2], a_K[k + 3]
        for g in range(c0.size):
            x = b_G[g]
            c0[g] += x0 * x
            c1[g] += x1 * x
            c2[g] += x2 * x
            c3[g] += x3 * x
        row += 1


@kernel
def add_rows(a_PG, c_G):
    """c += the sum of a's rows: the gradient of a bias."""
    for row in range(a_PG.shape[0]):
        a_G = a_PG[row]
        for g in range(c_G.size):
            c_G[g] += a_G[g]


@kernel
def set_rows(a_PG, b_G):
    """Every row of a becomes b."""
    for row in range(a_PG.shape[0]):
        a_G = a_PG[row]
        for g in range(b_G.size):
            a_G[g] = b_G[g]


@inlined
def fill(array, value):
    """Every element becomes `value`; numba's own assignment of a slice is not vectorised."""
    a_N = vector(array)
    for n in range(a_N.size):
        a_N[n] = value


@inlined
def copy(source, target):
    """Into an array of as many elements."""
    a_N, b_N = vector(source), vector(target)
    for n in range(a_N.size):
        b_N[n] = a_N[n]
