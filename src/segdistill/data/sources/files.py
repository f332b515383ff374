"""Checks and indexes image and mask files, wherever they were found."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.errors import InstantiationException

from segdistill.config.data import FilesConfig, SourceConfig
from segdistill.config.locate import build
from segdistill.data.check import check_splits, left_out_line, raise_if_any
from segdistill.data.labels import label_set, mask_coding
from segdistill.data.sources.base import DatasetIndex, Sample, Source
from segdistill.utils.errors import ConfigError, UserError, first_line

log = logging.getLogger(__name__)


def open_found(config: SourceConfig, cache_dir: Path) -> DatasetIndex:
    """Check and index every file that the configured source finds.

    Raises:
        UserError: If the source refuses its options or lacks a split, or a file is at fault.
    """
    try:
        source = build("data.source", config.source, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__.under("data.source") from error
        raise ConfigError("data.source", config.source, first_line(error.__cause__ or error)) from error
    if not isinstance(source, Source):
        wanted = "must be a subclass of segdistill.data.sources.base.Source"
        raise ConfigError("data.source._target_", config.source["_target_"], wanted)
    name, splits = type(source).__name__, source.samples(cache_dir)
    for split in {"train": [], "val": [], **splits}:
        if split not in ("train", "val", "test"):
            raise UserError(f"data.source: {name} finds a split {split}; there may be train, val and test only")
        if not splits.get(split):
            raise UserError(f"data.source: {name} finds no image of {split}")
        if split != "train" and any(sample.mask is None for sample in splits[split]):
            raise UserError(f"data.source: {name} finds images of {split} without a mask, which train alone may hold")
    return checked_index(name, splits, config, cache_dir)


def checked_index(
    name: str,
    splits: Mapping[str, Sequence[Sample]],
    config: FilesConfig,
    cache_dir: Path,
    unpaired: Mapping[str, Sequence[str]] | None = None,
) -> DatasetIndex:
    """Check every file of every split, and index them; a check that passed is cached in `cache_dir`.

    Args:
        name: Name of the dataset.
        splits: Samples of each split.
        config: Configuration that gives the mask values their meaning, and says what becomes of faulty files.
        cache_dir: Folder for passed checks.
        unpaired: One line for each file of a split that has no partner.

    Raises:
        UserError: If files or splits are faulty; names the first of them.
    """
    skipping, left_out = config.on_bad == "skip", {split: list(faults) for split, faults in (unpaired or {}).items()}
    raise_if_any([fault for split, faults in left_out.items() for fault in faults if not (skipping and splits[split])])
    coding = mask_coding(config.classes, config.void)
    labels = label_set(tuple(config.classes), config.palette)
    allow_duplicates = config.allow_duplicates
    checked = check_splits(
        splits, coding, labels.names, cache_dir, allow_duplicates=allow_duplicates, skip_faulty=skipping
    )
    kept: dict[str, list[Sample]] = {split: [] for split in splits}
    decoded = []
    for entry in checked.entries:
        if entry.measures is None:
            left_out.setdefault(entry.split, []).append(entry.fault)
        else:
            kept[entry.split].append(entry.sample)
            decoded.append((entry.measures.image, entry.measures.mask))
    skipped = {split: faults for split, faults in left_out.items() if faults}
    for split, faults in skipped.items():
        log.warning("%s", left_out_line(split, faults))

    def fingerprint(only: Sequence[tuple[str, str]]) -> str:
        counts = {split: sum(sample.mask is not None for sample in part) for split, part in kept.items()}
        identity = json.dumps([only, *coding.key, labels.names, counts])
        return hashlib.sha256(identity.encode()).hexdigest()

    return DatasetIndex(
        name=name,
        labels=labels,
        splits=kept,
        coding=coding,
        fingerprint=fingerprint(decoded),
        labelled_fingerprint=fingerprint([pair for pair in decoded if pair[1]]),
        measures=checked.measures,
        skipped=skipped,
    )
