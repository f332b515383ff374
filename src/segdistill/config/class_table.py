"""Class tables: a CSV or YAML file that gives each class its name and its mask values or colours."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from segdistill.utils.errors import ConfigError, first_line

COLUMNS = ("name", "id", "colour", "color", "r", "g", "b", "merged_into", "void")
MAX_VALUE = 65535
"""Largest value of a 16-bit mask."""

VOID = "void"
YES, NO = ("true", "yes", "1"), ("", "false", "no", "0")
HEX_COLOUR = re.compile(r"#[0-9a-f]{6}")


@dataclass
class ClassTable:
    """Classes in the order in which a table names them, as `data.classes`, `data.void` and `data.palette` hold them.

    Attributes:
        classes: Name -> mask values, and colours as "#rrggbb".
        void: Mask values and colours that are ignored.
        palette: Name -> [R, G, B] of the classes that have a row of their own with a colour.
    """

    classes: dict[str, list[int | str]] = field(default_factory=dict)
    void: list[int | str] = field(default_factory=list)
    palette: dict[str, list[int]] = field(default_factory=dict)


class _RowError(ValueError):
    """What is wrong with one row; its reader adds the row's number."""


def read_class_table(path: Path) -> ClassTable:
    """Read a table of classes; rows of the same name, or merged into the same one, are one class.

    A row has a `name`, an `id` (mask value) or a `colour` ("#804080", "128 64 128", or the columns `r`, `g`, `b`) or
    both, and may have `merged_into` (the class that it becomes part of) and `void` (true: ignored). A name or a
    `merged_into` that is "void" in any case makes the row void, too.

    Args:
        path: A .csv file with a header, or a .yaml file with a list of mappings.

    Raises:
        ConfigError: If the file cannot be read, or a row is faulty; names the row and what is allowed.
    """
    table = ClassTable()
    for number, row in _rows(path):
        try:
            _add(table, row)
        except _RowError as error:
            raise ConfigError("class_table", path, f"{number}: {error}") from None
    if not table.classes:
        raise ConfigError("class_table", path, "names no class; each row needs a name, and an id or a colour")
    return table


def parse_colour(value: object) -> str | None:
    """Return a colour, "#804080", "128 64 128", "128,64,128" or [128, 64, 128], as "#804080"; None for anything else.

    Example:
        >>> parse_colour("128, 64, 128")
        '#804080'
    """
    if isinstance(value, str) and HEX_COLOUR.fullmatch(value.strip().lower()):
        return value.strip().lower()
    parts = re.split(r"[\s,;]+", value.strip(" \t()[]")) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or len(parts) != 3:
        return None
    channels = [_whole(part) for part in parts]
    if any(channel is None or not 0 <= channel <= 255 for channel in channels):
        return None
    return "#" + "".join(f"{channel:02x}" for channel in channels)


def rgb(colour: str) -> list[int]:
    """Return "#804080" as [128, 64, 128]."""
    return list(bytes.fromhex(colour[1:]))


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place of each row in the file, and its cells by column in lower case."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else first_line(error)
        raise ConfigError("class_table", path, f"cannot be read ({reason})") from error
    rows: list[tuple[str, Any]]
    if path.suffix.lower() in (".yaml", ".yml"):
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError("class_table", path, " ".join(str(error).split())) from error
        rows = [(f"entry {number}", row) for number, row in enumerate(content if isinstance(content, list) else [], 1)]
    elif path.suffix.lower() == ".csv":
        reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
        rows = [(f"line {reader.line_num}", row) for row in reader]
    else:
        raise ConfigError("class_table", path, "must be a .csv or a .yaml file")
    for place, row in rows:
        if not isinstance(row, Mapping):
            raise ConfigError("class_table", path, f"{place}: must be a mapping, as in {{name: road, id: 0}}")
        cells = {str(column).strip().lower(): cell for column, cell in row.items()}
        for column in cells.keys() - set(COLUMNS):
            stray = "more cells than the header" if column == "none" else f"unknown column {column}"
            raise ConfigError("class_table", path, f"{place}: {stray}; known: {', '.join(COLUMNS)}")
        if any(cell not in (None, "") for cell in cells.values()):
            yield place, cells


def _add(table: ClassTable, row: Mapping[str, Any]) -> None:
    name, merged = (str(row.get(column) or "").strip() for column in ("name", "merged_into"))
    values = _values(row)
    target = merged or name
    if not target:
        raise _RowError("needs a name")
    if _flag(row.get("void")) or target.lower() == VOID:
        table.void += values
        return
    owned = table.classes.setdefault(target, [])
    owned += values
    colours = [value for value in values if isinstance(value, str)]
    if colours and name == target:
        table.palette.setdefault(target, rgb(colours[0]))


def _values(row: Mapping[str, Any]) -> list[int | str]:
    """Return a row's mask value and colour."""
    values: list[int | str] = []
    if (cell := row.get("id")) not in (None, ""):
        value = _whole(cell)
        if value is None or not 0 <= value <= MAX_VALUE:
            raise _RowError(f"id={cell} must be a mask value from 0 to {MAX_VALUE}")
        values.append(value)
    channels = [row.get(channel) for channel in "rgb"]
    given = [cell for cell in (row.get("colour"), row.get("color")) if cell not in (None, "")]
    given += [channels] if any(cell not in (None, "") for cell in channels) else []
    for cell in given:
        if (colour := parse_colour(cell)) is None:
            raise _RowError(f"colour={cell} must be #rrggbb, or three numbers from 0 to 255")
        values.append(colour)
    if not values:
        raise _RowError("needs an id or a colour, which masks hold")
    return values


def _flag(cell: object) -> bool:
    word = "" if cell is None else str(cell).strip().lower()
    if word not in YES + NO:
        raise _RowError(f"void={cell} must be true or false")
    return word in YES


def _whole(cell: object) -> int | None:
    text = str(cell).strip()
    return int(text) if not isinstance(cell, bool) and re.fullmatch(r"\d{1,9}", text) else None
