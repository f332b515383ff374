"""Any folder of images beside a folder of masks, paired by stem and checked before training."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from segdistill.config import FolderConfig
from segdistill.data.labels import UNOWNED, label_set, value_table
from segdistill.data.source import Sample, Source
from segdistill.errors import UserError
from segdistill.files import write_json
from segdistill.machine import cpu_count
from segdistill.pictures import IMAGE_SUFFIXES, UNREADABLE

MASK_SUFFIXES = (".png", ".bmp")
FAULTS_SHOWN = 3


def open_folder(config: FolderConfig, cache_dir: Path) -> Source:
    """Pairs and checks every file of every split; a check that passed is remembered in `cache_dir`.

    Raises:
        UserError: Names the first files at fault and what is wrong with them.
    """
    root = Path(config.root)
    splits = {name: pair(root / part.images, root / part.masks) for name, part in config.splits.items()}
    values = value_table(config.classes, config.void)
    labels = label_set(tuple(config.classes), config.palette)
    checksum = _checked([sample for samples in splits.values() for sample in samples], values, cache_dir)
    identity = json.dumps([checksum, values.tolist(), labels.names, {k: len(v) for k, v in splits.items()}])
    return Source(
        name=root.resolve().name,
        labels=labels,
        splits=splits,
        values=values,
        fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
    )


def pair(images: Path, masks: Path) -> list[Sample]:
    """Returns the samples of one split, sorted by stem.

    Raises:
        UserError: If a folder is missing or empty, or a file has no partner or more than one.
    """
    by_stem = [_by_stem(images, IMAGE_SUFFIXES), _by_stem(masks, MASK_SUFFIXES)]
    faults = [f"{path} has no mask in {masks}" for stem, path in by_stem[0].items() if stem not in by_stem[1]]
    faults += [f"{path} has no image in {images}" for stem, path in by_stem[1].items() if stem not in by_stem[0]]
    _raise_if_any(faults)
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


def _checked(samples: Sequence[Sample], values: NDArray[np.int16], cache_dir: Path) -> str:
    """Checks every sample unless the very same files passed before; returns a checksum of their content."""
    files = [path.resolve() for sample in samples for path in (sample.image, sample.mask)]
    listing = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = hashlib.sha256(json.dumps([listing, values.tolist()]).encode()).hexdigest()
    passed = cache_dir / "checked" / f"{key}.json"
    if passed.is_file():
        return str(json.loads(passed.read_text())["checksum"])
    with ThreadPoolExecutor(cpu_count()) as pool:
        results = pool.map(lambda sample: _inspect(sample, values), samples)
        outcomes = list(track(results, "Checking images and masks", total=len(samples), transient=True))
    _raise_if_any([fault for fault, _ in outcomes if fault])
    checksum = hashlib.sha256(json.dumps([crc for _, crc in outcomes]).encode()).hexdigest()
    write_json(passed, {"checksum": checksum, "samples": len(samples)})
    return checksum


def _inspect(sample: Sample, values: NDArray[np.int16]) -> tuple[str | None, int]:
    """Returns what is wrong with a sample, if anything, and a checksum of its two files."""
    path = sample.image
    try:
        height, width = sample.read_image().shape[:2]
        path = sample.mask
        mask = sample.read_mask_values()
        crc = zlib.crc32(sample.mask.read_bytes(), zlib.crc32(sample.image.read_bytes()))
    except UserError as error:
        return str(error), 0
    except UNREADABLE as error:
        return f"{path}: cannot be read as a picture ({error})", 0
    if mask.shape != (height, width):
        return f"{sample.mask}: {mask.shape[1]} x {mask.shape[0]}, its image is {width} x {height}", crc
    unowned = [int(value) for value in np.flatnonzero(np.bincount(mask.ravel())) if values[value] == UNOWNED]
    if unowned:
        return (
            f"{sample.mask}: mask value {unowned[0]} belongs to no class; see data.classes and data.void",
            crc,
        )
    return None, crc


def _raise_if_any(faults: Sequence[str]) -> None:
    if faults:
        more = f" (and {len(faults) - FAULTS_SHOWN} more)" if len(faults) > FAULTS_SHOWN else ""
        raise UserError("; ".join(faults[:FAULTS_SHOWN]) + more)
