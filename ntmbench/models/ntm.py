"""The Neural Turing Machine: Graves, Wayne, Danihelka 2014, section 3.

Shape suffixes: B batch, T time, I input, O output, F features of the controller, N memory rows
(locations), M row width, H head pairs, J = 2H heads (read heads first, then write heads), S shifts.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ntmbench.errors import UserError
from ntmbench.models import addressing
from ntmbench.models.addressing import SMALL
from ntmbench.models.recurrent import (
    GRUStack,
    LSTMStack,
    require_bias,
    require_choice,
    require_positive,
    require_scale,
)

ADDRESSING = ("content+location", "content", "location")
INITIAL_MEMORY = ("random", "constant", "learned")
INITIAL_WEIGHTINGS = ("one-hot", "uniform", "zero")
INITIAL_READS = ("learned", "zero")
INITIAL_KEYS = ("own", "adds")
INITIAL_WRITES = ("own", "sequential")
INITIAL_FEEDBACK = ("own", "none")
READ_ORDER = ("before-writes", "after-writes")
SEQUENTIAL_BIASES = {"gate": -3.0, "advance": 4.0, "gamma": 3.0}
"""What is added to the biases of heads that begin by going on by one location."""

ERASE_BIAS = -3.0
"""What is added to the erase biases of write heads that begin where read heads are."""

MEMORY_CONSTANT = 1e-6


class FeedForwardStack(nn.Module):
    """Layers of tanh units, each fed the input and the layer below: a controller without state."""

    def __init__(self, input_size: int, hidden_size: int, layers: int) -> None:
        super().__init__()
        require_positive(hidden_size=hidden_size, layers=layers)
        self.output_size = layers * hidden_size
        self.layers = nn.ModuleList(
            nn.Linear(input_size + (hidden_size if below else 0), hidden_size)
            for below in range(layers)
        )

    def initial_state(self, batch_size: int) -> tuple[()]:
        return ()

    def step(self, input_BI: Tensor, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        hidden: list[Tensor] = []
        for layer in self.layers:
            below_BI = torch.cat([input_BI, hidden[-1]], 1) if hidden else input_BI
            hidden.append(torch.tanh(layer(below_BI)))
        return torch.cat(hidden, 1), state


CONTROLLERS = {"lstm": LSTMStack, "gru": GRUStack, "ff": FeedForwardStack}


class HeadValues(NamedTuple):
    """What the controller says to the heads in one step, after its non-linearities."""

    key_BJM: Tensor
    beta_BJ1: Tensor
    gate_BJ1: Tensor
    shift_BJS: Tensor
    gamma_BJ1: Tensor
    erase_BHM: Tensor
    add_BHM: Tensor


def require_heads(heads: int, **numbers: int) -> None:
    """Raises UserError for what is no whole number from 0 to `heads`."""
    for name, number in numbers.items():
        whole = isinstance(number, int) and not isinstance(number, bool)
        if not (whole and 0 <= number <= heads):
            raise UserError(
                f"{name} must be a whole number from 0 to heads, which is {heads}, not {number!r}"
            )


class NTMState(NamedTuple):
    """Everything a sequence carries from step to step."""

    controller: Any
    reads_BHM: Tensor
    memory_BNM: Tensor
    weightings_BJN: Tensor


class NTM(nn.Module):
    """A controller with read and write heads on a memory of `memory_rows` x `memory_width`.

    In a step all heads find their weightings in the memory that the step before left (eq. 5 to 9),
    the read heads read it (eq. 2) and the write heads change it (eq. 3, 4); with a `read_order` of
    "after-writes" the read heads read it changed. The output sees the controller and the reads; the
    next step's controller is fed the reads.

    Args:
        controller: "lstm", "gru" or "ff"; `layers` of `hidden_size` units.
        heads: pairs of one read and one write head.
        memory_rows, memory_width: N x M. N can be another one at test time: see `initial_state`.
        shift_range: heads can shift by -range .. +range locations.
        addressing: "content+location", "content" (eq. 5 alone) or "location" (eq. 8 and 9 on the
            previous weighting, no content).
        initial_memory: "random" (drawn once, uniform within memory_scale / sqrt(N + M), not
            learned), "constant" (1e-6 everywhere) or "learned" (one row of M numbers, drawn like a
            random one, the same at every location, so that N stays free).
        memory_scale: how large rows are before anything is written. To the content weighting of
            rows as they began it makes no difference (eq. 6) but in rounding, unless they are so
            short that `row_floor` shows; after an add a large row is still known by what it began
            as, and a read says which row it was. With 12, and 128 x 20, numbers are up to 1, with 1
            up to 0.08.
        row_floor: in eq. 6 the root of |M(i)|^2 + row_floor^2 stands for |M(i)|, so that rows
            much shorter than this are like no key. The usual 1e-6 keeps the gradient of a row of
            zeros finite, and is nothing beside a row that was written. With more, a row that was
            erased is not found again, and the gradient of what little is left of it stays small.
        initial_weightings: "one-hot" (all heads at location 0), "uniform", or "zero" (nowhere).
        initial_reads: "learned" or "zero".
        read_order: "before-writes": what is written in a step can be read in the next, and fed to
            the controller in the one after that. "after-writes": it can be read in the same step,
            and fed to the controller in the next: to one without a state, a state. The memory of
            eq. 2 is that of time t, which eq. 3 and 4 make of that of time t - 1; but so is that of
            eq. 5, where weightings are found in what the step before left in either order, for
            what is written depends on them.
        initial_feedback: how the controller's weights for what was read are drawn: "own", like
            those for its other inputs, or "none": they are zero. What the heads do does not depend
            on what they read then until that is learned; the output sees the reads in either case.
        initial_keys: how the head layer's weights for the read keys (eq. 6) are drawn: "own" for
            themselves, or "adds": as a copy of those for what the write heads add (eq. 4), each
            read head's of its write head's. A read head then begins by looking for what would be
            written now, so that an item that comes again finds its own location; training is free
            to take keys and adds apart.
        initial_writes: what write heads begin with: "own", whatever their biases, drawn around 0,
            make them do, or "sequential": all of them at location 1, then 2 and so on, sharply.
            Added to their biases are -3 for the gate (g is about 0.05), 4 for the shift by +1 (it
            has 0.96 of the weight, of three shifts) and 3 for the sharpening (gamma is about 4), so
            that what is written lies in memory in order and unblurred from the first step. It comes
            on top of `gate_bias` and `gamma_bias`, which can undo it.
        sequential_reads: how many read heads, the first ones, begin as sequential writes do. With
            sequential writes and a `read_order` of "after-writes" they begin by reading the row
            that was just written; "before-writes", the row that is about to be.
        erasing_writes: how many write heads, the last ones, begin at the locations that the read
            heads of the same numbers find: what says their keys, strengths, gates, shifts and
            sharpenings begins as a copy, so that what is read can be erased in the same step (with
            a `read_order` of "after-writes": before it is read). -3 is added to the biases of what
            they erase (an element of e is about 0.05, for 0.5 without), so that they do not do so
            before it is learned. `initial_writes` is for the other write heads.
        beta_bias, gate_bias, gamma_bias: added to the biases, drawn around 0, of all key strengths
            (eq. 5), interpolation gates (eq. 7) and sharpenings (eq. 9). With a beta_bias of 3 a
            row like the key begins with 20 times the weight of one unlike it (beta is about 3.0,
            for 0.7 without), where it has to stand out among N; with a gate_bias of -2 and a
            gamma_bias of 1 heads begin by holding on to their location: g is about 0.1 and gamma
            2.3, for 0.5 and 1.7 without.
        forget_bias: added to the biases of the gates by which the controller keeps its state: the
            forget gates of an LSTM, which begin at 1, the update gates of a GRU, which begin at 0.
            With 3 an LSTM begins by keeping 0.98 of a cell from one step to the next (0.73
            without), a GRU 0.95 of a unit (0.5 without). A feed-forward controller has no state,
            and takes 0 only.

    Raises:
        UserError: a value that is not allowed, a shift range wider than the memory, or a start in
            which nothing tells the locations apart, so that they stay equal for ever.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        controller: str = "lstm",
        hidden_size: int = 100,
        layers: int = 1,
        heads: int = 1,
        memory_rows: int = 128,
        memory_width: int = 20,
        shift_range: int = 1,
        addressing: str = "content+location",
        initial_memory: str = "random",
        memory_scale: float = 1.0,
        row_floor: float = SMALL,
        initial_weightings: str = "one-hot",
        initial_reads: str = "learned",
        read_order: str = "before-writes",
        initial_feedback: str = "own",
        initial_keys: str = "own",
        initial_writes: str = "own",
        sequential_reads: int = 0,
        erasing_writes: int = 0,
        beta_bias: float = 0.0,
        gate_bias: float = 0.0,
        gamma_bias: float = 0.0,
        forget_bias: float = 0.0,
    ) -> None:
        super().__init__()
        require_choice("controller", controller, tuple(CONTROLLERS))
        require_choice("addressing", addressing, ADDRESSING)
        require_choice("initial_memory", initial_memory, INITIAL_MEMORY)
        require_choice("initial_weightings", initial_weightings, INITIAL_WEIGHTINGS)
        require_choice("initial_reads", initial_reads, INITIAL_READS)
        require_choice("read_order", read_order, READ_ORDER)
        require_choice("initial_feedback", initial_feedback, INITIAL_FEEDBACK)
        require_choice("initial_keys", initial_keys, INITIAL_KEYS)
        require_choice("initial_writes", initial_writes, INITIAL_WRITES)
        require_positive(heads=heads, memory_width=memory_width, shift_range=shift_range)
        require_scale("memory_scale", memory_scale)
        require_scale("row_floor", row_floor, least=SMALL)
        if initial_memory == "constant" and memory_scale != 1:
            raise UserError(
                f"memory_scale must be 1 with initial_memory 'constant', not {memory_scale!r}"
            )
        by_memory = initial_memory == "random" and addressing != "location"
        by_weightings = initial_weightings == "one-hot" and addressing != "content"
        if not (by_memory or by_weightings):
            raise UserError(
                f"addressing '{addressing}' with initial_memory '{initial_memory}' and "
                f"initial_weightings '{initial_weightings}': all locations would stay equal for "
                "ever; content needs initial_memory 'random', location initial_weightings 'one-hot'"
            )
        require_heads(heads, sequential_reads=sequential_reads, erasing_writes=erasing_writes)
        if initial_writes == "sequential" and erasing_writes == heads:
            raise UserError(
                f"erasing_writes {erasing_writes} leaves none of {heads} write heads for "
                "initial_writes 'sequential'"
            )
        sequential = {
            "initial_writes 'sequential'": initial_writes == "sequential",
            f"sequential_reads {sequential_reads}": sequential_reads > 0,
        }
        for name, asked in sequential.items():
            if asked and not by_weightings:
                raise UserError(
                    f"{name} with addressing '{addressing}' and "
                    f"initial_weightings '{initial_weightings}': it needs heads that shift (not "
                    "addressing 'content') from one location (initial_weightings 'one-hot')"
                )
        self.heads, self.memory_width, self.shift_range = heads, memory_width, shift_range
        self.memory_rows = self._checked_rows(memory_rows)
        self._memory_bound = memory_scale / math.sqrt(memory_rows + memory_width)
        self.row_floor = row_floor
        self.addressing, self.initial_weightings = addressing, initial_weightings
        self.reads_after_writes = read_order == "after-writes"
        self.controller = CONTROLLERS[controller](
            input_size + heads * memory_width, hidden_size, layers
        )
        if initial_feedback == "none":
            self._forget_reads(input_size)
        features = self.controller.output_size
        read_size = memory_width + 3 + 2 * shift_range + 1  # key; beta, gate, gamma; shift
        self._sizes = (read_size, 2 * memory_width)
        self.head_layer = nn.Linear(features, heads * (2 * read_size + 2 * memory_width))
        if initial_keys == "adds":
            self._copy_adds_to_read_keys()
        self._add_biases(beta_bias=beta_bias, gate_bias=gate_bias, gamma_bias=gamma_bias)
        self._add_forget_bias(forget_bias)
        for name, bias in SEQUENTIAL_BIASES.items():
            self._bias_view(name)[:sequential_reads] += bias
            if initial_writes == "sequential":
                self._bias_view(name)[heads:] += bias
        self._copy_reads_to_writes(erasing_writes)
        self.readout = nn.Linear(features + heads * memory_width, output_size)
        self._make_initial_memory(initial_memory)
        reads_HM = torch.zeros(heads, memory_width)
        if initial_reads == "learned":
            self.initial_reads_HM = nn.Parameter(reads_HM)
        else:
            self.register_buffer("initial_reads_HM", reads_HM, persistent=False)

    def _forget_reads(self, input_size: int) -> None:
        of_reads = slice(input_size, input_size + self.heads * self.memory_width)
        for layer in self.controller.layers:
            weight = layer.weight if isinstance(layer, nn.Linear) else layer.input_weight_GI
            weight.detach()[:, of_reads] = 0

    def _head_views(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Views of the head layer's weights, then of its biases, with a row a head.

        A triple each: what says where read heads go (their keys, strengths, gates, shifts,
        sharpenings, in this order), the same of write heads, and what these erase and add.
        """
        read_size, write_size = self._sizes
        sizes = [self.heads * read_size, self.heads * read_size, self.heads * write_size]
        views = []
        for of_layer in (self.head_layer.weight, self.head_layer.bias):
            parts = of_layer.detach().split(sizes)
            views.append(tuple(part.unflatten(0, (self.heads, -1)) for part in parts))
        return views

    def _copy_adds_to_read_keys(self) -> None:
        for read_HX, _, change_HX in self._head_views():
            read_HX[:, : self.memory_width] = change_HX[:, self.memory_width :]

    def _copy_reads_to_writes(self, last: int) -> None:
        first = self.heads - last
        views = self._head_views()
        for read_HX, write_HX, _ in views:
            write_HX[first:] = read_HX[first:]
        _, (_, _, change_biases_HX) = views
        change_biases_HX[first:, : self.memory_width] += ERASE_BIAS

    def _add_biases(self, **biases: float) -> None:
        """Add these to the head layer's biases of what they are named after, for all heads."""
        for name, bias in biases.items():
            require_bias(name, bias)
        for name, bias in biases.items():
            self._bias_view(name.removesuffix("_bias"))[:] += bias

    def _add_forget_bias(self, bias: float) -> None:
        require_bias("forget_bias", bias)
        if isinstance(self.controller, FeedForwardStack):
            if bias:
                raise UserError(
                    f"forget_bias must be 0 with controller 'ff', which has no state, not {bias!r}"
                )
            return
        hidden_size = self.controller.output_size // len(self.controller.layers)
        for layer in self.controller.layers:  # the second gates of both: forget, update
            layer.bias_G.detach()[hidden_size : 2 * hidden_size] += bias

    def _bias_view(self, name: str) -> Tensor:
        """A view (J,) of the head layer's biases of "beta", "gate", "advance" (+1) or "gamma"."""
        after_key = self.memory_width
        advance = after_key + 2 + self.shift_range + 1
        column = {"beta": after_key, "gate": after_key + 1, "advance": advance, "gamma": -1}[name]
        biases_X = self.head_layer.bias.detach()[: 2 * self.heads * self._sizes[0]]
        return biases_X.unflatten(0, (2 * self.heads, -1))[:, column]

    def _checked_rows(self, rows: int) -> int:
        require_positive(memory_rows=rows)
        if 2 * self.shift_range + 1 > rows:
            raise UserError(
                f"shift_range {self.shift_range} is wider than the memory: 2 x shift_range + 1 "
                f"must be at most memory_rows, which is {rows}"
            )
        return rows

    def _make_initial_memory(self, kind: str) -> None:
        rows, width, bound = self.memory_rows, self.memory_width, self._memory_bound
        if kind == "random":
            drawn_NM = torch.empty(rows, width).uniform_(-bound, bound)
            self.register_buffer("initial_memory_NM", drawn_NM)
        elif kind == "constant":
            constant_NM = torch.full((1, width), MEMORY_CONSTANT)
            self.register_buffer("initial_memory_NM", constant_NM, persistent=False)
        else:
            self.initial_memory_NM = nn.Parameter(torch.empty(1, width).uniform_(-bound, bound))

    def _initial_memory(self, rows: int) -> Tensor:
        """The first `rows` rows; any past the trained ones are drawn like them, always the same."""
        memory_NM = self.initial_memory_NM
        if len(memory_NM) == 1:
            return memory_NM.expand(rows, -1)
        more = max(0, rows - len(memory_NM))
        bound = self._memory_bound
        generator = torch.Generator().manual_seed(self.memory_rows)
        drawn = torch.empty(more, self.memory_width).uniform_(-bound, bound, generator=generator)
        return torch.cat([memory_NM, drawn.to(memory_NM)])[:rows]

    def initial_state(self, batch_size: int, memory_rows: int | None = None) -> NTMState:
        """The state that every sequence starts from.

        Args:
            batch_size: sequences.
            memory_rows: N, if it is to differ from the one the model was made with.

        Raises:
            UserError: not a whole number of 1 or more, or less than the shifts need.
        """
        rows = self.memory_rows if memory_rows is None else self._checked_rows(memory_rows)
        memory_NM = self._initial_memory(rows)
        weighting_N = memory_NM.new_zeros(rows)
        if self.initial_weightings == "one-hot":
            weighting_N[0] = 1
        elif self.initial_weightings == "uniform":
            weighting_N += 1 / rows
        return NTMState(
            self.controller.initial_state(batch_size),
            self.initial_reads_HM.expand(batch_size, -1, -1),
            memory_NM.expand(batch_size, -1, -1),
            weighting_N.expand(batch_size, 2 * self.heads, -1),
        )

    def forward(self, inputs_BTI: Tensor, state: NTMState | None = None) -> tuple[Tensor, NTMState]:
        """Logits (B, T, O) of the whole sequence, and the state after it."""
        state = self.initial_state(len(inputs_BTI)) if state is None else state
        seen = []
        for input_BI in inputs_BTI.unbind(1):
            seen_BF, state, _ = self._step(input_BI, state)
            seen.append(seen_BF)
        return self.readout(torch.stack(seen, 1)), state

    def trace(self, inputs_BTI: Tensor, state: NTMState | None = None) -> dict[str, Tensor]:
        """What the heads do at every step: see `ntmbench.models` for the names and shapes."""
        state = self.initial_state(len(inputs_BTI)) if state is None else state
        seen, steps = [], []
        for input_BI in inputs_BTI.unbind(1):
            seen_BF, state, values = self._step(input_BI, state)
            seen.append(seen_BF)
            steps.append(self._seen_of_heads(state, values))
        found = {name: torch.stack([step[name] for step in steps], 1) for name in steps[0]}
        return {"logits": self.readout(torch.stack(seen, 1))} | found

    def _seen_of_heads(self, state: NTMState, values: HeadValues) -> dict[str, Tensor]:
        """What a step's heads did; of their parameters, those that this addressing uses."""
        of_both = {"weightings": state.weightings_BJN}
        if self.addressing != "location":
            of_both["key_strength"] = values.beta_BJ1[..., 0]
        if self.addressing == "content+location":
            of_both["gate"] = values.gate_BJ1[..., 0]
        if self.addressing != "content":
            of_both |= {"shift": values.shift_BJS, "gamma": values.gamma_BJ1[..., 0]}
        found = {"reads": state.reads_BHM, "adds": values.add_BHM, "erases": values.erase_BHM}
        for name, both in of_both.items():
            found[f"read_{name}"], found[f"write_{name}"] = both.split(self.heads, 1)
        return found

    def _step(self, input_BI: Tensor, state: NTMState) -> tuple[Tensor, NTMState, HeadValues]:
        """One time step.

        Returns what the readout sees (controller features and reads), the state, the head values.
        """
        fed_BI = torch.cat([input_BI, state.reads_BHM.flatten(1)], 1)
        features_BF, controller = self.controller.step(fed_BI, state.controller)
        values = self._head_values(features_BF)
        weightings_BJN = self._address(values, state.memory_BNM, state.weightings_BJN)
        read_BHN, write_BHN = weightings_BJN.split(self.heads, 1)
        memory_BNM = addressing.erase(state.memory_BNM, write_BHN, values.erase_BHM)
        memory_BNM = addressing.add(memory_BNM, write_BHN, values.add_BHM)
        read_BNM = memory_BNM if self.reads_after_writes else state.memory_BNM
        reads_BHM = addressing.read(read_BNM, read_BHN)
        state = NTMState(controller, reads_BHM, memory_BNM, weightings_BJN)
        return torch.cat([features_BF, reads_BHM.flatten(1)], 1), state, values

    def _head_values(self, features_BF: Tensor) -> HeadValues:
        """The head layer's numbers, brought into range (section 3.3); keys and adds by tanh."""
        heads, width, shifts = self.heads, self.memory_width, 2 * self.shift_range + 1
        address_size = 2 * heads * self._sizes[0]
        raw_BX = self.head_layer(features_BF)
        address_BJX = raw_BX[:, :address_size].unflatten(1, (2 * heads, -1))
        write_BHX = raw_BX[:, address_size:].unflatten(1, (heads, -1))
        key, beta, gate, shift, gamma = address_BJX.split([width, 1, 1, shifts, 1], -1)
        erase, add = write_BHX.split(width, -1)
        return HeadValues(
            key_BJM=torch.tanh(key),
            beta_BJ1=softplus(beta),
            gate_BJ1=torch.sigmoid(gate),
            shift_BJS=torch.softmax(shift, -1),
            gamma_BJ1=1 + softplus(gamma),
            erase_BHM=torch.sigmoid(erase),
            add_BHM=torch.tanh(add),
        )

    def _address(self, values: HeadValues, memory_BNM: Tensor, previous_BJN: Tensor) -> Tensor:
        """The new weightings (B, J, N) of all heads: figure 2 of the paper."""
        weightings_BJN = previous_BJN
        if self.addressing != "location":
            similarity_BJN = addressing.cosine_similarity(
                values.key_BJM, memory_BNM, self.row_floor
            )
            weightings_BJN = addressing.content_weighting(similarity_BJN, values.beta_BJ1)
        if self.addressing == "content":
            return weightings_BJN
        if self.addressing == "content+location":
            weightings_BJN = addressing.interpolate(weightings_BJN, previous_BJN, values.gate_BJ1)
        weightings_BJN = addressing.shift(weightings_BJN, values.shift_BJS)
        return addressing.sharpen(weightings_BJN, values.gamma_BJ1)
