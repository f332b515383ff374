"""check.html: what was found in a dataset, its classes and sizes, and images of every split with their masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segdistill import __version__
from segdistill.data.findings import Finding
from segdistill.data.inspection import Entry, Inspection
from segdistill.data.labels import LabelSet
from segdistill.data.sources.base import Sample
from segdistill.reporting.figures import class_shares
from segdistill.reporting.page import data_url, drawn, environment
from segdistill.utils.drawing import blend
from segdistill.utils.image import resized_ids, resized_rgb
from segdistill.utils.io import atomic_write

TILES, CLASS_TILES, ALIKE_SHOWN, CASES_SHOWN, SIZES_SHOWN = 12, 40, 8, 50, 8
TILE_WIDTH, GAP = 300, 4  # pixels
OPACITY, DIMMED = 0.6, 0.25


@dataclass(frozen=True)
class Tile:
    """An image of the page.

    Attributes:
        url: The image itself, as an address.
        caption: Name of its file, and what is to be seen.
        title: Path of its file.
    """

    url: str
    caption: str
    title: str


def write_data_page(
    path: Path, name: str, labels: LabelSet, inspection: Inspection | None, found: Sequence[Finding]
) -> None:
    """Write a page of what was found in a dataset, which needs no other file.

    Args:
        path: File to write.
        name: Name of the dataset.
        labels: Names and colours of the classes.
        inspection: Inspected samples; None if they could not be paired.
        found: Everything that was found, the gravest first.
    """
    values = {
        "name": name,
        "found": found,
        "labels": labels,
        "version": __version__,
        "cases_shown": CASES_SHOWN,
        "sizes_shown": SIZES_SHOWN,
        "figure": None,
        "splits": {},
        "sheets": {},
        "class_tiles": [],
        "alike": [],
    }
    if inspection is not None:
        values |= _parts(inspection, labels, found)
    page = environment().get_template("data.html.j2").render(values)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _parts(inspection: Inspection, labels: LabelSet, found: Sequence[Finding]) -> dict[str, Any]:
    """Return what the page shows of the samples."""
    shares = {split: measures.shares for split, measures in inspection.splits.items() if measures.labelled}
    return {
        "splits": inspection.splits,
        "figure": drawn(class_shares(shares, labels.names)) if shares else None,
        "sheets": {split: list(_sheet(inspection, split, labels)) for split in inspection.splits},
        "class_tiles": list(_of_classes(inspection, labels)),
        "alike": list(_alike(inspection, found)),
    }


def overlay(image: NDArray[np.uint8], ids: NDArray[np.uint8], labels: LabelSet) -> NDArray[np.uint8]:
    """Blend the colours of class ids, uint8 [H, W], over an image, uint8 [H, W, 3]; void is dark."""
    return blend(image, labels.colourise(ids), OPACITY)


def _sheet(inspection: Inspection, split: str, labels: LabelSet) -> Iterator[Tile]:
    """Yield images of a split, evenly spaced, each beside its mask."""
    usable = [entry for entry in inspection.entries if entry.split == split and entry.measures]
    places = np.unique(np.linspace(0, len(usable) - 1, min(TILES, len(usable))).round().astype(int))
    for place in places:
        image, ids = _small(*inspection.read(usable[place].sample))
        panels = [image] if ids is None else [image, overlay(image, ids, labels)]
        yield _tile(panels, usable[place].sample, "" if ids is not None else ", without a mask")


def _of_classes(inspection: Inspection, labels: LabelSet) -> Iterator[Tile]:
    """Yield, for each class, the image that it fills most, with everything else dimmed."""
    for index, name in islice(enumerate(labels.names), CLASS_TILES):
        share, entry = max(((_share(entry, index), entry) for entry in inspection.entries), key=lambda pair: pair[0])
        if share:
            image, ids = _small(*inspection.read(entry.sample))
            there = np.asarray(ids == index)[..., None]
            shown = np.where(there, overlay(image, np.full(image.shape[:2], index, np.uint8), labels), DIMMED * image)
            yield _tile([shown.astype(np.uint8)], entry.sample, f", {share:.1%} of {entry.split}'s image", name)


def _share(entry: Entry, index: int) -> float:
    if entry.measures is None:
        return 0.0
    height, width = entry.measures.size
    return entry.measures.pixels.get(index, 0) / (height * width)


def _alike(inspection: Inspection, found: Sequence[Finding]) -> Iterator[Tile]:
    """Yield pairs of images of different splits that are, or look, the same."""
    for finding in found:
        for one, other in islice(finding.pairs, ALIKE_SHOWN):
            panels = [_small(*inspection.read(sample))[0] for sample in (one, other)]
            height = min(panel.shape[0] for panel in panels)
            yield _tile([panel[:height] for panel in panels], one, f" and {other.image}")


def _small(
    image: NDArray[np.uint8], ids: NDArray[np.uint8] | None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    height = max(1, round(image.shape[0] * TILE_WIDTH / image.shape[1]))
    size = (min(height, 2 * TILE_WIDTH), TILE_WIDTH)
    return resized_rgb(image, size), None if ids is None else resized_ids(ids, size)


def _tile(panels: Sequence[NDArray[np.uint8]], sample: Sample, remark: str, name: str = "") -> Tile:
    gap = np.full((panels[0].shape[0], GAP, 3), 255, np.uint8)
    row = np.hstack([part for panel in panels for part in (panel, gap)][:-1])
    return Tile(data_url(Image.fromarray(row)), f"{name}: {sample.image.name}{remark}".lstrip(": "), str(sample.image))
