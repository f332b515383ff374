"""Scores of masks: confusion matrices and agreements, accumulated so that no mask has to be kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def count(predicted: NDArray[np.uint8], truth: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Return the confusion matrix of one mask, int64 [C, C], rows are the truth; void pixels are left out."""
    valid = truth < num_classes
    cells = num_classes * truth[valid].astype(np.int64) + predicted[valid]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


class MaskScores:
    """Accumulates the masks of several backends, one round of images at a time.

    Within a round, every backend adds its masks once, references first (see `order`); only the references' masks are
    kept, and only until the round ends.

    Args:
        references: For each backend, the index of the backend it is compared with: its own index for a reference,
            None if there is no such backend.
        num_classes: Number of classes C of the confusion matrices.

    Attributes:
        confusions: Confusion matrix of each backend, int64 [C, C], rows are the truth.
        differences: For each image, the share of pixels in which the first two references differ.
    """

    def __init__(self, references: Sequence[int | None], num_classes: int) -> None:
        self.references, self.num_classes = references, num_classes
        self.confusions = [np.zeros((num_classes, num_classes), np.int64) for _ in references]
        self.differences: list[float] = []
        self._pixels, self._compared, self._agreeing = ([0] * len(references) for _ in range(3))
        self._held: dict[int, NDArray[np.uint8]] = {}

    @property
    def order(self) -> list[int]:
        """Indices of the backends in the order in which they add their masks."""
        return sorted(range(len(self.references)), key=lambda place: self.references[place] != place)

    def add(self, place: int, masks: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Count one backend's masks of this round.

        Args:
            place: Index of the backend.
            masks: Predicted class ids, uint8 [n, H, W].
            truth: True class ids, uint8 [n, H, W]; pixels without a class count only for the agreement.
        """
        for predicted, expected in zip(masks, truth, strict=True):
            self.confusions[place] += count(predicted, expected, self.num_classes)
        self._pixels[place] += masks.size
        reference = self.references[place]
        if reference == place:
            self._held[place] = masks
        if reference in self._held:
            self._compared[place] += masks.size
            self._agreeing[place] += int(np.count_nonzero(masks == self._held[reference]))

    def end_round(self) -> None:
        """Compare the references with each other and discard their masks."""
        if len(self._held) > 1:
            one, other, *_ = (self._held[place] for place in sorted(self._held))
            self.differences += [float(np.mean(mine != theirs)) for mine, theirs in zip(one, other, strict=True)]
        self._held.clear()

    def agreement(self, place: int) -> float | None:
        """Return the share of pixels with the reference's class; None if some could not be compared."""
        complete = 0 < self._pixels[place] == self._compared[place]
        return self._agreeing[place] / self._pixels[place] if complete else None
