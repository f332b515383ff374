"""Sheets of panels: what is drawn can be taken off again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segdistill.data.labels import ROAD_SCENES
from segdistill.reporting.panels import first_panel, side_by_side
from segdistill.utils.errors import UserError


def test_the_first_panel_comes_back_bit_for_bit(tmp_path: Path) -> None:
    image, mask = np.random.default_rng(0).integers(0, 256, (2, 31, 47, 3), np.uint8)
    side_by_side({"image": image, "truth": mask, "student": mask}, ROAD_SCENES).save(tmp_path / "sheet.png")
    np.testing.assert_array_equal(first_panel(tmp_path / "sheet.png", (31, 47)), image)


@pytest.mark.parametrize("size", [(31, 46), (31, 200), (500, 47)])
def test_a_sheet_of_other_panels_is_named(size: tuple[int, int], tmp_path: Path) -> None:
    image = np.zeros((31, 47, 3), np.uint8)
    side_by_side({"image": image, "truth": image}, ROAD_SCENES).save(tmp_path / "sheet.png")
    with pytest.raises(UserError, match=f"sheet.png: does not show images of {size[0]} x {size[1]}"):
        first_panel(tmp_path / "sheet.png", size)
