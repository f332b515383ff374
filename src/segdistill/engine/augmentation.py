"""Build the augmentation of a configuration, and try it before any data is opened."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from segdistill.config.data import IGNORE_INDEX
from segdistill.data.augment import is_replayed
from segdistill.engine.objectives import build_part
from segdistill.utils.errors import ConfigError, first_line

TRIALS = 16  # a step of probability 0.2 is missed by all of them in 3 of 100 cases
log = logging.getLogger(__name__)


def build_augmentation(key: str, specs: Mapping[str, Any]) -> list[v2.Transform]:
    """Build the steps of an augmentation, in their order.

    Args:
        key: Configuration key for error messages.
        specs: Name -> mapping with a `_target_` and its options.

    Raises:
        ConfigError: If a step rejects its settings; names its key.
    """
    return [build_part(f"{key}.{name}", spec) for name, spec in specs.items()]


def try_augmentation(key: str, specs: Mapping[str, Any], size: Sequence[int]) -> None:
    """Try every step of an augmentation on images of noise, before hours are spent.

    Args:
        key: Configuration key for error messages.
        specs: Name -> mapping with a `_target_` and its options.
        size: [H, W] of the images that the steps will get.

    Raises:
        ConfigError: If a step rejects its settings, fails, or changes size, type or labels; names its key.
    """
    for (name, spec), step in zip(specs.items(), build_augmentation(key, specs), strict=True):
        complaint = _complaint(step, size)
        if complaint is not None:
            raise ConfigError(f"{key}.{name}", spec, complaint)


def require_replayed(key: str, specs: Mapping[str, Any], cache: str) -> bool:
    """Return whether cached logits can follow every step.

    Args:
        key: Configuration key for error messages.
        specs: Name -> mapping with a `_target_` and its options.
        cache: Value of `distill.teacher_cache`.

    Raises:
        ConfigError: If they cannot, and `cache` is not "auto"; names the step.
    """
    for (name, spec), step in zip(specs.items(), build_augmentation(key, specs), strict=True):
        if not is_replayed(step):
            reason = "may move what the image shows, which cached logits do not follow"
            if cache != "auto":
                raise ConfigError(f"{key}.{name}", spec, f"{reason}; it needs distill.teacher_cache=none")
            log.info("%s.%s: %s; the teacher runs at every step", key, name, reason)
            return False
    return True


def _complaint(step: v2.Transform, size: Sequence[int]) -> str | None:
    """Return what is wrong with a step, after some trials that leave the caller's random state unchanged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        image = tv_tensors.Image(torch.randint(256, (3, *size), dtype=torch.uint8))
        mask = tv_tensors.Mask(torch.ones(*size, dtype=torch.uint8))
        for _ in range(TRIALS):
            try:
                changed, labels = step(image, mask)
            except Exception as error:  # whatever a step raises, it would raise in the training
                return f"fails on an image of 8 bits ({first_line(error)})"
            for each, given in ((changed, image), (labels, mask)):
                if not isinstance(each, torch.Tensor) or (each.shape, each.dtype) != (given.shape, given.dtype):
                    return f"must keep size and type: fit.crop is {list(size)}, images and masks have 8 bits"
            if not set(labels.unique().tolist()) <= {1, IGNORE_INDEX}:
                return f"labels pixels that it lays bare; fill: {IGNORE_INDEX} makes them void"
    return None
