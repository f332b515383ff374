"""Loggers that never ask, and never take a run down with them."""

from __future__ import annotations

import logging
import netrc
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning.loggers import Logger, WandbLogger

log = logging.getLogger(__name__)
WANDB_HOST = "https://api.wandb.ai"


def wandb_logged_in(environment: Mapping[str, str] = os.environ) -> bool:
    """Tells whether W&B could be reached without a prompt: a key in the environment or in ~/.netrc."""
    if environment.get("WANDB_API_KEY"):
        return True
    host = urlparse(environment.get("WANDB_BASE_URL", WANDB_HOST)).hostname
    try:
        return host is not None and netrc.netrc(environment.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def wandb_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a WandbLogger's options with `offline: null` decided, and with W&B's own console lines off."""
    import wandb

    decided = dict(options)
    if decided.get("offline") is None:
        decided["offline"] = not wandb_logged_in()
    wandb.setup(wandb.Settings(silent=True))
    return decided


def started(logger: Logger) -> bool:
    """Starts a logger's run now, so that one that cannot start is left out instead of failing a training."""
    try:
        _ = logger.experiment  # type: ignore[attr-defined] # every logger has one, the base class does not
    except Exception as error:  # whatever a service's client raises: the training matters more
        log.warning("%s is left out: %s: %s", type(logger).__name__, type(error).__name__, error)
        return False
    return True


def close(loggers: list[Logger]) -> None:
    """Ends W&B's run, so that the next job of a sweep starts its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()
