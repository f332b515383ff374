"""`segdistill benchmark training`: what a step costs, as ratios within one run.

Each kind of step has a process of its own. They take turns, so that a noisy machine is noisy for all of them, and the
median of many turns is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor, nn
from torchvision.transforms import v2

from segdistill.benchmarks.steps import (
    Seconds,
    Step,
    add_batch_arguments,
    hold_instructions,
    in_turns,
    loader_turn,
    processor,
    step_seconds,
    task_step,
)
from segdistill.config.data import RoadScenesConfig
from segdistill.config.model import FitConfig
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.sources.roadscenes import open_scenes
from segdistill.losses import DistillationLoss, FocalLoss, PixelwiseKL, focal_loss
from segdistill.models import DeepLabV3, DeepLabV3Plus, FrozenTeacher
from segdistill.tasks import DistillationTask, SegmentationTask
from segdistill.utils.console import terminal
from segdistill.utils.hardware import cpu_count
from segdistill.utils.io import write_json
from segdistill.utils.worker import Serve, SubprocessWorker

NUM_CLASSES, STUDENT = 5, "efficientnet_lite0"
TEACHERS = ("efficientnet_lite0", "resnet101")
TEMPERATURE = 2.0
REFERENCE, CONSUMER = "the original's way", "student alone"
LOADER = "loader"
LOADED = 64  # images
StepOf = Callable[[str, Tensor, Tensor], Step]
"""Builds a step on one batch from the teacher's backbone, image float32 [B, 3, H, W] and target int64 [B, H, W]."""


def original_step(backbone: str, image: Tensor, target: Tensor, *, detached: bool = False) -> Step:
    """Build a step of the original system: float32, contiguous tensors, the teacher under autograd.

    Args:
        backbone: Backbone of the teacher.
        image: Images, float32 [B, 3, H, W].
        target: True class ids, int64 [B, H, W].
        detached: Whether to stop gradients at the teacher's logits, although its forward pass is recorded.
    """
    teacher, student = build_teacher(backbone).eval(), build_student()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        teacher.zero_grad()
        student_logits, teacher_logits = student(image), teacher(image)
        soft = (teacher_logits.detach() if detached else teacher_logits) / TEMPERATURE
        logs = F.log_softmax(student_logits / TEMPERATURE, dim=1), F.log_softmax(soft, dim=1)
        divergence = F.kl_div(*logs, reduction="sum", log_target=True) / target.numel()
        loss = 0.5 * focal_loss(student_logits, target, gamma=2.0) + 0.5 * TEMPERATURE**2 * divergence
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def distillation_step(
    backbone: str, image: Tensor, target: Tensor, *, cached: bool = False, frozen_stages: int = 0
) -> Step:
    """Build a step of DistillationTask, in the precision that a run would choose.

    Args:
        backbone: Backbone of the teacher.
        image: Images, float32 [B, 3, H, W].
        target: True class ids, int64 [B, H, W].
        cached: Whether the teacher's logits come with the batch.
        frozen_stages: Number of stages of the student's backbone that are not trained.
    """
    student = build_student()
    student.backbone.freeze(frozen_stages)
    task = DistillationTask(student, FrozenTeacher(build_teacher(backbone)), _loss(), **_options())
    task.on_fit_start()
    batch = {"image": image, "mask": target}
    return task_step(task, batch | ({"teacher_logits": task.teacher(image)[0].half()} if cached else {}))


def student_step(backbone: str, image: Tensor, target: Tensor, *, compiled: bool = False) -> Step:
    """Build a step of SegmentationTask: the student without a teacher.

    Args:
        backbone: Not used.
        image: Images, float32 [B, 3, H, W].
        target: True class ids, int64 [B, H, W].
        compiled: Whether torch.compile compiles the student, which the first step waits for.
    """
    student = build_student()
    task = SegmentationTask(student, loss=_loss().supervised, role="student", **_options())
    step = task_step(task, {"image": image, "mask": target})
    if compiled:
        student.compile()
    return step


STEPS: dict[str, StepOf] = {
    REFERENCE: original_step,
    "the same, teacher detached": partial(original_step, detached=True),
    "distillation, live teacher": distillation_step,
    "distillation, cached logits": partial(distillation_step, cached=True),
    "the same, two stages frozen": partial(distillation_step, cached=True, frozen_stages=2),
    CONSUMER: student_step,
}
COMPILED: dict[str, StepOf] = {"the same, compiled": partial(student_step, compiled=True)}
"""Steps of `--compile`: they need a C++ compiler, and minutes before the first."""


def _options() -> dict[str, Any]:
    return {
        "class_names": [f"class {index}" for index in range(NUM_CLASSES)],
        "optimizer": partial(torch.optim.AdamW, lr=1e-3, fused=True),
    }


def _loss() -> DistillationLoss:
    return DistillationLoss(FocalLoss(), {"kl": PixelwiseKL(temperature=TEMPERATURE)})


