"""How fast training is on this machine: whole updates, where their time goes, how it grows.

`Bench.measure` gives what `ntmbench bench --json` prints. Repetitions take turns; `median`, `least`
and `greatest` are of the repetitions, any other figure is their median. us: microseconds.

throughput: sequences a second in whole updates; ratio: fused over eager in the same repetition.
update: of the fused engine. parts_us: "data" (drawing the point and the sequences), "forward" (the
    kernel `predict`), "loss and backward" (what `learn` takes longer), "optimiser" (`advance`),
    "rest" (records, calling the kernels, waiting for threads); they add up to whole_us.
kernel: of the same update, without the optimiser. mflop: million operations by `forward_flops`, a
    way back counted as two forward; gflops: thousand millions a second; peak_gflops: what torch's
    product of two 512 x 512 float32 matrices reaches here, on as many `threads`; of_peak: their
    ratio; floor_us: mflop at the peak; of_floor: the floor over the whole update.
growth: of such an update. us: a step and sequence; megabytes: of activations and their gradients.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from timeit import timeit
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ntmbench.config import Point
from ntmbench.engine import get_ready
from ntmbench.engine.compiled import flushed_denormals
from ntmbench.engine.shapes import FF, GATES, Shape
from ntmbench.evaluate import draw_vary, point_label
from ntmbench.machine import environment, pin_threads
from ntmbench.resolve import resolve
from ntmbench.show import table
from ntmbench.tasks import Task
from ntmbench.train import Trainer

Row = dict[str, Any]
MODELS, BATCHES = ("ntm", "ntm-ff", "ntm-gru", "lstm", "gru"), (1, 16)
WATCHED = "ntm"  # whose update is taken apart, and whose growth is followed
GROWING: dict[str, list[Row]] = {  # what `Bench.updates` is given
    "steps": [{"longer": times} for times in (1, 2, 4, 8)],
    "memory rows": [{"more": [f"model.memory_rows={rows}"]} for rows in (32, 128, 512, 2048)],
    "batch": [{"batch": size} for size in (1, 4, 16, 64)],
}
PAUSE_SECONDS = 0.02  # in which torch's threads stop spinning
NEVER = 10**15  # sequences: no validation, and no end, is ever reached
TITLES = {
    "throughput": "whole updates: sequences a second",
    "update": "one update of the fused engine: microseconds",
    "kernel": "its kernel; peak: what torch's matrix product reaches here, on as many threads",
    "growth": "growth of the fused engine's update: microseconds a step and sequence",
}


def spread(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Median, least and greatest."""
    found = np.percentile(values, [50, 0, 100]).tolist()
    return dict(zip(("median", "least", "greatest"), found, strict=True))


def forward_flops(shape: Shape) -> int:
    """Floating-point operations of one sequence in one step, forward: Graves et al. 2014, eq. 2-6.

    Two for each weight of controller, head layer and readout. With N rows of width M: 2 N M a read
    head to read; 2 N M for the norms of the rows and 2 N M a head for the similarity, if there is
    content addressing; 5 N M a write head to erase and add. The rest, linear in a size, is not in.
    """
    fed = shape.inputs + shape.reads + (shape.hidden if shape.cell != FF else 0)
    features, pairs = shape.layers * shape.hidden, shape.heads
    weights = GATES[shape.cell] * shape.hidden * (shape.layers * fed + features - shape.hidden)
    weights += features * pairs * (2 * (shape.width + 3 + shape.shifts) + 2 * shape.width)
    weights += shape.outputs * (features + shape.reads)
    compared = 2 * pairs + 1 if shape.content else 0
    return 2 * weights + shape.rows * shape.width * (pairs * (2 + 5) + 2 * compared)


def peak(threads: int, size: int = 512, count: int = 10) -> float:
    """Operations a second of torch's product of two square float32 matrices on so many threads."""
    before = torch.get_num_threads()
    pin_threads(threads)
    a, b = torch.rand(2, size, size)
    product = a @ b  # the first is not counted
    elapsed = timeit(lambda: torch.mm(a, b, out=product), number=count)
    pin_threads(before)
    return count * 2 * size**3 / elapsed


def take_turns(works: Sequence[Callable[[], Any]], repetitions: int) -> list[tuple[Any, ...]]:
    """What each returns in every repetition: the first of all, then the second of all."""
    return list(zip(*[[work() for work in works] for _ in range(repetitions)], strict=True))


class Updates:
    """Whole updates of a trainer, as many at a time as take about so many seconds."""

    def __init__(self, trainer: Trainer, seconds: float) -> None:
        self.trainer, self.goes = trainer, 1
        self.engine: Any = trainer.engine
        self.records, self.steps = trainer.run(), trainer.validation[0].inputs_BTI.shape[1]
        self()  # it makes room
        self.goes = max(1, round(seconds / self() / self.engine.ahead))

    def __call__(self) -> float:
        """Seconds an update."""
        time.sleep(PAUSE_SECONDS)
        progress = self.trainer.progress
        before, started = progress.updates, time.perf_counter()
        for _ in range(self.goes):
            next(self.records)
        return (time.perf_counter() - started) / (progress.updates - before)


