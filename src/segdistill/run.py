"""One run, start to end: data, teacher, fit, export, timing, test, table."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from filelock import FileLock, Timeout
from hydra.utils import get_class, instantiate
from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger
from rich.console import Console
from torch import nn

from segdistill import __version__
from segdistill.config import Config, FitConfig, FolderConfig, RoadScenesConfig
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.folder import open_folder
from segdistill.data.labels import ROAD_SCENES, LabelSet, label_set
from segdistill.data.scenes import open_scenes
from segdistill.data.source import Source
from segdistill.errors import ConfigError
from segdistill.files import written_whole
from segdistill.fitting import best_checkpoint, build_trainer, calm_libraries
from segdistill.loggers import close, start, wandb_options
from segdistill.losses import DistillationLoss, supervised_loss
from segdistill.losses.distillation import ADAPTED
from segdistill.machine import keep_freed_memory
from segdistill.models.teacher import FrozenTeacher, TeacherCache, load_checkpoint, load_network
from segdistill.networks import build_network, given_teacher, loaded_network, tapped_channels, without_weights
from segdistill.report.results import read_results, results_table
from segdistill.tasks import DistillationTask, SegmentationTask
from segdistill.tasks.segmentation import OptimizerFactory, Role

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
    network, optimizer = build_network(part, len(labels)), _optimizer(config)
    callbacks = [instantiate(callback) for callback in config.callbacks.values()]
    resume = resume_checkpoint(config)
    if resume is not None:
        load_network(network, resume, labels.names)
    distils = config.train == "student" and bool(config.distill.terms)
    checkpoint, teacher = config.teacher.checkpoint, None
    if distils and checkpoint is not None:
        teacher = given_teacher(config.teacher, labels, Path(checkpoint))
    channels: dict[str, tuple[int, int]] = {}
    if distils:
        tried = teacher
        if tried is None:  # one like it, before hours are spent on it
            tried = build_network(config.teacher, len(labels), **without_weights(config.teacher))
        channels = tapped_channels(config.distill, network, tried)
    source = _open(config)
    if distils and teacher is None:
        teacher = _cached_teacher(config, source)
    task = _task(config, network, optimizer, labels, teacher, channels.get(ADAPTED))
    pl.seed_everything(seed, workers=True, verbose=False)  # the batches do not depend on what was built before
    loggers = _loggers(config, run_dir)
    try:
        trainer = build_trainer(task, part.fit, config.trainer, run_dir, loggers=loggers, callbacks=callbacks)
        data = _datamodule(config, source, part.fit)
        trainer.fit(task, data, ckpt_path=resume, weights_only=True)
        (tested,) = trainer.test(task, data, verbose=False)
    finally:
        close(loggers)
    if config.train == "teacher" and resume is None:
        _keep(best_checkpoint(trainer), _cache(config, source))
    _show(run_dir)
    return tested["test/miou"]


def resume_checkpoint(config: Config) -> Path | None:
    """Returns the checkpoint that `resume` points to; None where there is nothing to resume yet.

    Raises:
        UserError: If it is neither a run directory nor a checkpoint of a training.
    """
    if config.resume is None:
        return None
    path = Path(config.resume)
    if path.is_dir():
        if not (path / ".hydra").is_dir():
            raise ConfigError("resume", path, "is no run directory; give one, or one of its checkpoints")
        path = path / "checkpoints" / "last.ckpt"
        if not path.is_file():
            log.info("%s does not exist yet; the run starts again", path)
            return None
    if not {"state_dict", "optimizer_states", "loops"} <= load_checkpoint(path).keys():
        raise ConfigError("resume", path, "holds weights without the state of their training; it cannot go on")
    return path


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


def _optimizer(config: Config) -> OptimizerFactory:
    """Returns the optimizer as a function of its parameters, after trying it on one of them.

    Raises:
        ConfigError: If it refuses its settings.
    """
    factory: OptimizerFactory = instantiate(config.optimizer, _partial_=True)
    try:
        factory([{"params": [nn.Parameter(torch.zeros(1))]}])
    except (TypeError, ValueError) as error:
        raise ConfigError("optimizer", config.optimizer, str(error)) from error
    return factory


def _task(
    config: Config,
    network: nn.Module,
    optimizer: OptimizerFactory,
    labels: LabelSet,
    teacher: nn.Module | None = None,
    channels: tuple[int, int] | None = None,
) -> SegmentationTask:
    loss = supervised_loss(config.loss.name, config.loss.gamma)
    options: dict[str, Any] = {
        "class_names": labels.names,
        "optimizer": optimizer,
        "schedule": config.schedule,
        "channels_last": config.trainer.channels_last,
    }
    if teacher is None:
        return SegmentationTask(network, loss=loss, role=cast(Role, config.train), **options)
    taps = [term.teacher for term in config.distill.terms.values() if term.teacher is not None]
    weighted = DistillationLoss(loss, config.distill, channels)
    return DistillationTask(network, FrozenTeacher(teacher, taps), weighted, **options)


def _cached_teacher(config: Config, source: Source) -> nn.Module:
    """Loads the teacher from the cache, which it enters by being trained first."""
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
            _train_teacher(config, source, cache)
    finally:
        lock.release()
    return loaded_network(config.teacher, source.labels, cache.checkpoint)


def _train_teacher(config: Config, source: Source, cache: TeacherCache) -> None:
    """Trains in the cache itself, so that an interrupted training goes on in the next run that needs it."""
    log.info("teacher: no checkpoint was given, training one for %d epochs", config.teacher.fit.max_epochs)
    pl.seed_everything(config.teacher.seed, workers=True, verbose=False)
    network = build_network(config.teacher, len(source.labels))
    task = _task(replace(config, train="teacher"), network, _optimizer(config), source.labels)
    logger = CSVLogger(cache.folder, name="csv")
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
    """Starts the loggers, and gives each the configuration; one that cannot start is left out with a warning."""
    loggers = []
    for spec in config.logger.values():
        if issubclass(get_class(spec["_target_"]), WandbLogger):
            spec = wandb_options(spec)
        loggers.append(start(partial(instantiate, spec, save_dir=str(run_dir)), asdict(config)))
    return [logger for logger in loggers if logger is not None]


def _show(run_dir: Path) -> None:
    """Prints the table and where the files are."""
    console = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
    results = run_dir / "results.json"
    if results.is_file():
        console.print(results_table(read_results(results)))
    for name in ("results.json", "onnx", "predictions", "checkpoints", "csv", "wandb"):
        if (run_dir / name).exists():
            console.print(f"  {name:<13}{run_dir / name}", highlight=False, soft_wrap=True)
