"""Normalisation that quantisation takes back: found, left out, and nothing else changes."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.emulation import avx2_product, layer_weights
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from segdistill.export.input_quantization import InputQuantization
from segdistill.export.onnx import export_onnx
from segdistill.export.quantize import Target, quantize_int8
from segdistill.inference.segmenter import Segmenter


class Normalising(nn.Module):
    """One convolution on a normalised image."""

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
PRODUCTS = 27  # of a logit: 3 x 3 pixels of 3 channels
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 20, 28, 3), np.uint8)


def exported(folder: Path, mean: list[float], std: list[float]) -> Path:
    export_onnx(Normalising(mean, std), folder / "model.onnx", IMAGES[:2], {})
    return folder / "model.onnx"


def rounding_bound(network: Normalising, largest_weight: int) -> float:
    """Returns how far quantisation may move a logit of IMAGES, where no product is clipped.

    A logit is a sum of 27 products and a bias. Each factor is off by at most half its step. The bias makes up for what
    the weights' errors amount to at the mean image, from which no pixel is further away than the whole range, and is
    then off by half its own step, the product of the two. At last the logit itself is rounded. A step of an activation
    is a 255th of its range, which holds 0; one of a channel's weights takes its largest magnitude to `largest_weight`.
    """
    network = deepcopy(network).double()
    with torch.no_grad():
        normalised = (torch.from_numpy(IMAGES).permute(0, 3, 1, 2).double() / 255 - network.mean) / network.std
        image_step, logit_step = span(normalised) / 255, span(network.conv(normalised)) / 255
        weights = network.conv.weight.abs().flatten(1)
        weight_step = weights.amax(1) / largest_weight
        furthest = span(normalised) + image_step / 2
        products = PRODUCTS * furthest * weight_step / 2 + weights.sum(1) * image_step / 2
        return float((products + image_step * weight_step / 2).max()) + logit_step / 2


def span(values: Tensor) -> float:
    return float(values.max().clamp(min=0) - values.min().clamp(max=0))


def clipping_logits(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns the logits, not yet rounded, of a shortened file on a processor with AVX2 and no VNNI."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    (weight,) = layer_weights(path).values()
    rows = weight.transpose(0, 2, 3, 1).reshape(len(weight), PRODUCTS)
    zero, bias = int(values["div_1_zero_point"]), values["network.conv.bias_quantized"]
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=zero)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    input_quantization = windows.reshape(*windows.shape[:3], 1, PRODUCTS)
    sums = avx2_product(input_quantization, rows) - zero * rows.astype(np.int64).sum(1) + bias
    logits: NDArray[np.float64] = sums * values["network.conv.bias_quantized_scale"].astype(np.float64)
    return logits.transpose(0, 3, 1, 2)


def test_one_scale_with_a_whole_zero_is_found(tmp_path: Path) -> None:
    found = InputQuantization.of(onnx.load(exported(tmp_path, *SHARED)).graph)
    assert found is not None
    assert found.zero_point == 127
    assert found.scale == pytest.approx(1 / 128)


@pytest.mark.parametrize(
    ("mean", "std"), [IMAGENET, ([0.5] * 3, [0.5] * 3), ([0.0, 0.0, 1.0], [1.0] * 3)], ids=["channels", "half", "zeros"]
)
def test_other_normalisations_are_left_alone(mean: list[float], std: list[float], tmp_path: Path) -> None:
    source = exported(tmp_path, mean, std)
    assert InputQuantization.of(onnx.load(source).graph) is None
    quantize_int8(source, tmp_path / "int8.onnx", list(IMAGES), score=lambda _: 0.0)
    difference = np.abs(Segmenter(tmp_path / "int8.onnx").logits(IMAGES) - Segmenter(source).logits(IMAGES))
    assert difference.max() <= rounding_bound(Normalising(mean, std), largest_weight=64)


def test_the_shortened_file_has_no_arithmetic_before_its_first_layer_and_the_same_answers(tmp_path: Path) -> None:
    source = exported(tmp_path, *SHARED)
    quantize_int8(source, tmp_path / "int8.onnx", list(IMAGES), score=lambda _: 0.0)
    model = onnx.load(tmp_path / "int8.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert not {"Div", "Sub", "Mul"} & {node.op_type for node in model.graph.node}
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert not [name for name in weights if "mean" in name or "std" in name]
    expected = Segmenter(source).logits(IMAGES)
    difference = np.abs(Segmenter(tmp_path / "int8.onnx").logits(IMAGES) - expected)
    assert difference.max() <= rounding_bound(Normalising(*SHARED), largest_weight=64)


def test_the_shortened_portable_file_means_the_same_to_a_processor_that_clips(tmp_path: Path) -> None:
    source = exported(tmp_path, *SHARED)
    expected = Segmenter(source).logits(IMAGES)
    errors: dict[Target, float] = {}
    for target in ("portable", "vnni"):
        quantize_int8(source, tmp_path / "int8.onnx", list(IMAGES), target=target, score=lambda _: 0.0)
        errors[target] = float(np.abs(clipping_logits(tmp_path / "int8.onnx", IMAGES) - expected).max())
    assert errors["portable"] <= rounding_bound(Normalising(*SHARED), largest_weight=64)
    assert errors["vnni"] > 2 * rounding_bound(Normalising(*SHARED), largest_weight=127)


def test_an_image_that_two_nodes_read_is_not_followed(tmp_path: Path) -> None:
    class Twice(Normalising):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image) + image

    export_onnx(Twice(*SHARED), tmp_path / "model.onnx", IMAGES[:2], {})
    found = InputQuantization.of(onnx.load(tmp_path / "model.onnx").graph)
    assert found is None or found.zero_point == 0  # the division by 255 is shared, what follows is not
