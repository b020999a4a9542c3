"""One contender in a process of its own: `python worker.py CONTENDER MODEL LENGTH BATCH THREADS`.

It answers on standard output with a line of JSON: once when it is warm, then after every line of
standard input, which is a number of updates. Threads are pinned before anything is imported.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import tempfile
import time
from typing import Any

LIBRARIES = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")
WARM_UPDATES = 3
TRIAL_SECONDS = 0.2


def pin_threads(threads: int, batch: int) -> None:
    """Make every library use so many threads; before they are imported."""
    for library in LIBRARIES:
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    # XLA: a device a thread, each with a part of the batch. Its own threads within an operation
    # make every case slower, and so does an idle one at batch 1.
    devices = min(threads, batch)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["NPROC"] = os.environ["PJRT_NPROC"] = str(devices)
    os.environ["XLA_FLAGS"] = " ".join(
        [
            "--xla_cpu_multi_thread_eigen=false",
            f"--xla_force_host_platform_device_count={devices}",
            *xla_scheduler(batch),
        ]
    )


def xla_scheduler(batch: int) -> list[str]:
    """The scheduler that is faster over batch 1, slower there; a version without it would abort."""
    try:
        known = importlib.metadata.version("jaxlib").startswith("0.10.")
    except importlib.metadata.PackageNotFoundError:
        known = False
    memory = "--xla_cpu_scheduler_type=CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"
    return [memory] if known and batch > 1 else []


def timed(updates: Any, count: int) -> dict[str, float]:
    """So many updates: their seconds, the processor seconds of all threads, the last loss."""
    busy, started = time.process_time(), time.perf_counter()
    loss_bits = updates(count)
    seconds = time.perf_counter() - started
    return {
        "updates": count,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - busy,
        "loss_bits": loss_bits,
    }


def seconds_an_update(updates: Any) -> float:
    """What an update takes when warm."""
    timed(updates, WARM_UPDATES)
    count, seconds = 1, timed(updates, 1)["seconds"]
    while seconds < TRIAL_SECONDS:
        count *= 2
        seconds = timed(updates, count)["seconds"]
    return seconds / count


def prepare(contender: str, model: str, length: int, batch: int, threads: int) -> Any:
    """The contender, warm, and what it says of itself.

    start_seconds: making it and its first update, imports of its library left out.
    """
    from contenders import LIBRARY, NotAvailable, make

    try:
        importlib.import_module(LIBRARY[contender])
    except ImportError as error:
        raise NotAvailable(f"{error.name} is not installed for {sys.executable}") from error
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    started = time.perf_counter()
    updates = make(contender, model, length, batch, threads)
    timed(updates, 1)
    start_seconds = time.perf_counter() - started
    return updates, {
        "start_seconds": start_seconds,
        "update_seconds": seconds_an_update(updates),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of the libraries that were loaded."""
    names = ("numpy", "torch", "numba", "jax")
    return {name: sys.modules[name].__version__ for name in names if name in sys.modules}


def serve(contender: str, model: str, length: int, batch: int, threads: int) -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(content: dict[str, Any]) -> None:
        print(json.dumps(content), file=answers, flush=True)

    from contenders import NotAvailable

    try:
        updates, about = prepare(contender, model, length, batch, threads)
    except NotAvailable as error:
        answer({"not_available": str(error)})
        return
    except Exception as error:  # a contender's fault must not end the others
        answer({"failed": f"{type(error).__name__}: {error}"})
        return
    answer(about)
    for line in sys.stdin:
        answer(timed(updates, int(line)))


def main() -> None:
    """Serve the contender that the arguments name."""
    contender, model, *numbers = sys.argv[1:]
    length, batch, threads = map(int, numbers)
    pin_threads(threads, batch)
    with tempfile.TemporaryDirectory() as folder:  # torch.compile starts cold
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        serve(contender, model, length, batch, threads)


if __name__ == "__main__":
    main()
