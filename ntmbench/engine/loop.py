"""The time loop, forward and backward, for every controller and for stacks without memory.

A model with memory goes step by step, since a step is fed the reads of the last one. A stack alone
goes layer by layer through all steps, so that a layer's weights stay in the cache.
Shape suffixes: see `engine.shapes`.
"""

from __future__ import annotations

from ntmbench.engine import cells
from ntmbench.engine.borrowed import matrix
from ntmbench.engine.heads import heads_step, heads_step_backward
from ntmbench.engine.products import (
    add_outer_products,
    add_product,
    add_product_transposed,
    add_rows,
    copy,
    fill,
    glue,
    set_rows,
)
from ntmbench.engine.shapes import FF, GRU, LSTM, Kept


@glue
def layer_parts(shape, places, flat_W, layer):
    """A layer's weights for the input, the reads, the layer below, its own past; and its bias."""
    columns = shape.columns
    reads = shape.reads
    below, own = shape.hidden if layer else 0, shape.hidden if shape.cell != FF else 0
    start = places.layer_weight_L[layer]
    input_IG = matrix(flat_W, start, shape.inputs, columns)
    start += shape.inputs * columns
    reads_RG = matrix(flat_W, start, reads, columns)
    start += reads * columns
    below_HG = matrix(flat_W, start, below, columns)
    start += below * columns
    own_HG = matrix(flat_W, start, own, columns)
    bias = places.layer_bias_L[layer]
    return input_IG, reads_RG, below_HG, own_HG, flat_W[bias : bias + columns]


@glue
def rows_of(x_TBX, start, end):
    """Steps start .. end - 1 of all sequences as the rows of one matrix."""
    batch, columns = x_TBX.shape[1:]
    return matrix(x_TBX, start * batch * columns, (end - start) * batch, columns)


@glue
def begin(shape, places, weights, start, kept):
    """Put the initial state before the first step."""
    batch = kept.hidden_LTBH.shape[2]
    for layer in range(shape.layers):
        if shape.cell != FF:
            place = places.initial_hidden + layer * shape.hidden
            set_rows(kept.hidden_LTBH[layer, 0], weights[place : place + shape.hidden])
        if shape.cell == LSTM:
            place = places.initial_cell + layer * shape.hidden
            set_rows(kept.cell_LTBH[layer, 0], weights[place : place + shape.hidden])
    if places.initial_reads >= 0:
        place = places.initial_reads
        set_rows(kept.reads_TBR[0], weights[place : place + shape.reads])
    else:
        fill(kept.reads_TBR[0], 0)
    if shape.heads:
        for b in range(batch):
            if shape.learned_memory:
                for m in range(shape.width):
                    kept.memory_TBMN[0, b, m] = weights[places.initial_memory + m]
            else:
                copy(start.memory_MN, kept.memory_TBMN[0, b])
            set_rows(kept.weightings_TBJN[0, b], start.weighting_N)


@glue
def forward(shape, places, weights, inputs_TBI, kept, scratch):
    """Run from the state before step 0 through all steps of the input."""
    steps = inputs_TBI.shape[0]
    for layer in range(shape.layers):
        input_IG, _, _, _, bias_G = layer_parts(shape, places, weights, layer)
        gates_PG = rows_of(kept.gates_LTBG[layer], 0, steps)
        set_rows(gates_PG, bias_G)
        add_product(rows_of(inputs_TBI, 0, steps), input_IG, gates_PG)
    at_once = 1 if shape.heads else steps
    for t in range(0, steps, at_once):
        for layer in range(shape.layers):
            layer_forward(shape, places, weights, kept, layer, t, t + at_once)
        if shape.heads:
            heads_forward(shape, places, weights, kept, t, scratch)


