"""Depthwise convolutions: the quick backward pass against autograd's own, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.cpu_depthwise import DepthwiseConv2d, replace_depthwise_convs

CHANNELS = 8
# kernel, stride, padding, dilation: those of EfficientNets and MobileNets at both output strides, and odd ones
GEOMETRIES = [
    (3, 1, 1, 1),
    (3, 2, 1, 1),
    (5, 1, 2, 1),
    (5, 2, 2, 1),
    (7, 1, 3, 1),
    (3, 1, 2, 2),
    (5, 1, 4, 2),
    (5, 1, 8, 4),
    (3, 2, 2, 2),
    (3, 1, 1, 2),
    (5, 1, 0, 1),
    (3, 3, 0, 1),
]
SIZES = [(2, 13, 18), (1, 12, 17), (2, 5, 9), (1, 6, 5)]


def convolution(kernel: int, stride: int, padding: int, dilation: int) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, padding, dilation, groups=CHANNELS, bias=False)


def reference(image: Tensor, module: nn.Conv2d, upstream: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Output, the input's gradient and the weight's, by autograd in float64 on contiguous tensors."""
    exact = image.detach().double().contiguous().requires_grad_()
    weight = module.weight.detach().double().requires_grad_()
    output = F.conv2d(exact, weight, None, module.stride, module.padding, module.dilation, module.groups)
    upstream = torch.ones_like(output) if upstream is None else upstream.double().contiguous()
    of_image, of_weight = torch.autograd.grad(output, (exact, weight), upstream)
    return output.detach(), of_image, of_weight


def quickened(module: nn.Conv2d) -> nn.Module:
    network = nn.Sequential(module)
    replace_depthwise_convs(network)
    assert type(network[0]) is DepthwiseConv2d
    return network


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_result_and_gradients_equal_autograds(
    geometry: tuple[int, int, int, int], size: tuple[int, int, int], memory_format: torch.memory_format
) -> None:
    module = convolution(*geometry)
    batch, height, width = size
    image = torch.randn(batch, CHANNELS, height, width).contiguous(memory_format=memory_format).requires_grad_()
    output = quickened(module)(image)
    upstream = torch.randn_like(output)
    expected = reference(image, module, upstream)
    found = output, *torch.autograd.grad(output, (image, module.weight), upstream)
    for mine, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 9), (2, 3), (1, 1)])
@pytest.mark.parametrize("geometry", [(3, 1, 2, 2), (5, 1, 4, 2), (3, 1, 4, 4)])
def test_images_smaller_than_the_dilation_have_gradients(
    geometry: tuple[int, int, int, int], height: int, width: int
) -> None:
    module = convolution(*geometry)
    image = torch.randn(1, CHANNELS, height, width, requires_grad=True)
    output = quickened(module)(image)
    found = output, *torch.autograd.grad(output.sum(), (image, module.weight))
    for mine, exact in zip(found, reference(image, module), strict=True):
        torch.testing.assert_close(mine.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_mixed_precision_rounds_the_images_and_not_the_weight_gradient(
    geometry: tuple[int, int, int, int],
) -> None:
    module = convolution(*geometry)
    image = torch.randn(2, CHANNELS, 13, 18).bfloat16().contiguous(memory_format=torch.channels_last)
    image.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output = quickened(module)(image)
    assert output.dtype == torch.bfloat16
    upstream = torch.randn_like(output)
    of_image, of_weight = torch.autograd.grad(output, (image, module.weight), upstream)
    assert (of_image.dtype, of_weight.dtype) == (torch.bfloat16, torch.float32)
    exact, exact_of_image, exact_of_weight = reference(image, module, upstream)
    for mine, expected in ((output, exact), (of_image, exact_of_image)):  # rounded weights, rounded results
        torch.testing.assert_close(mine.double(), expected, rtol=2**-8, atol=2**-6)
    torch.testing.assert_close(of_weight.double(), exact_of_weight, rtol=1e-5, atol=1e-4)


def test_only_what_is_wanted_gets_a_gradient() -> None:
    module = convolution(3, 1, 1, 1)
    network, image = quickened(module), torch.randn(1, CHANNELS, 5, 5)
    network(image).sum().backward()
    assert image.grad is None
    assert module.weight.grad is not None
    module.requires_grad_(False)
    module.weight.grad = None
    network(image.requires_grad_()).sum().backward()
    assert module.weight.grad is None
    assert image.grad is not None
    torch.testing.assert_close(image.grad.double(), reference(image, module)[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(8, 8, 3),
        nn.Conv2d(8, 8, 3, groups=4),
        nn.Conv2d(8, 16, 3, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 1, groups=8, bias=False),
        nn.Conv2d(8, 8, 4, groups=8, bias=False),
        nn.Conv2d(8, 8, (3, 5), groups=8, bias=False),
        nn.Conv2d(8, 8, 3, stride=(1, 2), groups=8, bias=False),
        nn.Conv2d(8, 8, 3, padding="same", groups=8, bias=False),
        nn.Conv2d(8, 8, 3, padding=3, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect", groups=8, bias=False),
    ],
)
def test_other_convolutions_stay_what_they_are(module: nn.Conv2d) -> None:
    replace_depthwise_convs(nn.Sequential(module))
    assert type(module) is nn.Conv2d
