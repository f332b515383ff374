"""Build the losses, optimizers and class counts of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from hydra.errors import InstantiationException
from torch import nn

from segdistill.config.locate import build
from segdistill.config.model import DistillConfig
from segdistill.data.sources.base import DatasetIndex
from segdistill.losses import DistillationLoss, FeatureLoss, LogitLoss
from segdistill.losses.base import NeedsClassPixels, SupervisedLoss
from segdistill.models.feature_hooks import feature_channels
from segdistill.tasks.segmentation import OptimizerFactory
from segdistill.utils.errors import ConfigError, first_line
from segdistill.utils.preprocessing import IGNORE_INDEX, Preprocessing

TRIAL_SIDE = 16
"""Side of the labels that a loss is tried on, in pixels: they hold as many classes as there may be, and void."""


def build_optimizer(key: str, settings: Mapping[str, Any]) -> OptimizerFactory:
    """Return an optimizer as a function of its parameters, after trying it on one of them.

    Args:
        key: Configuration key for error messages.
        settings: Mapping with a `_target_` and its options.

    Raises:
        ConfigError: If the optimizer rejects its settings.
    """
    factory: OptimizerFactory = build(key, settings, _partial_=True)
    try:
        factory([{"params": [nn.Parameter(torch.zeros(1))]}])
    except (TypeError, ValueError) as error:
        raise ConfigError(key, settings, str(error)) from error
    return factory


def build_part(key: str, spec: Mapping[str, Any]) -> Any:
    """Build a loss, or a step of an augmentation, from a `_target_` and its options.

    Raises:
        ConfigError: If it rejects its settings; names `key`.
    """
    try:
        return build(key, spec, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__.under(key) from error
        raise ConfigError(key, spec, first_line(error.__cause__ or error)) from error


def build_supervised_loss(key: str, spec: Mapping[str, Any], num_classes: int) -> SupervisedLoss:
    """Build a supervised loss, after trying another one like it on labels of every class and of none.

    Args:
        key: Configuration key for error messages.
        spec: Mapping with a `_target_` and its options.
        num_classes: Number of classes C of the data.

    Raises:
        ConfigError: If it rejects its settings, or fails in a step; names `key`.
    """
    loss: SupervisedLoss = build_part(key, spec)
    with torch.random.fork_rng(devices=[]):
        trial: SupervisedLoss = build_part(key, spec)
        logits = torch.zeros(1, num_classes, TRIAL_SIDE, TRIAL_SIDE, requires_grad=True)
        ids = torch.arange(TRIAL_SIDE**2).view(1, TRIAL_SIDE, TRIAL_SIDE) % (num_classes + 1)
        try:
            if isinstance(trial, NeedsClassPixels):
                trial.set_class_pixels(torch.ones(num_classes, dtype=torch.int64))
            value = trial(logits, ids.where(ids < num_classes, IGNORE_INDEX))
            value.backward()  # type: ignore[no-untyped-call]
        except ConfigError as error:
            raise error.under(key) from None
        except Exception as error:  # whatever a loss raises, it would raise in the training
            allowed = (
                f"fails on logits of {num_classes} classes ({first_line(error)}); it must give a scalar for logits "
                f"[B, C, H, W] and labels [B, H, W], where {IGNORE_INDEX} is void: losses of torch.nn need "
                f"+{key}.ignore_index={IGNORE_INDEX}"
            )
            raise ConfigError(key, spec, allowed) from error
    return loss


def build_distillation_loss(
    distill: DistillConfig, supervised: SupervisedLoss, student: nn.Module, teacher: nn.Module
) -> DistillationLoss:
    """Build the weighted sum of losses, including projectors for the layers of these networks.

    Raises:
        UserError: If a loss rejects its settings, or a network has no such layer.
    """
    losses = {name: build_part(f"distill.losses.{name}", spec) for name, spec in distill.losses.items()}
    for name, loss in losses.items():
        key = f"distill.losses.{name}"
        if not isinstance(loss, LogitLoss | FeatureLoss):
            wanted = "must be a subclass of segdistill.losses.LogitLoss or FeatureLoss"
            raise ConfigError(f"{key}._target_", distill.losses[name]["_target_"], wanted)
        if isinstance(loss, FeatureLoss):
            loss.build_projector(
                feature_channels(student, loss.student_layer, f"{key}.student_layer", trained=True),
                feature_channels(teacher, loss.teacher_layer, f"{key}.teacher_layer"),
            )
    return DistillationLoss(
        supervised,
        losses,
        alpha=distill.alpha,
        alpha_schedule=distill.alpha_schedule,
        pseudo_labels=distill.pseudo_labels,
    )


def with_class_pixels(loss: SupervisedLoss, source: DatasetIndex, preprocessing: Preprocessing) -> SupervisedLoss:
    """Tell a loss that asks for them the training pixels of each class that networks see; return it."""
    if isinstance(loss, NeedsClassPixels):
        seen = preprocessing.size[0] / preprocessing.resize[0]
        loss.set_class_pixels(torch.from_numpy(source.class_pixels("train", seen)))
    return loss