@glue
def layer_forward(shape, places, weights, kept, layer, start, end):
    """One layer through the steps start .. end - 1; what the input gives is in its gates."""
    _, reads_RG, below_HG, own_HG, _ = layer_parts(shape, places, weights, layer)
    gates_TBG, hidden_TBH = kept.gates_LTBG[layer], kept.hidden_LTBH[layer]
    gates_PG = rows_of(gates_TBG, start, end)
    if shape.heads:
        add_product(rows_of(kept.reads_TBR, start, end), reads_RG, gates_PG)
    if layer:
        below_PH = rows_of(kept.hidden_LTBH[layer - 1], start + 1, end + 1)
        add_product(below_PH, below_HG, gates_PG)
    for t in range(start, end):
        if shape.cell == LSTM:
            add_product(hidden_TBH[t], own_HG, gates_TBG[t])
        elif shape.cell == GRU:
            fill(kept.recurrent_LTBG[layer, t], 0)
            add_product(hidden_TBH[t], own_HG, kept.recurrent_LTBG[layer, t])
        for b in range(hidden_TBH.shape[1]):
            if shape.cell == LSTM:
                cell_TBH = kept.cell_LTBH[layer]
                cells.lstm_cell(
                    gates_TBG[t, b], cell_TBH[t, b], cell_TBH[t + 1, b], hidden_TBH[t + 1, b]
                )
            elif shape.cell == GRU:
                recurrent_G = kept.recurrent_LTBG[layer, t, b]
                cells.gru_cell(gates_TBG[t, b], recurrent_G, hidden_TBH[t, b], hidden_TBH[t + 1, b])
            else:
                cells.tanh_cell(gates_TBG[t, b], hidden_TBH[t + 1, b])


@glue
def kept_of(kept, t, b):
    """What addressing keeps of one sequence in one step."""
    return Kept(
        kept.inverse_norm_TBN[t, b], kept.similarity_TBJN[t, b], kept.content_TBJN[t, b],
        kept.gated_TBJN[t, b], kept.shifted_TBJN[t, b], kept.log_TBJN[t, b],
    )  # fmt: skip


@glue
def head_layer(shape, places, flat_W):
    """The head layer's weight (layers x H, X) and bias."""
    columns = shape.head_columns
    weight_FX = matrix(flat_W, places.head_weight, shape.layers * shape.hidden, columns)
    return weight_FX, flat_W[places.head_bias : places.head_bias + columns]


@glue
def heads_forward(shape, places, weights, kept, t, scratch):
    """The heads of all sequences in one step."""
    weight_FX, bias_X = head_layer(shape, places, weights)
    values_BX = kept.values_TBX[t]
    set_rows(values_BX, bias_X)
    for layer in range(shape.layers):
        start = layer * shape.hidden
        weight_HX = weight_FX[start : start + shape.hidden]
        add_product(kept.hidden_LTBH[layer, t + 1], weight_HX, values_BX)
    for b in range(values_BX.shape[0]):
        heads_step(
            shape, values_BX[b],
            (kept.memory_TBMN[t, b], kept.weightings_TBJN[t, b]),
            (kept.memory_TBMN[t + 1, b], kept.weightings_TBJN[t + 1, b]),
            kept_of(kept, t, b),
            matrix(kept.reads_TBR[t + 1, b], 0, shape.heads, shape.width), scratch,
        )  # fmt: skip


@glue
def see(shape, kept, seen_TBF):
    """What the readout is given: every layer's hidden values, then the reads. Sets `seen_TBF`."""
    steps, batch = seen_TBF.shape[:2]
    size = shape.hidden
    for t in range(steps):
        for b in range(batch):
            for layer in range(shape.layers):
                seen_H = seen_TBF[t, b, layer * size : (layer + 1) * size]
                copy(kept.hidden_LTBH[layer, t + 1, b], seen_H)
            copy(kept.reads_TBR[t + 1, b], seen_TBF[t, b, shape.layers * size :])


@glue
def carry(shape, kept, steps):
    """Put the state after `steps` steps before step 0, where the next ones go on from it."""
    for layer in range(shape.layers):
        copy(kept.hidden_LTBH[layer, steps], kept.hidden_LTBH[layer, 0])
        copy(kept.cell_LTBH[layer, steps], kept.cell_LTBH[layer, 0])
    copy(kept.reads_TBR[steps], kept.reads_TBR[0])
    copy(kept.memory_TBMN[steps], kept.memory_TBMN[0])
    copy(kept.weightings_TBJN[steps], kept.weightings_TBJN[0])


@glue
def readout(shape, places, flat_W):
    """The readout's weight (O, layers x H + R) and bias."""
    columns = shape.layers * shape.hidden + shape.reads
    weight_OF = matrix(flat_W, places.readout_weight, shape.outputs, columns)
    return weight_OF, flat_W[places.readout_bias : places.readout_bias + shape.outputs]


