"""Logits at a network's own stride."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class HasNativeLogits(Protocol):
    """A network that can give its logits before they are resized to the image."""

    def native_logits(self, image: Tensor) -> Tensor:
        """Returns logits [B, C, h, w] of float32 [B, 3, H, W]."""


def native_logits(network: nn.Module, image: Tensor) -> Tensor:
    """Returns logits [B, C, h, w]: at the network's own stride where it can tell, otherwise at the image's size.

    Args:
        network: `forward(image) -> logits [B, C, H, W]`.
        image: float32 [B, 3, H, W].
    """
    logits: Tensor = network.native_logits(image) if isinstance(network, HasNativeLogits) else network(image)
    return logits
