"""Where the teacher of a run comes from: it is given, or in the cache, or a training puts it there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytorch_lightning as pl
from filelock import FileLock, Timeout
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from segdistill.data.sources.base import DatasetIndex
from segdistill.engine.builders import Builder
from segdistill.engine.distributed import is_rank_zero
from segdistill.engine.trainer import best_checkpoint, broadcast_from_rank_zero
from segdistill.models.frozen_teacher import TeacherCache
from segdistill.utils.io import atomic_write

log = logging.getLogger(__name__)


def get_or_train_teacher(builder: Builder, source: DatasetIndex, probe: nn.Module) -> nn.Module:
    """Return the teacher that is given, or the one in the cache, which it enters by being trained first.

    Args:
        builder: Of the run.
        source: What it is trained on.
        probe: `Builder.probe_teacher`.
    """
    if not builder.has_to_train_teacher:
        return probe
    cache, machine = builder.teacher_cache(source), builder.trainer_config
    with _teacher_lock(cache) if is_rank_zero() else nullcontext():
        if broadcast_from_rank_zero(machine, not cache.checkpoint.is_file()):
            _train(builder, source, cache)
        else:
            log.info("teacher: reused from %s", cache.checkpoint)
    broadcast_from_rank_zero(machine, None)  # nobody reads it before it is written
    return builder.trained_teacher(cache.checkpoint)


@contextmanager
def _teacher_lock(cache: TeacherCache) -> Iterator[None]:
    """Lets one run at a time see to a teacher."""
    cache.lock.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache.lock)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("another run trains this teacher; waiting for %s", cache.checkpoint)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _train(builder: Builder, source: DatasetIndex, cache: TeacherCache) -> None:
    """Trains in the cache itself, so that an interrupted training goes on in the next run that needs it."""
    log.info("teacher: no checkpoint was given, training one for %d epochs", builder.fit("teacher").max_epochs)
    pl.seed_everything(builder.seed("teacher"), workers=True, verbose=False)
    network = builder.network("teacher")
    task = builder.segmentation_task("teacher", network, builder.supervised_loss("teacher"), source)
    trainer = builder.trainer(task, cache.folder, [CSVLogger(cache.folder, name="csv")])
    last = cache.folder / "checkpoints" / "last.ckpt"
    resume = last if last.is_file() else None
    trainer.fit(task, builder.datamodule(source, "teacher"), ckpt_path=resume, weights_only=True)
    publish_checkpoint(best_checkpoint(trainer), cache)


@rank_zero_only
def publish_checkpoint(best: Path, cache: TeacherCache) -> None:
    """Makes a checkpoint the teacher of every run that is configured alike."""
    with atomic_write(cache.checkpoint) as temporary:
        temporary.write_bytes(best.read_bytes())
