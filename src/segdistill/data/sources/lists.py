"""Reads lists of the images of a split, and finds each image and its mask."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from segdistill.data.sources.base import Sample
from segdistill.data.sources.layout import FoundFiles, Key
from segdistill.utils.errors import UserError, first_line

COMMENT = "#"


def pair_listed(images: FoundFiles, masks: FoundFiles, listing: Path) -> tuple[list[Sample], list[str]]:
    """Pair the images that a list names, in its order.

    An entry is an image's stem or its path, with or without suffix; a second word that ends as a mask does names its
    mask, and what else follows the first word is left out.

    Returns:
        The samples, and one line for each entry without an image or without a mask.

    Raises:
        UserError: If the list cannot be read, or names nothing.
    """
    image_names, mask_names = images.by_name(), masks.by_name()
    image_keys = {images.folder / name: key for name, key in images.keys.items()}
    mask_keys: dict[Key, list[Path]] = defaultdict(list)
    for name, key in masks.keys.items():
        mask_keys[key].append(masks.folder / name)
    samples, faults = [], []
    for number, entry in _entries(listing):
        name, *others = entry.split()
        found = _looked_up(image_names, entry, images.folder) or _looked_up(image_names, name, images.folder)
        if len(found) != 1:
            what = f"may be {' or '.join(path.name for path in found)}" if found else "is no image"
            faults.append(f"{listing} line {number}: {entry} {what} in {images.folder}")
            continue
        key = image_keys[found[0]]
        given = next((word for word in others if word.lower().endswith(masks.pattern.suffixes)), None)
        partners = mask_keys[key] if given is None else _looked_up(mask_names, given, masks.folder)
        if len(partners) != 1:
            expected = f"expected {given or masks.expected(key)}"
            faults.append(
                f"{listing} line {number}: {found[0]} has {len(partners) or 'no'} mask in {masks.folder}; {expected}"
            )
            continue
        samples.append(Sample(found[0], partners[0]))
    return samples, faults


def _looked_up(paths: dict[str, list[Path]], name: str, folder: Path) -> Sequence[Path]:
    """Return the files that a name of a list stands for; it may begin with folders above the one that was searched."""
    parts = PurePosixPath(name).parts
    above = folder.as_posix().strip("/").split("/")
    for count in range(len(parts)):
        if list(parts[:count]) == above[len(above) - count :] and (found := paths.get("/".join(parts[count:]))):
            return found
    return ()


def _entries(listing: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is neither blank nor a comment."""
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else first_line(error)
        raise UserError(f"{listing}: cannot be read as a list of images ({reason}); see data.splits") from error
    entries = [(number, line.strip()) for number, line in enumerate(lines, 1)]
    entries = [(number, entry) for number, entry in entries if entry and not entry.startswith(COMMENT)]
    if not entries:
        raise UserError(f"{listing}: names no image; it needs one a line")
    yield from entries
