"""Names of marks: near them, and on nothing else."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.transforms import Bbox

from segdistill.reporting.label_placement import place_labels

FRAME = np.array([0.0, 0.0, 400.0, 300.0])
NO_LINES = np.empty((0, 4))


def boxes(centres: np.ndarray, sizes: np.ndarray) -> list[Bbox]:
    return [Bbox.from_bounds(x - w / 2, y - h / 2, w, h) for (x, y), (w, h) in zip(centres, sizes, strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_names_cover_neither_marks_nor_names_nor_the_frame(seed: int) -> None:
    rng = np.random.default_rng(seed)
    marks = np.array([30.0, 20.0]) + rng.uniform(0, 1, (12, 2)) * [340, 260]
    marks[1] = marks[0] + [3, 0]  # one mark nearly on the other
    sizes = np.stack([rng.uniform(30, 110, 12), np.full(12, 11.0)], axis=1)
    centres, collides = place_labels(marks, 8.0, sizes, FRAME, NO_LINES)
    assert not collides
    names = boxes(centres, sizes)
    assert not any(a.overlaps(b) for a, b in combinations(names, 2))
    assert not any(name.overlaps(mark) for name in names for mark in boxes(marks, np.full_like(marks, 8.0)))
    assert all(name.x0 >= 0 and name.y0 >= 0 and name.x1 <= 400 and name.y1 <= 300 for name in names)
    again, _ = place_labels(marks, 8.0, sizes, FRAME, NO_LINES)
    np.testing.assert_array_equal(centres, again)


def test_a_name_stands_beside_a_lone_mark_and_keeps_off_a_line() -> None:
    marks, sizes = np.array([[200.0, 150.0]]), np.array([[60.0, 10.0]])
    free, _ = place_labels(marks, 8.0, sizes, FRAME, NO_LINES)
    assert abs(free[0, 0] - 200) <= 60
    assert abs(free[0, 1] - 150) <= 20
    level = np.array([[200.0, 150.0, 400.0, 150.0]])  # from the mark to the right
    kept, _ = place_labels(marks, 8.0, sizes, FRAME, level)
    assert abs(kept[0, 1] - 150) > 5 or kept[0, 0] < 200


def test_names_without_room_are_told() -> None:
    marks = np.array([[20.0, 20.0], [22.0, 20.0]])
    _, collides = place_labels(marks, 8.0, np.full((2, 2), 30.0), np.array([0.0, 0.0, 40.0, 40.0]), NO_LINES)
    assert collides


def test_no_marks_have_no_names() -> None:
    centres, collides = place_labels(np.empty((0, 2)), 8.0, np.empty((0, 2)), FRAME, NO_LINES)
    assert centres.shape == (0, 2)
    assert not collides
