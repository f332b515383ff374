"""One run, start to end: data, teacher, fit, export, timing, test, table."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from filelock import FileLock, Timeout
from hydra.utils import get_class, instantiate
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from rich.console import Console
from torch import nn

from segdistill import __version__
from segdistill.config import Config, FitConfig, FolderConfig, RoadScenesConfig, StudentConfig
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.folder import open_folder
from segdistill.data.labels import ROAD_SCENES, LabelSet, label_set
from segdistill.data.scenes import open_scenes
from segdistill.data.source import Source
from segdistill.errors import ConfigError
from segdistill.files import written_whole
from segdistill.fitting import best_checkpoint, build_trainer, calm_libraries
from segdistill.loggers import close, started, wandb_options
from segdistill.losses import DistillationLoss, supervised_loss
from segdistill.machine import keep_freed_memory
from segdistill.models.teacher import FrozenTeacher, TeacherCache, load_network
from segdistill.report.results import read_results, results_table
from segdistill.tasks import DistillationTask, SegmentationTask
from segdistill.tasks.segmentation import Role

PIPED_WIDTH = 100
log = logging.getLogger(__name__)


def run(config: Config, run_dir: Path) -> float:
    """Runs a configuration; everything it leaves goes into `run_dir`.

    Args:
        config: Checked by `segdistill.config.parse`.
        run_dir: Exists and can be written to.

    Returns:
        `test/miou` of the network that was trained.

    Raises:
        UserError: If data, teacher or checkpoint do not fit; raised before the training starts.
    """
    calm_libraries()
    keep_freed_memory()
    try:
        return _run(config, run_dir)
    except SystemExit:  # how Lightning ends a fit that Ctrl-C interrupted
        log.info("interrupted; go on with: python train.py resume=%s", run_dir)
        raise


def _run(config: Config, run_dir: Path) -> float:
    part, seed = (config.teacher, config.teacher.seed) if config.train == "teacher" else (config.student, config.seed)
    pl.seed_everything(seed, workers=True, verbose=False)
    labels = _labels(config)
    network = _network(part, labels)
    resume = resume_checkpoint(config)
    if resume is not None:
        load_network(network, resume, labels.names)
    teacher = None
    if config.train == "student" and config.distill.terms:
        teacher = _network(config.teacher, labels)
        if config.teacher.checkpoint is not None:
            load_network(teacher, Path(config.teacher.checkpoint), labels.names)
    source = _open(config)
    if teacher is not None and config.teacher.checkpoint is None:
        _train_or_reuse(config, source, teacher)
    pl.seed_everything(seed, workers=True, verbose=False)  # the batches do not depend on what was trained before
    task = _task(config, network, source, teacher)
    loggers = _loggers(config, run_dir)
    callbacks = [instantiate(callback) for callback in config.callbacks.values()]
    trainer = build_trainer(task, part.fit, config.trainer, run_dir, loggers=loggers, callbacks=callbacks)
    data = _datamodule(config, source, part.fit)
    trainer.fit(task, data, ckpt_path=resume, weights_only=True)
    (tested,) = trainer.test(task, data, verbose=False)
    if config.train == "teacher" and (resume is None or run_dir in resume.resolve().parents):
        _keep(best_checkpoint(trainer), _cache(config, source))
    close(loggers)
    _show(run_dir)
    return tested["test/miou"]


def resume_checkpoint(config: Config) -> Path | None:
    """Returns the checkpoint that `resume` points to; None where there is nothing to resume yet."""
    if config.resume is None:
        return None
    path = Path(config.resume)
    if path.is_file():
        return path
    if not (path / ".hydra").is_dir():
        raise ConfigError("resume", path, "is no run directory; give one, or one of its checkpoints")
    last = path / "checkpoints" / "last.ckpt"
    if not last.is_file():
        log.info("%s stopped before its first epoch was complete; it starts again", path)
        return None
    return last


def _labels(config: Config) -> LabelSet:
    """Returns the classes, which the configuration tells before any data is opened."""
    if isinstance(config.data, FolderConfig):
        return label_set(tuple(config.data.classes), config.data.palette)
    return ROAD_SCENES


def _open(config: Config) -> Source:
    cache_dir = Path(config.cache_dir)
    if isinstance(config.data, RoadScenesConfig):
        return open_scenes(config.data, cache_dir)
    if isinstance(config.data, FolderConfig):
        return open_folder(config.data, cache_dir)
    raise TypeError(f"no data source for {type(config.data).__name__}")


def _datamodule(config: Config, source: Source, fit: FitConfig) -> SegmentationDataModule:
    data = config.data
    return SegmentationDataModule(
        source,
        fit,
        input_size=data.input_size,
        eval_batch_size=data.eval_batch_size,
        num_workers=data.num_workers,
    )


def _network(part: StudentConfig, labels: LabelSet) -> nn.Module:
    network: nn.Module = instantiate(part.network, num_classes=len(labels))
    return network


def _task(config: Config, network: nn.Module, source: Source, teacher: nn.Module | None) -> SegmentationTask:
    loss = supervised_loss(config.loss.name, config.loss.gamma)
    options: dict[str, Any] = {
        "class_names": source.labels.names,
        "optimizer": instantiate(config.optimizer, _partial_=True),
        "schedule": config.schedule,
        "channels_last": config.trainer.channels_last,
    }
    if teacher is None:
        return SegmentationTask(network, loss=loss, role=cast(Role, config.train), **options)
    distill = config.distill
    weighted = DistillationLoss(loss, distill.terms, temperature=distill.temperature, alpha=distill.alpha)
    return DistillationTask(network, FrozenTeacher(teacher), weighted, **options)


def _train_or_reuse(config: Config, source: Source, network: nn.Module) -> None:
    """Gives the teacher its weights from the cache, which they enter by being trained first."""
    cache = _cache(config, source)
    cache.lock.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache.lock)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("another run trains this teacher; waiting for %s", cache.checkpoint)
        lock.acquire()
    try:
        if cache.checkpoint.is_file():
            log.info("teacher: reused from %s", cache.checkpoint)
        else:
            _train_teacher(config, source, network, cache)
    finally:
        lock.release()
    load_network(network, cache.checkpoint, source.labels.names)


def _train_teacher(config: Config, source: Source, network: nn.Module, cache: TeacherCache) -> None:
    """Trains in the cache itself, so that an interrupted training goes on in the next run that needs it."""
    log.info("teacher: no checkpoint was given, training one for %d epochs", config.teacher.fit.max_epochs)
    pl.seed_everything(config.teacher.seed, workers=True, verbose=False)
    task = _task(replace(config, train="teacher"), network, source, None)
    logger = CSVLogger(cache.folder, name="csv", version="")
    trainer = build_trainer(task, config.teacher.fit, config.trainer, cache.folder, loggers=[logger])
    last = cache.folder / "checkpoints" / "last.ckpt"
    resume = last if last.is_file() else None
    trainer.fit(task, _datamodule(config, source, config.teacher.fit), ckpt_path=resume, weights_only=True)
    _keep(best_checkpoint(trainer), cache)


def _keep(best: Path, cache: TeacherCache) -> None:
    with written_whole(cache.checkpoint) as temporary:
        temporary.write_bytes(best.read_bytes())


def _cache(config: Config, source: Source) -> TeacherCache:
    shaped_by = {
        "network": config.teacher.network,
        "fit": asdict(config.teacher.fit),
        "loss": asdict(config.loss),
        "optimizer": config.optimizer,
        "schedule": asdict(config.schedule),
        "trainer": asdict(config.trainer),
        "seed": config.teacher.seed,
        "data": source.fingerprint,
        "input_size": config.data.input_size,
        "version": __version__,
    }
    return TeacherCache.of(Path(config.cache_dir), shaped_by)


def _loggers(config: Config, run_dir: Path) -> list[Logger]:
    """Builds the loggers, and gives each the configuration; one that cannot start is left out with a warning."""
    loggers = []
    for spec in config.logger.values():
        if issubclass(get_class(spec["_target_"]), WandbLogger):
            spec = wandb_options(spec)
        logger = instantiate(spec, save_dir=str(run_dir))
        if started(logger):
            logger.log_hyperparams(asdict(config))
            loggers.append(logger)
    return loggers


def _show(run_dir: Path) -> None:
    """Prints the table and where the files are."""
    console = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
    results = run_dir / "results.json"
    if results.is_file():
        console.print(results_table(read_results(results)))
    for name in ("results.json", "onnx", "predictions", "checkpoints", "csv", "wandb"):
        if (run_dir / name).exists():
            console.print(f"  {name:<13}{run_dir / name}", highlight=False, soft_wrap=True)
