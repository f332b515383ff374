"""Sample and DatasetIndex: labelled image files by split, the common form of all data sources."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segdistill.config.data import UNLABELLED
from segdistill.data.labels import LabelSet, MaskCoding
from segdistill.data.measures import Measures, total_pixels
from segdistill.utils.image import read_rgb
from segdistill.utils.preprocessing import Preprocessing


@dataclass(frozen=True)
class Sample:
    """An image and its mask on disk; `mask` is None if the image is unlabelled."""

    image: Path
    mask: Path | None

    def read_image(self, at_least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Read the image as uint8 [H, W, 3] RGB: upright, or as it is stored where its mask fits that alone.

        Args:
            at_least: [H, W] that suffices, so that a larger JPEG file may be decoded at a reduced size.

        Raises:
            ImageError: If the file, or the header of its mask, cannot be read as an image.
        """
        return read_rgb(self.image, self.mask, at_least)


class Source(ABC):
    """Base of the data sources that a configuration names under `data.source`; its options are their arguments."""

    @abstractmethod
    def samples(self, cache_dir: Path) -> dict[str, list[Sample]]:
        """Find the files, in the same order every time; all else, their check too, is done with what is returned.

        Args:
            cache_dir: Where a source that has to unpack or convert something may put it.

        Returns:
            The samples of `train`, `val` and, where there is one, `test`. Masks are files whose values or colours
            `data.classes` and `data.void` name; None stands for a mask in `train` alone.

        Raises:
            UserError: If there is something that the user has to mend.
        """


@dataclass(frozen=True)
class DatasetIndex:
    """A checked dataset.

    Attributes:
        name: Name of the dataset in metadata and logs.
        labels: Names and colours of the classes.
        splits: Samples of `train`, `val` and, if there is one, `test`.
        coding: What the pixels of the mask files mean.
        fingerprint: Hash that changes when any decoded image, mask or class changes.
        labelled_fingerprint: Fingerprint of the same dataset without its unlabelled training images; may be empty.
        measures: Measures of the samples, by which nothing is decoded again that a check has decoded; may be empty.
        skipped: Split -> one line for each file of it that `data.on_bad=skip` left out.
    """

    name: str
    labels: LabelSet
    splits: dict[str, list[Sample]]
    coding: MaskCoding
    fingerprint: str
    labelled_fingerprint: str = ""
    measures: Mapping[Sample, Measures] = field(default_factory=dict, repr=False)
    skipped: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)

    @property
    def eval_split(self) -> str:
        """The split that results are reported on: `test`, or `val` without a test split."""
        return "test" if "test" in self.splits else "val"

    def split_fingerprint(self, split: str, preprocessing: Preprocessing) -> str | None:
        """Return a hash of one split's images and classes as networks see them; None where one has no measures."""
        measures = [self.measures.get(sample) for sample in self.splits[split]]
        decoded = [(each.image, each.mask) for each in measures if each is not None]
        if len(decoded) < len(measures):
            return None
        identity = json.dumps([decoded, self.coding.key, asdict(preprocessing)])
        return hashlib.sha256(identity.encode()).hexdigest()[:16]

    def overfitting(self) -> DatasetIndex:
        """Return a copy in which every other split holds the labelled training images."""
        labelled = [sample for sample in self.splits["train"] if sample.mask is not None]
        return self._with({**dict.fromkeys(self.splits, labelled), "train": self.splits["train"]}, "overfitting")

    def limited(self, count: int) -> DatasetIndex:
        """Return a copy with at most `count` images of each split, evenly spaced."""
        splits = {}
        for name, samples in self.splits.items():
            kept = min(count, len(samples))
            splits[name] = [samples[index * len(samples) // kept] for index in range(kept)]
        return self._with(splits, str(count))

    @property
    def unlabelled(self) -> int:
        """Number of training images without a mask."""
        return sum(sample.mask is None for sample in self.splits["train"])

    def without_labels(self, count: int) -> DatasetIndex:
        """Return a copy without the masks of `count` training images; the remaining masks are evenly spaced."""
        samples = self.splits["train"]
        kept = {index * len(samples) // (len(samples) - count) for index in range(len(samples) - count)}
        train = [sample if index in kept else replace(sample, mask=None) for index, sample in enumerate(samples)]
        rest = _changed(self.labelled_fingerprint or self.fingerprint, f"{count} left out")
        return replace(self._with({**self.splits, "train": train}, f"{count} unlabelled"), labelled_fingerprint=rest)

    def labelled(self) -> DatasetIndex:
        """Return the dataset without its unlabelled training images."""
        if not self.unlabelled:
            return self
        train = [sample for sample in self.splits["train"] if sample.mask is not None]
        fingerprint = self.labelled_fingerprint or _changed(self.fingerprint, "labelled")
        return replace(self, splits={**self.splits, "train": train}, fingerprint=fingerprint)

    def _with(self, splits: dict[str, list[Sample]], change: str) -> DatasetIndex:
        labelled = self.labelled_fingerprint and _changed(self.labelled_fingerprint, change)
        fingerprint = _changed(self.fingerprint, change)
        return replace(self, splits=splits, fingerprint=fingerprint, labelled_fingerprint=labelled)

    def class_pixels(self, split: str, seen: float = 1.0) -> NDArray[np.int64]:
        """Count the pixels of each class in the upper rows of all masks of a split, int64 [C].

        Masks are decoded where only a part of their rows counts, or where they have no measures.

        Args:
            split: Name of the split.
            seen: Share of the rows that counts, from 0 to 1.
        """
        labelled = [sample for sample in self.splits[split] if sample.mask is not None]
        known = self.measures if seen == 1 else {}
        pixels = total_pixels(known[sample] for sample in labelled if sample in known)
        for mask in (each.mask for each in labelled if each.mask is not None and each not in known):
            ids = self._ids(mask)
            pixels += np.bincount(ids[: round(seen * len(ids))].ravel(), minlength=256)
        return pixels[: len(self.labels)]

    def read(
        self, split: str, index: int, at_least: tuple[int, int] | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Read a sample's image, uint8 [H, W, 3], and class ids, uint8 [H, W], all UNLABELLED if it has no mask.

        Args:
            split: Name of the split.
            index: Index of the sample in the split.
            at_least: [H, W] that suffices for the image, which may be smaller than its mask then.
        """
        sample = self.splits[split][index]
        image = sample.read_image(at_least)
        if sample.mask is None:
            return image, np.full(image.shape[:2], UNLABELLED, np.uint8)
        return image, self._ids(sample.mask)

    def _ids(self, mask: Path) -> NDArray[np.uint8]:
        """Read the class ids of a mask, uint8 [H, W]."""
        return self.coding.class_ids(self.coding.read(mask)).astype(np.uint8)


def _changed(fingerprint: str, change: str) -> str:
    return hashlib.sha256(f"{fingerprint} {change}".encode()).hexdigest()
