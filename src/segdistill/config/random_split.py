"""Splits that are drawn from the training images."""

from __future__ import annotations

import re
from dataclasses import dataclass

from segdistill.config.ranges import require

BY_FOLDER = "folder"
"""Value of `data.random_split.group_by` that keeps the images of one folder together."""


@dataclass
class RandomSplit:
    """Shares of the training images that become the other splits, drawn by the images' names and a seed."""

    val: float = 0.0
    test: float = 0.0
    seed: int = 0
    group_by: str | None = None  # "folder", or a regular expression on names; images of a group stay in one split

    def __post_init__(self) -> None:
        for name in ("val", "test"):
            share = getattr(self, name)
            require(0 <= share < 1, name, share, "must be a share of the images, from 0 to below 1")
        require(self.val + self.test < 1, "val", self.val, f"must leave images for train beside test={self.test}")
        if self.group_by not in (None, BY_FOLDER):
            try:
                re.compile(self.group_by)
            except re.error as error:
                require(False, "group_by", self.group_by, f'must be "{BY_FOLDER}" or a regular expression ({error})')

    @property
    def shares(self) -> dict[str, float]:
        """The splits that are drawn, and their shares of the images."""
        return {name: share for name, share in (("val", self.val), ("test", self.test)) if share}
