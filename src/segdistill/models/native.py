"""Logits at a network's own stride."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from segdistill.errors import UserError

PROBE_SIZE = (75, 98)


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


@torch.no_grad()
def check_logits(network: nn.Module, num_classes: int, name: str) -> None:
    """Tries a network on a small picture whose sides are no powers of two.

    Args:
        network: Left as it is.
        num_classes: C, of the data.
        name: Of the network, for the error.

    Raises:
        UserError: If its logits are not [1, C, H, W].
    """
    was_training = network.training
    logits = network.eval()(torch.zeros(1, 3, *PROBE_SIZE))
    network.train(was_training)
    found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if found != [1, num_classes, *PROBE_SIZE]:
        wanted = f"[1, {num_classes}, {PROBE_SIZE[0]}, {PROBE_SIZE[1]}]"
        raise UserError(
            f"{name}: of a picture of {PROBE_SIZE[0]} x {PROBE_SIZE[1]} it gives {found}, not logits {wanted}; "
            "segdistill.models.External adapts networks that were written elsewhere"
        )
