"""Data sources: where the data lies, and what its classes are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from segdistill.config.ranges import require, require_size

IGNORE_INDEX = 255
"""Class id of void pixels, which no loss and no score counts."""

UNLABELLED = 254
"""Class id of unlabelled pixels, from which the distillation losses alone learn."""

MAX_CLASSES = 254


@dataclass
class DataConfig:
    """Fields that every data source has."""

    input_size: list[int] = MISSING  # [H, W] that every image is resized to; scores and timings refer to it
    eval_batch_size: int = 8
    num_workers: int | None = None  # null: chosen from the machine
    limit: int | None = None  # images of each split, evenly spaced; null: all
    overfit: bool = False  # validation and test see the training images
    unlabelled: Any = None  # so many training images, evenly spaced, are used without their labels; or a folder of more

    def __post_init__(self) -> None:
        require_size("input_size", self.input_size)
        require(self.eval_batch_size >= 1, "eval_batch_size", self.eval_batch_size, "must be at least 1")
        require(self.limit is None or self.limit >= 1, "limit", self.limit, "must be null or at least 1")
        count = self.unlabelled
        valid = count is None or isinstance(count, str) or (type(count) is int and count >= 0)
        require(valid, "unlabelled", count, "must be null, a number of training images, or a folder of images")
        workers = self.num_workers
        require(workers is None or workers >= 0, "num_workers", workers, "must be null or at least 0")


@dataclass
class RoadScenesConfig(DataConfig):
    """The embedded procedural dashcam scenes."""

    seed: int = MISSING
    train: int = MISSING
    val: int = MISSING
    test: int = MISSING

    def __post_init__(self) -> None:
        super().__post_init__()
        for split in ("train", "val", "test"):
            count = getattr(self, split)
            require(count >= 1, split, count, "must be at least 1 scene")
        require(self.seed >= 0, "seed", self.seed, "must be at least 0")
        count = self.unlabelled
        require(count is None or type(count) is int, "unlabelled", count, "must be null or a number of scenes")
        require((count or 0) < self.train, "unlabelled", count, f"must be below data.train={self.train}")


@dataclass
class FilesConfig(DataConfig):
    """Images and masks of any origin, whose mask values are named and whose files are checked."""

    classes: dict[str, Any] = MISSING  # name -> the mask value, or list of values, it owns
    void: list[int] = MISSING  # mask values that are ignored
    palette: dict[str, list[int]] = field(default_factory=dict)  # name -> [R, G, B]; missing ones are chosen
    allow_duplicates: bool = False  # accept an image that occurs in two splits; scores on it say nothing about new ones

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = f"must name 2 to {MAX_CLASSES} classes"
        require(2 <= len(self.classes) <= MAX_CLASSES, "classes", list(self.classes), allowed)
        owners: dict[int, str] = {}
        for name, values in {"void": self.void, **{f"classes.{k}": v for k, v in self.classes.items()}}.items():
            listed = values if isinstance(values, list) else [values]
            valid = all(isinstance(value, int) and 0 <= value <= 255 for value in listed)
            allowed = "must be a mask value from 0 to 255, or a list of them"
            require(valid and (bool(listed) or name == "void"), name, values, allowed)
            for value in listed:
                require(value not in owners, name, value, f"already belongs to {owners.get(value)}")
                owners[value] = name
        for name, colour in self.palette.items():
            require(name in self.classes, f"palette.{name}", colour, f"no such class; known: {list(self.classes)}")
            valid = len(colour) == 3 and all(0 <= channel <= 255 for channel in colour)
            require(valid, f"palette.{name}", colour, "must be [R, G, B], each from 0 to 255")


@dataclass
class SplitFolders:
    """Where a split's images and masks lie, relative to `data.root`."""

    images: str = MISSING
    masks: str = MISSING


@dataclass
class FolderConfig(FilesConfig):
    """Any folder of images beside a folder of masks, paired by stem."""

    root: str = MISSING
    splits: dict[str, SplitFolders] = MISSING

    def __post_init__(self) -> None:
        super().__post_init__()
        require({"train", "val"} <= set(self.splits), "splits", sorted(self.splits), "must name train and val")
        unknown = set(self.splits) - {"train", "val", "test"}
        require(not unknown, "splits", sorted(unknown), "may name train, val and test only")


@dataclass
class SourceConfig(FilesConfig):
    """Files found by a class, wherever they are and however they are paired."""

    source: dict[str, Any] = MISSING  # a `_target_`, a `Source`, and its options

    def __post_init__(self) -> None:
        super().__post_init__()
        require("_target_" in self.source, "source", self.source, "needs a `_target_`, a subclass of Source")
        folder = isinstance(self.unlabelled, str)
        require(not folder, "unlabelled", self.unlabelled, "must be null or a number; the source finds the images")


SCHEMAS: dict[str, type[DataConfig]] = {
    "schema_roadscenes": RoadScenesConfig,
    "schema_folder": FolderConfig,
    "schema_source": SourceConfig,
}
"""What a file of conf/data names first in its `defaults` -> the keys that it may set."""
