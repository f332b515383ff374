"""Data sources: where the data lies, and what its classes are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import MISSING

from segdistill.config.archives import PUBLISHED
from segdistill.config.class_table import HEX_COLOUR, MAX_VALUE, read_class_table, rgb
from segdistill.config.random_split import RandomSplit
from segdistill.config.ranges import MIN_SIDE, require, require_size
from segdistill.utils.preprocessing import IGNORE_INDEX as IGNORE_INDEX
from segdistill.utils.preprocessing import Preprocessing
from segdistill.utils.tiles import OVERLAP, Tiling

UNLABELLED = 254
"""Class id of unlabelled pixels, from which the distillation losses alone learn."""

MAX_CLASSES = 254
IMAGE_CACHES = ("auto", "none", "memory", "disk")
ON_BAD = ("error", "skip")


@dataclass
class DataConfig:
    """Fields that every data source has."""

    input_size: list[int] = MISSING  # [H, W] that every image is resized to
    cut_bottom: int = 0  # rows that are then cut from the bottom; networks see, and scores count, what remains
    gamma: float = 1.0  # exponent of the image's values in [0, 1]: below 1 lightens what is dark
    eval_batch_size: int = 8
    eval_tile: list[int] | None = None  # [H, W] of the tiles in which evaluation cuts an image; null: whole images
    eval_overlap: int = OVERLAP  # pixels that the tiles share
    num_workers: int | None = None  # null: chosen from the machine
    limit: int | None = None  # images of each split, evenly spaced; null: all
    overfit: bool = False  # validation and test see the training images
    image_cache: str = "auto"  # where decoded images are kept: none, memory, disk; auto: memory where it has room
    draft: bool = False  # decode JPEG files at a reduced size where input_size and fit.scale need no more
    unlabelled: Any = None  # so many training images, evenly spaced, are used without their labels; or a folder of more

    def __post_init__(self) -> None:
        require_size("input_size", self.input_size)
        cut, most = self.cut_bottom, self.input_size[0] - MIN_SIDE
        require(0 <= cut <= most, "cut_bottom", cut, f"must be from 0 to {most}: input_size has {most + MIN_SIDE} rows")
        require(0.1 <= self.gamma <= 10, "gamma", self.gamma, "must be from 0.1 to 10; 1 leaves images as they are")
        require(self.eval_batch_size >= 1, "eval_batch_size", self.eval_batch_size, "must be at least 1")
        require(self.image_cache in IMAGE_CACHES, "image_cache", self.image_cache, f"must be one of {IMAGE_CACHES}")
        if self.tiling is not None:
            fault = self.tiling.fault
            require(fault is None, "eval_tile", self.eval_tile, str(fault))
        require(self.limit is None or self.limit >= 1, "limit", self.limit, "must be null or at least 1")
        count = self.unlabelled
        valid = count is None or isinstance(count, str) or (type(count) is int and count >= 0)
        require(valid, "unlabelled", count, "must be null, a number of training images, or a folder of images")
        workers = self.num_workers
        require(workers is None or workers >= 0, "num_workers", workers, "must be null or at least 0")

    @property
    def tiling(self) -> Tiling | None:
        """The tiles in which evaluation cuts images; None if it takes them whole."""
        return None if self.eval_tile is None else Tiling(tuple(self.eval_tile), self.eval_overlap)

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to every image before a network sees it."""
        height, width = self.input_size
        return Preprocessing((height, width), self.cut_bottom, self.gamma)


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
    """Images and masks of any origin, whose mask values or colours are named and whose files are checked."""

    brings_names: ClassVar[bool] = False  # whether the data may name its classes itself, where `classes` is empty

    classes: dict[str, Any] = MISSING  # name -> the mask value or colour ("#rrggbb"), or list of them, it owns
    void: list[Any] = MISSING  # mask values and colours that are ignored
    palette: dict[str, list[int]] = field(default_factory=dict)  # name -> [R, G, B]; missing ones are chosen
    class_table: str | None = None  # a .csv or .yaml file that names classes, void and palette instead
    on_bad: str = "error"  # skip: leave out samples whose files cannot be used, which log and report name
    allow_duplicates: bool = False  # accept an image that occurs in two splits; scores on it say nothing about new ones

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.on_bad in ON_BAD, "on_bad", self.on_bad, f"must be one of {ON_BAD}")
        if self.class_table is not None:
            allowed = f"must be empty where data.class_table={self.class_table} names the classes"
            require(not self.classes, "classes", dict(self.classes), allowed)
            table = read_class_table(self._class_table_path(Path(self.class_table)))
            self.classes = dict(table.classes)
            self.void = list(dict.fromkeys([*self.void, *table.void]))
            self.palette = {**table.palette, **self.palette}
            self.class_table = None  # spent, so that a copy of this configuration is checked like one without a table
        allowed = f"must name 2 to {MAX_CLASSES} classes"
        unnamed = self.brings_names and not self.classes
        require(unnamed or 2 <= len(self.classes) <= MAX_CLASSES, "classes", list(self.classes), allowed)
        owners: dict[int | str, str] = {}
        for name, values in {"void": self.void, **{f"classes.{k}": v for k, v in self.classes.items()}}.items():
            listed = values if isinstance(values, list) else [values]
            allowed = f'must be a mask value from 0 to {MAX_VALUE}, a colour as in "#804080", or a list of them'
            require(all(map(_is_mask_value, listed)) and (bool(listed) or name == "void"), name, values, allowed)
            for value in listed:
                mend = "; take it out of data.void" if owners.get(value) == "void" else ""
                require(value not in owners, name, value, f"already belongs to {owners.get(value)}{mend}")
                owners[value] = name
            colours = [value for value in listed if isinstance(value, str)]
            if colours and name != "void":
                self.palette.setdefault(name.removeprefix("classes."), rgb(colours[0]))
        for name, colour in self.palette.items():
            known = unnamed or name in self.classes
            require(known, f"palette.{name}", colour, f"no such class; known: {list(self.classes)}")
            valid = len(colour) == 3 and all(0 <= channel <= 255 for channel in colour)
            require(valid, f"palette.{name}", colour, "must be [R, G, B], each from 0 to 255")

    def _class_table_path(self, table: Path) -> Path:
        """Return where the class table lies."""
        return table