def build_teacher(backbone: str) -> nn.Module:
    """Build the teacher of every kind of step, with the same random weights."""
    torch.manual_seed(0)
    return DeepLabV3Plus(NUM_CLASSES, backbone, pretrained=False)


def build_student() -> DeepLabV3:
    """Build the student of every kind of step, deeplabv3_lite of conf/student, with the same random weights."""
    torch.manual_seed(0)
    student = DeepLabV3(
        NUM_CLASSES, STUDENT, head_bias=True, classifier="subpixel", detail_channels=48, pretrained=False
    )
    student.train()
    return student


def _stepping(build: StepOf, backbone: str, batch_size: int, size: Sequence[int]) -> Serve:
    """Build a step; return a function that runs it and returns its seconds."""
    torch.manual_seed(0)
    image, target = torch.rand(batch_size, 3, *size), torch.randint(0, NUM_CLASSES, (batch_size, *size))
    step = build(backbone, image, target)
    return lambda _: step_seconds(step)


def _loading(cache_dir: Path, batch_size: int, size: Sequence[int]) -> Serve:
    """Build a loader with a worker for each core; return a function that measures its seconds per training batch."""
    config = RoadScenesConfig(list(size), seed=0, train=LOADED, val=1, test=1)
    source = open_scenes(config, cache_dir)
    fit = FitConfig(max_epochs=1, batch_size=batch_size, crop=list(size), scale=[0.5, 2.0])
    augment = [v2.RandomHorizontalFlip(0.5), v2.ColorJitter(0.3, 0.3, 0.3, 0.03)]
    data = SegmentationDataModule(source, fit, augment, preprocessing=config.preprocessing, num_workers=cpu_count())
    turn = loader_turn(data.train_dataloader())
    return lambda _: turn()


def training(
    steps: Mapping[str, StepOf],
    teachers: Sequence[str],
    batch_size: int,
    size: Sequence[int],
    rounds: int,
    cache_dir: Path,
) -> dict[str, dict[str, Seconds]]:
    """Time every kind of step with every teacher, and the loader beside the first; return seconds by both names."""
    timed = {}
    for backbone in teachers:
        workers = {
            name: SubprocessWorker(name, _stepping, build, backbone, batch_size, size) for name, build in steps.items()
        }
        timed[backbone] = in_turns(workers, rounds)
    loader = {
        LOADER: SubprocessWorker(LOADER, _loading, cache_dir, batch_size, size)
    }  # alone, because its processes keep running between its turns
    timed[teachers[0]] |= in_turns(loader, rounds)
    return timed


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_batch_arguments(command)
    command.add_argument("--rounds", type=int, default=15)
    command.add_argument("--teachers", nargs="+", choices=TEACHERS, default=TEACHERS, help="by their backbones")
    command.add_argument("--compile", action="store_true", help="time the student under torch.compile, too")
    command.add_argument("--cache", type=Path, default=Path("cache"), help="where RoadScenes are rendered")
    command.add_argument("--output", type=Path, default=Path("benchmark-training.json"))


def run(arguments: argparse.Namespace) -> None:
    """Run the benchmark, print tables and save them as JSON."""
    hold_instructions(arguments.instructions)
    kinds = STEPS | (COMPILED if arguments.compile else {})
    timed = training(kinds, arguments.teachers, arguments.batch_size, arguments.size, arguments.rounds, arguments.cache)
    console, report, device = terminal(), [], processor(arguments.instructions)
    height, width = arguments.size
    for backbone, seconds in timed.items():
        loading = seconds.pop(LOADER, None)
        reference, consumer = seconds[REFERENCE].median, seconds[CONSUMER].median
        steps = {
            name: {
                "seconds": median,
                "first_seconds": first,
                "times_faster": reference / median,
                "of_student_alone": median / consumer,
            }
            for name, (first, median) in seconds.items()
        }
        title = f"DeepLabV3+ on {backbone}, lite DeepLabV3 on {STUDENT}, {arguments.batch_size} x {height} x {width}"
        caption = f"median of {arguments.rounds}, in turns, {cpu_count()} threads on {device}"
        table = Table(title=title, caption=caption)
        for heading in ("step", "seconds", "the first", "times faster", "of student alone"):
            table.add_column(heading, justify="left" if heading == "step" else "right")
        for name, figures in steps.items():
            table.add_row(name, *(f"{figure:.3f}" for figure in figures.values()))
        console.print(table)
        report.append({"teacher": backbone, "student": STUDENT, "steps": steps})
        if loading is not None:
            loaded, consumed = (arguments.batch_size / each for each in (loading.median, consumer))
            console.print(
                f"The loader gives {loaded:.1f} images/s with {cpu_count()} workers, "
                f"{loaded / consumed:.1f} times what the student alone takes ({consumed:.1f})."
            )
            report[-1]["loader"] = {"images_per_second": loaded, "student_images_per_second": consumed}
    write_json(arguments.output, {"pairs": report, "rounds": arguments.rounds, "device": device})
