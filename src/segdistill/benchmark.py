"""`python -m segdistill.benchmark training`: what a step costs, as ratios within one run.

The variants take turns, so that a noisy machine is noisy for all of them, and the median of many turns is kept.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from segdistill.config import ScheduleConfig, TrainerConfig
from segdistill.files import write_json
from segdistill.fitting import choose_precision
from segdistill.losses import DistillationLoss, supervised_loss
from segdistill.machine import cpu_count, cpu_name, keep_freed_memory
from segdistill.models import DeepLabV3, DeepLabV3Plus, FrozenTeacher
from segdistill.tasks import DistillationTask, SegmentationTask

NUM_CLASSES, BACKBONE = 5, "mobilenetv2_100"
REFERENCE = "the original's way"
Step = Callable[[], None]


def original_step(image: Tensor, target: Tensor) -> Step:
    """The original system's way: float32, contiguous tensors, the teacher's forward pass recorded by autograd.

    Its loss terms are ours, and nothing flows back through the teacher, so that only the way of running differs.

    Args:
        image: float32 [B, 3, H, W].
        target: int64 [B, H, W].
    """
    teacher, student = _pair()
    teacher.eval()
    loss, optimizer = _loss(), torch.optim.AdamW(student.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        loss(student(image), teacher(image), target)["loss"].backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def task_step(task: SegmentationTask, image: Tensor, target: Tensor) -> Step:
    """A task's step as a run on this machine takes it.

    Args:
        task: DistillationTask, or SegmentationTask for the student alone.
        image: float32 [B, 3, H, W].
        target: int64 [B, H, W].
    """
    optimizer = task.optimizer_factory([{"params": task.parameters()}])
    bf16 = choose_precision(TrainerConfig(accelerator="cpu")) == "bf16-mixed"

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = task.losses(task(image), image, target)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _tasks() -> tuple[DistillationTask, SegmentationTask]:
    options: dict[str, Any] = {
        "class_names": [f"class {index}" for index in range(NUM_CLASSES)],
        "optimizer": partial(torch.optim.AdamW, lr=1e-3),
        "schedule": ScheduleConfig(),
    }
    teacher, student = _pair()
    distillation = DistillationTask(student, FrozenTeacher(teacher), _loss(), **options).train()
    distillation.on_fit_start()
    _, student = _pair()
    return distillation, SegmentationTask(student, loss=_loss().supervised, role="student", **options).train()


def _loss() -> DistillationLoss:
    return DistillationLoss(supervised_loss("focal", gamma=2.0), {"kl": 1.0}, temperature=2.0, alpha=0.5)


def _pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    teacher = DeepLabV3Plus(NUM_CLASSES, BACKBONE, pretrained=False)
    return teacher, DeepLabV3(NUM_CLASSES, BACKBONE, pretrained=False).train()


def interleaved_medians(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Returns the median seconds of each step, all of them taken in turn, after one untimed round."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in track(range(rounds + 1), "Timing steps", transient=True):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            if round_number:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def training(batch_size: int, size: Sequence[int], rounds: int) -> dict[str, float]:
    """Times the three kinds of step on the original's networks; returns median seconds by name."""
    image, target = torch.rand(batch_size, 3, *size), torch.randint(0, NUM_CLASSES, (batch_size, *size))
    distillation, alone = _tasks()
    steps = {
        REFERENCE: original_step(image, target),
        "distillation": task_step(distillation, image, target),
        "student alone": task_step(alone, image, target),
    }
    return interleaved_medians(steps, rounds)


def main() -> None:
    """Parses the command line, prints a table and saves it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m segdistill.benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="training")
    command = commands.add_parser("training", help="seconds a training step, on a CPU")
    command.add_argument("--batch-size", type=int, default=4)
    command.add_argument("--size", type=int, nargs=2, default=(269, 484), metavar=("H", "W"))
    command.add_argument("--rounds", type=int, default=15)
    command.add_argument("--output", type=Path, default=Path("benchmark-training.json"))
    keep_freed_memory()
    _report_training(parser.parse_args())


def _report_training(arguments: argparse.Namespace) -> None:
    medians = training(arguments.batch_size, arguments.size, arguments.rounds)
    reference = medians[REFERENCE]
    height, width = arguments.size
    table = Table(
        title=f"A training step of {arguments.batch_size} x {height} x {width}, {BACKBONE}, {cpu_count()} threads",
        caption=f"median of {arguments.rounds}, in turns, on {cpu_name()}",
    )
    for heading in ("step", "seconds", "times faster"):
        table.add_column(heading, justify="left" if heading == "step" else "right")
    for name, seconds in medians.items():
        table.add_row(name, f"{seconds:.3f}", f"{reference / seconds:.2f}")
    Console().print(table)
    figures = {name: {"seconds": seconds, "times_faster": reference / seconds} for name, seconds in medians.items()}
    write_json(arguments.output, {"steps": figures, "rounds": arguments.rounds, "device": cpu_name()})


if __name__ == "__main__":
    main()
