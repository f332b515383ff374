"""Build the networks of a configuration, check them, and load the weights of checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segdistill.config.locate import build
from segdistill.config.model import TeacherConfig
from segdistill.data.labels import LabelSet
from segdistill.export.onnx import try_export
from segdistill.models.adapters import without_pretrained
from segdistill.models.class_remap import ClassRemap
from segdistill.models.frozen_teacher import load_network
from segdistill.models.fusion import fuse_conv_bn
from segdistill.models.output import PROBE_SIZE, evaluated, validate_output_shape
from segdistill.models.packaged import load_packaged, packaged_test_miou
from segdistill.utils.errors import ConfigError, UserError, first_line
from segdistill.utils.io import full_disk

log = logging.getLogger(__name__)
_exportable: set[str] = set()
"""Networks that this process has exported as a trial, each as its printed form and a size."""


def build_network(spec: Mapping[str, Any], num_classes: int, **options: Any) -> nn.Module:
    """Build a network, and check that its logits have the shape that everything else relies on.

    Args:
        spec: Mapping with a `_target_` and its options.
        num_classes: Number of classes, the channels of the logits.
        options: Options that take precedence over those of `spec`.

    Raises:
        UserError: If the network fails, or its logits have another shape.
    """
    network: nn.Module = build("network", spec, num_classes=num_classes, _convert_="all", **options)
    validate_output_shape(network, num_classes, str(spec["_target_"]))
    return network


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

    If it has more classes than the data, they are merged.

    Raises:
        UserError: If the checkpoint or the class map does not fit.
    """
    if teacher.num_classes is None:
        return loaded_network(teacher.network, labels, Path(str(teacher.checkpoint)))
    groups = parse_class_map(teacher.class_map, teacher.num_classes, labels.names)
    if teacher.checkpoint is None:
        return ClassRemap(build_network(teacher.network, teacher.num_classes), groups)
    network = build_network(teacher.network, teacher.num_classes, **without_pretrained(teacher.network))
    load_network(network, Path(teacher.checkpoint), None)
    return ClassRemap(network, groups)


def parse_class_map(class_map: Mapping[str, Sequence[int]], count: int, names: Sequence[str]) -> list[list[int]]:
    """Return the teacher's class ids that make up each class of the data.

    Args:
        class_map: Class name of the data -> class ids of the teacher.
        count: Number of classes of the teacher.
        names: Names of the data's classes.

    Raises:
        ConfigError: If a class is missing or unknown, or an id is out of range or given twice.
    """
    for name in names:
        if name not in class_map:
            raise ConfigError("teacher.class_map", dict(class_map), f"misses the class {name}")
    owners: dict[int, str] = {}
    for name, ids in class_map.items():
        key = f"teacher.class_map.{name}"
        if name not in names:
            raise ConfigError(key, list(ids), f"the data has no such class; it has {list(names)}")
        if not ids or min(ids) < 0 or max(ids) >= count:
            raise ConfigError(key, list(ids), f"must be one or more of the teacher's class ids, 0 to {count - 1}")
        for index in ids:
            if index in owners:
                raise ConfigError(key, list(ids), f"{index} already belongs to {owners[index]}")
            owners[index] = name
    return [list(class_map[name]) for name in names]


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
        try_export(_quick_to_trace(network), size)
    except Exception as error:  # the exporter, the checker or a copy of the network may raise anything
        if (full := full_disk(error)) is not None:
            raise full from error
        raise UserError(
            f"{role}: {type(network).__name__} cannot be exported to ONNX ({first_line(error)}); change the network, "
            "or train without an export: '~callbacks.onnx_export' or callbacks=none"
        ) from error
    _exportable.add(known)


def _quick_to_trace(network: nn.Module) -> nn.Module:
    """Remove BatchNorms, which are half of what the exporter would trace, and which never make it fail."""
    with evaluated(network), suppress(Exception):
        return fuse_conv_bn(network, torch.zeros(1, 3, *PROBE_SIZE))
    return network
