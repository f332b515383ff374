"""Two engines on one image: what each says, where they differ, and both drawn over the image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segdistill.inference.demo.engines import Engine
from segdistill.inference.demo.uploads import as_shown, shown_size
from segdistill.utils.drawing import blend, spread_colour
from segdistill.utils.preprocessing import IGNORE_INDEX

GREY = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601


@dataclass(frozen=True)
class Side:
    """What an engine says of an image.

    Attributes:
        mask: Class ids, uint8 [H, W].
        classes: Class names by id.
    """

    mask: NDArray[np.uint8]
    classes: Sequence[str]


@dataclass(frozen=True)
class Comparison:
    """An image, uint8 [H, W, 3], and its left and right side; a side that is None is the image alone."""

    image: NDArray[np.uint8]
    sides: tuple[Side | None, Side | None]

    @property
    def differing(self) -> NDArray[np.bool_] | None:
        """Pixels [H, W] on which the sides differ, though both see them; None if they do not know the same classes."""
        left, right = self.sides
        if left is None or right is None or list(left.classes) != list(right.classes):
            return None
        seen = (left.mask != IGNORE_INDEX) & (right.mask != IGNORE_INDEX)
        differing: NDArray[np.bool_] = seen & (left.mask != right.mask)
        return differing

    @property
    def share_differing(self) -> float | None:
        """Share of pixels, from 0 to 1, on which the sides differ; None if they do not know the same classes."""
        differing = self.differing
        return None if differing is None else float(differing.mean())


def compare(image: NDArray[np.uint8], left: Engine | None, right: Engine | None) -> Comparison:
    """Segment an image of any size, uint8 [H, W, 3] RGB, with up to two engines; masks have the size that is shown.

    Raises:
        UserError: If an engine cannot process the image.
    """
    size = shown_size(image)
    left_side, right_side = (
        None if engine is None else Side(engine(image, size), engine.classes) for engine in (left, right)
    )
    return Comparison(as_shown(image), (left_side, right_side))


def legend(engines: Sequence[Engine | None]) -> dict[str, list[int]]:
    """Return the colour of each class of some engines, by name; the first engine that knows a class decides."""
    colours: dict[str, list[int]] = {}
    for engine in engines:
        for name, colour in zip(engine.classes, engine.colours, strict=True) if engine else ():
            colours.setdefault(name, colour)
    return colours


def draw(
    comparison: Comparison,
    colours: dict[str, list[int]],
    shown: Collection[str],
    *,
    opacity: float,
    only_differing: bool = False,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw both masks over the image, uint8 [H, W, 3] each.

    Args:
        comparison: Image and masks.
        colours: Colour of each class, by name.
        shown: Names of the classes to be drawn. Ids without a name are always drawn, void never.
        opacity: Opacity of the colours, from 0 to 1.
        only_differing: Whether to draw only pixels on which the masks differ, over a grey image.
    """
    image, where = comparison.image, np.ones(comparison.image.shape[:2], np.bool_)
    if only_differing and (differing := comparison.differing) is not None:
        where, image = differing, np.repeat((image @ GREY).round().astype(np.uint8)[..., None], 3, axis=2)
    left, right = (
        image if side is None else _drawn(image, side, colours, shown, opacity * where) for side in comparison.sides
    )
    return left, right


def _drawn(
    image: NDArray[np.uint8],
    side: Side,
    colours: dict[str, list[int]],
    shown: Collection[str],
    opacity: NDArray[np.floating],
) -> NDArray[np.uint8]:
    table = np.array([spread_colour(index) for index in range(256)], np.uint8)
    visible = np.ones(256)
    visible[IGNORE_INDEX] = 0
    for index, name in enumerate(side.classes):
        table[index], visible[index] = colours[name], name in shown
    return blend(image, table[side.mask], (opacity * visible[side.mask])[..., None])