@glue
def read_out(shape, places, weights, seen_TBF, logits_TBO):
    """Sets the logits of every step."""
    weight_OF, bias_O = readout(shape, places, weights)
    logits_PO = rows_of(logits_TBO, 0, logits_TBO.shape[0])
    set_rows(logits_PO, bias_O)
    add_product_transposed(rows_of(seen_TBF, 0, seen_TBF.shape[0]), weight_OF, logits_PO)


@glue
def read_out_backward(shape, places, weights, seen_TBF, d_logits_TBO, back, d_weights):
    """Adds the readout's gradients; begins those of hidden values and reads. Spends `seen_TBF`."""
    steps, batch = seen_TBF.shape[:2]
    weight_OF, _ = readout(shape, places, weights)
    d_weight_OF, d_bias_O = readout(shape, places, d_weights)
    d_logits_PO, seen_PF = rows_of(d_logits_TBO, 0, steps), rows_of(seen_TBF, 0, steps)
    add_outer_products(d_logits_PO, seen_PF, d_weight_OF)
    add_rows(d_logits_PO, d_bias_O)
    fill(seen_PF, 0)
    add_product(d_logits_PO, weight_OF, seen_PF)
    size = shape.hidden
    fill(back.reads_TBR[0], 0)
    for layer in range(shape.layers):
        fill(back.hidden_LTBH[layer, 0], 0)
    for t in range(steps):
        for b in range(batch):
            for layer in range(shape.layers):
                d_H = seen_TBF[t, b, layer * size : (layer + 1) * size]
                copy(d_H, back.hidden_LTBH[layer, t + 1, b])
            copy(seen_TBF[t, b, shape.layers * size :], back.reads_TBR[t + 1, b])


@glue
def backward(shape, places, weights, inputs_TBI, kept, back, d_weights, scratch):
    """Adds the gradients of all parameters but the readout's, given those that it began."""
    steps = inputs_TBI.shape[0]
    fill(back.cell_LBH, 0)
    fill(back.memory_BMN, 0)
    fill(back.weightings_BJN, 0)
    at_once = 1 if shape.heads else steps
    for t in range(steps - at_once, -1, -at_once):
        if shape.heads:
            heads_backward(shape, places, weights, kept, back, t, scratch)
        for layer in range(shape.layers - 1, -1, -1):
            layer_backward(shape, places, weights, kept, back, layer, t, t + at_once)
    weight_gradients(shape, places, inputs_TBI, kept, back, d_weights)
    begin_backward(shape, places, back, d_weights)


@glue
def heads_backward(shape, places, weights, kept, back, t, scratch):
    """The heads of all sequences in one step, and what they give back to the hidden values."""
    d_values_BX = back.values_TBX[t]
    for b in range(d_values_BX.shape[0]):
        heads_step_backward(
            shape, kept.values_TBX[t, b],
            (kept.memory_TBMN[t, b], kept.weightings_TBJN[t, b]),
            (kept.memory_TBMN[t + 1, b], kept.weightings_TBJN[t + 1, b]),
            kept_of(kept, t, b), matrix(back.reads_TBR[t + 1, b], 0, shape.heads, shape.width),
            back.memory_BMN[b], back.weightings_BJN[b], d_values_BX[b], scratch,
        )  # fmt: skip
    weight_FX, _ = head_layer(shape, places, weights)
    for layer in range(shape.layers):
        start = layer * shape.hidden
        weight_HX = weight_FX[start : start + shape.hidden]
        add_product_transposed(d_values_BX, weight_HX, back.hidden_LTBH[layer, t + 1])


