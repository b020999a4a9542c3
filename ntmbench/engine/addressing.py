"""Equations 2 to 9 of Graves, Wayne, Danihelka 2014, forward and backward: the twins of
`models.addressing`, under the same names (`write` is its `erase` and `add` in one).

One sequence, one step. The memory is stored with its width first, so that every inner loop runs
along the locations. Shape suffixes: M memory width, N memory rows (locations), J heads (or H of one
kind), S shifts. A backward twin adds to the gradients it is given, unless its line says "sets".
"""

from __future__ import annotations

from ntmbench.engine.products import add_product, add_product_transposed, dot, fill, inlined, kernel
from ntmbench.engine.scalars import exp, inverse_root, log
from ntmbench.models.addressing import TINY


@inlined
def read(memory_MN, weightings_HN, reads_HM):
    """r(j) = sum_i w_j(i) M(i): eq. 2. Sets `reads_HM`."""
    fill(reads_HM, 0)
    add_product_transposed(weightings_HN, memory_MN, reads_HM)


@inlined
def read_backward(memory_MN, d_reads_HM, d_weightings_HN):
    """The memory's gradient is left to the caller."""
    add_product(d_reads_HM, memory_MN, d_weightings_HN)


@inlined
def write(memory_MN, weightings_HN, erase_add_HX, new_memory_MN):
    """M(i) <- M(i) prod_j (1 - w_j(i) e_j) + sum_j w_j(i) a_j: eq. 3 and 4.

    `erase_add_HX` has the M erase values of a head, then its M adds.
    """
    heads, width = weightings_HN.shape[0], memory_MN.shape[0]
    one = memory_MN.dtype.type(1)
    for m in range(width):
        old_N, new_N, w_N = memory_MN[m], new_memory_MN[m], weightings_HN[0]
        erase, add = erase_add_HX[0, m], erase_add_HX[0, width + m]
        if heads == 1:
            for n in range(old_N.size):
                w = w_N[n]
                new_N[n] = old_N[n] * (one - w * erase) + w * add
            continue
        for n in range(old_N.size):
            new_N[n] = old_N[n] * (one - w_N[n] * erase)
        for head in range(1, heads):
            w_N, erase = weightings_HN[head], erase_add_HX[head, m]
            for n in range(old_N.size):
                new_N[n] *= one - w_N[n] * erase
        for head in range(heads):
            w_N, add = weightings_HN[head], erase_add_HX[head, width + m]
            for n in range(old_N.size):
                new_N[n] += w_N[n] * add


@inlined
def write_backward(
    memory_MN, weightings_HN, erase_add_HX, d_new_MN, d_weightings_HN, d_erase_add_HX, stages_HN
):
    """Sets `d_erase_add_HX`; `d_new_MN` leaves as the gradient of the memory before the write."""
    heads, width = weightings_HN.shape[0], memory_MN.shape[0]
    zero, one = memory_MN.dtype.type(0), memory_MN.dtype.type(1)
    for m in range(width):
        d_N = d_new_MN[m]
        if heads > 1:  # the memory before each head's erasing
            stages_HN[0] = memory_MN[m]
            for head in range(1, heads):
                w_N, erase = weightings_HN[head - 1], erase_add_HX[head - 1, m]
                before_N, after_N = stages_HN[head - 1], stages_HN[head]
                for n in range(d_N.size):
                    after_N[n] = before_N[n] * (one - w_N[n] * erase)
            for head in range(heads):
                w_N, add = weightings_HN[head], erase_add_HX[head, width + m]
                d_erase_add_HX[head, width + m] = dot(d_N, w_N)
                d_w_N = d_weightings_HN[head]
                for n in range(d_N.size):
                    d_w_N[n] += d_N[n] * add
            for head in range(heads - 1, -1, -1):
                w_N, d_w_N, before_N = weightings_HN[head], d_weightings_HN[head], stages_HN[head]
                erase, d_erase = erase_add_HX[head, m], zero
                for n in range(d_N.size):
                    d_share = d_N[n] * before_N[n]
                    d_erase -= d_share * w_N[n]
                    d_w_N[n] -= d_share * erase
                    d_N[n] *= one - w_N[n] * erase
                d_erase_add_HX[head, m] = d_erase
            continue
        memory_N, w_N, d_w_N = memory_MN[m], weightings_HN[0], d_weightings_HN[0]
        erase, add = erase_add_HX[0, m], erase_add_HX[0, width + m]
        d_erase = d_add = zero
        for n in range(d_N.size):
            d, w, before = d_N[n], w_N[n], memory_N[n]
            d_add += d * w
            d_erase -= d * w * before
            d_w_N[n] += d * (add - erase * before)
            d_N[n] = d * (one - w * erase)
        d_erase_add_HX[0, m] = d_erase
        d_erase_add_HX[0, width + m] = d_add


