"""Loggers that never prompt, and never make a run fail."""

from __future__ import annotations

import logging
import netrc
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import wandb
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning.loggers import Logger, WandbLogger

from segdistill.config.locate import build
from segdistill.engine.distributed import is_rank_zero
from segdistill.utils.errors import ConfigError, first_line

log = logging.getLogger(__name__)
Mode = Literal["online", "offline"]
WANDB_TARGET = "segdistill.engine.loggers.wandb_logger"
START_TIMEOUT_S, FINISH_TIMEOUT_S = 30, 600


def require(loggers: Mapping[str, Any]) -> None:
    """Check what the loggers need, before a training starts.

    Raises:
        ConfigError: If a login is missing.
    """
    if loggers.get("mode") == "online" and not wandb_logged_in():
        raise ConfigError("logger.mode", "online", "needs a login: wandb login, or WANDB_API_KEY in the environment")


def wandb_logged_in(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether W&B needs no prompt: there is a key in the environment, or in ~/.netrc for its server."""
    if environment.get("WANDB_API_KEY"):
        return True
    server = environment.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    try:
        return netrc.netrc(environment.get("NETRC")).authenticators(urlsplit(server).netloc) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class ConsentedWandbLogger(WandbLogger):
    """A W&B logger that knows what may be uploaded.

    Attributes:
        upload: Whether images, masks, checkpoints and exported files may be uploaded.
    """

    def __init__(self, run: wandb.Run, upload: bool) -> None:
        super().__init__(experiment=run)
        self.upload = upload


def wandb_logger(*, save_dir: str, mode: Mode | None = None, upload: bool = False, **options: Any) -> WandbLogger:
    """Start a W&B run; without a network connection or a valid key, it is kept offline.

    Args:
        save_dir: Folder whose subfolder `wandb` holds its files.
        mode: "online" or "offline"; None follows WANDB_MODE, or is online if there is a login.
        upload: Whether to also send images, masks, checkpoints and exported files, and what W&B itself captures of the
            console, the code and git.
        options: Further arguments of `wandb.init`.

    Raises:
        ConfigError: If an option would send something that `upload` does not allow.
    """
    for name in ("save_code", "sync_tensorboard"):
        if options.get(name) and not upload:
            raise ConfigError(f"logger.wandb.{name}", options[name], "needs logger.wandb.upload=true")
    os.environ.setdefault("WANDB_SILENT", "true")
    settings = wandb.Settings(init_timeout=START_TIMEOUT_S, finish_timeout=FINISH_TIMEOUT_S, finish_timeout_raises=True)
    chosen = mode
    if chosen is None and "WANDB_MODE" not in os.environ:
        chosen = "online" if wandb_logged_in() else "offline"
    if not upload and (chosen or os.environ["WANDB_MODE"]) != "offline":
        settings.console, settings.disable_code, settings.disable_git = "off", True, True
    begin = partial(wandb.init, dir=save_dir, settings=settings, **options)
    try:
        run = begin(mode=chosen)
    except Exception as error:  # its client may raise anything, and the training matters more
        if chosen == "offline":
            raise
        run = begin(mode="offline")
        log.warning("W&B: %s; kept offline", first_line(error))
    log.info("W&B: %s", what_leaves(run, upload))
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return ConsentedWandbLogger(run, upload)


def what_leaves(run: wandb.Run, upload: bool) -> str:
    """Describe in one line what a run sends, and where."""
    numbers = "metrics, result tables, configuration, machine information"
    private = "images, masks, checkpoints and ONNX files"
    if run.disabled:
        return "disabled, nothing is sent or kept"
    if run.offline:
        held = f"{numbers}, console output, images and masks"
        return f"offline, nothing is sent; `wandb sync {Path(run.dir).parent}` would send what it holds: {held}"
    place = f"{run.entity}/{run.project} on {run.settings.base_url}, {run.url}"
    if upload:
        return f"sends {numbers}, console output, code state, {private} to {place}"
    return f"sends {numbers} to {place}; {private} stay here (logger.wandb.upload=true sends them)"


def start(starting: Callable[[], Logger], hyperparameters: Mapping[str, Any]) -> Logger | None:
    """Build a logger and start its run; one that cannot start is left out, so that the training goes on."""
    try:
        logger = starting()
        _ = logger.experiment  # type: ignore[attr-defined] # every logger has one, the base class does not
        logger.log_hyperparams(dict(hyperparameters))
    except Exception as error:  # a logger may raise anything, and the training matters more
        log.warning("a logger is left out: %s: %s", type(error).__name__, error)
        return None
    return logger


def start_all(specs: Mapping[str, Any], hyperparameters: Mapping[str, Any], run_dir: Path) -> list[Logger]:
    """Start the loggers of a run on rank zero; one that cannot start is left out with a warning.

    Args:
        specs: Name -> mapping with a `_target_` and its options; any other entry is a setting that all loggers share.
        hyperparameters: Hyperparameters that each logger records.
        run_dir: Folder for the loggers' files.
    """
    loggers = []
    for name, spec in specs.items() if is_rank_zero() else ():
        if isinstance(spec, Mapping):
            names = sweep_names() if spec["_target_"] == WANDB_TARGET else {}
            starting = partial(build, f"logger.{name}", names | dict(spec), save_dir=str(run_dir))
            loggers.append(start(starting, hyperparameters))
    return [logger for logger in loggers if logger is not None]


def sweep_dir() -> Path | None:
    """Return the directory of the sweep that this run is a job of; None if it is not part of a sweep."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir)


def sweep_names() -> dict[str, str]:
    """Return W&B's names for a job of a sweep: its overrides, and the sweep as the group; empty for other runs."""
    folder = sweep_dir()
    return {} if folder is None else {"group": folder.name, "name": HydraConfig.get().job.override_dirname}


def close(loggers: Sequence[Logger]) -> None:
    """Finish W&B's run, so that the next job of a sweep starts its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            try:
                logger.experiment.finish()
            except Exception as error:  # the results are on disk already
                cure = f"upload the rest by: wandb sync {logger.experiment.dir}"
                log.warning("W&B did not finish: %s: %s; %s", type(error).__name__, error, cure)
