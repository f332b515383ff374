"""Checks of a dataset folder before training: each sample on its own, then the splits against each other."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from segdistill.config.data import IGNORE_INDEX
from segdistill.data.labels import UNMAPPED
from segdistill.data.sources.base import Sample
from segdistill.utils.errors import UserError
from segdistill.utils.hardware import cpu_count
from segdistill.utils.io import read_object, write_json

FAULTS_SHOWN = 3
RECORD_VERSION = 2  # increment when the contents of a cached record or the decoding of files change
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Content:
    """Decoded contents of a sample's two files.

    Attributes:
        image: Hash of the image's pixels, the same for copies and for other lossless formats.
        mask: Hash of the mask's values; empty without a mask.
        classes: Ids of the classes with at least one pixel; empty without a mask or if every pixel is void.
    """

    image: str
    mask: str
    classes: list[int]


@dataclass(frozen=True)
class _Entry:
    """A sample of a split; `content` is None if the sample is faulty."""

    split: str
    sample: Sample
    content: Content | None


def check_splits(
    splits: Mapping[str, Sequence[Sample]],
    values: NDArray[np.int16],
    classes: Sequence[str],
    cache_dir: Path,
    *,
    allow_duplicates: bool = False,
) -> list[tuple[str, str]]:
    """Check every sample, then the splits against each other; log warnings about possible mistakes.

    If all samples pass, their contents are cached in `cache_dir`, so that the next call compares the splits and
    repeats its warnings without decoding the files again.

    Args:
        splits: Samples of each split.
        values: int16 [256], maps a mask value to a class id, IGNORE_INDEX or UNMAPPED.
        classes: Class names by id.
        cache_dir: Folder in which passed checks are cached.
        allow_duplicates: Whether to accept an image that occurs in two splits, with a warning.

    Returns:
        Hashes of each sample's decoded image and mask, in the order of the splits.

    Raises:
        UserError: If a file is unusable, an image is in two splits, or a split has no labels; names the first faults.
    """
    samples = [(split, sample) for split, part in splits.items() for sample in part]
    record = _record_path([sample for _, sample in samples], values, cache_dir)
    contents: Sequence[Content | None] | None = _recalled(record)
    faults: list[str] = []
    if contents is None:
        contents, faults = _inspect_all([sample for _, sample in samples], values)
        if not faults:
            write_json(record, {"samples": [asdict(content) for content in contents if content]})
    entries = [_Entry(*sample, content) for sample, content in zip(samples, contents, strict=True)]
    leaks = list(_across_splits(entries))
    raise_if_any([*faults, *([] if allow_duplicates else leaks), *_unlabelled(entries)])
    for warning in [*leaks, *_repeated(entries), *_absent(entries, classes)]:
        log.warning(warning)
    return [(content.image, content.mask) for content in contents if content]


def raise_if_any(faults: Sequence[str]) -> None:
    """Raise one UserError that names the first faults and counts the others, if there are any."""
    if faults:
        more = f" (and {len(faults) - FAULTS_SHOWN} more)" if len(faults) > FAULTS_SHOWN else ""
        raise UserError("; ".join(faults[:FAULTS_SHOWN]) + more)


def _record_path(samples: Sequence[Sample], values: NDArray[np.int16], cache_dir: Path) -> Path:
    """Return the record's path, named by a hash of what the check depends on: file paths, sizes, times and `values`."""
    files = [path.resolve() for sample in samples for path in (sample.image, sample.mask) if path]
    listing = [(str(path), status.st_size, status.st_mtime_ns) for path in files for status in [path.stat()]]
    key = hashlib.sha256(json.dumps([RECORD_VERSION, listing, values.tolist()]).encode()).hexdigest()
    return cache_dir / "checked" / f"{key}.json"


def _recalled(record: Path) -> list[Content] | None:
    remembered = read_object(record).get("samples")
    return None if remembered is None else [Content(**content) for content in remembered]


