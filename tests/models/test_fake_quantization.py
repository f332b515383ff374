"""Rounding in training, against NumPy and against the INT8 file that it stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from segdistill.export.onnx import export_onnx
from segdistill.export.quantize import quantize_int8
from segdistill.inference.segmenter import Segmenter
from segdistill.models.cpu_depthwise import DepthwiseConv2d, replace_depthwise_convs
from segdistill.models.fake_quantization import WEIGHT_LEVELS, FakeQuantization

IMAGES: list[NDArray[np.uint8]] = list(np.random.default_rng(0).integers(0, 256, (6, 23, 37, 3), np.uint8))


class Inverted(nn.Module):
    """An inverted residual block, whose channels differ in size as those of a trained one, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), BatchNormAct2d(8, act_layer=nn.ReLU6))
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.norm = BatchNormAct2d(8, act_layer=nn.ReLU6)
        self.project = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), BatchNormAct2d(8, apply_act=False))
        self.classifier = nn.Conv2d(8, 3, 1)
        for norm in (self.stem[1], self.norm, self.project[1]):
            assert isinstance(norm, BatchNormAct2d)
            nn.init.uniform_(norm.bias, -0.5, 2.0)
            nn.init.uniform_(norm.get_buffer("running_mean"), -1, 1)
            norm.get_buffer("running_var").copy_(
                torch.logspace(-2, 2, 8)
            )  # merged kernels a hundred times as large as others ...
        with torch.no_grad():
            self.get_parameter("project.0.weight").mul_(
                torch.logspace(-1, 1, 8).reshape(1, -1, 1, 1)
            )  # ... which count no less

    def forward(self, image: Tensor) -> Tensor:
        stem = self.stem(image)
        logits: Tensor = self.classifier(stem + self.project(self.norm(self.depthwise(stem))))
        return nn.functional.interpolate(logits, image.shape[-2:], mode="nearest")


def batch(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None] / 255


def rms(a: list[NDArray[np.float32]], b: list[NDArray[np.float32]]) -> float:
    return float(np.sqrt(np.mean([np.square(x - y).mean() for x, y in zip(a, b, strict=True)])))


@torch.no_grad()
def logits_of(network: nn.Module) -> list[NDArray[np.float32]]:
    return [network(batch(image)).numpy() for image in IMAGES]


@pytest.mark.parametrize(("per_channel", "unexplained"), [(True, 0.6), (False, 0.3)], ids=["per channel", "per layer"])
def test_the_rounded_network_is_what_the_file_computes(per_channel: bool, unexplained: float, tmp_path: Path) -> None:
    """Up to the rounding of sums and logits, most of what little a file with a scale for each channel loses."""
    network = Inverted().eval()
    exported, quantized = tmp_path / "student.onnx", tmp_path / "student.int8.onnx"
    export_onnx(network, exported, np.stack(IMAGES[:2]), {})
    quantize_int8(exported, quantized, IMAGES, per_channel=per_channel, score=lambda _: 0.5)
    in_file = [Segmenter(quantized).logits(image[None]) for image in IMAGES]
    exact = logits_of(network)
    rounding = FakeQuantization(network, weight_bits=7, per_channel=per_channel)
    rounding.calibrate(map(batch, IMAGES))
    rounding.enabled = True
    error, lost = rms(logits_of(network), in_file), rms(exact, in_file)
    assert error < unexplained * lost


@pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per layer"])
@pytest.mark.parametrize("bits", sorted(WEIGHT_LEVELS))
def test_merged_weights_lie_on_the_grid_that_numpy_computes(bits: int, per_channel: bool) -> None:
    network = Inverted().eval()
    rounding = FakeQuantization(network, weight_bits=bits, per_channel=per_channel)
    rounding.calibrate([batch(IMAGES[0])])
    rounding.enabled = True
    seen: list[Tensor] = []
    convolution = network.depthwise
    convolution.register_forward_pre_hook(lambda module, _: seen.append(module.weight.detach()))
    network(batch(IMAGES[0]))
    norm = network.norm
    factor = (
        (norm.weight / torch.sqrt(norm.get_buffer("running_var") + norm.eps))
        .detach()
        .double()
        .numpy()
        .reshape(-1, 1, 1, 1)
    )
    merged = convolution.weight.detach().double().numpy() * factor
    step = np.abs(merged).max((1, 2, 3) if per_channel else None, keepdims=True) / WEIGHT_LEVELS[bits]
    expected = np.rint(merged / step) * step
    np.testing.assert_allclose(seen[0].numpy() * factor, expected, atol=1e-6 * np.abs(expected).max())
    assert np.abs(expected / step).max() == pytest.approx(WEIGHT_LEVELS[bits])


