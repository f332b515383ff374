"""Merged classes: probabilities add up, and a map that does not fit is told before anything runs."""

from __future__ import annotations

import pytest
import torch
from helpers.references import random_logits
from torch import Tensor, nn

from segdistill.data.labels import ROAD_SCENES
from segdistill.engine.class_map import parse_class_map
from segdistill.models.class_remap import ClassRemap
from segdistill.utils.errors import ConfigError

NAMES = ROAD_SCENES.names
FITTING = {"background": [0, 6], "car": [1, 2], "signal": [3], "pedestrian": [4], "lane": [5]}


class Fixed(nn.Module):
    """Answers with the same logits, at half the size where it may."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, image: Tensor) -> Tensor:
        return self.logits

    def lowres_logits(self, image: Tensor) -> Tensor:
        return self.logits[..., ::2, ::2]


def test_probabilities_of_merged_classes_add_up() -> None:
    logits = random_logits(2, 5, 4, 6, spread=20.0)
    merged = ClassRemap(Fixed(logits), [[3], [0, 4], [1, 2]])
    wide = logits.double().softmax(dim=1)
    expected = torch.stack([wide[:, 3], wide[:, 0] + wide[:, 4], wide[:, 1] + wide[:, 2]], dim=1)
    image = torch.zeros(2, 3, 4, 6)
    torch.testing.assert_close(merged(image).double().softmax(dim=1), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        merged.lowres_logits(image).double().softmax(dim=1), expected[..., ::2, ::2], rtol=1e-5, atol=1e-6
    )


def test_classes_that_are_left_out_leave_their_probability_to_the_others() -> None:
    logits = random_logits(1, 4, 3, 3)
    probabilities = ClassRemap(Fixed(logits), [[0], [2, 1]])(torch.zeros(1, 3, 3, 3)).softmax(dim=1)
    wide = logits.softmax(dim=1)
    torch.testing.assert_close(probabilities[:, 0], wide[:, 0] / (1 - wide[:, 3]))


def test_groups_follow_the_order_of_the_datas_classes() -> None:
    shuffled = dict(reversed(FITTING.items()))
    assert parse_class_map(shuffled, 7, NAMES) == [[0, 6], [1, 2], [3], [4], [5]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"car": None}, r"teacher\.class_map=.*: misses the class car"),
        ({"truck": [6]}, r"teacher\.class_map\.truck=.*: the data has no such class"),
        ({"car": []}, r"teacher\.class_map\.car=\[\]: must be one or more of the teacher's class ids, 0 to 6"),
        ({"car": [1, 7]}, r"teacher\.class_map\.car=\[1, 7\]: must be one or more of the teacher's class ids, 0 to 6"),
        ({"car": [1, 5]}, r"teacher\.class_map\.lane=\[5\]: 5 already belongs to car"),
    ],
)
def test_a_class_map_that_does_not_fit_is_refused(changed: dict[str, list[int] | None], message: str) -> None:
    class_map = {name: ids for name, ids in {**FITTING, **changed}.items() if ids is not None}
    with pytest.raises(ConfigError, match=message):
        parse_class_map(class_map, 7, NAMES)
