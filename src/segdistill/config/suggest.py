"""Did you mean: known keys that resemble an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_type_hints

from segdistill.config.schema import Config, DataConfig, FolderConfig, RoadScenesConfig


def known_keys(schema: Any = Config, prefix: str = "") -> Iterator[str]:
    """Yields the dotted path of every key of the schema, those of all data sources included."""
    for name, kind in get_type_hints(schema).items():
        kinds = [RoadScenesConfig, FolderConfig] if kind is DataConfig else [kind]
        for nested in kinds:
            if is_dataclass(nested):
                yield from known_keys(nested, f"{prefix}{name}.")
            else:
                yield prefix + name


def near_keys(key: str) -> list[str]:
    """Returns up to three known keys that resemble `key`, those with the same last part first."""
    known = list(dict.fromkeys(known_keys()))
    same_name = [other for other in known if other.rpartition(".")[2] == key.rpartition(".")[2]]
    return list(dict.fromkeys([*same_name, *difflib.get_close_matches(key, known, n=3, cutoff=0.75)]))[:3]
