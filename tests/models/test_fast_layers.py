"""Layers that train faster: what they compute stays the same."""

import pytest
import torch
from torch import Tensor, nn

from segdistill.benchmarks.operators import OperatorClock
from segdistill.models import DeepLabV3
from segdistill.models.cpu_depthwise import DepthwiseConv2d
from segdistill.models.fast_layers import CLONING, use_fast_layers

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
