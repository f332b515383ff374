"""The kinds of data that a configuration may select."""

from __future__ import annotations

from segdistill.config.data import DataConfig, FolderConfig, RoadScenesConfig, SourceConfig
from segdistill.config.huggingface import HuggingFaceConfig

SCHEMAS: dict[str, type[DataConfig]] = {
    "schema_roadscenes": RoadScenesConfig,
    "schema_folder": FolderConfig,
    "schema_source": SourceConfig,
    "schema_huggingface": HuggingFaceConfig,
}
"""What a file of conf/data names first in its `defaults` -> the keys that it may set."""
