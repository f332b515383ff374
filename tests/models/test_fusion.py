"""Folded networks: the same logits, fewer layers, and a network that is left alone where folding would change it."""

from collections.abc import Callable

import pytest
import torch
from timm.models.byobnet import MobileOneBlock, RepVggBlock
from torch import Tensor, nn

from segdistill.models import DeepLabV3Plus
from segdistill.models.fusion import deployed, fuse_conv_bn
from segdistill.models.output import lowres_logits


def lived(network: nn.Module) -> nn.Module:
    """Gives every BatchNorm statistics and weights that are not those of its birth."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_mean, -0.5)):
                assert tensor is not None
                tensor.data.uniform_(low, low + 1, generator=generator)
            assert module.running_var is not None
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize("backbone", ["mobilenetv2_100", "resnet18"])
@torch.no_grad()
def test_a_teacher_keeps_its_logits_and_loses_its_batchnorms(backbone: str) -> None:
    torch.manual_seed(0)
    network = lived(DeepLabV3Plus(3, backbone, pretrained=False))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    image = torch.rand(2, 3, 49, 66)
    quick = fuse_conv_bn(network, image)
    assert norms(network) > 20
    assert norms(quick) == 0
    expected = lowres_logits(network, image)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(lowres_logits(quick, image), expected, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@torch.no_grad()
def test_folding_is_not_disturbed_by_mixed_precision_around_it() -> None:
    network = lived(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    image = torch.rand(1, 3, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        quick = fuse_conv_bn(network, image)
    assert norms(quick) == 0
    torch.testing.assert_close(quick(image), network(image), rtol=1e-5, atol=1e-5)


class Branching(nn.Module):
    """Something else reads what the BatchNorm reads."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Tensor:
        features = self.convolution(image)
        return torch.cat([features, self.norm(features)], dim=1)


class TwoNorms(Branching):
    """Two BatchNorms read one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Tensor:
        features = self.convolution(image)
        total: Tensor = self.norm(features) + 2 * self.second(features)
        return total


class CalledTwice(Branching):
    """One convolution runs on two inputs."""

    def forward(self, image: Tensor) -> Tensor:
        total: Tensor = self.norm(self.convolution(image)) + self.convolution(image.flip(3))
        return total


class NormFirst(Branching):
    """The BatchNorm reads no convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.convolution(self.norm(image))
        return features


class BatchStatistics(Branching):
    """The BatchNorm has no running statistics to fold."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.norm(self.convolution(image))
        return features


@torch.no_grad()
def test_tapped_batchnorms_and_convolutions_are_not_folded() -> None:
    network = lived(DeepLabV3Plus(3, "mobilenetv2_100", pretrained=False))
    image, inner = torch.rand(1, 3, 49, 66), "backbone.features.bn1.act"
    assert norms(fuse_conv_bn(network, image, keep=[inner])) == 1
    stem = lived(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)))
    assert fuse_conv_bn(stem, image, keep=["0"]) is stem


@pytest.mark.parametrize("build", [Branching, TwoNorms, CalledTwice, NormFirst, BatchStatistics])
@torch.no_grad()
def test_unfoldable_batchnorms_keep_the_logits(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network, image = build(), torch.rand(1, 3, 7, 6)
    if build is not BatchStatistics:
        lived(network)
    quick = fuse_conv_bn(network.eval(), image)
    assert norms(quick) == norms(network)
    assert torch.equal(quick(image), network(image))


@pytest.mark.parametrize("block", [RepVggBlock, MobileOneBlock])
@torch.no_grad()
def test_deployed_blocks_of_timm_are_one_convolution_each(block: Callable[[int, int], nn.Module]) -> None:
    torch.manual_seed(0)
    network = lived(nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), block(8, 8), nn.Conv2d(8, 4, 1)))
    quick, image = deployed(network.double()), torch.rand(2, 3, 20, 31)
    assert sum(isinstance(module, nn.Conv2d) for module in quick.modules()) == 3
    assert norms(quick) == 0
    assert norms(network) > 2
    torch.testing.assert_close(quick(image), network(image.double()).float(), rtol=1e-4, atol=1e-4)


class Confused(nn.Sequential):
    """Fails to merge its layers, when one of them is gone."""

    def reparameterize(self) -> None:
        del self[1]
        raise RuntimeError


def test_a_network_that_fails_to_merge_is_exported_as_it_is() -> None:
    network = Confused(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    assert deployed(network) is network
    assert len(network) == 2
    assert network.training


class Named(nn.Module):
    """Has a layer where others have the method."""

    def __init__(self) -> None:
        super().__init__()
        self.reparameterize = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.reparameterize(image)
        return logits


def test_a_layer_with_the_name_of_the_method_is_not_called() -> None:
    assert norms(deployed(lived(Named()))) == 0
