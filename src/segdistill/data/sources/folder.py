"""Any folder of images with a folder of masks, paired by stem and checked before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segdistill.config.data import FolderConfig
from segdistill.data.check import raise_if_any
from segdistill.data.sources.base import DatasetIndex, Sample
from segdistill.data.sources.files import checked_index
from segdistill.utils.errors import UserError
from segdistill.utils.image import IMAGE_SUFFIXES

MASK_SUFFIXES = (".png", ".bmp")


def open_folder(config: FolderConfig, cache_dir: Path) -> DatasetIndex:
    """Pair and check the files of every split; a passed check is cached in `cache_dir`.

    Raises:
        UserError: If files or splits are faulty; names the first ones and what is wrong with them.
    """
    root = Path(config.root)
    splits = {name: pair(root / part.images, root / part.masks) for name, part in config.splits.items()}
    if isinstance(config.unlabelled, str):
        unlabelled = _by_stem(root / config.unlabelled, IMAGE_SUFFIXES)
        splits["train"] += [Sample(path, None) for _, path in sorted(unlabelled.items())]
    return checked_index(root.resolve().name, splits, config, cache_dir)


def pair(images: Path, masks: Path) -> list[Sample]:
    """Return the samples of one split, sorted by stem.

    Raises:
        UserError: If a folder is missing or empty, or a file has no partner or more than one.
    """
    by_stem = [_by_stem(images, IMAGE_SUFFIXES), _by_stem(masks, MASK_SUFFIXES)]
    faults = [f"{path} has no mask in {masks}" for stem, path in by_stem[0].items() if stem not in by_stem[1]]
    faults += [f"{path} has no image in {images}" for stem, path in by_stem[1].items() if stem not in by_stem[0]]
    raise_if_any(faults)
    return [Sample(path, by_stem[1][stem]) for stem, path in sorted(by_stem[0].items())]


def _by_stem(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; see data.root and data.splits")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes)
    if not paths:
        raise UserError(f"{folder}: holds no {', '.join(suffixes)} file")
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise UserError(f"{path}: has the same stem as {found[path.stem].name}; one of them must go")
        found[path.stem] = path
    return found
