"""Inspects every sample of a dataset once: decoded by all cores, measured, and remembered file by file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from segdistill.config.data import IGNORE_INDEX
from segdistill.data.decoding import measure
from segdistill.data.labels import MaskCoding
from segdistill.data.measures import Measures, total_pixels
from segdistill.data.records import Stamp, recalled, record_path, remember, stamp
from segdistill.data.sources.base import Sample
from segdistill.utils.errors import UserError
from segdistill.utils.hardware import cpu_count
from segdistill.utils.interruption import in_one_piece

PROCESSES_FROM = 1500
"""Number of samples from which processes decode them; a few are done before a process has started."""


@dataclass(frozen=True)
class Entry:
    """A sample of a split, with its measures, or with what is wrong with it.

    Attributes:
        split: Name of the split.
        sample: Its files.
        measures: Measures of the files; None if they cannot be used.
        fault: One line that names the file and why it cannot be used; empty otherwise.
    """

    split: str
    sample: Sample
    measures: Measures | None
    fault: str = ""


@dataclass(frozen=True)
class SplitMeasures:
    """What the usable samples of one split come to.

    Attributes:
        images: Number of usable images.
        labelled: Number of those with a mask.
        faulty: Number of images that cannot be used.
        sizes: Number of images by (height, width), the most frequent first.
        pixels: Pixels of each class, int64 [C].
        void: Pixels that are void.
        holding: Number of images that hold each class, int64 [C].
    """

    images: int
    labelled: int
    faulty: int
    sizes: Mapping[tuple[int, int], int]
    pixels: NDArray[np.int64]
    void: int
    holding: NDArray[np.int64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of each class in the pixels that are not void, float64 [C]; 0 without any."""
        shares: NDArray[np.float64] = self.pixels / max(1, self.pixels.sum())
        return shares

    @property
    def void_share(self) -> float:
        """Share of void in all pixels of the masks; 0 without any."""
        return self.void / max(1, int(self.pixels.sum()) + self.void)


@dataclass(frozen=True)
class Inspection:
    """Every sample of every split, inspected.

    Attributes:
        entries: Samples in the order of the splits.
        classes: Names of the classes by id.
        coding: What the pixels of the masks mean.
    """

    entries: Sequence[Entry]
    classes: Sequence[str]
    coding: MaskCoding = field(repr=False, compare=False)

    @property
    def faults(self) -> list[str]:
        """One line for each sample that cannot be used."""
        return [entry.fault for entry in self.entries if entry.measures is None]

    @property
    def usable(self) -> Inspection:
        """The samples that can be used, without the others."""
        return replace(self, entries=[entry for entry in self.entries if entry.measures is not None])

    @property
    def measures(self) -> dict[Sample, Measures]:
        """Measures of every usable sample."""
        return {entry.sample: entry.measures for entry in self.entries if entry.measures is not None}

    @cached_property
    def splits(self) -> dict[str, SplitMeasures]:
        """What each split comes to, in the order of the splits."""
        names = dict.fromkeys(entry.split for entry in self.entries)
        return {name: self._split([entry for entry in self.entries if entry.split == name]) for name in names}

    def read(self, sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Read a usable sample's image, uint8 [H, W, 3], and its class ids, uint8 [H, W]; None without a mask."""
        ids = None if sample.mask is None else self.coding.class_ids(self.coding.read(sample.mask)).astype(np.uint8)
        return sample.read_image(), ids

    def _split(self, entries: Sequence[Entry]) -> SplitMeasures:
        usable = [entry.measures for entry in entries if entry.measures is not None]
        pixels, count = total_pixels(usable), len(self.classes)
        holding = Counter(index for measures in usable for index in measures.pixels)
        return SplitMeasures(
            images=len(usable),
            labelled=sum(bool(measures.mask) for measures in usable),
            faulty=len(entries) - len(usable),
            sizes=dict(Counter(measures.size for measures in usable).most_common()),
            pixels=pixels[:count],
            void=int(pixels[IGNORE_INDEX]),
            holding=np.array([holding[index] for index in range(count)]),
        )


def inspect(
    splits: Mapping[str, Sequence[Sample]], coding: MaskCoding, classes: Sequence[str], cache_dir: Path
) -> Inspection:
    """Measure every sample; those that can be used are remembered in `cache_dir`, and read again only if they change.

    Args:
        splits: Samples of each split.
        coding: What the pixels of the masks mean.
        classes: Class names by id.
        cache_dir: Folder of the records.
    """
    samples = [(split, sample) for split, part in splits.items() for sample in part]
    distinct = list(dict.fromkeys(sample for _, sample in samples))
    found: dict[Sample, Measures | str] = {}
    stamps: dict[Sample, Stamp] = {}
    for sample in distinct:
        try:
            stamps[sample] = stamp(sample)
        except OSError as error:
            found[sample] = f"{error.filename}: {error.strerror}"
    if stamps:
        record = record_path(list(stamps), coding, cache_dir)
        found |= recalled(record, stamps)
        if len(found) < len(distinct):
            record.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(record.with_suffix(".lock")):  # parallel runs wait for the first of them to read the files
                found |= recalled(record, stamps)
                missing = [sample for sample in stamps if sample not in found]
                try:
                    found.update(_measured_one_by_one(missing, coding))
                finally:  # an interrupted inspection goes on where it was
                    remember(record, stamps, found)
    outcomes = [(split, sample, found[sample]) for split, sample in samples]
    entries = [
        Entry(split, sample, None, outcome) if isinstance(outcome, str) else Entry(split, sample, outcome)
        for split, sample, outcome in outcomes
    ]
    return Inspection(entries, classes, coding)


def _measured_one_by_one(samples: Sequence[Sample], coding: MaskCoding) -> Iterator[tuple[Sample, Measures | str]]:
    """Yield every sample with its measures or its fault, as they are decoded by all cores."""
    pool: Executor
    if len(samples) < PROCESSES_FROM:
        pool = ThreadPoolExecutor(cpu_count())
    else:  # spawned, because forking a process with threads may hang
        pool = ProcessPoolExecutor(cpu_count(), mp_context=get_context("spawn"))
    with pool:
        with in_one_piece():
            results = pool.map(partial(_measured, coding=coding), samples, chunksize=8)
        try:
            console = Console(stderr=True)  # the output of a command is what it found
            shown = track(results, "Checking images and masks", total=len(samples), transient=True, console=console)
            yield from zip(samples, shown, strict=True)
        finally:
            pool.shutdown(cancel_futures=True)  # if interrupted, do not decode the remaining files


def _measured(sample: Sample, coding: MaskCoding) -> Measures | str:
    try:
        return measure(sample, coding)
    except UserError as error:
        return str(error)
