"""One run from start to end: data, teacher, fit, export, timing, test, table."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytorch_lightning as pl

from segdistill.callbacks import Dashboard, OnnxExport, Quantize
from segdistill.callbacks.fit_end import FitEndCallback, tolerated
from segdistill.config.locate import trusting
from segdistill.config.schema import Config
from segdistill.data.sources.base import DatasetIndex
from segdistill.engine.builders import Builder
from segdistill.engine.distributed import is_externally_launched, is_rank_zero, launch_ranks, lost_worker
from segdistill.engine.loggers import close, require, sweep_dir
from segdistill.engine.networks import check_export
from segdistill.engine.run_dir import owned
from segdistill.engine.teacher import offer_teacher
from segdistill.engine.teaching import task_with_teacher
from segdistill.engine.trainer import best_checkpoint, filter_warnings, require_accelerator
from segdistill.models.frozen_teacher import load_network
from segdistill.reporting.page import write_report
from segdistill.reporting.results import SKIPPED, read_failures, read_results
from segdistill.reporting.table import results_table
from segdistill.utils.console import as_text
from segdistill.utils.errors import ConfigError, UserError
from segdistill.utils.hardware import keep_freed_memory
from segdistill.utils.interruption import as_exit, ending_in_order, way_on
from segdistill.utils.io import full_disk, write_json

seed_everything = partial(pl.seed_everything, workers=True, verbose=False)
RUN_ARTIFACTS = (
    "report.html",
    "results.json",
    SKIPPED,
    "fit-profile.txt",
    "onnx",
    "predictions",
    "checkpoints",
    "csv",
    "wandb",
    "tensorboard",
)
"""Files and folders that a run may leave, in the order in which they are listed."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """Test results of a run.

    Attributes:
        scores: Logged name -> value: `test/miou` of the trained network, its other accuracies, and its teacher's.
        split: Split that was tested: "test", or "val" if there is no test split.
    """

    scores: dict[str, float]
    split: str

    @property
    def selected_on(self) -> bool:
        """Whether the best checkpoint was selected on that split."""
        return self.split == "val"


def run(config: Config, run_dir: Path) -> RunResult:
    """Run a configuration; all of its files go into `run_dir`.

    Args:
        config: Configuration that `segdistill.config.parse.parse` has checked.
        run_dir: Folder that exists and can be written to.

    Raises:
        UserError: If data, teacher or checkpoint do not fit (raised before the training starts), another process runs
            in `run_dir`, the disk is full, or a worker process was killed.
    """
    machine, trusted, builder = config.trainer, config.trusted_packages, Builder(config)
    if machine.num_nodes > 1 and not is_externally_launched():
        raise ConfigError("trainer.num_nodes", machine.num_nodes, "needs torchrun or srun, which start every process")
    require_accelerator(machine)
    require(config.logger)
    try:
        ranks = launch_ranks(machine.devices, _rank_main, builder, trusted, run_dir)
        with owned(run_dir) if is_rank_zero() else nullcontext(), ending_in_order(), trusting(trusted), ranks:
            return _run(builder, run_dir)
    except Exception as error:
        if full_disk(error) is not None:
            cause = "the disk is full; make room"
        elif lost_worker(error):
            cause = "a worker process was killed, often for want of memory; free some, or set data.num_workers=0,"
        else:
            raise
        raise UserError(f"{run_dir}: {cause} and go on: python train.py resume={run_dir}") from error
    except (SystemExit, KeyboardInterrupt) as interruption:
        log.info(way_on(run_dir, sweep_dir()))
        raise as_exit(interruption) from interruption


def _rank_main(builder: Builder, trusted: Sequence[str], run_dir: Path) -> None:
    """Run the same configuration on another rank, which leaves files and messages to rank zero."""
    try:
        with trusting(trusted):
            _run(builder, run_dir)
    except (UserError, KeyboardInterrupt):  # rank zero reports it
        sys.exit(1)


def _run(builder: Builder, run_dir: Path) -> RunResult:
    filter_warnings()
    keep_freed_memory()
    role = builder.role
    seed_everything(builder.seed(role))
    builder.try_augmentation()
    network, callbacks, resume = builder.network(role), builder.callbacks(), builder.resume()
    if resume is not None:
        load_network(network, resume, builder.labels.names)
    exported = is_rank_zero() and any(isinstance(callback, OnnxExport) for callback in callbacks)
    if exported:
        check_export(role, network, builder.input_size)
    if builder.needs_teacher:
        task, data = task_with_teacher(builder, network, exported=exported, fresh=resume is None)
    else:
        loss = builder.supervised_loss(role)  # a rejected loss is reported before the data is opened
        source = builder.source().labelled()
        task, data = builder.segmentation_task(role, network, loss, source), builder.datamodule(source, role)
    seed_everything(builder.seed(role))  # so that the batches do not depend on what was built before
    if is_rank_zero():
        _write_skipped(data.source, run_dir / SKIPPED)
    loggers = builder.loggers(run_dir)
    try:
        trainer = builder.trainer(task, run_dir, loggers, callbacks)
        trainer.fit(task, data, ckpt_path=resume, weights_only=True)
        (tested,) = trainer.test(task, data, verbose=False)
    finally:
        close(loggers)
    if role == "teacher" and resume is None and not any(map(alters_weights, callbacks)):
        offer_teacher(best_checkpoint(trainer), builder.teacher_cache(data.source))
    if is_rank_zero():
        _log_summary(run_dir)
    return RunResult(dict(tested), data.source.eval_split)


def alters_weights(callback: pl.Callback) -> bool:
    """Return whether the weights may depend on a callback, which the key of a cached teacher does not name."""
    if isinstance(callback, Quantize):
        return callback.aware_epochs > 0
    return not isinstance(callback, FitEndCallback | Dashboard)


def _write_skipped(source: DatasetIndex, path: Path) -> None:
    """Write which files were left out; a resumed run may have mended them."""
    path.unlink(missing_ok=True)
    if source.skipped:
        write_json(path, source.skipped)


def _log_summary(run_dir: Path) -> None:
    """Write the report, and log the table and the paths of the files."""
    lines = []
    results = run_dir / "results.json"
    if results.is_file():
        with tolerated("report"):
            write_report(run_dir)
        with tolerated("table"):
            lines.append(as_text(results_table(read_results(results), read_failures(results))))
    lines += [f"  {name:<16}{run_dir / name}" for name in RUN_ARTIFACTS if (run_dir / name).exists()]
    log.info("done\n%s", "\n".join(lines))
