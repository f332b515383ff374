"""Loggers that never ask, and never take a run down with them."""

from __future__ import annotations

import importlib.util
import logging
import netrc
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal
from urllib.parse import urlsplit

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger

from segdistill.errors import ConfigError, first_line

log = logging.getLogger(__name__)
Mode = Literal["online", "offline"]
START_TIMEOUT_S, FINISH_TIMEOUT_S = 30, 600
PACKAGES = {"pytorch_lightning.loggers.TensorBoardLogger": "tensorboard"}
"""Loggers that need more than requirements.txt installs."""


def require(loggers: Mapping[str, Any]) -> None:
    """Checks before a training what its loggers need.

    Raises:
        ConfigError: If a package or a login is missing.
    """
    for name, spec in loggers.items():
        package = PACKAGES.get(spec["_target_"]) if isinstance(spec, Mapping) else None
        if package is not None and importlib.util.find_spec(package) is None:
            raise ConfigError(f"logger.{name}", spec["_target_"], f"needs a package: pip install {package}")
    if loggers.get("mode") == "online" and not wandb_logged_in():
        raise ConfigError("logger.mode", "online", "needs a login: wandb login, or WANDB_API_KEY in the environment")


def wandb_logged_in(environment: Mapping[str, str] = os.environ) -> bool:
    """Tells whether W&B could be reached without a prompt: a key in the environment, or in ~/.netrc for its server."""
    if environment.get("WANDB_API_KEY"):
        return True
    server = environment.get("WANDB_BASE_URL") or wandb.setup().settings.base_url
    try:
        return netrc.netrc(environment.get("NETRC")).authenticators(urlsplit(server).netloc) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def wandb_logger(*, save_dir: str, mode: Mode | None = None, **options: Any) -> WandbLogger:
    """Starts a W&B run; one that cannot be online, for want of a network or a valid key, is kept offline.

    Args:
        save_dir: Its files go into `save_dir`/wandb.
        mode: "online" or "offline"; None is what WANDB_MODE says, or else online where there is a login.
        options: Passed on to `wandb.init`.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    settings = wandb.Settings(init_timeout=START_TIMEOUT_S, finish_timeout=FINISH_TIMEOUT_S, finish_timeout_raises=True)
    begin = partial(wandb.init, dir=save_dir, settings=settings, **options)
    chosen = mode
    if chosen is None and "WANDB_MODE" not in os.environ:
        chosen = "online" if wandb_logged_in() else "offline"
    try:
        run = begin(mode=chosen)
    except Exception as error:  # whatever its client raises: the training matters more
        if chosen == "offline":
            raise
        run = begin(mode="offline")
        log.warning("W&B: %s; kept offline, upload it by: wandb sync %s", first_line(error), run.dir)
    if not run.offline:
        log.info("W&B: %s", run.url)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(experiment=run)


def start(build: Callable[[], Logger], hyperparameters: Mapping[str, Any]) -> Logger | None:
    """Builds a logger and starts its run now; one that cannot start is left out instead of failing a training."""
    try:
        logger = build()
        _ = logger.experiment  # type: ignore[attr-defined] # every logger has one, the base class does not
        logger.log_hyperparams(dict(hyperparameters))
    except Exception as error:  # as above
        log.warning("a logger is left out: %s: %s", type(error).__name__, error)
        return None
    return logger


def close(loggers: Sequence[Logger]) -> None:
    """Ends W&B's run, so that the next job of a sweep starts its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            try:
                logger.experiment.finish()
            except Exception as error:  # the results are on disk already
                cure = f"upload the rest by: wandb sync {logger.experiment.dir}"
                log.warning("W&B did not finish: %s: %s; %s", type(error).__name__, error, cure)
