"""The loss against the labels, chosen by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from segdistill.losses.functional import cross_entropy, focal

SupervisedLoss = Callable[[Tensor, Tensor], Tensor]


def supervised_loss(name: str, gamma: float) -> SupervisedLoss:
    """Returns a function (logits [B, C, H, W], target int64 [B, H, W]) -> scalar.

    Args:
        name: "focal" or "cross_entropy".
        gamma: Of the focal loss.
    """
    losses: dict[str, SupervisedLoss] = {"focal": partial(focal, gamma=gamma), "cross_entropy": cross_entropy}
    return losses[name]
