"""Find the teacher of a run: given, cached, or trained into the cache."""

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
    """Return the given teacher, or the cached one, which is trained first if it is missing.

    Args:
        builder: Builder of the run.
        source: Data that the teacher is trained on.
        probe: Network that `Builder.probe_teacher` returned.
    """
    if not builder.has_to_train_teacher:
        return probe
    cache, machine = builder.teacher_cache(source), builder.trainer_config
    with _teacher_lock(cache) if is_rank_zero() else nullcontext():
        if broadcast_from_rank_zero(machine, not cache.checkpoint.is_file()):
            _train(builder, source, cache)
        else:
            log.info("teacher: reused from %s", cache.checkpoint)
    broadcast_from_rank_zero(machine, None)  # a barrier: no rank reads it before it is written
    return builder.trained_teacher(cache.checkpoint)


@contextmanager
def _teacher_lock(cache: TeacherCache) -> Iterator[None]:
    """Let only one run at a time find or train a teacher."""
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
    """Train in the cache itself, so that the next run that needs the teacher resumes an interrupted training."""
    log.info("teacher: no checkpoint was given, training one for %d epochs", builder.fit("teacher").max_epochs)
    pl.seed_everything(builder.seed("teacher"), workers=True, verbose=False)
    network = builder.network("teacher")
    task = builder.segmentation_task("teacher", network, builder.supervised_loss("teacher"), source)
    trainer = builder.trainer(task, cache.folder, [CSVLogger(cache.folder, name="csv")])
    last = cache.folder / "checkpoints" / "last.ckpt"
    resume = last if last.is_file() else None
    trainer.fit(task, builder.datamodule(source, "teacher"), ckpt_path=resume, weights_only=True)
    _publish(best_checkpoint(trainer), cache)


@rank_zero_only
def offer_teacher(best: Path, cache: TeacherCache) -> None:
    """Make a checkpoint the teacher of every run that would train one by the same configuration, if it is the first."""
    with _teacher_lock(cache):
        if not cache.checkpoint.is_file():
            _publish(best, cache)
    log.info("teacher: %s is that of every such run with teacher.source=train", cache.checkpoint)


@rank_zero_only
def _publish(best: Path, cache: TeacherCache) -> None:
    with atomic_write(cache.checkpoint) as temporary:
        temporary.write_bytes(best.read_bytes())
