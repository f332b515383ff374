"""Any folders of images with folders of masks, paired by name and checked before training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from segdistill.config.archives import PUBLISHED
from segdistill.config.data import FolderConfig
from segdistill.data.sources.base import DatasetIndex, Sample
from segdistill.data.sources.download import fetch
from segdistill.data.sources.files import checked_index
from segdistill.data.sources.layout import MASK_SUFFIXES, FoundFiles, NamePattern, pair, search_pair
from segdistill.data.sources.lists import pair_listed
from segdistill.data.sources.random_split import draw_splits
from segdistill.utils.image import IMAGE_SUFFIXES

log = logging.getLogger(__name__)


def open_folder(config: FolderConfig, cache_dir: Path) -> DatasetIndex:
    """Pair and check the files of every split; a passed check is cached in `cache_dir`.

    Raises:
        UserError: If a download fails, or files or splits are faulty; names the first ones and what is wrong with them.
    """
    root = Path(config.root)
    if config.download and config.published is not None:
        needed = [name for part in config.splits.values() for name in (part.images, part.masks, part.list) if name]
        fetch(PUBLISHED[config.published], root, needed, cache_dir / "downloads" / config.published)
    splits, faults = find_samples(config)
    labelled = {split: sum(sample.mask is not None for sample in part) for split, part in splits.items()}
    for line in unexpected_counts(config, labelled):
        log.warning("%s", line)
    return checked_index(root.resolve().name, splits, config, cache_dir, faults)


def find_samples(config: FolderConfig) -> tuple[dict[str, list[Sample]], dict[str, list[str]]]:
    """Find the files of every split, without opening any image.

    Returns:
        The samples of each split, and of each split one line for each file without a partner.

    Raises:
        UserError: If a folder or a list is missing or empty, or names are ambiguous.
    """
    root = Path(config.root)
    image_name = NamePattern(config.image_name, IMAGE_SUFFIXES, "data.image_name")
    mask_name = NamePattern(config.mask_name, MASK_SUFFIXES, "data.mask_name")
    splits: dict[str, list[Sample]] = {}
    faults: dict[str, list[str]] = {}
    for name, part in config.split_folders.items():
        recursive = config.recursive or part.list is not None
        found = search_pair(root / part.images, root / part.masks, image_name, mask_name, recursive=recursive)
        splits[name], faults[name] = pair(*found) if part.list is None else pair_listed(*found, root / part.list)
    if config.drawn.shares and splits["train"]:
        splits |= draw_splits(_by_name(splits["train"], root / config.splits["train"].images), config.drawn)
    if isinstance(config.unlabelled, str):
        more = FoundFiles.search(root / config.unlabelled, image_name, recursive=config.recursive)
        splits["train"] += [Sample(path, None) for _, path in sorted(more.by_key().items())]
    return splits, faults


def unexpected_counts(config: FolderConfig, labelled: Mapping[str, int]) -> list[str]:
    """Return a line for each split that has another number of labelled images than is published.

    Args:
        config: Configuration that says how many are expected, and which splits are drawn from the training images.
        labelled: Number of labelled images of each split, after others were drawn from it.
    """
    there = {**labelled, "train": sum(labelled.get(name, 0) for name in ("train", *config.drawn.shares))}
    counts = {
        published: there.get(name, 0) for published, name in zip(config.splits, config.split_folders, strict=True)
    }
    return [
        f"data.expected.{name}: {wanted} images are published, {counts[name]} are there"
        for name, wanted in config.expected.items()
        if wanted != counts.get(name, wanted)
    ]


def _by_name(samples: Sequence[Sample], folder: Path) -> dict[str, Sample]:
    """Return samples by their image's path without suffix, relative to the folder."""
    return {sample.image.relative_to(folder).with_suffix("").as_posix(): sample for sample in samples}
