"""`python -m segdistill.benchmark training`: what a step costs, as ratios within one run.

Each kind of step has a process of its own. They take turns, so that a noisy machine is noisy for all of them, and the
median of many turns is kept.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from segdistill.config import DistillConfig, ScheduleConfig, TermConfig, TrainerConfig
from segdistill.files import write_json
from segdistill.fitting import choose_precision
from segdistill.losses import DistillationLoss, supervised_loss
from segdistill.losses.functional import focal
from segdistill.machine import cpu_count, cpu_name, keep_freed_memory
from segdistill.models import DeepLabV3, DeepLabV3Plus, FrozenTeacher
from segdistill.tasks import DistillationTask, SegmentationTask
from segdistill.turns import Serve, Worker

NUM_CLASSES, BACKBONE = 5, "mobilenetv2_100"
TEMPERATURE = 2.0
REFERENCE = "the original's way"
Step = Callable[[], None]
StepOf = Callable[[Tensor, Tensor], Step]
"""Builds a step on one batch: image float32 [B, 3, H, W], target int64 [B, H, W]."""


def original_step(image: Tensor, target: Tensor, *, detached: bool = False) -> Step:
    """The original system's way: float32, contiguous tensors, the teacher under autograd.

    Args:
        image: float32 [B, 3, H, W].
        target: int64 [B, H, W].
        detached: Let no gradient flow back through the teacher, although its forward pass is recorded.
    """
    teacher, student = _pair()
    teacher.eval()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        teacher.zero_grad()
        student_logits, teacher_logits = student(image), teacher(image)
        soft = (teacher_logits.detach() if detached else teacher_logits) / TEMPERATURE
        logs = F.log_softmax(student_logits / TEMPERATURE, dim=1), F.log_softmax(soft, dim=1)
        divergence = F.kl_div(*logs, reduction="sum", log_target=True) / target.numel()
        loss = 0.5 * focal(student_logits, target, gamma=2.0) + 0.5 * TEMPERATURE**2 * divergence
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def distillation_step(image: Tensor, target: Tensor) -> Step:
    """A step of DistillationTask as a run on this machine takes it."""
    teacher, student = _pair()
    task = DistillationTask(student, FrozenTeacher(teacher), _loss(), **_options())
    task.on_fit_start()
    return _task_step(task, image, target)


def student_step(image: Tensor, target: Tensor) -> Step:
    """A step of SegmentationTask: the student without a teacher."""
    _, student = _pair()
    return _task_step(SegmentationTask(student, loss=_loss().supervised, role="student", **_options()), image, target)


def _task_step(task: SegmentationTask, image: Tensor, target: Tensor) -> Step:
    keep_freed_memory()
    task.train()
    optimizer = task.optimizer_factory([{"params": task.parameters()}])
    bf16 = choose_precision(TrainerConfig(accelerator="cpu")) == "bf16-mixed"

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = task.losses(image, target)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


STEPS: dict[str, StepOf] = {
    REFERENCE: original_step,
    "the same, teacher detached": partial(original_step, detached=True),
    "distillation": distillation_step,
    "student alone": student_step,
}


def _options() -> dict[str, Any]:
    return {
        "class_names": [f"class {index}" for index in range(NUM_CLASSES)],
        "optimizer": partial(torch.optim.AdamW, lr=1e-3, fused=True),
        "schedule": ScheduleConfig(),
    }


def _loss() -> DistillationLoss:
    return DistillationLoss(
        supervised_loss("focal", gamma=2.0), DistillConfig(TEMPERATURE, alpha=0.5, terms={"kl": TermConfig()})
    )


def _pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    teacher = DeepLabV3Plus(NUM_CLASSES, BACKBONE, pretrained=False)
    return teacher, DeepLabV3(NUM_CLASSES, BACKBONE, pretrained=False).train()


def _timed(build: StepOf, batch_size: int, size: Sequence[int]) -> Serve:
    torch.manual_seed(0)
    image, target = torch.rand(batch_size, 3, *size), torch.randint(0, NUM_CLASSES, (batch_size, *size))
    step = build(image, target)

    def serve(_: object) -> float:
        begin = time.perf_counter()
        step()
        return time.perf_counter() - begin

    return serve


def training(batch_size: int, size: Sequence[int], rounds: int) -> dict[str, float]:
    """Times the kinds of step on the original's networks; returns median seconds by name, after an untimed round."""
    seconds: dict[str, list[float]] = {name: [] for name in STEPS}
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(name, _timed, build, batch_size, size)) for name, build in STEPS.items()
        }
        for worker in workers.values():
            worker.wait_until_ready()
        for round_number in track(range(rounds + 1), "Timing steps", transient=True):
            for name, worker in workers.items():
                spent = worker.ask(None)
                if round_number:
                    seconds[name].append(spent)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Parses the command line, prints a table and saves it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m segdistill.benchmark", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="training")
    command = commands.add_parser("training", help="seconds a training step, on a CPU")
    command.add_argument("--batch-size", type=int, default=4)
    command.add_argument("--size", type=int, nargs=2, default=(269, 484), metavar=("H", "W"))
    command.add_argument("--rounds", type=int, default=15)
    command.add_argument("--output", type=Path, default=Path("benchmark-training.json"))
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