def watch(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> Callable[..., Any]:
    """`function`, which puts its calls into `calls`: thread, seconds, arguments."""

    def watched(*arguments: Any) -> Any:
        started = time.perf_counter()
        result = function(*arguments)
        calls.append((threading.get_ident(), time.perf_counter() - started, arguments))
        return result

    return watched


def dissect(updates: Updates) -> dict[str, float]:
    """Seconds an update: "whole", "kernels" (the busiest thread's), and those of `replay`."""
    engine, kernels, learn, advance = updates.engine, updates.engine.kernels, [], []
    watched = {"learn": watch(kernels.learn, learn), "advance": watch(kernels.advance, advance)}
    engine.kernels = SimpleNamespace(**vars(kernels) | watched)
    whole = updates()
    engine.kernels = kernels
    goes, size = [], len(learn) // updates.goes
    for first in range(0, len(learn), size):
        goes.append(defaultdict(list))
        for thread, seconds, arguments in learn[first : first + size]:
            goes[-1][thread].append((seconds, arguments))
    taken = sum(max(sum(seconds for seconds, _ in calls) for calls in go.values()) for go in goes)
    taken += sum(seconds for _, seconds, _ in advance)
    parts = replay(updates, [[arguments for _, arguments in calls] for calls in goes[-1].values()])
    return parts | {"whole": whole, "kernels": taken / updates.goes / engine.ahead}


@flushed_denormals()
def replay(updates: Updates, learned: list[list[Any]]) -> dict[str, float]:
    """Seconds an update: "data", "forward" with what each thread learned from, "optimiser"."""
    trainer, engine, rng = updates.trainer, updates.engine, np.random.default_rng(0)
    train, flat = trainer.config.train, (engine.weights_W, engine.gradients[0], engine.state_3W)
    each = train.lengths == "sequence" and train.batch_size > 1
    before = [part.copy() for part in flat]

    def draw() -> None:
        point = draw_vary(rng, train.vary, train.batch_size, each)
        trainer.generator.sample(rng, train.batch_size, **point)

    taken, in_threads = [], engine.pool.map if len(learned) > 1 else map
    for _ in range(updates.goes):
        forward = max(in_threads(lambda calls: forward_again(engine.kernels, calls), learned))
        flat[1][:] = flat[0]  # a gradient with zeros where they are due
        optimiser = timeit(lambda: engine.kernels.advance(engine.rule, *flat, 1.0, 1), number=1)
        for part, stored in zip(flat, before, strict=True):
            part[:] = stored  # with weights gone astray, what follows is slower
        taken.append((timeit(draw, number=engine.ahead), forward, optimiser * engine.ahead))
    data, forward, step = np.array(taken).T / engine.ahead  # only `forward` is long: else medians
    return {"data": np.median(data), "forward": np.mean(forward), "optimiser": np.median(step)}


@flushed_denormals()
def forward_again(kernels: Any, learned: list[Any]) -> float:
    """Seconds to go forward; calls without steps take away what calling costs."""
    seconds = 0.0
    for shape, places, weights, start, batches, ends, kept, _, scratch, seen, logits, *_ in learned:
        for first, end in zip([0, *ends[:-1]], ends, strict=True):
            for steps, sign in ((end - first, 1), (0, -1)):
                inputs_TBI, room = batches[0][first : first + steps], (seen[:steps], logits[:steps])
                started = time.perf_counter()
                kernels.begin(shape, places, weights, start, kept)
                kernels.predict(shape, places, weights, inputs_TBI, kept, scratch, *room)
                seconds += sign * (time.perf_counter() - started)
    return seconds


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is measured. A repetition lasts `seconds` or one update; `tell` is given progress."""

    task: Task
    threads: int
    tell: Callable[[str], object]
    repetitions: int = 5
    seconds: float = 0.2

    @property
    def point(self) -> Point:
        """The middle of the task's training range."""
        return {axis: (low + high) // 2 for axis, (low, high) in self.task.train.vary.items()}

    def measure(self) -> Row:
        """The table that the module describes.

        Raises:
            UserError: the task, or its recipe for a model, is refused.
        """
        get_ready("fused", self.tell)
        pin_threads(self.threads)
        found: Row = {"task": self.task.name, "point": self.point, "threads": self.threads}
        found |= {"repetitions": self.repetitions, "machine": environment("cpu")}
        found["throughput"] = [self.throughput(name, size) for name in MODELS for size in BATCHES]
        found["update"], found["kernel"] = zip(*map(self.update, BATCHES), strict=True)
        return found | {"growth": [row for grows in GROWING for row in self.growth(grows)]}

    def updates(
        self, model: str, batch: int = 1, engine: str = "fused", longer: int = 1, more: Any = ()
    ) -> Updates:
        """Updates at the point, its first axis `longer` times that; more: overrides."""
        point = self.point | {self.task.axes[0]: longer * self.point[self.task.axes[0]]}
        vary = ", ".join(f"{axis} = [{value}, {value}]" for axis, value in point.items())
        train = {"vary": f"{{{vary}}}", "batch_size": batch, "validation_sequences": 1}
        train |= dict.fromkeys(("sequences", "curve_every", "checkpoint_every"), NEVER)
        overrides = [*(f"train.{name}={value}" for name, value in train.items()), *more]
        config = resolve(
            self.task, model, seed=0, engine=engine, threads=self.threads, overrides=overrides
        )
        return Updates(Trainer(config), self.seconds)

    def throughput(self, model: str, batch: int) -> Row:
        """A row of "throughput"."""
        self.tell(f"{model}, batch {batch}: whole updates of both engines")
        works = [self.updates(model, batch, engine) for engine in ("fused", "eager")]
        fused, eager = batch / np.array(take_turns(works, self.repetitions))
        rates = {"fused": spread(fused), "eager": spread(eager), "ratio": spread(fused / eager)}
        return {"model": model, "batch": batch} | rates

    def update(self, batch: int) -> tuple[Row, Row]:
        """A row of "update" and one of "kernel"."""
        self.tell(f"{WATCHED}, batch {batch}: where the time of an update goes")
        updates, threads = self.updates(WATCHED, batch), min(self.threads, batch)
        flops = 3 * forward_flops(updates.engine.layout.shape) * updates.steps * batch
        works = [lambda: dissect(updates), lambda: peak(threads)]
        found, peaks = take_turns(works, self.repetitions)
        seconds = {name: np.array([one[name] for one in found]) for name in found[0]}
        us = {name: 1e6 * float(np.median(values)) for name, values in seconds.items()}
        parts = {"data": us["data"], "forward": us["forward"]}
        parts["loss and backward"] = us["kernels"] - us["forward"] - us["optimiser"]
        parts |= {"optimiser": us["optimiser"], "rest": us["whole"] - us["kernels"] - us["data"]}
        about: Row = {"model": WATCHED, "batch": batch}
        rates = flops / (1e6 * seconds["kernels"] - us["optimiser"]) / 1e3
        peaks, floor_us = np.array(peaks) / 1e9, flops / float(np.median(peaks)) * 1e6
        kernel = about | {"threads": threads, "mflop": flops / 1e6, "gflops": spread(rates)}
        kernel |= {"peak_gflops": spread(peaks), "of_peak": spread(rates / peaks)}
        kernel |= {"floor_us": floor_us, "of_floor": floor_us / us["whole"]}
        return about | {"whole_us": spread(1e6 * seconds["whole"]), "parts_us": parts}, kernel

    def growth(self, grows: str) -> list[Row]:
        """The rows of "growth" for one of `GROWING`."""
        self.tell(f"{WATCHED}: growing {grows}")
        rows, works = [], [self.updates(WATCHED, **size) for size in GROWING[grows]]
        for work, taken in zip(works, take_turns(works, self.repetitions), strict=True):
            size, batch = work.engine.layout.shape.rows, work.trainer.config.train.batch_size
            us = spread(1e6 * np.array(taken) / (work.steps * batch))
            kept = sum(space.bytes for space in work.engine.spaces.values())
            row = {"model": WATCHED, "grows": grows, "steps": work.steps, "memory_rows": size}
            rows.append(row | {"batch": batch, "us": us, "megabytes": kept / 1e6})
        return rows


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cells(row: Row) -> dict[str, str]:
    """Column by column: a figure with its spread, parts with their shares, anything else plain."""
    cells = {}
    for key, value in row.items():
        name = key.replace("_", " ")
        if isinstance(value, dict) and "median" in value:
            cells[name] = "{} ({} .. {})".format(*map(_number, value.values()))
        elif isinstance(value, dict):
            whole = sum(value.values())
            cells |= {part: f"{_number(us)} ({us / whole:.0%})" for part, us in value.items()}
        else:
            cells[name] = _number(value) if isinstance(value, float) else str(value)
    return cells


def as_text(found: Row) -> str:
    """What `measure` gave, as tables."""
    machine, point = found["machine"], point_label(found["point"])
    lines = [
        f"{found['task']} at {point} on {machine['processor']}; threads used: {found['threads']}",
        f"medians of {found['repetitions']} repetitions in turn (least .. greatest)",
    ]
    for key, title in TITLES.items():
        rows = [_cells(row) for row in found[key]]
        lines += ["", title, table(list(rows[0]), [list(row.values()) for row in rows])]
    return "\n".join(lines)
