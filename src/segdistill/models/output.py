"""Logits at a network's own stride."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from segdistill.utils.errors import UserError, first_line

PROBE_SIZE = (75, 98)


@runtime_checkable
class HasLowresLogits(Protocol):
    """A network that can return its logits before they are resized to the image."""

    def lowres_logits(self, image: Tensor) -> Tensor:
        """Compute logits [B, C, h, w] of images float32 [B, 3, H, W]."""


def lowres_logits(network: nn.Module, image: Tensor) -> Tensor:
    """Compute logits [B, C, h, w] at the network's own stride if it supports that, otherwise at the image's size.

    Args:
        network: Network with `forward(image) -> logits [B, C, H, W]`.
        image: Images float32 [B, 3, H, W].
    """
    logits: Tensor = network.lowres_logits(image) if isinstance(network, HasLowresLogits) else network(image)
    return logits


def cell_multiple(*networks: nn.Module) -> int:
    """Return the number that the sides of an image have to be divisible by to be whole cells for all networks.

    A network states its own as `multiple_of`; one without it stretches its logits, and is right at any size.
    """
    return math.lcm(*(int(getattr(network, "multiple_of", 1)) for network in networks))


@contextmanager
def evaluated(network: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, and restore the mode of each of its modules afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@torch.no_grad()
def class_count(network: nn.Module) -> int:
    """Return the number of classes that a network predicts, the channels of its logits for a small image."""
    with evaluated(network):
        logits: Tensor = network(torch.zeros(1, 3, *PROBE_SIZE))
    return logits.shape[1]


@torch.no_grad()
def validate_output_shape(network: nn.Module, num_classes: int | None, name: str) -> None:
    """Check a network's logits for a small image whose sides are not powers of two.

    Args:
        network: Network to run; left unchanged.
        num_classes: Number of classes C of the data; None accepts any.
        name: Name of the network for error messages.

    Raises:
        UserError: If the network fails, or its logits are not [1, C, H, W].
    """
    size = f"{PROBE_SIZE[0]} x {PROBE_SIZE[1]}"
    with evaluated(network):
        try:
            logits = network(torch.zeros(1, 3, *PROBE_SIZE))
        except Exception as error:  # a network may reject a size in any way
            raise UserError(
                f"{name}: fails on an image of {size} ({first_line(error)}); networks that take multiples "
                "of 32 alone need `multiple_of: 32` of segdistill.models.SegmentationModelAdapter"
            ) from error
    found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    classes = num_classes or (found[1] if isinstance(found, list) and len(found) > 1 else "C")
    if found != [1, classes, *PROBE_SIZE]:
        wanted = f"[1, {classes}, {PROBE_SIZE[0]}, {PROBE_SIZE[1]}]"
        raise UserError(
            f"{name}: of an image of {size} it gives {found}, not logits {wanted}; "
            "segdistill.models.SegmentationModelAdapter adapts networks that were written elsewhere"
        )
