"""Miniatures of public data sets, in the files and folders in which they are published, with what their masks mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

VOID = 255
ORIENTATION = 0x0112
Truth = dict[str, dict[str, NDArray[np.uint8]]]
"""Split -> stem of each image -> its class ids [H, W], 255 for void, as a run sees them."""

VOC_CLASSES = 21
CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
SIZES = ((37, 50), (50, 37), (41, 45), (33, 49))
"""[H, W] of the images, in turn."""


def draw(name: str, size: tuple[int, int], classes: int, void: bool = True) -> tuple[NDArray[np.uint8], Image.Image]:
    """Return blobs of class ids, with a frame of void, and an image of their colours; both depend on the name alone."""
    rng = np.random.default_rng([*name.encode()])
    cells = rng.integers(0, classes, (4, 5)).astype(np.uint8)
    cells[0, :2] = (0, 1)  # every set has these two everywhere
    ids = np.array(Image.fromarray(cells).resize(size[::-1], Image.Resampling.NEAREST))
    colours = rng.integers(0, 256, (256, 3))[ids] + rng.normal(0, 8, (*size, 3))
    if void:
        ids[[0, -1]] = VOID
    return ids, Image.fromarray(colours.clip(0, 255).astype(np.uint8))


def save(image: Image.Image, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def voc_palette() -> list[int]:
    """The colour map of VOC's development kit: bit k of channel c of colour i is bit 3 (7 - k) + c of i."""
    return [sum((i >> 3 * (7 - k) + c & 1) << k for k in range(8)) for i in range(256) for c in range(3)]


def voc2012(root: Path, counts: Mapping[str, int] | None = None) -> Truth:
    """JPEGs, palette PNGs with a void of 255, and lists; detection images without masks lie between them."""
    truth: Truth = {}
    for split, count in (counts or {"train": 5, "val": 3}).items():
        truth[split] = {}
        for index in range(count):
            stem = f"2007_{len(truth)}{index:05}"
            ids, image = draw(stem, SIZES[index % len(SIZES)], VOC_CLASSES)
            mask = Image.fromarray(ids, "P")
            mask.putpalette(voc_palette())
            save(image, root / "JPEGImages" / f"{stem}.jpg")
            save(mask, root / "SegmentationClass" / f"{stem}.png")
            save(mask, root / "SegmentationObject" / f"{stem}.png")
            truth[split][stem] = ids
        write_lines(root / "ImageSets" / "Segmentation" / f"{split}.txt", [*truth[split]])
    save(draw("2008_000001", SIZES[0], 2)[1], root / "JPEGImages" / "2008_000001.jpg")
    write_lines(root / "ImageSets" / "Main" / "train.txt", ["2008_000001"])
    return truth


def pets(root: Path) -> Truth:
    """JPEGs, trimaps (1 pet, 2 background, 3 border), lists with a header's comments and four columns."""
    truth: Truth = {"train": {}, "test": {}}
    for split, listed, count in (("train", "trainval", 20), ("test", "test", 3)):
        for index in range(count):
            stem = f"{'Abyssinian' if index % 2 else 'american_bulldog'}_{100 * (split == 'test') + index}"
            ids, image = draw(stem, SIZES[index % len(SIZES)], 2)
            trimap = np.select([ids == 0, ids == 1], [2, 1], 3).astype(np.uint8)
            save(image, root / "images" / f"{stem}.jpg")
            save(Image.fromarray(trimap), root / "annotations" / "trimaps" / f"{stem}.png")
            truth[split][stem] = ids
        lines = [f"{stem} {index + 1} 1 1" for index, stem in enumerate(truth[split])]
        write_lines(root / "annotations" / f"{listed}.txt", lines)
    write_lines(root / "annotations" / "list.txt", ["#Image CLASS-ID SPECIES BREED ID", "#ID: 1:37 Class ids"])
    (root / "annotations" / "trimaps" / "._Abyssinian_1.png").write_bytes(b"\0\5\x16\7")  # as macOS packed them
    (root / "images" / "Abyssinian_1.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    return truth


def ade20k(root: Path) -> Truth:
    """JPEGs and PNGs of the ids 1 to 150, 0 for void; two images are stored turned, the mask of one of them as well."""
    truth: Truth = {"train": {}, "val": {}}
    for split, folder, count in (("train", "training", 5), ("val", "validation", 3)):
        for index in range(count):
            stem = f"ADE_{split}_{index + 1:08}"
            ids, image = draw(stem, SIZES[index % len(SIZES)], 150)
            exif = Image.Exif()
            if index == 1:  # the mask was drawn over the stored pixels
                exif[ORIENTATION] = 6
            if index == 2:  # the mask was drawn over what a viewer shows
                exif[ORIENTATION] = 6
                image = image.transpose(Image.Transpose.ROTATE_90)
            values = np.where(ids == VOID, 0, ids + 1).astype(np.uint8)
            save(image, root / "images" / folder / f"{stem}.jpg", exif=exif, quality=95)
            save(Image.fromarray(values), root / "annotations" / folder / f"{stem}.png")
            truth[split][stem] = ids
    write_lines(root / "objectInfo150.txt", ["Idx\tRatio\tTrain\tVal\tName"])
    return truth


def cityscapes(root: Path) -> Truth:
    """PNGs in a folder for each city, with labelIds, instanceIds and colours; the masks of test hold no labels."""
    truth: Truth = {"train": {}, "val": {}}
    cities = (("train", "aachen", 3), ("train", "ulm", 2), ("val", "munster", 2), ("test", "bonn", 1))
    for split, city, count in cities:
        for index in range(count):
            stem = f"{city}_{index:06}_000019"
            ids, image = draw(stem, (32, 64), len(CITYSCAPES_LABEL_IDS))
            table = np.full(256, 4, np.uint8)  # "static", which is not evaluated
            table[: len(CITYSCAPES_LABEL_IDS)] = CITYSCAPES_LABEL_IDS
            values = table[ids] if split != "test" else np.zeros_like(ids)
            save(image, root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png")
            place = root / "gtFine" / split / city
            save(Image.fromarray(values), place / f"{stem}_gtFine_labelIds.png")
            save(Image.fromarray(values.astype(np.uint16) * 1000), place / f"{stem}_gtFine_instanceIds.png")
            save(image.convert("RGBA"), place / f"{stem}_gtFine_color.png")
            if split in truth:
                truth[split][stem] = ids
    return truth


def camvid(root: Path) -> Truth:
    """PNGs of SegNet's 11-class split: ids 0 to 10, 11 for void."""
    truth: Truth = {}
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        truth[split] = {}
        for index in range(count):
            stem = f"0001TP_{len(truth)}{index:05}"
            ids, image = draw(stem, (36, 48), 11)
            save(image, root / split / f"{stem}.png")
            save(
                Image.fromarray(np.where(ids == VOID, 11, ids).astype(np.uint8)), root / f"{split}annot" / f"{stem}.png"
            )
            truth[split][stem] = ids
    return truth
