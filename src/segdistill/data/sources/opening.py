"""Opens the data source that a configuration selects."""

from __future__ import annotations

import logging
from pathlib import Path

from segdistill.config.data import DataConfig, FilesConfig, FolderConfig, RoadScenesConfig, SourceConfig
from segdistill.config.huggingface import HuggingFaceConfig
from segdistill.data.labels import ROAD_SCENES, LabelSet, label_set
from segdistill.data.sources.base import DatasetIndex
from segdistill.data.sources.files import open_found
from segdistill.data.sources.folder import open_folder
from segdistill.data.sources.huggingface import open_huggingface, with_class_names
from segdistill.data.sources.roadscenes import open_scenes
from segdistill.utils.errors import ConfigError

log = logging.getLogger(__name__)


def labels_of(data: DataConfig) -> LabelSet:
    """Return the classes, which the configuration, or the head of a table, determines before any data is opened."""
    if isinstance(data, HuggingFaceConfig):
        data = with_class_names(data)
    return label_set(tuple(data.classes), data.palette) if isinstance(data, FilesConfig) else ROAD_SCENES


def open_source(data: DataConfig, cache_dir: Path) -> DatasetIndex:
    """Open and check the configured dataset.

    Args:
        data: One of the dataclasses in `segdistill.config.sources.SCHEMAS`.
        cache_dir: Folder for rendered scenes and passed checks.

    Raises:
        UserError: If a file is faulty, or `data.unlabelled` leaves no labels.
    """
    if isinstance(data, RoadScenesConfig):
        source = open_scenes(data, cache_dir)
    elif isinstance(data, FolderConfig):
        source = open_folder(data, cache_dir)
    elif isinstance(data, HuggingFaceConfig):
        source = open_huggingface(data, cache_dir)
    elif isinstance(data, SourceConfig):
        source = open_found(data, cache_dir)
    else:
        raise TypeError(f"no data source for {type(data).__name__}")
    source = source.overfitting() if data.overfit else source
    source = source if data.limit is None else source.limited(data.limit)
    if isinstance(data.unlabelled, int) and data.unlabelled:
        count = len(source.splits["train"])
        if data.unlabelled >= count:
            raise ConfigError("data.unlabelled", data.unlabelled, f"must leave labels: the training split has {count}")
        source = source.without_labels(data.unlabelled)
    if source.unlabelled:
        log.info("%d of %d training images have no labels", source.unlabelled, len(source.splits["train"]))
    return source
