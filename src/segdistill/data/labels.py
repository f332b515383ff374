"""Class names, colours and void; conversion of mask values to class ids and colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segdistill.config.data import IGNORE_INDEX

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
    colours = [palette.get(name) or _spread_colour(index) for index, name in enumerate(names)]
    return LabelSet(tuple(names), tuple((int(r), int(g), int(b)) for r, g, b in colours))


def _spread_colour(index: int) -> list[int]:
    """Return a colour of the VOC colour map: the id's bits, distributed over the channels from the top bit down."""
    value, colour = index + 1, [0, 0, 0]
    for bit in range(7, -1, -1):
        for channel in range(3):
            colour[channel] |= (value & 1) << bit
            value >>= 1
    return colour


def label_lut(classes: Mapping[str, int | Sequence[int]], void: Sequence[int]) -> NDArray[np.int16]:
    """Return int16 [256] that maps a mask value to its class id, to IGNORE_INDEX, or to UNMAPPED if it has no class."""
    table = np.full(256, UNMAPPED, np.int16)
    table[list(void)] = IGNORE_INDEX
    for index, values in enumerate(classes.values()):
        table[values if isinstance(values, int) else list(values)] = index
    return table