@glue
def layer_backward(shape, places, weights, kept, back, layer, start, end):
    """One layer back through the steps end - 1 .. start; its gates become their gradients."""
    _, reads_RG, below_HG, own_HG, _ = layer_parts(shape, places, weights, layer)
    gates_TBG, hidden_TBH = kept.gates_LTBG[layer], kept.hidden_LTBH[layer]
    d_hidden_TBH, d_cell_BH = back.hidden_LTBH[layer], back.cell_LBH[layer]
    for t in range(end - 1, start - 1, -1):
        for b in range(hidden_TBH.shape[1]):
            gates_G, d_hidden_H = gates_TBG[t, b], d_hidden_TBH[t + 1, b]
            if shape.cell == LSTM:
                cell_H, new_cell_H = kept.cell_LTBH[layer, t, b], kept.cell_LTBH[layer, t + 1, b]
                cells.lstm_cell_backward(gates_G, cell_H, new_cell_H, d_hidden_H, d_cell_BH[b])
            elif shape.cell == GRU:
                recurrent_G, hidden_H = kept.recurrent_LTBG[layer, t, b], hidden_TBH[t, b]
                d_old_H = d_hidden_TBH[t, b]
                cells.gru_cell_backward(gates_G, recurrent_G, hidden_H, d_hidden_H, d_old_H)
            else:
                cells.tanh_cell_backward(gates_G, hidden_TBH[t + 1, b], d_hidden_H)
        if shape.cell == LSTM:
            add_product_transposed(gates_TBG[t], own_HG, d_hidden_TBH[t])
        elif shape.cell == GRU:
            add_product_transposed(kept.recurrent_LTBG[layer, t], own_HG, d_hidden_TBH[t])
    d_gates_PG = rows_of(gates_TBG, start, end)
    if shape.heads:
        add_product_transposed(d_gates_PG, reads_RG, rows_of(back.reads_TBR, start, end))
    if layer:
        d_below_PH = rows_of(back.hidden_LTBH[layer - 1], start + 1, end + 1)
        add_product_transposed(d_gates_PG, below_HG, d_below_PH)


@glue
def weight_gradients(shape, places, inputs_TBI, kept, back, d_weights):
    """Adds the gradients of the layers' and the head layer's weights, all steps in one product."""
    steps = inputs_TBI.shape[0]
    for layer in range(shape.layers):
        input_IG, reads_RG, below_HG, own_HG, bias_G = layer_parts(shape, places, d_weights, layer)
        d_gates_PG = rows_of(kept.gates_LTBG[layer], 0, steps)
        add_outer_products(rows_of(inputs_TBI, 0, steps), d_gates_PG, input_IG)
        add_rows(d_gates_PG, bias_G)
        if shape.heads:
            add_outer_products(rows_of(kept.reads_TBR, 0, steps), d_gates_PG, reads_RG)
        if layer:
            below_PH = rows_of(kept.hidden_LTBH[layer - 1], 1, steps + 1)
            add_outer_products(below_PH, d_gates_PG, below_HG)
        own_PH = rows_of(kept.hidden_LTBH[layer], 0, steps)
        if shape.cell == LSTM:
            add_outer_products(own_PH, d_gates_PG, own_HG)
        elif shape.cell == GRU:
            add_outer_products(own_PH, rows_of(kept.recurrent_LTBG[layer], 0, steps), own_HG)
    if shape.heads:
        weight_FX, bias_X = head_layer(shape, places, d_weights)
        d_values_PX = rows_of(back.values_TBX, 0, steps)
        add_rows(d_values_PX, bias_X)
        for layer in range(shape.layers):
            weight_HX = weight_FX[layer * shape.hidden : (layer + 1) * shape.hidden]
            hidden_PH = rows_of(kept.hidden_LTBH[layer], 1, steps + 1)
            add_outer_products(hidden_PH, d_values_PX, weight_HX)


@glue
def begin_backward(shape, places, back, d_weights):
    """Adds the gradients of what is learned of the initial state."""
    for layer in range(shape.layers):
        if shape.cell != FF:
            start = places.initial_hidden + layer * shape.hidden
            add_rows(back.hidden_LTBH[layer, 0], d_weights[start : start + shape.hidden])
        if shape.cell == LSTM:
            start = places.initial_cell + layer * shape.hidden
            add_rows(back.cell_LBH[layer], d_weights[start : start + shape.hidden])
    if places.initial_reads >= 0:
        start = places.initial_reads
        add_rows(back.reads_TBR[0], d_weights[start : start + shape.reads])
    if shape.learned_memory:
        for b in range(back.memory_BMN.shape[0]):
            for m in range(shape.width):
                d_weights[places.initial_memory + m] += back.memory_BMN[b, m].sum()
