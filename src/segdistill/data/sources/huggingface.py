"""Opens tables of the package `datasets`; images and masks that have no file of their own get one in the cache."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image
from rich.progress import track

from segdistill.config.class_table import MAX_VALUE
from segdistill.config.huggingface import HuggingFaceConfig
from segdistill.data.sources.base import DatasetIndex, Sample
from segdistill.data.sources.files import checked_index
from segdistill.utils.errors import ConfigError, UserError, first_line
from segdistill.utils.io import atomic_write, full_disk, read_object, write_json

SAVED = ("dataset_dict.json", "state.json")
"""Files of which a folder has one if `save_to_disk` wrote it."""

MANIFEST = "manifest.json"


def open_huggingface(config: HuggingFaceConfig, cache_dir: Path) -> DatasetIndex:
    """Open and check every row of the configured splits; the files of the rows are kept in `cache_dir`.

    Raises:
        UserError: If the set cannot be loaded or has no such split or column, or a row is at fault.
    """
    config = with_class_names(config)
    splits = {}
    for split, theirs in config.splits.items():
        splits[split] = _samples(config, split, _loaded(config, split), cache_dir)
        if not splits[split]:
            raise ConfigError(f"data.splits.{split}", theirs, "has no row")
        if split != "train" and any(sample.mask is None for sample in splits[split]):
            raise ConfigError(f"data.splits.{split}", theirs, "has rows without a mask, which train alone may have")
    return checked_index(config.title, splits, config, cache_dir)


def with_class_names(config: HuggingFaceConfig) -> HuggingFaceConfig:
    """Return the configuration with the class names of the set, unless it names its own.

    Raises:
        ConfigError: If there is no ClassLabel to take names from.
    """
    if config.classes:
        return config
    from datasets import ClassLabel

    column = config.class_column or config.mask_column
    key = "data.mask_column" if config.class_column is None else "data.class_column"
    feature = _innermost(_column(config, key, column, _loaded(config, "train")))
    if not isinstance(feature, ClassLabel):
        raise ConfigError("data.classes", {}, f"must name the classes: the set has no ClassLabel in {column}")
    return replace(config, classes={n: value for value, n in enumerate(feature.names) if value not in config.void})


def _loaded(config: HuggingFaceConfig, split: str) -> Any:
    """Load a split as `datasets.Dataset`, memory-mapped.

    Raises:
        ConfigError: If the set cannot be loaded, or has no such split.
    """
    import datasets

    theirs = config.splits[split]
    try:
        if not any((Path(config.name) / file).is_file() for file in SAVED):
            return datasets.load_dataset(config.name, config.subset, split=theirs)
        saved = datasets.load_from_disk(config.name)
    except Exception as error:  # of the hub's client, pyarrow and fsspec, too, which share no class
        if full_disk(error) is not None:
            raise
        known = f"cannot be loaded ({first_line(error)}); must be a folder or the id of a set on the hub"
        raise ConfigError("data.name", config.name, f"{known} with a split {theirs}") from error
    splits = saved if isinstance(saved, datasets.DatasetDict) else {str(saved.split): saved}
    if theirs not in splits:
        raise ConfigError(f"data.splits.{split}", theirs, f"no such split; there are {', '.join(splits)}")
    return splits[theirs]


def _column(config: HuggingFaceConfig, key: str, column: str, rows: Any) -> Any:
    """Return the feature of a column.

    Raises:
        ConfigError: If there is no such column.
    """
    if column not in rows.features:
        raise ConfigError(key, column, f"no such column in {config.name}; there are {', '.join(rows.features)}")
    return rows.features[column]


def _innermost(feature: Any) -> Any:
    """Return the feature of the elements of nested lists."""
    while hasattr(feature, "feature"):
        feature = feature.feature
    return feature


def _samples(config: HuggingFaceConfig, split: str, rows: Any, cache_dir: Path) -> list[Sample]:
    """Return the samples of a split, written to files if needed; parallel runs wait for the first of them."""
    from datasets import Image as Stored

    rows = rows.with_format(None).select_columns(
        [
            column
            for key, column in (("data.image_column", config.image_column), ("data.mask_column", config.mask_column))
            if _column(config, key, column, rows)
        ]
    )
    for column in rows.features:
        if isinstance(rows.features[column], Stored):
            rows = rows.cast_column(column, Stored(decode=False))
    if not isinstance(rows.features[config.image_column], Stored):
        wanted = f"must be a column of images, as opposed to {type(rows.features[config.image_column]).__name__}"
        raise ConfigError("data.image_column", config.image_column, wanted)
    folder = cache_dir / "huggingface" / _key(config, split, rows)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / MANIFEST).is_file():
            with atomic_write(folder) as temporary:
                temporary.mkdir()
                _write(config, split, rows, temporary)
    listed = read_object(folder / MANIFEST)["samples"]
    return [Sample(folder / image, None if mask is None else folder / mask) for image, mask in listed]


def _key(config: HuggingFaceConfig, split: str, rows: Any) -> str:
    """Return a name that changes with the table's files."""
    files = [Path(each["filename"]) for each in rows.cache_files]
    stamps = [(str(file), status.st_size, status.st_mtime_ns) for file in files for status in [file.stat()]]
    identity = [config.splits[split], len(rows), *map(str, rows.features.items()), stamps]
    return f"{split}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]}"


def _write(config: HuggingFaceConfig, split: str, rows: Any, folder: Path) -> None:
    """Write the images and masks of all rows that are not files already, and a list of all files."""
    listed = []
    for index, row in enumerate(track(rows, f"Unpacking {split} of {config.name}", total=len(rows))):
        where = f"{config.name}: row {index} of {config.splits[split]}"
        image = _file(row[config.image_column], folder / f"{index:06}", f"{where}: {config.image_column}")
        if image is None:
            raise UserError(f"{where}: has no {config.image_column}")
        mask = _file(row[config.mask_column], folder / f"{index:06}_mask", f"{where}: {config.mask_column}")
        listed.append((image, mask))
    write_json(folder / MANIFEST, {"samples": listed})


def _file(cell: Any, path: Path, where: str) -> str | None:
    """Return the file of an image or a mask, which is written to `path`, with a suffix, unless it is a file already.

    Raises:
        UserError: If it is neither an image nor a table of mask values.
    """
    if cell is None:
        return None
    if not isinstance(cell, Mapping):
        return _value_file(cell, path.with_suffix(".png"), where)
    if cell["bytes"] is None:
        if not Path(cell["path"]).is_file():
            raise UserError(f"{where}: there is no file {cell['path']}")
        return str(Path(cell["path"]).absolute())
    try:
        with Image.open(io.BytesIO(cell["bytes"])) as image:
            path = path.with_suffix(f".{str(image.format).lower()}")
    except Exception as error:  # for damaged files, Pillow also raises struct.error, IndexError and others
        raise UserError(f"{where} cannot be read as an image ({first_line(error)})") from error
    path.write_bytes(cell["bytes"])
    return path.name


def _value_file(cell: Any, path: Path, where: str) -> str:
    try:
        values = np.asarray(cell)
    except ValueError:  # rows of different lengths
        values = np.zeros(0)
    if values.ndim != 2 or not values.size or values.dtype.kind not in "iub":
        raise UserError(f"{where} must be an image, or rows of whole numbers")
    if values.min() < 0 or values.max() > MAX_VALUE:
        raise UserError(f"{where} holds values from {values.min()} to {values.max()}; a mask has those to {MAX_VALUE}")
    Image.fromarray(values.astype(np.uint8 if values.max() < 256 else np.uint16)).save(path)
    return path.name
