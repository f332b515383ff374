"""One training step, and one turn of a data loader, as a run would have them; and turns that processes take."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import chain, count
from typing import NamedTuple

import torch
from rich.progress import track
from torch.utils.data import DataLoader

from segdistill.config.trainer import TrainerConfig
from segdistill.data.datamodule import Batch
from segdistill.engine.trainer import choose_precision, filter_warnings, root_device
from segdistill.models.fast_layers import use_fast_layers
from segdistill.tasks import SegmentationTask
from segdistill.utils.hardware import ONEDNN_LIMIT, cpu_name, keep_freed_memory
from segdistill.utils.worker import SubprocessWorker

CPU = TrainerConfig(accelerator="cpu", precision="auto", channels_last=True)
TURN = 8  # batches
Step = Callable[[], None]
HELD = {
    "avx2": {ONEDNN_LIMIT: "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}
"""Instructions -> the environment in which PyTorch and its libraries use no wider ones."""


class Seconds(NamedTuple):
    """What a turn took: the first, which warms up or compiles, and the median of the others."""

    first: float
    median: float


def add_batch_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments that determine a batch, and the instructions with which it is computed."""
    command.add_argument("--batch-size", type=int, default=4)
    command.add_argument("--size", type=int, nargs=2, default=(272, 480), metavar=("H", "W"))
    command.add_argument(
        "--instructions", choices=list(HELD), help="hold PyTorch to these, as on a processor without more"
    )


def hold_instructions(instructions: str | None) -> None:
    """Hold processes that are started from now on to instructions of `HELD`."""
    os.environ.update(HELD[instructions] if instructions else {})


def processor(instructions: str | None) -> str:
    """Return the processor's name, and the instructions to which it is held."""
    return cpu_name() + (f", held to {instructions.upper()}" if instructions else "")


def task_step(task: SegmentationTask, batch: Batch, trainer_config: TrainerConfig = CPU) -> Step:
    """Build a training step of a task on one batch, on the device and in the precision that a run would choose."""
    filter_warnings()
    keep_freed_memory()
    use_fast_layers(task)
    device, precision = root_device(trainer_config), choose_precision(trainer_config)
    task.to(device).train()
    batch = {key: tensor.to(device) for key, tensor in batch.items()}
    optimizer = task.optimizer_factory([{"params": task.parameters()}])
    half = torch.float16 if precision == "16-mixed" else torch.bfloat16

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, half, enabled=precision != "32-true"):
            loss = task.compute_losses(batch)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def step_seconds(step: Step) -> float:
    """Run a step, and return the seconds that it took."""
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def loader_turn(loader: DataLoader[Batch]) -> Callable[[], float]:
    """Return a function that measures a loader's seconds per batch, without the batches that were ready before."""
    batches = chain.from_iterable(loader for _ in count())
    ready_beforehand = loader.num_workers * (loader.prefetch_factor or 0)

    def turn() -> float:
        for _ in range(ready_beforehand):
            next(batches)
        begin = time.perf_counter()
        for _ in range(TURN):
            next(batches)
        return (time.perf_counter() - begin) / TURN

    return turn


def in_turns(workers: Mapping[str, SubprocessWorker], rounds: int) -> dict[str, Seconds]:
    """Time workers in turns; return seconds by name."""
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    with ExitStack() as stack:
        for worker in workers.values():
            stack.enter_context(worker)
        for worker in workers.values():
            worker.wait_until_ready()
        for _ in track(range(rounds + 1), "Timing steps", transient=True):
            for name, worker in workers.items():
                seconds[name].append(worker.call(None))
    return {name: Seconds(first, statistics.median(others)) for name, (first, *others) in seconds.items()}
