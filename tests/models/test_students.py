"""The students of conf/student that need no other package: size, shapes, and files in float32 and INT8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.composed import parsed
from torch import nn

from segdistill.engine.builders import Builder
from segdistill.export.onnx import export_onnx
from segdistill.export.quantize import quantize_int8
from segdistill.inference.segmenter import Segmenter
from segdistill.models.fusion import deployed
from segdistill.models.inherit import inherit
from segdistill.utils.errors import ConfigError

CLASSES = 5
PARAMETERS = {"deeplabv3_lite": 6_298_773, "deeplabv3_slim": 801_093, "deeplabv3_tiny": 197_797, "lraspp": 3_218_818}
"""On five classes; each sum of the layers' sizes, so that a layer that comes or goes is seen."""


def student(name: str) -> nn.Module:
    torch.manual_seed(0)
    return Builder(parsed(f"student={name}")).network("student").eval()


@pytest.mark.parametrize("name", PARAMETERS)
@torch.no_grad()
def test_size_and_shapes(name: str) -> None:
    network = student(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
    for size in ((75, 98), (64, 96)):
        assert network(torch.rand(1, 3, *size)).shape == (1, CLASSES, *size)


@pytest.mark.parametrize("name", ["deeplabv3_slim", "deeplabv3_tiny"])
@torch.no_grad()
def test_it_begins_with_the_packaged_teachers_backbone(name: str) -> None:
    builder = Builder(parsed(f"student={name}"))
    network, teacher = student(name), builder.probe_teacher()
    result = inherit(network, teacher, torch.rand(1, 3, 64, 80))
    given = teacher.state_dict()
    backbone = [each for each in network.state_dict() if each.startswith("backbone.")]
    assert result.copied == backbone
    assert all(torch.equal(network.state_dict()[each], given[each]) for each in backbone)
    assert f"{len(backbone)} of {len(network.state_dict())} tensors copied from the teacher" in str(result)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deeplabv3_slim", "deeplabv3_tiny", "lraspp"])
def test_files_in_float32_and_int8(name: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 75, 98, 3), np.uint8)
    full, small = tmp_path / "student.onnx", tmp_path / "student.int8.onnx"
    network = student(name)
    assert export_onnx(network, full, images, {}, traced=deployed(network)).pixels > 0.999
    quantize_int8(full, small, list(images), score=lambda path: 1.0)
    mask = Segmenter(small).masks(images)
    assert mask.shape == (2, 75, 98)
    assert small.stat().st_size < 0.5 * full.stat().st_size


def test_frozen_stages_are_those_of_the_students_fit() -> None:
    network = Builder(parsed("student.fit.frozen_stages=2")).network("student")
    fixed = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert {name.split(".")[2] for name in fixed} == {"conv_stem", "bn1", "blocks"}
    assert all(parameter.requires_grad for parameter in Builder(parsed()).network("student").parameters())
    for override, complaint in (
        ("student.fit.frozen_stages=9", r"student\.fit\.frozen_stages=9: must be from 0 to 5"),
        ("student.fit.frozen_stages=-1", r"student\.fit\.frozen_stages=-1: must be at least 0"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            Builder(parsed(override)).network("student")
    with pytest.raises(ConfigError, match=r"student\.fit\.frozen_stages=1: must be 0 for SegmentationModelAdapter"):
        Builder(parsed("student=lraspp", "student.fit.frozen_stages=1")).network("student")
