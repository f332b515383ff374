"""Depthwise convolutions that a CPU can train in mixed precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution that stays in float32 under bf16 autocast on a CPU.

    oneDNN's bf16 backward pass of depthwise kernels is several times slower than its float32 one, and takes most
    of a training step of an EfficientNet or MobileNet; everything else gains from bf16.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Convolves [B, C, H, W]; the output has the input's dtype."""
        if input.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.float()).to(input.dtype)
        return super().forward(input)


def keep_depthwise_in_float32(network: nn.Module) -> None:
    """Turns every depthwise convolution of a network into a DepthwiseConv2d, in place; weights stay as they are."""
    for module in network.modules():
        if type(module) is nn.Conv2d and 1 < module.groups == module.in_channels:
            module.__class__ = DepthwiseConv2d
