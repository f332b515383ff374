"""Layers that train faster: what they compute stays the same."""

import pytest
import torch
from torch import Tensor, nn

from segdistill.benchmarks.operators import OperatorClock
from segdistill.models import DeepLabV3
from segdistill.models.cpu_depthwise import DepthwiseConv2d
from segdistill.models.fast_layers import CLONING, SubsampledConv2d, use_fast_layers

ACTIVATIONS = [nn.ReLU6, *CLONING]


def normalised(activation: type[nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), activation(inplace=True))


def trained(network: nn.Module, image: Tensor) -> tuple[list[Tensor], int]:
    """Return the output and all gradients, and how many tensors were cloned."""
    with OperatorClock() as clock:
        output = network(4 * image)
        output.square().sum().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return [output.detach(), *gradients], clock.calls["clone"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_do_not_clone_their_input_and_compute_the_same(activation: type[nn.Module]) -> None:
    image = torch.randn(2, 3, 9, 7)
    expected, clones = trained(normalised(activation), image)
    network = normalised(activation)
    use_fast_layers(network)
    found, left = trained(network, image)
    assert (clones, left) == (1, 0)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))


def test_activations_that_keep_their_output_alone_stay_in_place() -> None:
    network = normalised(nn.ReLU)
    use_fast_layers(network)
    assert network[2].inplace
    assert not trained(network, torch.randn(2, 3, 9, 7))[1]


def test_no_layer_of_the_default_student_clones_an_activation() -> None:
    network = DeepLabV3(5, pretrained=False)
    use_fast_layers(network)
    assert any(isinstance(module, DepthwiseConv2d) for module in network.modules())
    with OperatorClock() as clock:
        network(torch.rand(2, 3, 33, 47))
    assert not clock.calls["clone"]


@pytest.mark.parametrize("size", [(64, 64), (33, 46), (1, 5)])
def test_strided_pointwise_convolutions_of_an_image_have_the_gradients_of_a_sum(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 48, 1, stride=2)).to(memory_format=torch.channels_last)
    use_fast_layers(network)
    assert type(network[0]) is SubsampledConv2d
    image = torch.randn(4, 3, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    output = network(image)
    gradient = torch.randn_like(output)
    output.backward(gradient)
    seen = image.detach()[..., ::2, ::2]
    assert image.grad is not None
    assert network[0].weight.grad is not None
    expected = torch.einsum("nohw,nihw->oi", gradient.double(), seen.double()).float()
    torch.testing.assert_close(network[0].weight.grad[..., 0, 0], expected, rtol=1e-4, atol=1e-4)
    spread = torch.einsum("nohw,oi->nihw", gradient, network[0].weight.detach()[..., 0, 0])
    torch.testing.assert_close(image.grad[..., ::2, ::2], spread)
    assert not image.grad[..., 1::2, :].any()
    with torch.no_grad():
        torch.testing.assert_close(network(image), output)


def test_a_mobileone_student_trains() -> None:
    torch.manual_seed(0)
    network = DeepLabV3(5, "mobileone_s0", pretrained=False).train().to(memory_format=torch.channels_last)
    use_fast_layers(network)
    image = torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    network(image).square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_other_convolutions_stay_as_they_are() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, stride=2), nn.Conv2d(64, 4, 1, stride=2))
    use_fast_layers(network)
    assert {type(layer) for layer in network} == {nn.Conv2d}
