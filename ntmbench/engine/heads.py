"""All heads of one sequence in one step, forward and backward: twins of `NTM._head_values`,
`NTM._address` and the memory's part of `NTM._step`.

Shape suffixes: N memory rows (locations), M memory width, H head pairs, J = 2H heads (read heads
first), S shifts, X what the head layer gives: J times (key M, beta, gate, shift S, gamma), then H
times (erase M, add M).
"""

from __future__ import annotations

import math

import numpy as np

from ntmbench.engine import addressing
from ntmbench.engine.borrowed import matrix
from ntmbench.engine.products import add_outer_products, copy, dot, fill, glue, inlined
from ntmbench.engine.scalars import exp, sigmoid, softplus, tanh
from ntmbench.models.addressing import SMALL


@glue
def split(shape, values_X):
    """Views of the head layer's numbers: those for addressing (J, ...) and those for writing."""
    size = shape.width + 3 + shape.shifts
    return (
        matrix(values_X, 0, 2 * shape.heads, size),
        matrix(values_X, 2 * shape.heads * size, shape.heads, 2 * shape.width),
    )


@inlined
def head_values(shape, values_X):
    """The head layer's numbers, brought into range where they stand (section 3.3)."""
    width, shifts = shape.width, shape.shifts
    address_JX, write_HX = split(shape, values_X)
    for head in range(address_JX.shape[0]):
        head_X = address_JX[head]
        for m in range(width):
            head_X[m] = tanh(head_X[m])
        head_X[width] = softplus(head_X[width])
        head_X[width + 1] = sigmoid(head_X[width + 1])
        shift_S = head_X[width + 2 : width + 2 + shifts]
        top = shift_S[0]
        for s in range(1, shifts):
            top = shift_S[s] if shift_S[s] > top else top
        total = shift_S.dtype.type(0)
        for s in range(shifts):
            shift_S[s] = exp(shift_S[s] - top)
            total += shift_S[s]
        for s in range(shifts):
            shift_S[s] /= total
        head_X[width + 2 + shifts] = softplus(head_X[width + 2 + shifts])  # gamma - 1
    for head in range(write_HX.shape[0]):
        head_X = write_HX[head]
        for m in range(width):
            head_X[m] = sigmoid(head_X[m])
        for m in range(width, 2 * width):
            head_X[m] = tanh(head_X[m])


@inlined
def head_values_backward(shape, values_X, d_values_X):
    """`d_values_X` leaves as the gradient of the head layer's numbers."""
    width, shifts = shape.width, shape.shifts
    one = values_X.dtype.type(1)
    address_JX, write_HX = split(shape, values_X)
    d_address_JX, d_write_HX = split(shape, d_values_X)
    for head in range(address_JX.shape[0]):
        head_X, d_X = address_JX[head], d_address_JX[head]
        for m in range(width):
            d_X[m] *= one - head_X[m] * head_X[m]
        d_X[width] *= -math.expm1(-head_X[width])  # softplus' = sigmoid = 1 - e^-softplus
        d_X[width + 1] *= head_X[width + 1] * (one - head_X[width + 1])
        shift_S, d_shift_S = (
            head_X[width + 2 : width + 2 + shifts],
            d_X[width + 2 : width + 2 + shifts],
        )
        mean = dot(shift_S, d_shift_S)
        for s in range(shifts):
            d_shift_S[s] = shift_S[s] * (d_shift_S[s] - mean)
        d_X[width + 2 + shifts] *= -math.expm1(-head_X[width + 2 + shifts])
    for head in range(write_HX.shape[0]):
        head_X, d_X = write_HX[head], d_write_HX[head]
        for m in range(width):
            d_X[m] *= head_X[m] * (one - head_X[m])
        for m in range(width, 2 * width):
            d_X[m] *= one - head_X[m] * head_X[m]


@inlined
def unit_key(key_M, unit_key_M):
    """k / |k|; returns 1 / |k|."""
    small = key_M.dtype.type(SMALL * SMALL)
    inverse = key_M.dtype.type(1) / np.sqrt(dot(key_M, key_M) + small)
    for m in range(key_M.size):
        unit_key_M[m] = key_M[m] * inverse
    return inverse


@glue
def heads_step(shape, values_X, before, after, kept, reads_HM, scratch):
    """Find the weightings, write, read: from `before` (memory, weightings) to `after`.

    `kept` is what the way back needs: see `shapes.Kept`.
    """
    memory_MN, previous_JN = before
    new_memory_MN, weightings_JN = after
    head_values(shape, values_X)
    address_JX, write_HX = split(shape, values_X)
    heads = shape.heads
    if shape.content:
        for head in range(2 * heads):
            unit_key(address_JX[head, : shape.width], scratch.unit_keys_JM[head])
        addressing.cosine_similarity(
            scratch.unit_keys_JM, memory_MN, shape.row_floor,
            kept.inverse_norm_N, kept.similarity_JN,
        )  # fmt: skip
    for head in range(2 * heads):
        _address(
            shape, address_JX[head], previous_JN[head], weightings_JN[head], kept, head, scratch
        )
    addressing.write(memory_MN, weightings_JN[heads:], write_HX, new_memory_MN)
    read_MN = new_memory_MN if shape.reads_after_writes else memory_MN
    addressing.read(read_MN, weightings_JN[:heads], reads_HM)


