"""Finds images and their masks in folders, flat or nested, and pairs them by name patterns."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segdistill.data.sources.base import Sample
from segdistill.utils.errors import UserError

MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
Key = tuple[str, str]
"""Folder and stem, which an image and its mask have in common."""


@dataclass(frozen=True)
class NamePattern:
    """A pattern of file names, such as "{stem}_mask"; without a suffix of its own it stands for all of `suffixes`.

    Attributes:
        text: Pattern with {stem} and, if it names folders too, {folder}.
        suffixes: Suffixes that files may have, in lower case.
        key: Key of the configuration that sets it.
    """

    text: str
    suffixes: tuple[str, ...]
    key: str

    def match(self, name: str) -> Key | None:
        """Return what a file "folder/name.suffix" has in common with its partner; None if it does not match.

        Example:
            >>> NamePattern("{stem}_mask", (".png",), "data.mask_name").match("town/001_mask.png")
            ('town', '001')
        """
        path = PurePosixPath(name)
        if path.suffix.lower() not in self.suffixes:
            return None
        text = name if self._has_suffix else name[: -len(path.suffix)]
        expression = re.escape(self._with_folder).replace(r"\{stem\}", "(?P<stem>[^/]+)")
        found = re.fullmatch(expression.replace(r"\{folder\}", "(?P<folder>.*)"), f"/{text}")
        return None if found is None else (found.groupdict().get("folder", "").strip("/"), found["stem"])

    def name(self, key: Key, suffix: str) -> str:
        """Return the name of the file that a key stands for, with this suffix unless the pattern has its own."""
        name = self._with_folder.replace("{folder}", f"/{key[0]}" if key[0] else "").replace("{stem}", key[1])
        return name.lstrip("/") + ("" if self._has_suffix else suffix)

    @property
    def _with_folder(self) -> str:
        """The pattern of a whole path, which begins with "/"; one that names no folder stands for files in any."""
        if "{folder}" not in self.text and "/" not in self.text:
            return f"{{folder}}/{self.text}"
        return self.text if self.text.startswith(("{folder}", "/")) else f"/{self.text}"

    @property
    def _has_suffix(self) -> bool:
        return PurePosixPath(self.text).suffix.lower() in self.suffixes


@dataclass(frozen=True)
class FoundFiles:
    """The files of a folder whose names match a pattern, sorted by name.

    Attributes:
        folder: Folder that was searched.
        pattern: Pattern of the names.
        keys: Path of each file, relative to the folder and with "/" -> what it has in common with its partner.
    """

    folder: Path
    pattern: NamePattern
    keys: dict[str, Key]

    @classmethod
    def search(cls, folder: Path, pattern: NamePattern, *, recursive: bool) -> FoundFiles:
        """Search a folder; hidden files and folders are left out.

        Raises:
            UserError: If there is no such folder, or no file in it that matches.
        """
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; see data.root and data.splits")
        names = sorted(_names(folder, recursive=recursive))
        found = {name: key for name in names if (key := pattern.match(name)) is not None}
        if not found:
            raise UserError(f"{folder}: holds no {', '.join(pattern.suffixes)} file{_why_none(folder, pattern, names)}")
        return cls(folder, pattern, found)

    def without(self, other: FoundFiles) -> FoundFiles:
        """Return the files that are not among those of another search as well."""
        taken = {other.folder / name for name in other.keys}
        return FoundFiles(
            self.folder, self.pattern, {n: k for n, k in self.keys.items() if self.folder / n not in taken}
        )

    def expected(self, key: Key) -> str:
        """Return the name that a file of a key would have, with the suffix of the first one that was found."""
        return self.pattern.name(key, PurePosixPath(next(iter(self.keys), "")).suffix)

    def by_key(self) -> dict[Key, Path]:
        """Return each file by its key.

        Raises:
            UserError: If two files have the same one.
        """
        paths: dict[Key, Path] = {}
        for name, key in self.keys.items():
            path = self.folder / name
            if key in paths:
                mend = f'one of them must go, or name its suffix, as in {self.pattern.key}="{self.pattern.text}.png"'
                raise UserError(f"{path}: has the same stem as {paths[key].name}; {mend}")
            paths[key] = path
        return paths

    def by_name(self) -> dict[str, list[Path]]:
        """Return the files by what a list may call them: their path, with or without suffix, or folder and stem."""
        paths: dict[str, list[Path]] = defaultdict(list)
        for name, (folder, stem) in self.keys.items():
            for alias in {name, name.rpartition(".")[0], f"{folder}/{stem}".lstrip("/")}:
                paths[alias].append(self.folder / name)
        return paths


def search_pair(
    images: Path, masks: Path, image_name: NamePattern, mask_name: NamePattern, *, recursive: bool
) -> tuple[FoundFiles, FoundFiles]:
    """Search the images and the masks of a split, which may lie in one folder, or one inside the other.

    Raises:
        UserError: If a folder is missing or has no such file, or nothing tells the masks from the images.
    """
    found = FoundFiles.search(images, image_name, recursive=recursive)
    labels = FoundFiles.search(masks, mask_name, recursive=recursive)
    if images in masks.parents:
        return found.without(labels), labels
    if masks in images.parents:
        return found, labels.without(found)
    if images == masks:
        if image_name.text == mask_name.text:
            wanted = 'data.image_name and data.mask_name must tell them apart, as in "{stem}.jpg" and "{stem}.png"'
            raise UserError(f"{images}: holds the images and the masks; {wanted}")
        return found.without(labels), labels
    return found, labels


def pair(images: FoundFiles, masks: FoundFiles) -> tuple[list[Sample], list[str]]:
    """Pair images and masks.

    Returns:
        The samples, sorted by folder and stem, and one line for each file without a partner.

    Raises:
        UserError: If two images or two masks have the same partner.
    """
    by_key = images.by_key(), masks.by_key()
    faults = [
        f"{path} has no {kind} in {partners.folder}; expected {partners.expected(key)}"
        for kind, paths, others, partners in (("mask", *by_key, masks), ("image", *by_key[::-1], images))
        for key, path in paths.items()
        if key not in others
    ]
    return [Sample(path, by_key[1][key]) for key, path in sorted(by_key[0].items()) if key in by_key[1]], faults


def _names(folder: Path, *, recursive: bool) -> Iterator[str]:
    """Yield the path of every file that is not hidden, relative to the folder."""
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        inner = Path(place).relative_to(folder)
        yield from ((inner / name).as_posix() for name in files if not name.startswith("."))


def _why_none(folder: Path, pattern: NamePattern, names: Sequence[str]) -> str:
    """Return the likely reason why no file matches."""
    fitting = [name for name in names if name.lower().endswith(pattern.suffixes)]
    if fitting:
        return f' that {pattern.key}="{pattern.text}" matches, as opposed to {fitting[0]}'
    if pattern.suffixes == MASK_SUFFIXES and any(name.lower().endswith((".jpg", ".jpeg")) for name in names):
        return "; a mask must not be a JPEG, which changes its values"
    deeper = not names and any(path.is_dir() for path in folder.iterdir())
    return "; it holds folders, which data.recursive=true searches" if deeper else ""
