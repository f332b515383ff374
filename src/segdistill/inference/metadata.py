"""Metadata of an exported file: JSON texts by name, parsed strictly."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from segdistill.utils.preprocessing import Preprocessing

MAX_CLASSES = 256  # ids are uint8
EXCERPT = 60


def read_classes(metadata: Mapping[str, str]) -> list[str]:
    """Return the class names by id; empty if the metadata has none.

    Raises:
        ValueError: If they are not a list of names, or too many.
    """
    names = _parsed(metadata, "classes", "[]")
    valid = isinstance(names, list) and len(names) <= MAX_CLASSES and all(isinstance(name, str) for name in names)
    _require(valid, metadata, "classes", f"must be a list of at most {MAX_CLASSES} names")
    return list(names)


def read_palette(metadata: Mapping[str, str]) -> list[list[int]]:
    """Return the colours [R, G, B] by class id; empty if the metadata has none.

    Raises:
        ValueError: If they are not a list of colours, or too many.
    """
    colours = _parsed(metadata, "palette", "[]")
    valid = isinstance(colours, list) and len(colours) <= MAX_CLASSES and all(map(_is_colour, colours))
    _require(valid, metadata, "palette", f"must be a list of at most {MAX_CLASSES} [R, G, B], each from 0 to 255")
    return [list(colour) for colour in colours]


def write_preprocessing(preprocessing: Preprocessing) -> str:
    """Return the text from which `read_preprocessing` restores what is done to images."""
    return json.dumps({**asdict(preprocessing), "interpolation": "bilinear, antialiased"})


def read_preprocessing(metadata: Mapping[str, str]) -> Preprocessing | None:
    """Return what is done to images before the network sees them; None if the metadata does not tell.

    Raises:
        ValueError: If it is not valid.
    """
    steps = _parsed(metadata, "preprocessing", "{}")
    _require(isinstance(steps, dict), metadata, "preprocessing", "must be an object")
    size = steps.get("resize")
    if size is None:
        return None
    valid = isinstance(size, list) and len(size) == 2 and all(_is_integer(side) and side >= 1 for side in size)
    _require(valid, metadata, "preprocessing", "its resize must be [height, width]")
    cut, gamma = steps.get("cut_bottom", 0), steps.get("gamma", 1.0)
    valid = _is_integer(cut) and cut < size[0]
    _require(valid, metadata, "preprocessing", "its cut_bottom must be a number of rows, fewer than resize has")
    valid = isinstance(gamma, int | float) and not isinstance(gamma, bool) and 0 < gamma < math.inf
    _require(valid, metadata, "preprocessing", "its gamma must be a number above 0")
    return Preprocessing((size[0], size[1]), cut, gamma)


def _parsed(metadata: Mapping[str, str], name: str, default: str) -> Any:
    try:
        return json.loads(metadata.get(name, default))
    except (ValueError, RecursionError):
        _require(False, metadata, name, "must be JSON")


def _require(valid: bool, metadata: Mapping[str, str], name: str, wanted: str) -> None:
    if not valid:
        text = metadata[name]
        shown = text if len(text) <= EXCERPT else f"{text[:EXCERPT]}..."
        raise ValueError(f"{name}={shown!r}: {wanted}")


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_integer(level) and level < 256 for level in value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
