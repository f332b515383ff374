"""The line that says what a run will do."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.composed import parsed

from segdistill.config.plan import plan

TRAINED = "trains the student: 9 epochs of 4 x 176 x 288"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["callbacks=export"], f"takes the packaged teacher; {TRAINED}, with kl; then onnx_export, quantize"),
        (
            ["teacher.source=train", "distill=combined", "callbacks=none"],
            "takes the teacher of cache, or trains it: 36 epochs of 8 x 224 x 384; "
            f"{TRAINED}, with kl, cwd, hint; exports nothing",
        ),
        (
            ["experiment=self_training", "callbacks=none"],
            "takes the teacher of cache, or trains it: 100 epochs of 8 x 224 x 384; "
            "trains the student: 5 epochs of 4 x 176 x 288, with the teacher's labels; exports nothing",
        ),
        (["distill=none", "callbacks=none"], f"{TRAINED}; exports nothing"),
        (
            ["distill=none", "student.init=teacher", "student.fit.crop=null", "callbacks=none"],
            "takes the packaged teacher; trains the student: 9 epochs of 4 x 269 x 484; exports nothing",
        ),
        (["stage=teacher", "callbacks=none"], "trains the teacher: 36 epochs of 8 x 224 x 384; exports nothing"),
    ],
    ids=["packaged", "trained", "self-training", "alone", "inherited", "teacher"],
)
def test_every_step_of_a_run_is_named(overrides: list[str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGDISTILL_CACHE", raising=False)
    assert plan(parsed(*overrides)) == expected


def test_a_given_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    path.touch()
    assert plan(parsed("callbacks=none", f"teacher.checkpoint={path}")).startswith(f"takes the teacher of {path}; ")
