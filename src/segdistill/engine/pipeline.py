"""One run, start to end: data, teacher, fit, export, timing, test, table."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning.loggers import Logger
from torch import nn

from segdistill.callbacks import OnnxExport
from segdistill.callbacks.fit_end import tolerated
from segdistill.config.locate import build, trusting
from segdistill.config.schema import Config
from segdistill.engine.builders import (
    datamodule,
    label_set_of,
    open_source,
    optimizer_factory,
    segmentation_task,
    supervised_loss,
)
from segdistill.engine.distributed import is_externally_launched, is_rank_zero, launch_ranks, lost_worker
from segdistill.engine.loggers import close, require, start
from segdistill.engine.networks import build_network, check_export
from segdistill.engine.resume import resume_checkpoint
from segdistill.engine.teacher import publish_checkpoint, teacher_cache
from segdistill.engine.teaching import task_with_teacher
from segdistill.engine.trainer import best_checkpoint, build_trainer, filter_warnings, require_accelerator
from segdistill.models.frozen_teacher import load_network
from segdistill.reporting.page import write_report
from segdistill.reporting.results import read_failures, read_results
from segdistill.reporting.table import results_table
from segdistill.tasks.segmentation import Role, optimizer_name
from segdistill.utils.console import as_text
from segdistill.utils.errors import ConfigError, UserError
from segdistill.utils.hardware import keep_freed_memory
from segdistill.utils.interruption import as_exit, ending_in_order, way_on
from segdistill.utils.io import full_disk

RUN_ARTIFACTS = (
    "report.html",
    "results.json",
    "fit-profile.txt",
    "onnx",
    "predictions",
    "checkpoints",
    "csv",
    "wandb",
    "tensorboard",
)
"""What a run may leave, in the order it is listed."""
WANDB_TARGET = "segdistill.engine.loggers.wandb_logger"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """What the test of a run gave.

    Attributes:
        scores: Logged name -> value: `test/miou` of the network that was trained, its other accuracies, its teacher's.
        split: The split that was tested: "test", or "val" where there is no test split.
    """

    scores: dict[str, float]
    split: str

    @property
    def selected_on(self) -> bool:
        """Whether the best checkpoint was chosen on that split."""
        return self.split == "val"


def run(config: Config, run_dir: Path) -> RunResult:
    """Runs a configuration; everything it leaves goes into `run_dir`.

    Args:
        config: Checked by `segdistill.config.schema.parse`.
        run_dir: Exists and can be written to.

    Raises:
        UserError: If data, teacher or checkpoint do not fit; raised before the training starts.
    """
    machine = config.trainer
    if machine.num_nodes > 1 and not is_externally_launched():
        raise ConfigError("trainer.num_nodes", machine.num_nodes, "needs torchrun or srun, which start every process")
    require_accelerator(machine)
    try:
        with (
            ending_in_order(),
            trusting(config.trusted_packages),
            launch_ranks(machine.devices, _rank_main, config, run_dir),
        ):
            return _run(config, run_dir)
    except Exception as error:
        if full_disk(error) is not None:
            cause = "the disk is full; make room"
        elif lost_worker(error):
            cause = "a worker process was killed, often for want of memory; free some, or set data.num_workers=0,"
        else:
            raise
        raise UserError(f"{run_dir}: {cause} and go on: python train.py resume={run_dir}") from error
    except (SystemExit, KeyboardInterrupt) as interruption:
        log.info(way_on(run_dir, _sweep_dir()))
        raise as_exit(interruption) from interruption


def _rank_main(config: Config, run_dir: Path) -> None:
    """The same run in another process, which leaves files and words to the first one."""
    try:
        with trusting(config.trusted_packages):
            _run(config, run_dir)
    except (UserError, KeyboardInterrupt):  # the first process tells it
        sys.exit(1)


def _run(config: Config, run_dir: Path) -> RunResult:
    filter_warnings()
    keep_freed_memory()
    role, seed = cast(Role, config.stage), config.seed
    part = config.teacher if role == "teacher" else config.student
    pl.seed_everything(seed, workers=True, verbose=False)
    labels = label_set_of(config)
    network = build_network(part, len(labels))
    optimizer = optimizer_factory(config, role)([{"params": [nn.Parameter(torch.zeros(1))]}])
    require(config.logger)
    # an experiment's settings of a callback stay behind where callbacks=none takes it out
    specs = {f"callbacks.{name}": spec for name, spec in config.callbacks.items() if "_target_" in spec}
    callbacks = [build(key, spec) for key, spec in specs.items()]
    resume = resume_checkpoint(config.resume, part.fit.max_epochs, optimizer_name(optimizer))
    if resume is not None:
        load_network(network, resume, labels.names)
    exported = is_rank_zero() and any(isinstance(callback, OnnxExport) for callback in callbacks)
    if exported:
        check_export(role, network, config.data.input_size)
    if config.needs_teacher:
        task, data = task_with_teacher(config, network, labels, exported=exported, fresh=resume is None)
    else:
        loss = supervised_loss(config, role)  # what it refuses is told before the data is opened
        source = open_source(config)
        task = segmentation_task(config, role, network, loss, source)
        data = datamodule(config, source, role)
    pl.seed_everything(seed, workers=True, verbose=False)  # the batches do not depend on what was built before
    loggers = _loggers(config, run_dir)
    try:
        trainer = build_trainer(
            task, part.fit, config.trainer, run_dir, loggers=loggers, callbacks=callbacks, seed=seed
        )
        trainer.fit(task, data, ckpt_path=resume, weights_only=True)
        (tested,) = trainer.test(task, data, verbose=False)
    finally:
        close(loggers)
    if config.stage == "teacher" and resume is None:
        publish_checkpoint(best_checkpoint(trainer), teacher_cache(config, data.source))
    if is_rank_zero():
        _log_summary(run_dir)
    return RunResult(dict(tested), data.source.eval_split)


def _loggers(config: Config, run_dir: Path) -> list[Logger]:
    """Starts the loggers, and gives each the configuration; one that cannot start is left out with a warning."""
    loggers: list[Logger | None] = []
    if not is_rank_zero():
        return []
    for key, spec in config.logger.items():
        if not isinstance(spec, dict):  # a setting that they share
            continue
        names = _sweep_names() if spec["_target_"] == WANDB_TARGET else {}
        loggers.append(start(partial(build, f"logger.{key}", names | spec, save_dir=str(run_dir)), asdict(config)))
    return [logger for logger in loggers if logger is not None]


def _sweep_names() -> dict[str, str]:
    """W&B's names for a job of a sweep: its overrides, and the sweep as the group; empty for a run of its own."""
    sweep_dir = _sweep_dir()
    return {} if sweep_dir is None else {"group": sweep_dir.name, "name": HydraConfig.get().job.override_dirname}


def _sweep_dir() -> Path | None:
    """The directory of the sweep that this run is a job of; None for a run of its own."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir)


def _log_summary(run_dir: Path) -> None:
    """Writes the report, and logs the table and where the files are."""
    lines = []
    results = run_dir / "results.json"
    if results.is_file():
        with tolerated("report"):
            write_report(run_dir)
        with tolerated("table"):
            lines.append(as_text(results_table(read_results(results), read_failures(results))))
    lines += [f"  {name:<16}{run_dir / name}" for name in RUN_ARTIFACTS if (run_dir / name).exists()]
    log.info("done\n%s", "\n".join(lines))
