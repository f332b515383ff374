"""Biases that make up for rounded weights: the shift by hand, and what it is left out for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from segdistill.export.bias_correction import correct_biases, mean_inputs
from segdistill.export.onnx import export_onnx
from segdistill.export.quantize import quantize_int8
from segdistill.inference.segmenter import Segmenter

IMAGES = list(np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8))
WEIGHT = np.array([[1.0, 0.3], [-0.5, 0.2]], np.float32).reshape(2, 2, 1, 1)
ROUNDED = np.array([[64, 19], [-64, 26]], np.int8).reshape(2, 2, 1, 1)  # of 1 / 64 and 0.5 / 64
SCALES = np.array([1 / 64, 0.5 / 64], np.float32)


class Layered(nn.Module):
    """Grouped and dense convolutions behind a ReLU, whose inputs are far from 0 on average."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.depthwise = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.classifier = nn.Conv2d(8, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.depthwise(self.stem(image).relu()).relu())
        return logits


def graph(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[np.generic]]) -> onnx.GraphProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "logits")]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return helper.make_graph(nodes, "layer", ends[:1], ends[1:], initializers)


def convolution(*operands: str, name: str = "conv") -> onnx.NodeProto:
    return helper.make_node("Conv", ["x", *operands], [f"{name} out"], name)


def quantised(nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
    """Convolutions with the constants above, whose biases are 100 and -100 steps of 0.001."""
    constants: dict[str, NDArray[np.generic]] = {
        "w q": ROUNDED,
        "w s": SCALES,
        "b q": np.array([100, -100], np.int32),
        "b s": np.array([0.001, 0.001], np.float32),
    }
    dequantize = [helper.make_node("DequantizeLinear", [f"{name} q", f"{name} s"], [name]) for name in ("w", "b")]
    return graph([*dequantize, *nodes], constants)


def bias(layer: onnx.GraphProto) -> list[int]:
    (found,) = (numpy_helper.to_array(tensor) for tensor in layer.initializer if tensor.name == "b q")
    return [int(value) for value in found]


SOURCE = graph([convolution("w", "b")], {"w": WEIGHT, "b": np.zeros(2, np.float32)})
MEANS = {"conv": np.array([7.0, 10.0])}


def test_a_bias_takes_back_the_mean_effect_of_rounding() -> None:
    layer = quantised([convolution("w", "b")])
    correct_biases(layer, SOURCE, MEANS)
    # 0.3 became 19 / 64 = 0.3 - 0.003125, times 10; 0.2 became 26 / 128 = 0.2 + 0.003125, times 10
    assert bias(layer) == [100 + 31, -100 - 31]


def test_a_bias_that_two_layers_share_stays() -> None:
    layer = quantised([convolution("w", "b"), convolution("w", "b", name="other")])
    twice = graph([convolution("w", "b"), convolution("w", "b", name="other")], {"w": WEIGHT})
    correct_biases(layer, twice, {"conv": np.array([7.0, 10.0]), "other": np.array([1.0, 1.0])})
    assert bias(layer) == [100, -100]


@pytest.mark.parametrize("operands", [("w float", "b float"), ("w",)], ids=["float32", "no bias"])
def test_layers_without_a_quantised_bias_stay(operands: tuple[str, ...]) -> None:
    layer = quantised([convolution(*operands)])
    before = layer.SerializeToString()
    correct_biases(layer, SOURCE, MEANS)
    assert layer.SerializeToString() == before


def test_means_are_those_of_each_input_channel(tmp_path: Path) -> None:
    network, path = Layered(), tmp_path / "model.onnx"
    export_onnx(network, path, np.stack(IMAGES[:2]), {})
    means = mean_inputs(path, IMAGES)
    with torch.no_grad():
        image = torch.from_numpy(np.stack(IMAGES)).permute(0, 3, 1, 2).double() / 255
        stem = network.double().stem(image).relu()
        expected = [image, stem, network.depthwise(stem).relu()]
    for found, maps in zip(means.values(), expected, strict=True):
        np.testing.assert_allclose(found, maps.mean((0, 2, 3)).numpy(), rtol=1e-4)


def test_logits_of_a_quantised_file_are_right_on_average(tmp_path: Path) -> None:
    network, source, path = nn.Conv2d(3, 3, 3, padding=1), tmp_path / "model.onnx", tmp_path / "int8.onnx"
    with torch.no_grad():
        network.weight.fill_(0.45 / 64)  # of the largest weight: rounded to nothing, 26 times a channel
        network.weight[:, 0, 1, 1] = 1
    export_onnx(network, source, np.stack(IMAGES[:2]), {})
    quantize_int8(source, path, IMAGES, score=lambda _: 0.5)
    expected = Segmenter(source).logits(np.stack(IMAGES))
    error = (Segmenter(path).logits(np.stack(IMAGES)) - expected).mean((0, 2, 3))
    lost = 26 * 0.45 / 64 * np.stack(IMAGES).mean() / 255
    assert lost > 0.09
    assert np.abs(error).max() < 0.1 * lost