def test_gradients_pass_within_the_range_and_reach_the_parameters_themselves() -> None:
    convolution = nn.Conv2d(3, 1, 1, bias=False)
    network = nn.Sequential(convolution)
    rounding = FakeQuantization(network, weight_bits=8, per_channel=True)
    rounding.calibrate([torch.ones(1, 3, 2, 2)])
    rounding.enabled = True
    image = torch.full((1, 3, 1, 3), 0.501)
    image[..., 2] = 1.5  # beyond what was seen
    image.requires_grad_()
    network(image).sum().backward()
    weight = convolution.weight
    assert image.grad is not None
    assert weight.grad is not None
    assert (image.grad[..., :2] != 0).all()
    assert (image.grad[..., 2] == 0).all()
    rounded = [round(value * 255) / 255 for value in (0.501, 0.501, 1.0)]
    torch.testing.assert_close(weight.grad.flatten(), torch.full((3,), sum(rounded)))


def test_training_with_fast_depthwise_kernels_keeps_the_statistics_of_exact_weights() -> None:
    """What the file's corrected biases take back must not have been learnt by the BatchNorms as well."""
    statistics = []
    for enabled in (False, True):
        network = Inverted()
        replace_depthwise_convs(network)
        assert isinstance(network.depthwise, DepthwiseConv2d)
        rounding = FakeQuantization(network, weight_bits=7, per_channel=False)
        images = torch.cat([batch(image) for image in IMAGES])
        for _ in range(2):  # the second with ranges and means of the first's statistics
            rounding.enabled = False
            network.train().forward(images)
            rounding.calibrate([images])
        rounding.enabled = enabled
        network.norm.momentum = 1.0
        torch.autograd.backward(network.train().forward(images).sum())
        assert network.depthwise.weight.grad is not None
        assert network.norm.running_mean is not None
        statistics.append(network.norm.running_mean)
    spread = statistics[0].std()
    assert (statistics[1] - statistics[0]).abs().max() < 0.1 * spread


def test_removed_it_leaves_the_network_as_it_was() -> None:
    network = Inverted().train()
    network.norm.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    exact = logits_of(network.eval())
    network.train()
    network.norm.eval()
    rounding = FakeQuantization(network, weight_bits=7, per_channel=False)
    rounding.calibrate(map(batch, IMAGES))
    assert (network.training, network.norm.training, network.stem.training) == (True, False, True)
    rounding.enabled = True
    network.eval()
    assert rms(logits_of(network), exact) > 0
    rounding.remove()
    assert logits_of(network)[0].tobytes() == exact[0].tobytes()
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_call_that_fails_leaves_the_parameters_visible() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    rounding = FakeQuantization(network, weight_bits=7, per_channel=True)
    rounding.calibrate([torch.rand(1, 3, 4, 4)])
    rounding.enabled = True
    with pytest.raises(RuntimeError):
        network(torch.rand(1, 4, 4, 4))
    assert network[0].weight is network[0].get_parameter("weight")
    assert network[0].bias is network[0].get_parameter("bias")


def test_a_channel_that_its_norm_silences_and_a_map_of_zeros_stay_finite() -> None:
    network = Inverted().eval()
    with torch.no_grad():
        network.norm.weight[0] = 0
        network.depthwise.weight[1] = 0
    rounding = FakeQuantization(network, weight_bits=7, per_channel=True)
    rounding.calibrate([torch.zeros(1, 3, 8, 8)])
    rounding.enabled = True
    assert network(torch.rand(1, 3, 8, 8)).isfinite().all()
