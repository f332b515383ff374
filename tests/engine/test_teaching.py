"""Whether a student begins as its teacher."""

from __future__ import annotations

import logging

import pytest
from helpers.networks import Tiny

from segdistill.engine.teaching import can_inherit
from segdistill.models import DeepLabV3, DeepLabV3Plus
from segdistill.utils.errors import UserError


def test_a_pair_that_fits_is_a_pair_unless_told_otherwise() -> None:
    student, teacher = DeepLabV3(2, pretrained=False, head_bias=True), DeepLabV3Plus(2, pretrained=False)
    before = student.head.get_parameter("aspp.point.0.weight").clone()
    assert [can_inherit(init, student, teacher) for init in ("auto", "teacher", "pretrained")] == [True, True, False]
    assert before.equal(student.head.get_parameter("aspp.point.0.weight"))


def test_a_pair_that_does_not_fit_is_told_and_refused_where_it_has_to(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert not can_inherit("auto", Tiny(), DeepLabV3Plus(2, pretrained=False))
    assert "begins from its own weights; student.init: Tiny and DeepLabV3Plus share no part" in caplog.text
    with pytest.raises(UserError, match="share no part"):
        can_inherit("teacher", Tiny(), DeepLabV3Plus(2, pretrained=False))