def _inspect_all(samples: Sequence[Sample], values: NDArray[np.int16]) -> tuple[list[Content | None], list[str]]:
    """Return the contents of every sample, None if it is faulty, and the messages of all faults."""

    def inspected(sample: Sample) -> Content | str:
        try:
            return _inspect(sample, values)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(cpu_count()) as pool:
        results = pool.map(inspected, samples)
        outcomes = list(track(results, "Checking images and masks", total=len(samples), transient=True))
    contents = [outcome if isinstance(outcome, Content) else None for outcome in outcomes]
    return contents, [outcome for outcome in outcomes if isinstance(outcome, str)]


def _inspect(sample: Sample, values: NDArray[np.int16]) -> Content:
    """Decode a sample and check its mask.

    Raises:
        UserError: If a file cannot be read, the sizes differ, or a mask value belongs to no class.
    """
    (height, width), image_hash = _size_and_hash(sample.read_image())
    if sample.mask is None:
        return Content(image_hash, "", [])
    mask = sample.read_mask_values()
    size, mask_hash = _size_and_hash(mask)
    if size != (height, width):
        turned = "; EXIF orientation is applied to both" if size == (width, height) else ""
        raise UserError(f"{sample.mask}: {size[1]} x {size[0]}, its image is {width} x {height}{turned}")
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    unowned = present[values[present] == UNMAPPED]
    if unowned.size:
        raise UserError(f"{sample.mask}: mask value {unowned[0]} belongs to no class; see data.classes and data.void")
    return Content(image_hash, mask_hash, sorted(set(values[present].tolist()) - {IGNORE_INDEX}))


def _size_and_hash(pixels: NDArray[np.uint8]) -> tuple[tuple[int, ...], str]:
    digest = hashlib.sha256(json.dumps(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return pixels.shape[:2], digest.hexdigest()


def _across_splits(entries: Sequence[_Entry]) -> Iterator[str]:
    """Yield one line if images of one split occur in another."""
    first: dict[str, _Entry] = {}
    pairs = []
    for entry in entries:
        if entry.content is not None:
            earlier = first.setdefault(entry.content.image, entry)
            if earlier.split != entry.split:
                pairs.append((earlier, entry))
    if pairs:
        earlier, entry = pairs[0]
        more = f" (and {len(pairs) - 1} more like it)" if len(pairs) > 1 else ""
        yield (
            f"{entry.sample.image}: {entry.split} holds the same image as {earlier.split}, "
            f"{earlier.sample.image}{more}; take it out of one, or allow it by data.allow_duplicates=true"
        )


def _repeated(entries: Sequence[_Entry]) -> Iterator[str]:
    """Yield one line for each split that contains an image more than once."""
    for split, part in _by_split(entries).items():
        repeated = len(part) - len({content.image for content in part})
        if repeated:
            yield f"data.splits.{split}: {repeated} of {len(part)} images repeat another one of this split"


def _absent(entries: Sequence[_Entry], classes: Sequence[str]) -> Iterator[str]:
    """Yield one line for each class that has no pixel in some split."""
    parts = _by_split(entries).items()
    present = {split: {index for content in part for index in content.classes} for split, part in parts}
    for index, name in enumerate(classes):
        lacking = [split for split, found in present.items() if index not in found]
        if lacking:
            yield f"data.classes.{name}: occurs in no mask of {', '.join(lacking)}"


def _unlabelled(entries: Sequence[_Entry]) -> Iterator[str]:
    """Yield one line for each split whose masks are all readable but contain only void."""
    at_fault = {entry.split for entry in entries if entry.content is None}
    for split, part in _by_split(entries).items():
        if split not in at_fault and not any(content.classes for content in part):
            yield f"data.splits.{split}: every pixel of every mask is void; see data.void"


def _by_split(entries: Sequence[_Entry]) -> dict[str, list[Content]]:
    """Group the contents by split, without faulty samples."""
    parts: dict[str, list[Content]] = {}
    for entry in entries:
        if entry.content is not None:
            parts.setdefault(entry.split, []).append(entry.content)
    return parts