@glue
def _address(shape, head_X, previous_N, weighting_N, kept, head, scratch):
    """The new weighting of one head: figure 2 of the paper."""
    width, shifts = shape.width, shape.shifts
    beta, gate = head_X[width], head_X[width + 1]
    gamma = head_X.dtype.type(1) + head_X[width + 2 + shifts]
    if shape.content:
        content_N = kept.content_JN[head] if shape.location else weighting_N
        addressing.content_weighting(kept.similarity_JN[head], beta, content_N, scratch.N)
    if shape.location:
        gated_N = kept.gated_JN[head]
        if shape.content:
            addressing.interpolate(kept.content_JN[head], previous_N, gate, gated_N)
        else:
            copy(previous_N, gated_N)
        shift_S = head_X[width + 2 : width + 2 + shifts]
        addressing.shift(gated_N, shift_S, kept.shifted_JN[head])
        addressing.sharpen(kept.shifted_JN[head], gamma, kept.log_JN[head], weighting_N, scratch.N)


@glue
def heads_step_backward(
    shape, values_X, before, after, kept, d_reads_HM, d_memory_MN, d_weightings_JN, d_values_X,
    scratch,
):  # fmt: skip
    """`d_memory_MN` and `d_weightings_JN` come in as gradients of what the step leaves behind.

    They leave as those of what it began with. Sets `d_values_X`.
    """
    memory_MN, previous_JN = before
    new_memory_MN, weightings_JN = after
    heads, width = shape.heads, shape.width
    address_JX, write_HX = split(shape, values_X)
    d_address_JX, d_write_HX = split(shape, d_values_X)
    fill(d_values_X, 0)
    read_MN = new_memory_MN if shape.reads_after_writes else memory_MN
    addressing.read_backward(read_MN, d_reads_HM, d_weightings_JN[:heads])
    if shape.reads_after_writes:
        add_outer_products(d_reads_HM, weightings_JN[:heads], d_memory_MN)
    addressing.write_backward(
        memory_MN, weightings_JN[heads:], write_HX, d_memory_MN, d_weightings_JN[heads:],
        d_write_HX, scratch.stages_HN,
    )  # fmt: skip
    for head in range(2 * heads):
        _address_backward(
            shape, address_JX[head], previous_JN[head], weightings_JN[head], kept, head,
            d_weightings_JN[head], scratch.d_previous_JN[head], d_address_JX[head],
        )  # fmt: skip
    # what memory^T is multiplied with: the reads' gradients and the keys, read heads first; reads
    # after writes have given the new memory theirs, above
    left_KM, right_KN, own_N = scratch.left_KM, scratch.right_KN, scratch.N
    fill(own_N, 0)
    if shape.reads_after_writes:
        fill(left_KM[:heads], 0)
    else:
        copy(d_reads_HM, left_KM[:heads])
    copy(weightings_JN[:heads], right_KN[:heads])
    if shape.content:  # what is in d_weightings_JN now is the gradient of the similarity
        unit_keys_JM = left_KM[heads:]
        for head in range(2 * heads):
            key_M, unit_M = address_JX[head, :width], unit_keys_JM[head]
            scratch.inverse_J[head] = unit_key(key_M, unit_M)
        addressing.cosine_similarity_backward(
            memory_MN, kept.inverse_norm_N, kept.similarity_JN, d_weightings_JN,
            scratch.d_unit_keys_JM, own_N,
        )  # fmt: skip
        copy(d_weightings_JN, right_KN[heads:])
        for head in range(2 * heads):
            unit_M, d_unit_M = unit_keys_JM[head], scratch.d_unit_keys_JM[head]
            d_key_M, along = d_address_JX[head, :width], dot(unit_M, d_unit_M)
            for m in range(width):
                d_key_M[m] = scratch.inverse_J[head] * (d_unit_M[m] - along * unit_M[m])
    addressing.add_to_memory(own_N, memory_MN, left_KM, right_KN, d_memory_MN)
    head_values_backward(shape, values_X, d_values_X)
    for head in range(2 * heads):
        copy(scratch.d_previous_JN[head], d_weightings_JN[head])


@glue
def _address_backward(
    shape, head_X, previous_N, weighting_N, kept, head, d_N, d_previous_N, d_head_X
):
    """`d_N` comes in as the gradient of the weighting and leaves as that of the similarity."""
    width, shifts = shape.width, shape.shifts
    beta, gate = head_X[width], head_X[width + 1]
    gamma = head_X.dtype.type(1) + head_X[width + 2 + shifts]
    content_N = weighting_N
    fill(d_previous_N, 0)
    if shape.location:
        content_N, gated_N = kept.content_JN[head], kept.gated_JN[head]
        d_head_X[width + 2 + shifts] = addressing.sharpen_backward(
            kept.shifted_JN[head], gamma, kept.log_JN[head], weighting_N, d_N
        )
        shift_S, d_shift_S = (
            head_X[width + 2 : width + 2 + shifts],
            d_head_X[width + 2 : width + 2 + shifts],
        )
        addressing.shift_backward(gated_N, shift_S, d_N, d_previous_N, d_shift_S)
        if shape.content:
            copy(d_previous_N, d_N)
            d_head_X[width + 1] = addressing.interpolate_backward(
                content_N, previous_N, gate, d_N, d_previous_N
            )
    if shape.content:
        d_head_X[width] = addressing.content_weighting_backward(
            kept.similarity_JN[head], beta, content_N, d_N
        )
