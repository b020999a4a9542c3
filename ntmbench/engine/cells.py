"""The cells of the controllers, forward and backward: twins of `models.recurrent` and of the
feed-forward layer in `models.ntm`.

A forward cell turns pre-activations into activations where they stand; its backward twin turns
them into the gradients of the pre-activations, where they stand as well.
Shape suffixes: H hidden units, G gates x H. One sequence, one step, one layer.
"""

from __future__ import annotations

from ntmbench.engine.products import inlined
from ntmbench.engine.scalars import sigmoid, tanh


@inlined
def lstm_cell(gates_G, cell_H, new_cell_H, hidden_H):
    """c = sigmoid(f) c + sigmoid(i) tanh(g); h = sigmoid(o) tanh(c); gates input, forget, g, o."""
    size = hidden_H.size
    input_H, forget_H = gates_G[:size], gates_G[size : 2 * size]
    candidate_H, output_H = gates_G[2 * size : 3 * size], gates_G[3 * size : 4 * size]
    for h in range(size):
        input_H[h] = sigmoid(input_H[h])
    for h in range(size):
        candidate_H[h] = tanh(candidate_H[h])
    for h in range(size):
        forget_H[h] = sigmoid(forget_H[h])
        new_cell_H[h] = forget_H[h] * cell_H[h] + input_H[h] * candidate_H[h]
    for h in range(size):
        output_H[h] = sigmoid(output_H[h])
        hidden_H[h] = output_H[h] * tanh(new_cell_H[h])


@inlined
def lstm_cell_backward(gates_G, cell_H, new_cell_H, d_hidden_H, d_cell_H):
    """`d_cell_H` comes in as the gradient of the new cell and leaves as that of the old one."""
    size = d_hidden_H.size
    one = gates_G.dtype.type(1)
    input_H, forget_H = gates_G[:size], gates_G[size : 2 * size]
    candidate_H, output_H = gates_G[2 * size : 3 * size], gates_G[3 * size : 4 * size]
    for h in range(size):
        said = tanh(new_cell_H[h])
        o, d_h = output_H[h], d_hidden_H[h]
        d_cell_H[h] += d_h * o * (one - said * said)
        output_H[h] = d_h * said * o * (one - o)
    for h in range(size):
        i, c, d_c = input_H[h], candidate_H[h], d_cell_H[h]
        input_H[h] = d_c * c * i * (one - i)
        candidate_H[h] = d_c * i * (one - c * c)
    for h in range(size):
        f, d_c = forget_H[h], d_cell_H[h]
        forget_H[h] = d_c * cell_H[h] * f * (one - f)
        d_cell_H[h] = d_c * f


@inlined
def gru_cell(gates_G, recurrent_G, hidden_H, new_hidden_H):
    """n = tanh(x_n + sigmoid(r) u_n); h = (1 - sigmoid(z)) n + sigmoid(z) h.

    `gates_G` holds what the input gives to reset, update and new; `recurrent_G`, what the old
    hidden values give; its last third is kept for the way back.
    """
    size = hidden_H.size
    for g in range(2 * size):
        gates_G[g] = sigmoid(gates_G[g] + recurrent_G[g])
    new_H, recurrent_new_H = gates_G[2 * size : 3 * size], recurrent_G[2 * size : 3 * size]
    for h in range(size):
        new_H[h] = tanh(new_H[h] + gates_G[h] * recurrent_new_H[h])
    for h in range(size):
        new = new_H[h]
        new_hidden_H[h] = new + gates_G[size + h] * (hidden_H[h] - new)


@inlined
def gru_cell_backward(gates_G, recurrent_G, hidden_H, d_hidden_H, d_old_H):
    """Adds what reaches the old hidden values directly, not through the product, to `d_old_H`.

    `gates_G` and `recurrent_G` leave as the gradients of the two products.
    """
    size = hidden_H.size
    one = gates_G.dtype.type(1)
    reset_H, update_H = gates_G[:size], gates_G[size : 2 * size]
    new_H, recurrent_new_H = gates_G[2 * size : 3 * size], recurrent_G[2 * size : 3 * size]
    for h in range(size):
        z, n, d_h = update_H[h], new_H[h], d_hidden_H[h]
        update_H[h] = d_h * (hidden_H[h] - n) * z * (one - z)
        new_H[h] = d_h * (one - z) * (one - n * n)
        d_old_H[h] += d_h * z
    for h in range(size):
        r, d_n = reset_H[h], new_H[h]
        reset_H[h] = d_n * recurrent_new_H[h] * r * (one - r)
        recurrent_new_H[h] = d_n * r
    for g in range(2 * size):
        recurrent_G[g] = gates_G[g]


@inlined
def tanh_cell(gates_H, hidden_H):
    """h = tanh(x)."""
    for h in range(hidden_H.size):
        hidden_H[h] = tanh(gates_H[h])


@inlined
def tanh_cell_backward(gates_H, hidden_H, d_hidden_H):
    one = gates_H.dtype.type(1)
    for h in range(hidden_H.size):
        gates_H[h] = d_hidden_H[h] * (one - hidden_H[h] * hidden_H[h])
