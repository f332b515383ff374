"""Products that processors without VNNI clip: which files have them, and that portable ones have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.emulation import avx2_product, clipped_pairs, layer_weights
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from segdistill.export.onnx import export_onnx
from segdistill.export.quantize import Target, quantize_int8
from segdistill.export.saturation import require_portable, saturating_operands
from segdistill.utils.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 24, 36, 3), np.uint8)
LAYERS = 5


class Mixed(nn.Module):
    """Every kind of layer that multiplies bytes: dense, depthwise and pointwise convolutions, and a matrix."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6()
        )
        self.pointwise, self.mix, self.classifier = nn.Conv2d(8, 16, 1), nn.Linear(16, 8), nn.Conv2d(8, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        features = self.pointwise(self.convolutions(image)).relu()
        mixed = self.mix(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        logits: Tensor = self.classifier(mixed.relu())
        return logits


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "student.onnx"
    export_onnx(Mixed(), path, IMAGES[:2], {})
    return path


def quantized(source: Path, folder: Path, target: Target) -> Path:
    path = folder / f"{target}.onnx"
    quantize_int8(source, path, list(IMAGES), target=target, score=lambda _: 0.5)
    return path


def product(operand: NDArray[np.int8] | NDArray[np.uint8] | None) -> onnx.ModelProto:
    """A product of an image with a constant; with None, of two tensors of signed bytes."""
    kind = TensorProto.UINT8 if operand is not None and operand.dtype == np.uint8 else TensorProto.INT8
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("unsigned zero", TensorProto.UINT8, [], [0]),
        helper.make_tensor("zero", kind, [], [0]),
        *([numpy_helper.from_array(operand, "right")] if operand is not None else []),
    ]
    inputs = [helper.make_tensor_value_info("left", TensorProto.UINT8, ["n", 4])]
    inputs += [helper.make_tensor_value_info("right", kind, [4, 2])] if operand is None else []
    nodes = [
        helper.make_node("DequantizeLinear", ["left", "scale", "unsigned zero"], ["real left"]),
        helper.make_node("DequantizeLinear", ["right", "scale", "zero"], ["real right"]),
        helper.make_node("MatMul", ["real left", "real right"], ["logits"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])]
    return helper.make_model(helper.make_graph(nodes, "product", inputs, outputs, constants))


def test_a_pair_of_products_is_clipped_to_sixteen_bits() -> None:
    bright = np.full(3, 255, np.uint8)
    assert avx2_product(bright, np.array([127, 127, 1], np.int8)) == 32767 + 255  # 64770 in 32 bits
    assert avx2_product(bright, np.array([-65, -64, 0], np.int8)) == -32768  # -32895 in 32 bits
    assert avx2_product(bright, np.array([64, 64, 64], np.int8)) == 3 * 255 * 64
    assert avx2_product(bright, np.array([127, -127, 0], np.int8)) == 0


def test_portable_weights_are_never_clipped_whatever_the_input(source: Path, tmp_path: Path) -> None:
    weights = layer_weights(quantized(source, tmp_path, "portable"))
    assert len(weights) == LAYERS
    assert {weight.dtype for weight in weights.values()} == {np.dtype(np.int8)}
    assert {int(abs(weight.astype(int)).max()) for weight in weights.values()} == {64}
    assert {name: clipped_pairs(weight) for name, weight in weights.items()} == dict.fromkeys(weights, 0)


def test_eight_bit_weights_are_clipped_in_every_layer(source: Path, tmp_path: Path) -> None:
    path = quantized(source, tmp_path, "vnni")
    weights = layer_weights(path)
    assert len(weights) == LAYERS
    assert min(clipped_pairs(weight) for weight in weights.values()) > 0
    assert sorted(saturating_operands(onnx.load(path))) == sorted(weights)


@pytest.mark.parametrize(
    ("operand", "found"),
    [
        (np.full((4, 2), 64, np.int8), []),
        (np.full((4, 2), -65, np.int8), ["right"]),
        (np.full((4, 2), -128, np.int8), ["right"]),
        (np.full((4, 2), 255, np.uint8), []),  # multiplied in 32 bits
        (None, ["right"]),
    ],
    ids=["64", "-65", "-128", "unsigned", "not constant"],
)
def test_operands_that_can_be_clipped_are_named(
    operand: NDArray[np.int8] | NDArray[np.uint8] | None, found: list[str]
) -> None:
    assert saturating_operands(product(operand)) == found


def test_a_file_that_is_not_portable_is_refused_by_name() -> None:
    require_portable(product(np.full((4, 2), 64, np.int8)), Path("student.int8.onnx"))
    with pytest.raises(UserError, match=r"^student\.int8\.onnx: not kept; .* 1 weights, right among them; target=vnni"):
        require_portable(product(np.full((4, 2), 127, np.int8)), Path("student.int8.onnx"))
