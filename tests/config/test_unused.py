"""Settings without effect are refused, by what would give them one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from helpers.composed import parsed

from segdistill.config.unused import refuse_unused
from segdistill.utils.errors import UserError

AUGMENT_OF_TEACHER = "augment@teacher.training.augment=strong"


def refused(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        refuse_unused(parsed(*overrides), overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("optimizer.lr=1e-4", "set teacher.training.optimizer.lr=1e-4"),
        ("optimizer=sgd", "set optimizer@teacher.training.optimizer=sgd"),
        ("loss.power=1", "set teacher.training.loss.power=1"),
        ("augment=weak", "set augment@teacher.training.augment=weak"),
        ("schedule.power=1", "set teacher.training.schedule.power=1"),
        ("student.fit.max_epochs=2", "has no effect where stage=teacher"),
        ("distill=cwd", "has no effect where stage=teacher"),
    ],
)
def test_settings_of_the_student_are_refused_where_a_teacher_is_trained(override: str, complaint: str) -> None:
    assert re.match(f"{re.escape(override)}: .*{re.escape(complaint)}", refused("stage=teacher", "seed=1", override))
    refuse_unused(parsed(override), [override])


@pytest.mark.parametrize("override", ["teacher.fit.max_epochs=72", "teacher.seed=3", AUGMENT_OF_TEACHER])
def test_how_a_teacher_is_trained_is_refused_where_none_is(override: str, tmp_path: Path) -> None:
    assert refused(override) == f"{override}: has no effect on a packaged teacher; add teacher.source=train"
    checkpoint = tmp_path / "teacher.ckpt"
    checkpoint.touch()
    given = f"teacher.checkpoint={checkpoint}"
    assert refused(given, override) == f"{override}: has no effect on {given}"
    for effective in (["teacher.source=train"], ["data.unlabelled=432"], ["distill=none"], ["stage=teacher", "seed=3"]):
        refuse_unused(parsed(*effective, override), [*effective, override])


@pytest.mark.parametrize(
    ("override", "owner"),
    [
        ("student.fit.labelled_share=0.5", "data.unlabelled=32"),
        ("distill.pseudo_labels=true", "data.unlabelled=32"),
        ("data.eval_overlap=16", "data.eval_tile=[128,128]"),
        ("trainer.gradient_clip_algorithm=value", "trainer.gradient_clip_val=1"),
    ],
)
def test_a_setting_is_refused_without_the_one_that_it_refines(override: str, owner: str) -> None:
    assert owner.partition("=")[0] in refused(override)
    refuse_unused(parsed(owner, override), [owner, override])


def test_what_a_file_sets_may_be_unused() -> None:
    refuse_unused(parsed("experiment=self_training", "data.unlabelled=null"), ["experiment=self_training"])


def test_the_packaged_teacher_is_not_taken_where_labels_are_withheld() -> None:
    assert parsed().teacher_source == "packaged"
    assert parsed("data.unlabelled=432").teacher_source == "train"
