"""Layers that train faster, with the same weights and results."""

from __future__ import annotations

from torch import nn

from segdistill.models.cpu_depthwise import replace_depthwise_convs

CLONING = (nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.Mish)
"""Activations whose gradient needs their input: in place, PyTorch first clones it. ReLU6 is a Hardtanh."""


def use_fast_layers(network: nn.Module) -> None:
    """Turn depthwise convolutions into `DepthwiseConv2d`, and let no activation clone its input; changes the network.

    Args:
        network: Network that will be trained.
    """
    replace_depthwise_convs(network)
    for module in network.modules():
        if isinstance(module, CLONING):
            module.inplace = False
