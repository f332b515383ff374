"""Draws validation and test images from one folder, by their names and a seed, so that groups stay together."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath

from segdistill.config.random_split import BY_FOLDER, RandomSplit
from segdistill.data.sources.base import Sample
from segdistill.utils.errors import ConfigError


def draw_splits(samples: Mapping[str, Sample], config: RandomSplit) -> dict[str, list[Sample]]:
    """Divide samples into train and the drawn splits; each keeps the order of the samples.

    Groups are ordered by a hash of seed and name, so that the result depends neither on the order of the files nor on
    where they lie, and an image more moves few others. Each split takes groups until it has its share of the images.

    Args:
        samples: Name of each image, relative to its folder and without suffix, and its sample.
        config: Shares, seed and grouping.

    Raises:
        ConfigError: If a name belongs to no group, or there are too few groups.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in samples:
        groups[group_of(name, config.group_by)].append(name)
    if len(groups) <= len(config.shares):
        allowed = f"makes {len(groups)} groups of {len(samples)} images, too few for train, {', '.join(config.shares)}"
        raise ConfigError("data.random_split.group_by", config.group_by, allowed)
    waiting = sorted(groups, key=lambda group: hashlib.sha256(f"{config.seed} {group}".encode()).digest())
    split_of: dict[str, str] = {}
    for place, (split, share) in enumerate(config.shares.items(), 1):
        wanted, taken = share * len(samples), 0
        while taken < wanted and len(waiting) > len(config.shares) - place + 1:
            group = waiting.pop(0)
            if taken and taken + len(groups[group]) / 2 > wanted:
                waiting.insert(0, group)
                break
            taken += len(groups[group])
            split_of.update(dict.fromkeys(groups[group], split))
    drawn: dict[str, list[Sample]] = {"train": [], **{split: [] for split in config.shares}}
    for name, sample in samples.items():
        drawn[split_of.get(name, "train")].append(sample)
    return drawn


def group_of(name: str, group_by: str | None) -> str:
    """Return the group of an image: its name, its folder, or what a regular expression finds in its name.

    Example:
        >>> group_of("town/drive7_0001", "drive[0-9]+")
        'drive7'

    Raises:
        ConfigError: If the regular expression finds nothing.
    """
    if group_by is None:
        return name
    if group_by == BY_FOLDER:
        return PurePosixPath(name).parent.as_posix()
    found = re.search(group_by, name)
    if found is None:
        raise ConfigError("data.random_split.group_by", group_by, f"finds nothing in {name}, which needs a group, too")
    return "/".join(part or "" for part in found.groups()) or found[0]
