"""Normalisation that quantisation takes back: found, left out, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from segdistill.deploy.bytes_in import BytesIn
from segdistill.deploy.export import export_onnx
from segdistill.deploy.quantize import quantize_int8
from segdistill.deploy.segmenter import Segmenter


class Normalising(nn.Module):
    """One convolution on a normalised picture."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.conv((image - self.mean) / self.std)
        return logits


SHARED = [127 / 255] * 3, [128 / 255] * 3
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
PICTURES = np.random.default_rng(0).integers(0, 256, (4, 20, 28, 3), np.uint8)


def exported(folder: Path, mean: list[float], std: list[float]) -> Path:
    export_onnx(Normalising(mean, std), folder / "model.onnx", PICTURES[:2], {})
    return folder / "model.onnx"


def test_one_scale_with_a_whole_zero_is_found(tmp_path: Path) -> None:
    found = BytesIn.of(onnx.load(exported(tmp_path, *SHARED)).graph)
    assert found is not None
    assert found.zero_point == 127
    assert found.scale == pytest.approx(1 / 128)


@pytest.mark.parametrize(
    ("mean", "std"), [IMAGENET, ([0.5] * 3, [0.5] * 3), ([0.0, 0.0, 1.0], [1.0] * 3)], ids=["channels", "half", "zeros"]
)
def test_other_normalisations_are_left_alone(mean: list[float], std: list[float], tmp_path: Path) -> None:
    source = exported(tmp_path, mean, std)
    assert BytesIn.of(onnx.load(source).graph) is None
    quantize_int8(source, tmp_path / "int8.onnx", list(PICTURES), score=lambda _: 0.0)
    difference = np.abs(Segmenter(tmp_path / "int8.onnx").logits(PICTURES) - Segmenter(source).logits(PICTURES))
    assert difference.max() < 0.1


def test_the_shortened_file_has_no_arithmetic_before_its_first_layer_and_the_same_answers(tmp_path: Path) -> None:
    source = exported(tmp_path, *SHARED)
    quantize_int8(source, tmp_path / "int8.onnx", list(PICTURES), score=lambda _: 0.0)
    model = onnx.load(tmp_path / "int8.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert not {"Div", "Sub", "Mul"} & {node.op_type for node in model.graph.node}
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert not [name for name in weights if "mean" in name or "std" in name]
    expected = Segmenter(source).logits(PICTURES)
    difference = np.abs(Segmenter(tmp_path / "int8.onnx").logits(PICTURES) - expected)
    assert difference.max() < 0.02 * np.ptp(expected)


def test_a_picture_that_two_nodes_read_is_not_followed(tmp_path: Path) -> None:
    class Twice(Normalising):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image) + image

    export_onnx(Twice(*SHARED), tmp_path / "model.onnx", PICTURES[:2], {})
    found = BytesIn.of(onnx.load(tmp_path / "model.onnx").graph)
    assert found is None or found.zero_point == 0  # the division by 255 is shared, what follows is not
