"""A teacher with more classes than its student."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segdistill.models.output import cell_multiple, lowres_logits


class ClassRemap(nn.Module):
    """A network whose classes are merged into fewer ones.

    The logit of a merged class is the log-sum-exp of its members' logits, so that probabilities add up. Classes in no
    group are left out, and the other classes share their probability in proportion.

    Args:
        network: Network with `forward(image) -> logits [B, N, H, W]`.
        groups: Class ids of the network, below N, that become class 0, 1, ...
    """

    def __init__(self, network: nn.Module, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.network, self.groups = network, [list(group) for group in groups]

    @property
    def multiple_of(self) -> int:
        """Number that the sides of an image have to be divisible by, so that it is a whole number of cells."""
        return cell_multiple(self.network)

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits [B, len(groups), H, W] of images float32 [B, 3, H, W]."""
        return self._merged(self.network(image))

    def lowres_logits(self, image: Tensor) -> Tensor:
        """Compute logits [B, len(groups), h, w] at the network's own stride."""
        return self._merged(lowres_logits(self.network, image))

    def _merged(self, logits: Tensor) -> Tensor:
        return torch.stack([logits[:, group].float().logsumexp(dim=1) for group in self.groups], dim=1)
