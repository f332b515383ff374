"""What an inspection says about a training: findings that stop it, that spoil it, and that are worth a look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Literal, get_args

from segdistill.data.inspection import Entry, Inspection
from segdistill.data.near_duplicates import MAX_PAIRS, nearest
from segdistill.data.sources.base import Sample

MAX_NAMED = 8  # classes named in one line
Level = Literal["stops", "spoils", "note"]


@dataclass(frozen=True)
class Finding:
    """Something that was found in the data.

    Attributes:
        level: "stops" if a training refuses the data, "spoils" if its result would mean little, or "note".
        text: What was found; if there are `cases`, what they have in common.
        mend: What to do about it.
        cases: One line for each file or pair of files at fault.
        pairs: The pairs of files, if the cases are pairs.
    """

    level: Level
    text: str
    mend: str = ""
    cases: Sequence[str] = ()
    pairs: Sequence[tuple[Sample, Sample]] = ()

    @property
    def line(self) -> str:
        """The finding in one line, with its first case."""
        more = f" (and {len(self.cases) - 1} more like it)" if len(self.cases) > 1 else ""
        found = f"{self.cases[0]}{more}" if self.cases else self.text
        return f"{found}; {self.mend}" if self.mend else found


def file_faults(faults: Sequence[str], level: Level = "stops") -> list[Finding]:
    """Return the finding of files that cannot be used, if there are any."""
    return [Finding(level, "files that cannot be used", cases=faults)] if faults else []


def findings(inspection: Inspection, *, allow_duplicates: bool = False) -> list[Finding]:
    """Return everything that was found, without the faults of single files, the gravest first.

    Args:
        inspection: Inspected samples.
        allow_duplicates: Whether an image in two splits is accepted.
    """
    found = [
        *_duplicates(inspection, "note" if allow_duplicates else "stops"),
        *_void_splits(inspection),
        *_jpeg_masks(inspection),
        *_single_class(inspection),
        *_near_duplicates(inspection),
        *_repeated(inspection),
        *_absent(inspection),
    ]
    return gravest_first(found)


def gravest_first(found: Sequence[Finding]) -> list[Finding]:
    """Sort findings by their level, and leave them in order otherwise."""
    return sorted(found, key=lambda finding: get_args(Level).index(finding.level))


def bounded(names: Sequence[str], most: int = MAX_NAMED) -> str:
    """Join the first names, and count the others.

    Example:
        >>> bounded(["car", "lane", "signal"], most=2)
        'car, lane and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(islice(names, most)) + more


def _duplicates(inspection: Inspection, level: Level) -> Iterator[Finding]:
    first: dict[str, Entry] = {}
    cases, pairs = [], []
    for entry in inspection.entries:
        if entry.measures is not None:
            earlier = first.setdefault(entry.measures.image, entry)
            if earlier.split != entry.split:
                held = f"{entry.split} holds the same image as {earlier.split}"
                cases.append(f"{entry.sample.image}: {held}, {earlier.sample.image}")
                pairs.append((entry.sample, earlier.sample))
    if cases:
        mend = "take it out of one, or allow it by data.allow_duplicates=true"
        yield Finding(level, "images that occur in two splits", mend, cases, pairs)


def _near_duplicates(inspection: Inspection) -> Iterator[Finding]:
    by_split = {
        split: [entry for entry in inspection.entries if entry.split == split and entry.measures and _look(entry)]
        for split in inspection.splits
    }
    cases, pairs = [], []
    for earlier, later in combinations(by_split, 2):
        former, latter = by_split[earlier], by_split[later]
        if len(former) * len(latter) > MAX_PAIRS:
            yield Finding("note", f"{later} and {earlier} are too large to look for near-duplicates between them")
            continue
        for index, other in nearest([_look(entry) for entry in latter], [_look(entry) for entry in former]):
            entry, alike = latter[index], former[other]
            if entry.measures and alike.measures and entry.measures.image != alike.measures.image:
                cases.append(f"{entry.sample.image}: {later} holds nearly the image of {earlier}, {alike.sample.image}")
                pairs.append((entry.sample, alike.sample))
    if cases:
        mend = "if they are copies, or neighbours in a video, leave them in one split"
        yield Finding("note", "images that look like one of another split", mend, cases, pairs)


def _look(entry: Entry) -> int:
    return (entry.measures and entry.measures.look) or 0


def _repeated(inspection: Inspection) -> Iterator[Finding]:
    for split, measures in inspection.splits.items():
        images = {entry.measures.image for entry in inspection.entries if entry.split == split and entry.measures}
        if len(images) < measures.images:
            repeated = measures.images - len(images)
            yield Finding(
                "note", f"data.splits.{split}: {repeated} of {measures.images} images repeat another one of this split"
            )


def _absent(inspection: Inspection) -> Iterator[Finding]:
    for split, measures in inspection.splits.items():
        absent = [name for name, images in zip(inspection.classes, measures.holding, strict=True) if not images]
        if measures.labelled and absent:
            count = f"{len(absent)} of {len(inspection.classes)} classes occur in no mask"
            yield Finding("note", f"data.splits.{split}: {count}: {bounded(absent)}")


def _void_splits(inspection: Inspection) -> Iterator[Finding]:
    for split, measures in inspection.splits.items():
        if not measures.faulty and not measures.pixels.any():
            yield Finding("stops", f"data.splits.{split}: every pixel of every mask is void; see data.void")


def _single_class(inspection: Inspection) -> Iterator[Finding]:
    measures = inspection.splits.get("train")
    if measures and not measures.faulty and len(inspection.classes) > 1 and (measures.holding > 0).sum() == 1:
        name = inspection.classes[int(measures.holding.argmax())]
        mend = "there is nothing to tell apart; see data.classes"
        yield Finding("spoils", f"data.splits.train: every labelled pixel is {name}", mend)


def _jpeg_masks(inspection: Inspection) -> Iterator[Finding]:
    cases = [
        f"{entry.sample.mask}: is a JPEG file, which blurs class ids around edges"
        for entry in inspection.entries
        if entry.measures and entry.measures.jpeg_mask
    ]
    if cases:
        yield Finding("spoils", "masks that are JPEG files", "make them anew as PNG", cases)
