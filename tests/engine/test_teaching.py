"""Whether a student begins as its teacher."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from helpers.networks import Tiny

from segdistill.config.data import FolderConfig
from segdistill.data.sources.folder import open_folder
from segdistill.engine.teaching import can_inherit, warn_of_silent_images
from segdistill.losses import DistillationLoss, FocalLoss, PixelwiseKL
from segdistill.models import DeepLabV3, DeepLabV3Plus
from segdistill.utils.errors import UserError


def test_student_init_auto_inherits_where_the_pair_fits() -> None:
    student, teacher = DeepLabV3(2, pretrained=False, head_bias=True), DeepLabV3Plus(2, pretrained=False)
    before = student.head.get_parameter("aspp.point.0.weight").clone()
    assert [can_inherit(init, student, teacher) for init in ("auto", "teacher", "pretrained")] == [True, True, False]
    assert before.equal(student.head.get_parameter("aspp.point.0.weight"))


def test_student_init_teacher_is_refused_where_nothing_fits(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert not can_inherit("auto", Tiny(), DeepLabV3Plus(2, pretrained=False))
    assert "begins from its own weights; student.init: Tiny and DeepLabV3Plus share no part" in caplog.text
    with pytest.raises(UserError, match="share no part"):
        can_inherit("teacher", Tiny(), DeepLabV3Plus(2, pretrained=False))


@pytest.mark.parametrize(
    ("unlabelled", "schedule", "warned"), [(2, "cosine", True), (2, "constant", False), (0, "cosine", False)]
)
def test_images_that_end_without_any_loss_are_named(
    unlabelled: int,
    schedule: str,
    warned: bool,
    folder_config: FolderConfig,
    cache_dir: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = open_folder(folder_config, cache_dir)
    source = source.without_labels(unlabelled) if unlabelled else source
    warn_of_silent_images(source, DistillationLoss(FocalLoss(), {"kl": PixelwiseKL()}, alpha_schedule=schedule))
    assert ("distill.alpha_schedule=constant keeps them" in caplog.text) is warned
    caplog.clear()
    losses = {"kl": PixelwiseKL()}
    warn_of_silent_images(source, DistillationLoss(FocalLoss(), losses, alpha_schedule=schedule, pseudo_labels=True))
    assert caplog.text == ""
