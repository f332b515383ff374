"""Which classes of a teacher make up each class of the data: by `teacher.class_map`, and otherwise by name."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from segdistill.models.class_names import match_names, normalised
from segdistill.utils.console import as_text, compact_table
from segdistill.utils.errors import ConfigError

KEY, REST = "teacher.class_map", "*"
"""The key, and what stands for all classes of the teacher that no other class of the data has."""
log = logging.getLogger(__name__)


def class_groups(
    class_map: Mapping[str, Sequence[Any]], count: int, known: Sequence[str], names: Sequence[str]
) -> list[list[int]]:
    """Return the teacher's class ids that make up each class of the data, and log them as a table.

    Args:
        class_map: Class name of the data -> ids or names of the teacher's classes; `*` are those that are left.
        count: Number of classes of the teacher.
        known: Names of the teacher's classes; empty if it tells none.
        names: Names of the data's classes; those that the map lacks are looked for among `known`.

    Raises:
        ConfigError: If a class is missing or unknown, or an id is out of range or given twice.
    """
    given = {name: _ids(name, entries, known) for name, entries in class_map.items()}
    taken = [index for ids in given.values() for index in ids if isinstance(index, int)]
    matched = match_names([name for name in names if name not in given], known, taken)
    whole = {**given, **{name: ids for name, (ids, _) in matched.items()}}
    missing = [name for name in names if name not in whole]
    if missing:
        untold = (
            f"misses the class {missing[0]}, and the teacher tells no names; give ids, or teacher.network.class_names"
        )
        raise ConfigError(KEY, dict(class_map), _unmatched(missing, known, names) if known else untold)
    owned = {index for ids in whole.values() for index in ids}
    rest = [index for index in range(count) if index not in owned]
    whole = {name: [each for i in ids for each in (rest if i == REST else [i])] for name, ids in whole.items()}
    groups = parse_class_map(whole, count, names)
    how = {name: matched[name][1] if name in matched else "class_map" for name in names}
    log.info("%s", _table(groups, known, names, how))
    return groups


def parse_class_map(class_map: Mapping[str, Sequence[int]], count: int, names: Sequence[str]) -> list[list[int]]:
    """Return the teacher's class ids that make up each class of the data.

    Args:
        class_map: Class name of the data -> class ids of the teacher.
        count: Number of classes of the teacher.
        names: Names of the data's classes.

    Raises:
        ConfigError: If a class is missing or unknown, or an id is out of range or given twice.
    """
    for name in names:
        if name not in class_map:
            raise ConfigError(KEY, dict(class_map), f"misses the class {name}")
    owners: dict[int, str] = {}
    for name, ids in class_map.items():
        key = f"{KEY}.{name}"
        if name not in names:
            raise ConfigError(key, list(ids), f"the data has no such class; it has {list(names)}")
        if not ids or min(ids) < 0 or max(ids) >= count:
            raise ConfigError(key, list(ids), f"must be one or more of the teacher's class ids, 0 to {count - 1}")
        for index in ids:
            if index in owners:
                raise ConfigError(key, list(ids), f"{index} already belongs to {owners[index]}")
            owners[index] = name
    return [list(class_map[name]) for name in names]


def _ids(name: str, entries: Sequence[Any], known: Sequence[str]) -> list[Any]:
    """Return ids for names; ids and `*` stay."""
    ids: list[Any] = []
    for entry in entries:
        if isinstance(entry, int) or entry == REST:
            ids.append(entry)
            continue
        indices = [index for index, each in enumerate(known) if normalised(each) & normalised(entry)]
        if not indices:
            near = difflib.get_close_matches(entry, known, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            told = f"it knows {_numbered(known)}" if known else "it tells no names; give ids"
            raise ConfigError(f"{KEY}.{name}", list(entries), f"the teacher has no class {entry}{hint}; {told}")
        ids += indices
    return ids


def _unmatched(missing: Sequence[str], known: Sequence[str], names: Sequence[str]) -> str:
    example = f"'+{KEY}={{{missing[0]}: [{known[0]}]}}'"
    return (
        f"no class of the teacher is called like {', '.join(missing)}; say with names or ids which it is made of, for "
        f"example {example} ('*': all that are left); the data has {list(names)}, the teacher {_numbered(known)}"
    )


def _numbered(known: Sequence[str]) -> str:
    return ", ".join(f"{index} {name}" for index, name in enumerate(known))


def _table(groups: Sequence[Sequence[int]], known: Sequence[str], names: Sequence[str], how: Mapping[str, str]) -> str:
    table = compact_table("classes of the teacher")
    for heading in ("data", "teacher", "by"):
        table.add_column(heading, justify="left")
    for name, ids in zip(names, groups, strict=True):
        shown = ", ".join(f"{index} {known[index]}" if known else str(index) for index in ids)
        table.add_row(name, shown, how[name])
    return as_text(table)
