"""Keys of a configuration: which shape a result, and in which two configurations differ."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

REPETITION = "seed"
"""Key whose values repeat a setting instead of making another one."""
INCIDENTAL = ("resume", "cache_dir")
"""Keys of a configuration that may differ between two runs of the same job."""
INERT = {REPETITION, *INCIDENTAL, "trusted_packages", "callbacks", "logger", "hydra"}
"""Sections and groups of the configuration that shape no weights."""
INERT_KEYS = {"data.num_workers", "data.image_cache", "data.eval_batch_size", "data.download"}
STEPS = ("max_", "gradient_clip_", "accumulate_", "limit_train_")
"""Beginnings of the keys of `trainer` that change the steps of a training; the others tell how they are computed."""
MEASURING = ("trainer.limit_", "trainer.check_val_", "trainer.val_check_")
"""Beginnings of the keys on which the images of a test depend, or the choice of the tested checkpoint."""

ABSENT = object()
"""Value of a key in a configuration that has none."""


def shapes_weights(key: str) -> bool:
    """Return whether the weights of a training may depend on a key or group of its configuration."""
    section, _, name = key.lstrip("~").partition(".")
    if section == "trainer":
        return name.startswith(STEPS)
    return re.split("[@/]", section)[0] not in INERT and key not in INERT_KEYS


def shapes_score(key: str) -> bool:
    """Return whether the score of a job may depend on a key of its configuration."""
    return shapes_weights(key) or key.startswith(MEASURING)


def conflicts(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the keys for which the scores of two configurations, which may differ in their seed, are of two settings.

    A key that only one of them has counts as the same, because versions add keys; so does one that follows the seed.
    """
    seeds = [one.get(REPETITION), other.get(REPETITION)]
    return [
        key
        for key, *values in _differences(one, other)
        if ABSENT not in values and values != seeds and shapes_score(key)
    ]


def differing_keys(one: Any, other: Any) -> Iterator[str]:
    """Yield the dotted keys in which two configurations differ."""
    return (key for key, *_ in _differences(one, other))


def _differences(one: Any, other: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted key and both values of everything in which two configurations differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            inner = f"{prefix}.{key}".lstrip(".")
            yield from _differences(one.get(key, ABSENT), other.get(key, ABSENT), inner)
    elif one != other:
        yield prefix, one, other
