"""Any folders of images with folders of masks, paired by name and checked before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segdistill.config.data import FolderConfig
from segdistill.data.sources.base import DatasetIndex, Sample
from segdistill.data.sources.files import checked_index
from segdistill.data.sources.layout import MASK_SUFFIXES, FoundFiles, NamePattern, pair, search_pair
from segdistill.data.sources.lists import pair_listed
from segdistill.data.sources.random_split import draw_splits
from segdistill.utils.image import IMAGE_SUFFIXES


def open_folder(config: FolderConfig, cache_dir: Path) -> DatasetIndex:
    """Pair and check the files of every split; a passed check is cached in `cache_dir`.

    Raises:
        UserError: If files or splits are faulty; names the first ones and what is wrong with them.
    """
    splits, faults = find_samples(config)
    return checked_index(Path(config.root).resolve().name, splits, config, cache_dir, faults)


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
    for name, part in config.splits.items():
        recursive = config.recursive or part.list is not None
        found = search_pair(root / part.images, root / part.masks, image_name, mask_name, recursive=recursive)
        splits[name], faults[name] = pair(*found) if part.list is None else pair_listed(*found, root / part.list)
    if config.random_split.shares and splits["train"]:
        splits |= draw_splits(_by_name(splits["train"], root / config.splits["train"].images), config.random_split)
    if isinstance(config.unlabelled, str):
        more = FoundFiles.search(root / config.unlabelled, image_name, recursive=config.recursive)
        splits["train"] += [Sample(path, None) for _, path in sorted(more.by_key().items())]
    return splits, faults


def _by_name(samples: Sequence[Sample], folder: Path) -> dict[str, Sample]:
    """Return samples by their image's path without suffix, relative to the folder."""
    return {sample.image.relative_to(folder).with_suffix("").as_posix(): sample for sample in samples}
