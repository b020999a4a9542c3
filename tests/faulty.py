"""A plug-in model that does harm: `faults.json` beside it says what, when, and to which seeds.

Its numbers are the same whatever it does, so a run that was harmed can be compared with one that
was not. Where there is a `faults.json` it appends a line to `log` for everything that is asked of
it; the tests copy it into their own folder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ntmbench.streams import torch_seed

HERE = Path(__file__).parent
SEEDS = {torch_seed(seed, why): seed for seed in range(10) for why in ("weights", "torch")}
"""The seed of the run that a model belongs to, by that of torch when the model is made."""
LONG = 30
"""Steps that no sequence in training or validation has."""

if (HERE / "keeping").exists():  # nodes without the output folder send files back all the time
    import ntmbench.sweep.remote

    ntmbench.sweep.remote.KEEPING = 0.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What a model of a seed does at the `call`-th time, counted from 1 in every attempt; 0 for
    every time.

    what: a function of this module. when: in "training" (an update), "saving" (its state is asked
    for) or "testing" (on sequences longer than any in training). seed: None for all. once: only in
    the first process that comes to it.
    """

    what: str
    when: str = "training"
    seed: int | None = None
    call: int = 0
    once: bool = False


class Faulty(nn.Module):
    """A plain recurrent network, with faults."""

    def __init__(self, input_size: int, output_size: int, *, hidden_size: int = 8) -> None:
        super().__init__()
        self.rnn = nn.RNN(input_size, hidden_size, batch_first=True)
        self.readout = nn.Linear(hidden_size, output_size)
        self.seed = SEEDS.get(torch.initial_seed())
        self.name, self.calls, self.faults = os.urandom(4).hex(), Counter(), None
        if (HERE / "faults.json").exists():
            told = json.loads((HERE / "faults.json").read_text())
            self.faults = [Fault(**one) for one in told if one.get("seed") in (None, self.seed)]

    def initial_state(self, batch_size):
        return self.readout.weight.new_zeros(1, batch_size, self.rnn.hidden_size)

    def forward(self, inputs_BTI, state=None):
        if self.training:
            self._reach("training")
        elif inputs_BTI.shape[1] > LONG:
            self._reach("testing")
        state = self.initial_state(len(inputs_BTI)) if state is None else state
        hidden_BTH, state = self.rnn(inputs_BTI, state)
        return self.readout(hidden_BTH), state

    def state_dict(self, *arguments, **keywords):
        self._reach("saving")
        return super().state_dict(*arguments, **keywords)

    def _reach(self, when: str) -> None:
        if self.faults is None:
            return
        with open(HERE / "log", "a") as log:
            log.write(f"{self.name} {os.getpid()} {self.seed} {when}\n")
        self.calls[when] += 1
        for fault in self.faults:
            if fault.when == when and fault.call in (0, self.calls[when]) and _first(fault):
                globals()[fault.what]()


def _first(fault: Fault) -> bool:
    """Whether a fault is still to be done: one of `once` is by the first process alone."""
    if not fault.once:
        return True
    try:
        (HERE / f"done-{fault.what}-{fault.when}-{fault.seed}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def kill() -> None:
    """Die, as if for want of memory, after a last word."""
    print("these are the last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def tear() -> None:
    """Die in the middle of writing the next file: it is not in its place yet."""
    os.replace = lambda *_: kill()


def fail() -> None:
    """Raise what a broken model would."""
    raise ArithmeticError("this model is broken")


def leave() -> None:
    """End the process politely."""
    sys.exit(3)


def leave_a_child() -> None:
    """Die with a child that has the worker's pipe, and would outlive it."""
    subprocess.Popen(["sleep", "600"], cwd=HERE, close_fds=False)
    kill()


def meddle() -> None:
    """Change what is common to all models of a process."""
    torch.set_default_dtype(torch.float64)
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    torch.manual_seed(1)
    os.chdir("/")


def hang() -> None:
    """Never return."""
    (HERE / f"reached-{os.getpid()}").touch()
    while True:
        time.sleep(1)


def gate() -> None:
    """Say that this process is here, and wait for the file `go`."""
    (HERE / f"reached-{os.getpid()}").touch()
    while not (HERE / "go").exists():
        time.sleep(0.01)


def slow() -> None:
    """Take time."""
    time.sleep(0.05)


def chatter() -> None:
    """Print much, from Python, from a descriptor and from another process, not all of it text."""
    print("{" * 10_000)
    print("}" * 10_000, file=sys.stderr, flush=True)
    for descriptor in (1, 2):
        os.write(descriptor, bytes(range(256)) * 40)
    subprocess.run(["echo", "[" * 10_000], check=True)
