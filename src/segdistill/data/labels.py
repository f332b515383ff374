"""Class names, colours and void; conversion of mask values to class ids and colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segdistill.config.class_table import MAX_VALUE
from segdistill.config.data import IGNORE_INDEX
from segdistill.utils.drawing import spread_colour
from segdistill.utils.image import read_colours, read_ids, read_mask

VOID_COLOUR = (0, 0, 0)
UNMAPPED = -1


@dataclass(frozen=True)
class LabelSet:
    """The classes of a dataset, in the order of their ids.

    Attributes:
        names: Name of each class.
        palette: (R, G, B) of each class, 0 to 255.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    def colourise(self, mask: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Convert class ids [H, W] to an RGB image, uint8 [H, W, 3]; void is black."""
        table = np.full((256, 3), VOID_COLOUR, np.uint8)
        table[: len(self.palette)] = self.palette
        return table[mask.astype(np.uint8)]


ROAD_SCENES = LabelSet(
    names=("background", "car", "signal", "pedestrian", "lane"),
    palette=((60, 60, 60), (0, 0, 255), (255, 255, 0), (255, 0, 0), (0, 220, 130)),
)


def label_set(names: Sequence[str], palette: Mapping[str, Sequence[int]]) -> LabelSet:
    """Build a LabelSet; a class without a colour gets one whose hue is far from its neighbours'."""
    colours = [palette.get(name) or spread_colour(index) for index, name in enumerate(names)]
    return LabelSet(tuple(names), tuple((int(r), int(g), int(b)) for r, g, b in colours))


@dataclass(frozen=True)
class MaskCoding:
    """What the pixels of mask files mean.

    Attributes:
        values: int16 [256], or [65536] if a mask value needs it: maps a mask value to its class id, to IGNORE_INDEX,
            or to UNMAPPED if it has no class.
        colours: int32 [N], ascending, colours as 0xRRGGBB.
        colour_ids: int16 [N], class id or IGNORE_INDEX of each colour.
        has_values: Whether classes own mask values; otherwise even masks of one channel are read as colours.
    """

    values: NDArray[np.int16]
    colours: NDArray[np.int32]
    colour_ids: NDArray[np.int16]
    has_values: bool = True

    @property
    def key(self) -> list[object]:
        """What a fingerprint of the coding depends on."""
        colours = [self.colours.tolist(), self.colour_ids.tolist(), self.has_values]
        return [self.values.tolist(), *(colours if len(self.colours) else [])]

    def read(self, path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Read a mask as it is stored: values, uint8 or uint16 [H, W], or colours, uint8 [H, W, 3]; upright.

        Raises:
            ImageError: If the file cannot be read, or holds neither values nor colours that the coding knows.
        """
        if not self.has_values:
            return read_colours(path)
        return read_mask(path) if len(self.colours) else read_ids(path)

    def class_ids(self, stored: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.int16]:
        """Return int16 [H, W]: class ids, IGNORE_INDEX for void, and UNMAPPED for what no class owns."""
        if stored.ndim == 3:
            codes = _colour_codes(stored)
            places = np.minimum(np.searchsorted(self.colours, codes), len(self.colours) - 1)
            return np.where(self.colours[places] == codes, self.colour_ids[places], np.int16(UNMAPPED))
        missing = np.iinfo(stored.dtype).max + 1 - len(self.values)
        return np.pad(self.values, (0, max(0, missing)), constant_values=UNMAPPED)[stored]

    def unmapped(self, stored: NDArray[np.uint8] | NDArray[np.uint16]) -> list[tuple[str, int]]:
        """Name every value or colour that no class owns, and its number of pixels; the most frequent first."""
        stray = stored[self.class_ids(stored) == UNMAPPED]
        values, counts = np.unique(_colour_codes(stray) if stored.ndim == 3 else stray, return_counts=True)
        kind = "#{:06x}" if stored.ndim == 3 else "{}"
        return [(kind.format(int(values[place])), int(counts[place])) for place in np.argsort(-counts, kind="stable")]


def mask_coding(classes: Mapping[str, Any], void: Sequence[int | str]) -> MaskCoding:
    """Build the coding of masks from `data.classes` and `data.void`: mask values, and colours as "#rrggbb"."""
    owners = [(IGNORE_INDEX, value) for value in void]
    for index, values in enumerate(classes.values()):
        owners += [(index, value) for value in (values if isinstance(values, list | tuple) else [values])]
    colours = sorted((int(value[1:], 16), index) for index, value in owners if isinstance(value, str))
    values = [(value, index) for index, value in owners if isinstance(value, int)]
    table = np.full(256 if all(value < 256 for value, _ in values) else MAX_VALUE + 1, UNMAPPED, np.int16)
    for value, index in values:
        table[value] = index
    return MaskCoding(
        values=table,
        colours=np.array([colour for colour, _ in colours], np.int32),
        colour_ids=np.array([index for _, index in colours], np.int16),
        has_values=not colours or any(index != IGNORE_INDEX for _, index in values),
    )


def _colour_codes(colours: NDArray[np.integer]) -> NDArray[np.int32]:
    """Convert RGB, uint8 [..., 3], to 0xRRGGBB, int32 [...]."""
    red, green, blue = (colours[..., channel].astype(np.int32) for channel in range(3))
    return (red << 16) | (green << 8) | blue
