"""Loggers that never ask, and never take a run down with them."""

from __future__ import annotations

import logging
import netrc
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning.loggers import Logger, WandbLogger

log = logging.getLogger(__name__)
WANDB_HOST = "https://api.wandb.ai"


def wandb_logged_in(environment: Mapping[str, str] = os.environ) -> bool:
    """Tells whether W&B could be reached without a prompt: a key in the environment or in ~/.netrc."""
    if environment.get("WANDB_API_KEY"):
        return True
    host = urlparse(environment.get("WANDB_BASE_URL") or WANDB_HOST).hostname
    try:
        return host is not None and netrc.netrc(environment.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def wandb_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a WandbLogger's options with `offline: null` decided, and with W&B's own console lines off."""
    os.environ.setdefault("WANDB_SILENT", "true")
    offline = options.get("offline")
    return {**options, "offline": not wandb_logged_in() if offline is None else offline}


def start(build: Callable[[], Logger], hyperparameters: Mapping[str, Any]) -> Logger | None:
    """Builds a logger and starts its run now; one that cannot start is left out instead of failing a training."""
    try:
        logger = build()
        _ = logger.experiment  # type: ignore[attr-defined] # every logger has one, the base class does not
        logger.log_hyperparams(dict(hyperparameters))
    except Exception as error:  # whatever a service's client raises: the training matters more
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
                log.warning("W&B did not finish: %s: %s", type(error).__name__, error)
