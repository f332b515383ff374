"""Suggestions for an unknown key: known keys that resemble it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from segdistill.config.data import DataConfig
from segdistill.config.schema import Config
from segdistill.config.sources import SCHEMAS

RENAMED = {
    "train": "stage",
    "distill.terms": "distill.losses",
    "loss.name": "loss=focal, cross_entropy or balanced",
    "callbacks.quantize.pictures": "callbacks.quantize.images",
    "teacher.training.loss.name": "loss@teacher.training.loss",
    "student.fit.hflip": "augment.flip.p",
    "student.fit.jitter": "augment.jitter (brightness, contrast, saturation, hue)",
    "teacher.fit.hflip": "teacher.training.augment.flip.p",
    "teacher.fit.jitter": "teacher.training.augment.jitter (brightness, contrast, saturation, hue)",
}
"""Keys of earlier versions -> their present names."""


def new_name(key: str) -> str | None:
    """Return the present name of a key of an earlier version, or of a key under one; None for any other."""
    olds = [old for old in RENAMED if key == old or key.startswith(f"{old}.")]
    return RENAMED[olds[0]] + key.removeprefix(olds[0]) if olds else None


def unknown(key: str) -> str:
    """Return what is to be said of a key that does not exist."""
    if (renamed := new_name(key)) is not None:
        return f"is called {renamed} now; CHANGELOG.md lists what was renamed"
    near = near_keys(key)
    return "no such key" + (f"; did you mean {' or '.join(near)}?" if near else "; see --help")


def known_keys(schema: Any = Config, prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of every key of the schema, those of all data sources included."""
    for name, kind in get_type_hints(schema).items():
        kinds = list(SCHEMAS.values()) if kind is DataConfig else [kind]
        for nested in kinds:
            if is_dataclass(nested):
                yield from known_keys(nested, f"{prefix}{name}.")
            else:
                yield prefix + name


def near_keys(key: str) -> list[str]:
    """Return up to three known keys that resemble `key`, those with the same last part first."""
    known = list(dict.fromkeys(known_keys()))
    same_name = [other for other in known if other.rpartition(".")[2] == key.rpartition(".")[2]]
    return list(dict.fromkeys([*same_name, *difflib.get_close_matches(key, known, n=3, cutoff=0.75)]))[:3]
