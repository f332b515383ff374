"""Sheets of panels: predictions above their errors; the image can be taken off again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segdistill.data.labels import ROAD_SCENES, LabelSet
from segdistill.reporting.palette import CONFUSED, INVENTED, MISSED
from segdistill.reporting.panels import error_map, prediction_sheet
from segdistill.utils.drawing import first_panel
from segdistill.utils.errors import UserError

TRUTH = np.array([[0, 0, 1, 1, 2], [2, 1, 0, 255, 254]], np.uint8)
PREDICTED = np.array([[0, 1, 0, 2, 2], [0, 1, 2, 1, 0]], np.uint8)


def test_every_kind_of_error_is_told() -> None:
    assert error_map(TRUTH, PREDICTED, background=0).tolist() == [[0, 2, 1, 3, 0], [1, 0, 2, 0, 0]]
    assert error_map(TRUTH, PREDICTED, background=1).tolist() == [[0, 1, 2, 2, 0], [3, 0, 3, 0, 0]]


def test_without_a_background_every_error_is_a_wrong_class() -> None:
    assert error_map(TRUTH, PREDICTED).tolist() == [[0, 3, 3, 3, 0], [3, 0, 3, 0, 0]]


@pytest.mark.parametrize(("first", "colours"), [("background", {MISSED, INVENTED, CONFUSED}), ("road", {CONFUSED})])
def test_a_sheet_has_a_column_for_each_network_with_its_errors_below(
    first: str, colours: set[tuple[int, int, int]]
) -> None:
    labels = LabelSet((first, "car", "lane"), ((1, 1, 1), (0, 0, 200), (0, 200, 0)))
    height, width = 37, 121
    truth, predicted = (np.zeros((height, width), np.uint8) for _ in range(2))
    truth[:, :5], predicted[:, 3:9] = 1, 2  # missed, another class, invented
    truth[0] = 255
    image = np.full((height, width, 3), 200, np.uint8)
    sheet = np.asarray(prediction_sheet(image, truth, {"teacher": truth, "student": predicted}, labels))
    bar, gap = 22, 4
    assert sheet.shape[1] == 3 * width + 2 * gap
    assert sheet.shape[0] >= 2 * (bar + height) + bar

    def panel(column: int, row: int) -> np.ndarray:
        top, left = row * (bar + height) + bar, column * (width + gap)
        return sheet[top : top + height, left : left + width]

    np.testing.assert_array_equal(panel(0, 0), image)
    np.testing.assert_array_equal(panel(0, 1), labels.colourise(truth))
    np.testing.assert_array_equal(panel(2, 0), labels.colourise(predicted))
    right, wrong = panel(1, 1), panel(2, 1)
    assert len(np.unique(right.reshape(-1, 3), axis=0)) == 1  # the image, which is grey all over
    found = {tuple(int(level) for level in colour) for colour in np.unique(wrong.reshape(-1, 3), axis=0)}
    assert found == colours | {tuple(int(level) for level in right[0, 0])}
    if first == "background":
        np.testing.assert_array_equal(wrong[1, 0], MISSED)
        np.testing.assert_array_equal(wrong[1, 4], CONFUSED)
        np.testing.assert_array_equal(wrong[1, 7], INVENTED)
    np.testing.assert_array_equal(wrong[0], right[0])  # void


def test_the_first_panel_comes_back_bit_for_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image, truth = rng.integers(0, 256, (31, 47, 3), np.uint8), rng.integers(0, 5, (31, 47), np.uint8)
    prediction_sheet(image, truth, {"student": truth}, ROAD_SCENES).save(tmp_path / "sheet.png")
    np.testing.assert_array_equal(first_panel(tmp_path / "sheet.png", (31, 47)), image)


@pytest.mark.parametrize("size", [(31, 46), (31, 200), (500, 47)])
def test_a_sheet_of_other_panels_is_named(size: tuple[int, int], tmp_path: Path) -> None:
    image = np.zeros((31, 47, 3), np.uint8)
    prediction_sheet(image, image[..., 0], {}, ROAD_SCENES).save(tmp_path / "sheet.png")
    with pytest.raises(UserError, match=f"sheet.png: does not show images of {size[0]} x {size[1]}"):
        first_panel(tmp_path / "sheet.png", size)
