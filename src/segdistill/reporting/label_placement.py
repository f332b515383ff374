"""Where the names of marks stand in a figure, so that none covers a mark or another name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DISTANCES = (7, 10, 14, 20, 28, 38, 50, 68, 90, 115, 145, 180)  # points from a mark to the edge of its name
SHIFTS = np.linspace(-1.4, 1.4, 15)  # of a name above or below its mark, in halves of its width
ASIDE, CROSSED_LINE, CROSSED_LEADER, COLLISION = 4.0, 30.0, 110.0, 1e4
"""What is added to a name's distance: for a shift by half its width, for each line and leader, for what it covers."""

SWEEPS = 6  # times that each name is moved to where it costs least, given the others
Floats = NDArray[np.float64]


def place_labels(
    marks: Floats, mark_size: float, sizes: Floats, frame: Floats, lines: Floats, *, padding: float = 2.0
) -> tuple[Floats, bool]:
    """Choose where each name stands: near its mark, inside the frame, on no mark, on no other name, best on no line.

    Each name in turn takes the cheapest of a fixed set of places around its mark, given where the others stand, until
    none moves; the same input always gives the same places.

    Args:
        marks: Centre (x, y) of each of the P marks, in points, float64 [P, 2].
        mark_size: Width and height of a mark.
        sizes: Width and height of each name, [P, 2].
        frame: Left, bottom, right and top of the area, [4].
        lines: Both ends of each of the L segments that a name had better not cross, [L, 4]: x0, y0, x1, y1.
        padding: What stays free around each name.

    Returns:
        Centre of each name, float64 [P, 2], and whether some name had to cover something or leave the frame.
    """
    mark_boxes = _boxes(marks, np.full_like(marks, mark_size))
    chosen: list[int | None] = [None] * len(marks)
    efforts, centres = _candidates(marks, sizes)
    boxes = [_boxes(centre, size + 2 * padding) for centre, size in zip(centres, sizes, strict=True)]
    leaders = [np.hstack([np.broadcast_to(mark, c.shape), c]) for mark, c in zip(marks, centres, strict=True)]
    costs = np.zeros(len(marks))
    for _ in range(SWEEPS):
        before = list(chosen)
        for this in range(len(marks)):
            placed = [(other, place) for other, place in enumerate(chosen) if other != this and place is not None]
            names = np.array([boxes[other][place] for other, place in placed]).reshape(-1, 4)
            drawn = np.array([leaders[other][place] for other, place in placed]).reshape(-1, 4)
            others = np.concatenate([names, np.delete(mark_boxes, this, axis=0)])
            box, leader = boxes[this], leaders[this]
            outside = (box[:, :2] < frame[:2]).any(axis=1) | (box[:, 2:] > frame[2:]).any(axis=1)
            covered = _overlap(box, np.concatenate([names, mark_boxes])).sum(axis=1) + outside
            hidden = _enters(leader, others).sum(axis=1) + _enters(drawn, box).sum(axis=0) + _cross(leader, drawn)
            cost = efforts + COLLISION * covered + CROSSED_LEADER * hidden
            cost += CROSSED_LINE * _enters(lines, box).sum(axis=0)
            chosen[this], costs[this] = int(cost.argmin()), cost.min()
        if chosen == before:
            break
    places = [centre[place] for centre, place in zip(centres, chosen, strict=True)]
    return np.array(places).reshape(-1, 2), bool((costs >= COLLISION).any())


def _candidates(marks: Floats, sizes: Floats) -> tuple[Floats, list[Floats]]:
    """Return what each of N places costs by itself, [N], and their centres, [N, 2], for each mark."""
    stacked = [(shift, way, 0.0, way) for way in (1.0, -1.0) for shift in SHIFTS]
    forms = np.array([(1.0, 0.0, 1.0, 0.0), (-1.0, 0.0, -1.0, 0.0), *stacked])  # in halves of the size, in distances
    distances = np.repeat(np.array(DISTANCES, np.float64), len(forms))[:, None]
    halves, ways = (np.tile(part, (len(DISTANCES), 1)) for part in (forms[:, :2], forms[:, 2:]))
    efforts = distances[:, 0] + ASIDE * np.abs(halves[:, 0]) * (ways[:, 0] == 0)
    return efforts, [mark + halves * size / 2 + ways * distances for mark, size in zip(marks, sizes, strict=True)]


def _boxes(centres: Floats, sizes: Floats) -> Floats:
    """Return left, bottom, right and top, [N, 4], of boxes given by centre and size."""
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)


def _overlap(boxes: Floats, others: Floats) -> NDArray[np.bool_]:
    """Return which of N boxes overlap which of M others, bool [N, M]."""
    a, b = boxes[:, None], others[None]
    within: NDArray[np.bool_] = (a[..., :2] < b[..., 2:]) & (b[..., :2] < a[..., 2:])
    return within[..., 0] & within[..., 1]


def _enters(segments: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """Return which of N segments have a part within which of M boxes, bool [N, M], by clipping at the box's sides."""
    start, along = segments[:, None, :2], segments[:, None, 2:] - segments[:, None, :2]
    along = np.where(along == 0, 1e-12, along)
    low, high = (boxes[None, :, :2] - start) / along, (boxes[None, :, 2:] - start) / along
    enter, leave = np.minimum(low, high).max(axis=-1), np.maximum(low, high).min(axis=-1)
    inside: NDArray[np.bool_] = np.maximum(enter, 0) < np.minimum(leave, 1)
    return inside


def _cross(segments: Floats, others: Floats) -> NDArray[np.int64]:
    """Return how many of the others each segment crosses, int64 [N]."""
    a, b = segments[:, None, :2], segments[:, None, 2:]
    c, d = others[None, :, :2], others[None, :, 2:]
    parted = (_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)
    counts: NDArray[np.int64] = parted.sum(axis=1)
    return counts


def _side(start: Floats, end: Floats, point: Floats) -> Floats:
    """Return on which side of a line points lie, by sign."""
    along, to = end - start, point - start
    return along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0]