@inlined
def cosine_similarity(unit_keys_JM, memory_MN, row_floor, inverse_norm_N, similarity_JN):
    """K(k, M(i)) = k . M(i) / (|k| |M(i)|): eq. 6. Sets `inverse_norm_N` and `similarity_JN`."""
    width, heads = memory_MN.shape[0], similarity_JN.shape[0]
    fill(inverse_norm_N, memory_MN.dtype.type(row_floor * row_floor))
    m = 0
    while m + 4 <= width:
        r0, r1, r2, r3 = memory_MN[m], memory_MN[m + 1], memory_MN[m + 2], memory_MN[m + 3]
        for n in range(r0.size):
            squares = r0[n] * r0[n] + r1[n] * r1[n] + r2[n] * r2[n] + r3[n] * r3[n]
            inverse_norm_N[n] += squares
        m += 4
    while m < width:
        r0 = memory_MN[m]
        for n in range(r0.size):
            inverse_norm_N[n] += r0[n] * r0[n]
        m += 1
    for n in range(inverse_norm_N.size):
        inverse_norm_N[n] = inverse_root(inverse_norm_N[n])
    fill(similarity_JN, 0)
    add_product(unit_keys_JM, memory_MN, similarity_JN)
    for head in range(heads):
        similarity_N = similarity_JN[head]
        for n in range(similarity_N.size):
            similarity_N[n] *= inverse_norm_N[n]


@inlined
def cosine_similarity_backward(
    memory_MN, inverse_norm_N, similarity_JN, d_similarity_JN, d_unit_keys_JM, own_N
):
    """Sets `d_unit_keys_JM`; `d_similarity_JN` leaves divided by the norms of the rows.

    Sets `own_N` to what the norm of a row gives each of its elements. The memory's gradient is left
    to `add_to_memory`.
    """
    fill(own_N, 0)
    for head in range(similarity_JN.shape[0]):
        d_N, similarity_N = d_similarity_JN[head], similarity_JN[head]
        for n in range(own_N.size):
            inverse = inverse_norm_N[n]
            d = d_N[n] * inverse
            own_N[n] -= d * similarity_N[n] * inverse
            d_N[n] = d
    fill(d_unit_keys_JM, 0)
    add_product_transposed(d_similarity_JN, memory_MN, d_unit_keys_JM)


@inlined
def add_to_memory(own_N, memory_MN, a_KM, b_KN, d_memory_MN):
    """d_memory += own memory + a^T b: what comparing, and reading what was compared, give to it."""
    terms = a_KM.shape[0]
    for m in range(memory_MN.shape[0]):
        row_N, d_N, k = memory_MN[m], d_memory_MN[m], 3
        if terms >= 3:
            a0, a1, a2 = a_KM[0, m], a_KM[1, m], a_KM[2, m]
            b0, b1, b2 = b_KN[0], b_KN[1], b_KN[2]
            for n in range(d_N.size):
                d_N[n] += own_N[n] * row_N[n] + a0 * b0[n] + a1 * b1[n] + a2 * b2[n]
        else:
            k = 0
            for n in range(d_N.size):
                d_N[n] += own_N[n] * row_N[n]
        while k < terms:
            add_scaled(b_KN[k], a_KM[k, m], d_N)
            k += 1


@inlined
def content_weighting(similarity_N, beta, weighting_N, scratch_N):
    """w(i) = softmax_i(beta K(k, M(i))): eq. 5."""
    for n in range(weighting_N.size):
        weighting_N[n] = beta * similarity_N[n]
    softmax(weighting_N, scratch_N)


@inlined
def content_weighting_backward(similarity_N, beta, weighting_N, d_weighting_N):
    """`d_weighting_N` leaves as the gradient of the similarity; returns that of beta."""
    mean = dot(weighting_N, d_weighting_N)
    d_beta = weighting_N.dtype.type(0)
    for n in range(weighting_N.size):
        d = weighting_N[n] * (d_weighting_N[n] - mean)
        d_beta += d * similarity_N[n]
        d_weighting_N[n] = d * beta
    return d_beta


