"""Build the task of a student that has a teacher."""

from __future__ import annotations

import copy
import logging
from itertools import islice

import torch
from torch import Tensor, nn

from segdistill.callbacks.inputs import evenly_spaced
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.sources.base import DatasetIndex
from segdistill.engine.builders import Builder
from segdistill.engine.logit_cache import LogitCache, replay_distance
from segdistill.engine.networks import check_export
from segdistill.engine.teacher import get_or_train_teacher
from segdistill.engine.trainer import root_device
from segdistill.losses import DistillationLoss
from segdistill.models.inherit import inherit
from segdistill.models.output import PROBE_SIZE, cell_multiple
from segdistill.models.teacher_logits import logits_shape
from segdistill.tasks import DistillationTask, SegmentationTask
from segdistill.utils.errors import UserError

COMPARED_BATCHES, EXAMPLES = 8, 16
log = logging.getLogger(__name__)


def task_with_teacher(
    builder: Builder, student: nn.Module, *, exported: bool, fresh: bool
) -> tuple[SegmentationTask, SegmentationDataModule]:
    """Build the task of a student that has a teacher, and the data, with the teacher's logits if they are cached.

    Everything that may not fit is tried on a teacher like the one to be trained, before data is opened.

    Args:
        builder: Builder of a run whose student has a teacher.
        student: Network that is initialised from its teacher if `student.init` requests it and `fresh` is set.
        exported: Whether the teacher has to be exportable.
        fresh: Whether the training starts anew instead of from a checkpoint.

    Raises:
        UserError: If data, teacher, losses, layers or inheritance do not fit.
    """
    probe = builder.probe_teacher()
    if exported:
        check_export("teacher", probe, builder.input_size)
    if builder.has_to_train_teacher:
        builder.supervised_loss("teacher")
    loss = builder.distillation_loss(student, probe)
    begins_as_teacher = fresh and can_inherit(builder.student_init, student, probe)
    cache, multiple = builder.logit_cache(reads_features=bool(loss.feature_losses)), cell_multiple(student, probe)
    source = builder.source()
    seen = source if loss.losses else source.labelled()  # distillation losses use unlabelled images as well
    warn_of_silent_images(seen, loss)
    data, count = builder.datamodule(seen, "student"), len(seen.splits["train"])
    if cache is not None and not cache.has_room(count, logits_shape(probe, builder.input_size, multiple)):
        cache = None
    if builder.has_to_train_teacher and cache is not None:
        cache.require_room(count, logits_shape(probe, builder.input_size, multiple))
    teacher = get_or_train_teacher(builder, source.labelled(), probe)
    if begins_as_teacher:
        log.info("student: %s", inherit(student, teacher, _example_images(data)))
    task = builder.distillation_task(student, teacher, loss, seen)
    if cache is not None:
        _attach_cached_logits(cache, task, data, root_device(builder.trainer_config))
    return task, data


def warn_of_silent_images(source: DatasetIndex, loss: DistillationLoss) -> None:
    """Warn if the training ends without a loss for the images that have no labels."""
    if source.unlabelled and loss.alpha(1.0) == 0 and not loss.pseudo_labels:
        message = "%d images have no labels but the teacher's, and alpha falls to 0: %s keeps them to the end"
        log.warning(message, source.unlabelled, "distill.alpha_schedule=constant")


def can_inherit(init: str, student: nn.Module, teacher: nn.Module) -> bool:
    """Return whether to initialise a student from its teacher, after trying it on a copy.

    Args:
        init: Value of `student.init`: "auto", "pretrained" or "teacher".
        student: Network that is left unchanged.
        teacher: Network that is left unchanged; its weights do not matter.

    Raises:
        UserError: If `init` is "teacher", and nothing fits.
    """
    if init == "pretrained":
        return False
    try:
        inherit(copy.deepcopy(student), teacher, torch.zeros(1, 3, *PROBE_SIZE))
    except UserError as error:
        if init == "teacher":
            raise
        log.info("student: begins from its own weights; %s", error)
        return False
    return True


def _example_images(data: SegmentationDataModule) -> Tensor:
    indices = evenly_spaced(len(data.source.splits["train"]), EXAMPLES)
    return torch.cat([batch["image"] for batch in data.plain_train_dataloader(indices)])


def _attach_cached_logits(
    cache: LogitCache, task: DistillationTask, data: SegmentationDataModule, device: torch.device
) -> None:
    """Attach the teacher's logits to the data, and log how far they are from those of augmented images."""
    task.teacher.to(device, task.memory_format)
    data.cell_multiple = task.cell_multiple
    data.teacher_logits = cache.logits(task.teacher, data, device)
    batches = islice(data.train_dataloader(), COMPARED_BATCHES)
    same, divergence = replay_distance(task.teacher, batches, device, task.cell_multiple)
    log.info("teacher's logits: replayed, %.2f %% of pixels keep the live class, KL %.4f nats", 100 * same, divergence)
