"""Layers that train faster, or without a crash, with the same weights and results."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segdistill.models.cpu_depthwise import replace_depthwise_convs

CLONING = (nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.Mish)
"""Activations whose gradient needs their input: in place, PyTorch first clones it. ReLU6 is a Hardtanh."""

FEW_CHANNELS = 8
"""Number of input channels from which the gradient is safe; see `SubsampledConv2d`."""


class SubsampledConv2d(nn.Conv2d):
    """A 1 x 1 convolution with a stride, of an image: the branch in the stem of RepVGG and MobileOne.

    oneDNN's gradient of its weights ends the process on CPUs with AVX2 if maps are channels-last and channels few.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolve [B, C, H, W], of which only the pixels that the kernel meets are read."""
        if not torch.is_grad_enabled() or torch.compiler.is_exporting():
            return super().forward(input)
        return F.conv2d(input[..., :: self.stride[0], :: self.stride[1]], self.weight, self.bias)


def use_fast_layers(network: nn.Module) -> None:
    """Turn depthwise convolutions into `DepthwiseConv2d`, and let no activation clone its input; changes the network.

    Strided 1 x 1 convolutions of few channels become `SubsampledConv2d`.

    Args:
        network: Network that will be trained.
    """
    replace_depthwise_convs(network)
    for module in network.modules():
        if isinstance(module, CLONING):
            module.inplace = False
        elif type(module) is nn.Conv2d and _is_subsampling(module):
            module.__class__ = SubsampledConv2d


def _is_subsampling(module: nn.Conv2d) -> bool:
    pointwise = module.kernel_size == (1, 1) and module.padding == (0, 0) and module.groups == 1
    return pointwise and module.stride != (1, 1) and module.in_channels < FEW_CHANNELS
