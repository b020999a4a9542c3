"""The generators of the five tasks. They make batches and know nothing of models.

A generator is a frozen dataclass. Its fields are the task's `[params]`; it has

- `input_size`, `output_size`: channels in and out;
- `axes`: the names of what a point of the task fixes, such as ("length", "repeats");
- `sample(rng, batch_size, **point) -> Batch`: each axis is given one integer for the batch or an
  array with one a sequence. Sequences are drawn one after the other from `rng`, so the same stream
  cut into other batches gives the same sequences;
- `solve(batch)`: P(bit = 1) of every target bit by the best predictor there is, from the inputs
  alone;
- `coin_bits(batch)`: how many of a sequence's target bits are fair coins to who knows the format
  only: the loss in bits of chance.

It may have, for the pictures of what a model does:

- `input_channels`, `output_channels`: names and counts of channels in order, such as
  (("bits", 8), ("delimiter", 1));
- `phases(**point)`: names of the parts of a sequence, each with its first step. Without a name, a
  part is marked and not named.

`points`, `blank` and `stack` do the batching for a generator that makes one sequence at a time.
"""

from ntmbench.generators.base import AxisValue, Batch, Channels, Phases, blank, points, stack
from ntmbench.generators.copying import Copy, RepeatCopy
from ntmbench.generators.ngrams import DynamicNgrams
from ntmbench.generators.recall import AssociativeRecall
from ntmbench.generators.sorting import PrioritySort

__all__ = [
    "AssociativeRecall",
    "AxisValue",
    "Batch",
    "Channels",
    "Copy",
    "DynamicNgrams",
    "Phases",
    "PrioritySort",
    "RepeatCopy",
    "blank",
    "points",
    "stack",
]
