"""Which pictures are in which batch."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import RandomSampler


class RememberedShuffle(RandomSampler):
    """A shuffle that can be looked up while its epoch goes on: batches come in order, whoever loads them.

    Attributes:
        order: The indices of the epoch.
    """

    order: list[int] = []  # noqa: RUF012 # replaced, never changed

    def __iter__(self) -> Iterator[int]:
        self.order = list(super().__iter__())
        return iter(self.order)