@kernel
def softmax(x_N, scratch_N):
    """Where it stands; the largest element is subtracted first, so that nothing overflows."""
    top, total = maximum(x_N, scratch_N), x_N.dtype.type(0)
    for n in range(x_N.size):
        x_N[n] = exp(x_N[n] - top)
        total += x_N[n]
    share = x_N.dtype.type(1) / total
    for n in range(x_N.size):
        x_N[n] *= share


@kernel
def maximum(x_N, scratch_N):
    """The largest element; any element where there is a NaN.

    Halves are compared whole: a plain running maximum is not vectorised unless NaNs are ruled out.
    """
    size = x_N.size
    half = (size + 1) // 2
    for n in range(half):
        scratch_N[n] = x_N[n]
    _keep_larger(scratch_N, x_N[half:])
    size = half
    while size > 1:
        half = (size + 1) // 2
        _keep_larger(scratch_N, scratch_N[half:size])
        size = half
    return scratch_N[0]


@inlined
def _keep_larger(a_N, b_N):
    for n in range(b_N.size):
        a, b = a_N[n], b_N[n]
        a_N[n] = b if b > a else a


@inlined
def interpolate(content_N, previous_N, gate, gated_N):
    """w = g w_content + (1 - g) w_previous: eq. 7."""
    for n in range(gated_N.size):
        gated_N[n] = previous_N[n] + gate * (content_N[n] - previous_N[n])


@inlined
def interpolate_backward(content_N, previous_N, gate, d_gated_N, d_previous_N):
    """Sets `d_previous_N`; `d_gated_N` leaves as the gradient of the content weighting.

    Returns the gradient of the gate.
    """
    d_gate = d_gated_N.dtype.type(0)
    for n in range(d_gated_N.size):
        d = d_gated_N[n]
        d_gate += d * (content_N[n] - previous_N[n])
        d_previous_N[n] = d - gate * d
        d_gated_N[n] = gate * d
    return d_gate


@inlined
def shift(weighting_N, shift_S, shifted_N):
    """w(i) = sum_d s(d) w(i - d), circular: eq. 8; d = -range .. +range in order."""
    size, reach = weighting_N.size, shift_S.size // 2
    fill(shifted_N, 0)
    for index in range(shift_S.size):
        share, first = shift_S[index], (index - reach) % size
        add_scaled(weighting_N[: size - first], share, shifted_N[first:])
        add_scaled(weighting_N[size - first :], share, shifted_N[:first])


@inlined
def shift_backward(weighting_N, shift_S, d_shifted_N, d_weighting_N, d_shift_S):
    """Sets both gradients."""
    size, reach = weighting_N.size, shift_S.size // 2
    fill(d_weighting_N, 0)
    for index in range(shift_S.size):
        share, first = shift_S[index], (index - reach) % size
        add_scaled(d_shifted_N[first:], share, d_weighting_N[: size - first])
        add_scaled(d_shifted_N[:first], share, d_weighting_N[size - first :])
        inner = dot(d_shifted_N[first:], weighting_N[: size - first])
        d_shift_S[index] = inner + dot(d_shifted_N[:first], weighting_N[size - first :])


@inlined
def add_scaled(a_N, scale, c_N):
    """c += scale a."""
    for n in range(a_N.size):
        c_N[n] += scale * a_N[n]


@inlined
def sharpen(shifted_N, gamma, log_N, weighting_N, scratch_N):
    """w(i)^gamma / sum_j w(j)^gamma: eq. 9, as softmax(gamma log w). Sets `log_N` as well."""
    tiny = shifted_N.dtype.type(TINY)
    for n in range(weighting_N.size):
        log_N[n] = log(shifted_N[n] + tiny)
        weighting_N[n] = gamma * log_N[n]
    softmax(weighting_N, scratch_N)


@inlined
def sharpen_backward(shifted_N, gamma, log_N, weighting_N, d_weighting_N):
    """`d_weighting_N` leaves as the gradient of the shifted weighting; returns that of gamma."""
    mean = dot(weighting_N, d_weighting_N)
    tiny, d_gamma = shifted_N.dtype.type(TINY), shifted_N.dtype.type(0)
    for n in range(weighting_N.size):
        d = weighting_N[n] * (d_weighting_N[n] - mean)
        d_gamma += d * log_N[n]
        d_weighting_N[n] = d * gamma / (shifted_N[n] + tiny)
    return d_gamma
