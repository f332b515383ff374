"""Data sets in the form of the package `datasets`, from the Hugging Face hub or from a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from segdistill.config.data import FilesConfig
from segdistill.config.known_names import is_installed
from segdistill.config.ranges import require


@dataclass
class HuggingFaceConfig(FilesConfig):
    """A table with a column of images and a column of masks."""

    brings_names: ClassVar[bool] = True

    name: str = MISSING  # a folder, or an id on the hub
    subset: str | None = None  # name of one of several configurations that the set has
    image_column: str = MISSING
    mask_column: str = MISSING
    class_column: str | None = None  # whose ClassLabel names mask values where `classes` is empty; null: of the masks
    splits: dict[str, str] = MISSING  # train, val and test -> what the set calls them

    @property
    def title(self) -> str:
        """The name without folders or owner."""
        return self.name.rstrip("/").rpartition("/")[2]

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_installed("datasets"), "name", self.name, "needs a package: pip install datasets")
        require({"train", "val"} <= set(self.splits), "splits", sorted(self.splits), "must name train and val")
        unknown = set(self.splits) - {"train", "val", "test"}
        require(not unknown, "splits", sorted(unknown), "may name train, val and test only")
        folder = isinstance(self.unlabelled, str)
        require(not folder, "unlabelled", self.unlabelled, "must be null or a number of images")
