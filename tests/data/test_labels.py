from __future__ import annotations

import numpy as np
import pytest

from segdistill.config.data import IGNORE_INDEX
from segdistill.data.labels import ROAD_SCENES, UNMAPPED, LabelSet, label_set, mask_coding


def test_colourise_paints_each_class_and_leaves_void_black() -> None:
    labels = LabelSet(("road", "sky"), ((10, 20, 30), (40, 50, 60)))
    image = labels.colourise(np.array([[0, 1, IGNORE_INDEX]]))
    assert image.dtype == np.uint8
    assert image.tolist() == [[[10, 20, 30], [40, 50, 60], [0, 0, 0]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_colourise_takes_any_integer_type_and_odd_sizes(dtype: type[np.integer]) -> None:
    mask = np.random.default_rng(0).choice([0, 1, 2, 3, 4, IGNORE_INDEX], (7, 13)).astype(dtype)
    image = ROAD_SCENES.colourise(mask)
    assert image.shape == (7, 13, 3)
    colours = dict(enumerate(ROAD_SCENES.palette)) | {IGNORE_INDEX: (0, 0, 0)}
    for (row, column), index in np.ndenumerate(mask):
        assert tuple(image[row, column]) == colours[int(index)]


def test_value_table_maps_values_and_lists_of_values_in_the_order_of_the_classes() -> None:
    table = mask_coding({"road": 7, "car": [1, 2], "sky": 0}, void=[255, 9]).values
    expected = {7: 0, 1: 1, 2: 1, 0: 2, 255: IGNORE_INDEX, 9: IGNORE_INDEX}
    assert table.dtype == np.int16
    assert table.tolist() == [expected.get(value, UNMAPPED) for value in range(256)]


def test_unowned_differs_from_void_and_from_every_class() -> None:
    assert UNMAPPED not in range(256)
    assert mask_coding({"road": 0, "car": 1}, void=[]).values[IGNORE_INDEX] == UNMAPPED


def test_a_mask_through_the_table_keeps_its_shape() -> None:
    coding = mask_coding({"road": 7, "car": [1, 2]}, void=[255])
    mask = np.array([[7, 1, 255], [2, 7, 7]], np.uint8)
    assert coding.class_ids(mask).tolist() == [[0, 1, IGNORE_INDEX], [1, 0, 0]]


def test_label_set_keeps_given_colours_and_chooses_the_others() -> None:
    labels = label_set(["road", "car", "sky"], {"car": [0, 0, 0]})
    assert labels.names == ("road", "car", "sky")
    assert labels.palette[1] == (0, 0, 0)
    # The VOC colour map starts at (128, 0, 0); its first colour, black, is that of void.
    assert labels.palette[0] == (128, 0, 0)
    assert labels.palette[2] == (128, 128, 0)


def test_chosen_colours_are_distinct_and_never_voids() -> None:
    labels = label_set([f"class {index}" for index in range(255)], {})
    assert len(labels) == 255
    assert len({(0, 0, 0), *labels.palette}) == 256