def _is_mask_value(value: object) -> bool:
    if isinstance(value, str):
        return HEX_COLOUR.fullmatch(value) is not None
    return type(value) is int and 0 <= value <= MAX_VALUE


@dataclass
class SplitFolders:
    """Where a split's images and masks lie, relative to `data.root`."""

    images: str = MISSING
    masks: str = MISSING
    list: str | None = None  # a text file that names the split's images, one a line; null: every image of the folder


@dataclass
class FolderConfig(FilesConfig):
    """Any folders of images and of masks, paired by name."""

    root: str = MISSING
    splits: dict[str, SplitFolders] = MISSING
    recursive: bool = False  # look into folders of the folders, too; an image and its mask are in folders of one name
    image_name: str = "{stem}"  # what an image is called; {stem} is what its mask's name has as well
    mask_name: str = "{stem}"
    random_split: RandomSplit = field(default_factory=RandomSplit)
    holdout: float | None = None  # share of train that becomes val, drawn as by random_split; val itself becomes test
    expected: dict[str, int] = field(default_factory=dict)  # published number of images of a split; warns of others
    published: str | None = None  # the set of config/archives.py that this is
    download: bool = False  # fetch and unpack it into a new or an empty `root`

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = f"must be null, {' or '.join(PUBLISHED)}"
        require(self.published in (None, *PUBLISHED), "published", self.published, allowed)
        allowed = f"must be false: only data={' and data='.join(PUBLISHED)} can be downloaded"
        require(not self.download or self.published is not None, "download", self.download, allowed)
        for name, count in self.expected.items():
            allowed = "must be a number of images of train, val or test"
            require(name in ("train", "val", "test") and count > 0, f"expected.{name}", count, allowed)
        if self.holdout is not None:
            require(0 < self.holdout < 1, "holdout", self.holdout, "must be null, or a share between 0 and 1")
            alone = "val" in self.splits and "test" not in self.splits and not self.random_split.shares
            allowed = "needs data.splits.val, which becomes test, and neither data.splits.test nor data.random_split"
            require(alone, "holdout", self.holdout, allowed)
        splits, shares = self.split_folders, self.drawn.shares
        for name in sorted(set(shares) & set(splits)):
            allowed = f"data.splits has its own {name}; take it out by ~data.splits.{name}"
            require(False, f"random_split.{name}", shares[name], allowed)
        allowed = "must name train and val, unless data.random_split draws val"
        require({"train", "val"} <= set(splits) | set(shares), "splits", sorted(splits), allowed)
        require("train" in splits, "splits", sorted(splits), allowed)
        unknown = set(self.splits) - {"train", "val", "test"}
        require(not unknown, "splits", sorted(unknown), "may name train, val and test only")
        for name in ("image_name", "mask_name"):
            pattern = getattr(self, name)
            rest = pattern.replace("{stem}", "", 1).replace("{folder}", "", 1)
            valid = "{stem}" in pattern and not set("{}") & set(rest)
            require(valid, name, pattern, 'must contain {stem} once, as in "{stem}_mask", and may contain {folder}')
            require(
                self.recursive or "/" not in pattern,
                name,
                pattern,
                "names folders, so that it needs data.recursive=true",
            )

    @property
    def split_folders(self) -> dict[str, SplitFolders]:
        """Where each split lies that is not drawn; with `holdout`, the published val is the test split."""
        held_out = self.holdout is not None
        return {"test" if held_out and name == "val" else name: part for name, part in self.splits.items()}

    @property
    def drawn(self) -> RandomSplit:
        """Which shares of train become other splits."""
        return self.random_split if self.holdout is None else replace(self.random_split, val=self.holdout)

    def _class_table_path(self, table: Path) -> Path:
        inside = Path(self.root) / table
        return inside if inside.is_file() else table


@dataclass
class SourceConfig(FilesConfig):
    """Files found by a class, wherever they are and however they are paired."""

    source: dict[str, Any] = MISSING  # a `_target_`, a `Source`, and its options

    def __post_init__(self) -> None:
        super().__post_init__()
        require("_target_" in self.source, "source", self.source, "needs a `_target_`, a subclass of Source")
        folder = isinstance(self.unlabelled, str)
        require(not folder, "unlabelled", self.unlabelled, "must be null or a number; the source finds the images")
