"""Settings that have no effect on a run: they would make equal runs look different."""

from __future__ import annotations

from collections.abc import Sequence

from segdistill.config.callbacks import refuse_unused_callbacks
from segdistill.config.data import SourceConfig
from segdistill.config.schema import Config
from segdistill.utils.errors import UserError

OWN_OF_TEACHER = ("optimizer", "loss", "schedule", "augment")
"""Rooms of the student's training that the teacher has in `teacher.training`, too."""
OF_ITS_TRAINING = ("teacher.fit", "teacher.training", "teacher.seed")


def refuse_unused(config: Config, overrides: Sequence[str]) -> None:
    """Reject an override that has no effect; what configuration files set may be unused.

    Raises:
        UserError: If there is one; names the key, its value, and what to set instead.
    """
    refuse_unused_callbacks(config.callbacks, overrides)
    ownerless = _without_its_owner(config)
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        reason = _of_a_role(config, key, value) or ownerless.get(key)
        if reason is not None:
            raise UserError(f"{key}={value}: has no effect {reason}")


def _of_a_role(config: Config, key: str, value: str) -> str | None:
    """Return why a setting of one network has no effect; None if it has."""
    group, _, package = key.partition("@")
    room, _, rest = group.partition(".")
    if config.stage == "teacher":
        if room in OWN_OF_TEACHER and not package:
            own = f"teacher.training.{group}" if rest else f"{room}@teacher.training.{room}"
            return f"where stage=teacher; set {own}={value}"
        return "where stage=teacher" if room in ("student", "distill") else None
    place = package or group
    trains = any(place == own or place.startswith(f"{own}.") for own in OF_ITS_TRAINING)
    if not (trains and config.needs_teacher) or config.teacher_source == "train":
        return None
    given, source = config.teacher.checkpoint, config.teacher_source
    return f"on a {source} teacher; add teacher.source=train" if given is None else f"on teacher.checkpoint={given}"


def _without_its_owner(config: Config) -> dict[str, str]:
    """Return the settings that have no effect without another one, and why."""
    unused = {"teacher.fit.labelled_share": "on the teacher, which sees labelled images alone"}
    if not config.data.unlabelled and not isinstance(config.data, SourceConfig):
        needs = "where every image has labels; set data.unlabelled"
        unused |= {"student.fit.labelled_share": needs, "distill.pseudo_labels": needs}
    if config.data.eval_tile is None:
        unused["data.eval_overlap"] = "where evaluation takes whole images; set data.eval_tile"
    if config.trainer.gradient_clip_val is None:
        unused["trainer.gradient_clip_algorithm"] = "without trainer.gradient_clip_val"
    return unused
