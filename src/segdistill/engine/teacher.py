"""Where the teacher of a run comes from: a checkpoint, the cache, or a training that puts it there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import pytorch_lightning as pl
from filelock import FileLock, Timeout
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import nn

from segdistill.config.schema import Config
from segdistill.data.labels import LabelSet
from segdistill.data.sources.base import DatasetIndex
from segdistill.engine.builders import datamodule, logit_cache, segmentation_task, supervised_loss
from segdistill.engine.distributed import is_rank_zero
from segdistill.engine.networks import build_network, given_teacher, loaded_network
from segdistill.engine.trainer import best_checkpoint, broadcast_from_rank_zero, build_trainer
from segdistill.models.adapters import without_pretrained
from segdistill.models.frozen_teacher import TeacherCache
from segdistill.models.packaged import load_packaged, packaged_test_miou
from segdistill.models.teacher_logits import logits_shape
from segdistill.utils.code import code_digest
from segdistill.utils.io import atomic_write

TEACHER_CODE = (
    "data",
    "losses",
    "models",
    "tasks",
    "engine/trainer.py",
    "callbacks/epoch_seed.py",
    "utils/interpolate.py",
)
"""What a trained teacher depends on besides its settings."""
log = logging.getLogger(__name__)


def build_probe_teacher(config: Config, labels: LabelSet) -> nn.Module:
    """Returns the teacher that is given, or one like it to try things on before hours are spent on its training.

    Raises:
        UserError: If the checkpoint or the class map does not fit.
    """
    if config.teacher_source in ("checkpoint", "pretrained"):
        return given_teacher(config.teacher, labels)
    network = build_network(config.teacher, len(labels), **without_pretrained(config.teacher.network))
    if config.teacher_source == "packaged":
        known = load_packaged(network, labels.names)
        log.info("teacher: the packaged one, test mIoU %.2f %% (%s)", 100 * packaged_test_miou(), known["recipe"])
    return network


def get_or_train_teacher(config: Config, source: DatasetIndex, tried: nn.Module) -> nn.Module:
    """Returns the teacher that is given, or the one in the cache, which it enters by being trained first."""
    if config.teacher_source != "train":
        return tried
    cache = teacher_cache(config, source)
    with _teacher_lock(cache) if is_rank_zero() else nullcontext():
        if broadcast_from_rank_zero(config.trainer, not cache.checkpoint.is_file()):
            logits = logit_cache(config)
            if logits is not None and logits.required:
                logits.require_room(len(source.splits["train"]), logits_shape(tried, config.data.input_size))
            _train(config, source, cache)
        else:
            log.info("teacher: reused from %s", cache.checkpoint)
    broadcast_from_rank_zero(config.trainer, None)  # nobody reads it before it is written
    return loaded_network(config.teacher, source.labels, cache.checkpoint)


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


def _train(config: Config, source: DatasetIndex, cache: TeacherCache) -> None:
    """Trains in the cache itself, so that an interrupted training goes on in the next run that needs it."""
    log.info("teacher: no checkpoint was given, training one for %d epochs", config.teacher.fit.max_epochs)
    pl.seed_everything(config.teacher.seed, workers=True, verbose=False)
    network = build_network(config.teacher, len(source.labels))
    task = segmentation_task(config, "teacher", network, supervised_loss(config, "teacher"), source)
    logger = CSVLogger(cache.folder, name="csv")
    trainer = build_trainer(
        task, config.teacher.fit, config.trainer, cache.folder, loggers=[logger], seed=config.teacher.seed
    )
    last = cache.folder / "checkpoints" / "last.ckpt"
    resume = last if last.is_file() else None
    trainer.fit(task, datamodule(config, source, "teacher"), ckpt_path=resume, weights_only=True)
    publish_checkpoint(best_checkpoint(trainer), cache)


@rank_zero_only
def publish_checkpoint(best: Path, cache: TeacherCache) -> None:
    """Makes a checkpoint the teacher of every run that is configured alike."""
    with atomic_write(cache.checkpoint) as temporary:
        temporary.write_bytes(best.read_bytes())


def teacher_cache(config: Config, source: DatasetIndex) -> TeacherCache:
    """Returns the place of the teacher that this configuration trains."""
    cache_key = {
        "network": config.teacher.network,
        "fit": asdict(config.teacher.fit),
        "training": asdict(config.teacher.training),
        "trainer": [config.trainer.accelerator, config.trainer.precision, config.trainer.channels_last],
        "lightning": config.trainer.lightning,
        "processes": config.trainer.devices * config.trainer.num_nodes,
        "seed": config.teacher.seed,
        "data": source.fingerprint,
        "input_size": config.data.input_size,
        "code": code_digest(*(f"segdistill/{place}" for place in TEACHER_CODE)),
    }
    return TeacherCache.of(Path(config.cache_dir), cache_key)
