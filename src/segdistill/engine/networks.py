"""Build the networks of a configuration, check them, and load the weights of checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from segdistill.config.locate import build
from segdistill.config.model import TeacherConfig
from segdistill.data.labels import LabelSet
from segdistill.engine.class_map import class_groups
from segdistill.export.onnx import try_export
from segdistill.models.adapters import without_pretrained
from segdistill.models.backbones import Backbone
from segdistill.models.class_remap import ClassRemap
from segdistill.models.frozen_teacher import load_network
from segdistill.models.fusion import deployed
from segdistill.models.output import class_count, validate_output_shape
from segdistill.models.packaged import load_packaged, packaged_test_miou
from segdistill.utils.errors import ConfigError, UserError, first_line
from segdistill.utils.io import full_disk

log = logging.getLogger(__name__)
_exportable: set[str] = set()
"""Networks that this process has exported as a trial, each as its printed form and a size."""


def build_network(spec: Mapping[str, Any], num_classes: int | None, **options: Any) -> nn.Module:
    """Build a network, and check that its logits have the shape that everything else relies on.

    Args:
        spec: Mapping with a `_target_` and its options.
        num_classes: Number of classes, the channels of the logits; None for as many as its weights have.
        options: Options that take precedence over those of `spec`.

    Raises:
        UserError: If the network fails, or its logits have another shape.
    """
    network: nn.Module = build("network", spec, num_classes=num_classes, _convert_="all", **options)
    validate_output_shape(network, num_classes, str(spec["_target_"]))
    return network


def freeze_stages(network: nn.Module, stages: int) -> None:
    """Freeze the first stages of a network's backbone.

    Raises:
        ConfigError: If the network has no backbone whose stages are known, or too few of them.
    """
    backbone = getattr(network, "backbone", None)
    if isinstance(backbone, Backbone):
        backbone.freeze(stages)
    elif stages:
        allowed = f"must be 0 for {type(network).__name__}, for only segdistill's own backbones have stages"
        raise ConfigError("frozen_stages", stages, allowed)


def loaded_network(spec: Mapping[str, Any], labels: LabelSet, checkpoint: Path) -> nn.Module:
    """Build a network with the weights of a checkpoint, without fetching pretrained ones first."""
    network = build_network(spec, len(labels), **without_pretrained(spec))
    load_network(network, checkpoint, labels.names)
    return network


def packaged_teacher(spec: Mapping[str, Any], labels: LabelSet) -> nn.Module:
    """Build the teacher that is part of the package.

    Raises:
        UserError: If the classes or the network differ from the packaged ones.
    """
    network = build_network(spec, len(labels), **without_pretrained(spec))
    recipe = load_packaged(network, labels.names)["recipe"]
    log.info("teacher: the packaged one, test mIoU %.2f %% (%s)", 100 * packaged_test_miou(), recipe)
    return network


def given_teacher(teacher: TeacherConfig, labels: LabelSet) -> nn.Module:
    """Build a teacher that is already trained, from a checkpoint or with its own pretrained head.

    Classes that are not those of the data are merged into them, by the class map and by their names.

    Raises:
        UserError: If the checkpoint or the class map does not fit.
    """
    if teacher.checkpoint is None:
        network = build_network(teacher.network, teacher.num_classes)
    elif teacher.num_classes is None:
        return loaded_network(teacher.network, labels, Path(teacher.checkpoint))
    else:
        network = build_network(teacher.network, teacher.num_classes, **without_pretrained(teacher.network))
        load_network(network, Path(teacher.checkpoint), None)
    known: Sequence[str] = getattr(network, "class_names", ())
    count = teacher.num_classes or class_count(network)
    return ClassRemap(network, class_groups(teacher.class_map, count, known, labels.names))


def check_export(role: str, network: nn.Module, size: Sequence[int]) -> None:
    """Try the ONNX export of a network before it is trained; in a sweep, once for all jobs that share it.

    Args:
        role: Role of the network, "teacher" or "student".
        network: Network to export; left unchanged.
        size: Size [H, W] of the data.

    Raises:
        UserError: If it cannot be exported.
    """
    known = f"{type(network).__module__}.{type(network).__qualname__} {network} {list(size)}"
    if known in _exportable:
        return
    try:
        try_export(deployed(network), size)
    except Exception as error:  # the exporter, the checker or a copy of the network may raise anything
        if (full := full_disk(error)) is not None:
            raise full from error
        raise UserError(
            f"{role}: {type(network).__name__} cannot be exported to ONNX ({first_line(error)}); change the network, "
            "or train without an export: '~callbacks.onnx_export' or callbacks=none"
        ) from error
    _exportable.add(known)
