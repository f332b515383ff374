"""Training order and augmentation that depend only on seed, epoch and image.

An interrupted and resumed run therefore sees the same data as an uninterrupted one, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

Seeded = tuple[int, int, int]
"""Index of a sample, seed of its augmentation, and epoch."""


def derived_seed(*parts: int) -> int:
    """Derive a seed from 0 to 2**32 - 1 from non-negative integers; different integers give independent seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def mixed(labelled: Sequence[bool], share: float, seed: int) -> list[tuple[int, int]]:
    """Choose the images of an epoch, as many as there are, of which a share has labels.

    Of each kind, every image is taken as often as every other one, or once more.

    Args:
        labelled: Whether each image has labels; some must have, and some not.
        share: Share of the epoch that has labels, between 0 and 1.
        seed: Seed of the choice.

    Returns:
        For each place of the epoch, an image's index, and how often it was taken before.
    """
    rng, kinds = np.random.default_rng(seed), np.array(labelled)
    with_labels = round(share * len(kinds))
    places = []
    for kind, count in ((True, with_labels), (False, len(kinds) - with_labels)):
        members = np.flatnonzero(kinds == kind)
        rounds = -(-count // len(members))
        taken = [(int(index), before) for before in range(rounds) for index in rng.permutation(members)]
        places += taken[:count]
    return places


class SeededSampler(DistributedSampler[Seeded]):
    """Sampler that shuffles by seed and epoch, and gives every sample a seed for its augmentation.

    Lightning sets the epoch, because this is a DistributedSampler.

    Args:
        dataset: Dataset with a length.
        seed: Seed of the run.
        rank: Rank of this process.
        processes: Number of processes that share the dataset.
        first_epoch: First epoch after a start or a resume; a resumed fit loads batches before Lightning knows its
            epoch.
        labelled: Whether each image has labels, and the share of every epoch that has; None takes each image once.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        seed: int,
        *,
        rank: int = 0,
        processes: int = 1,
        first_epoch: int = 0,
        labelled: tuple[Sequence[bool], float] | None = None,
    ) -> None:
        super().__init__(dataset, num_replicas=processes, rank=rank, shuffle=True, seed=seed)
        self.first_epoch = self.epoch = first_epoch
        self.labelled = labelled

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, at least `first_epoch`."""
        super().set_epoch(max(epoch, self.first_epoch))

    def __iter__(self) -> Iterator[Seeded]:
        chosen = mixed(*self.labelled, derived_seed(self.seed, self.epoch)) if self.labelled else None
        for place in super().__iter__():
            number = int(place)  # type: ignore[call-overload] # an index
            index, before = chosen[number] if chosen else (number, 0)
            parts = (index, before) if before else (index,)
            yield index, derived_seed(self.seed, self.epoch, *parts), self.epoch


class SeededDataset(Dataset[Any]):
    """A dataset whose random transforms start from a given seed; the caller's random state is left unchanged.

    Args:
        dataset: Dataset with a length that uses no random generator but torch's.
        later: Dataset of the same samples, which takes its place from an epoch on.
        later_from: That epoch.
    """

    def __init__(self, dataset: Dataset[Any], later: Dataset[Any], later_from: int) -> None:
        self.dataset, self.later, self.later_from = dataset, later, later_from

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type] # sized

    def __getitem__(self, key: Seeded) -> Any:
        index, seed, epoch = key
        dataset = self.later if epoch >= self.later_from else self.dataset
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return dataset[index]
