"""What is said beside the figures, from rows made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.result_rows import ROW

from segdistill.reporting.findings import (
    failures,
    prediction_finding,
    run_warnings,
    scored_classes,
    selected_on,
    split_label,
)
from segdistill.reporting.results import FailedRow

CLASSES: dict[str, float | None] = dict.fromkeys(("background", "car", "signal", "pedestrian", "lane"), 0.0)
GOOD = replace(ROW, class_iou=CLASSES, classes_scored=5)
TEACHER = replace(GOOD, model="teacher")
COLLAPSED = replace(GOOD, collapsed_to="background", never_predicted=["car", "signal", "lane"])


def test_a_split_that_was_selected_on_is_named_so() -> None:
    assert split_label("test", False, "mean IoU") == "test mean IoU"
    assert split_label("val", True, "mean IoU") == "val mean IoU (selected on)"
    assert split_label("val", True) == "val (selected on)"
    assert [selected_on(split) for split in ("train", "val", "test")] == [False, True, False]


@pytest.mark.parametrize(
    ("collapsed", "missed", "finding"),
    [
        (None, [], None),
        (None, ["signal", "lane"], "never predicts: signal, lane"),
        ("background", ["car"], "predicts only background"),
        ("background", [], None),  # nothing else occurs in the truth
    ],
)
def test_predictions_are_found_wanting_where_a_true_class_is_missing(
    collapsed: str | None, missed: list[str], finding: str | None
) -> None:
    assert prediction_finding(collapsed, missed) == finding


def test_a_long_list_of_classes_is_cut_and_counted() -> None:
    finding = prediction_finding(None, [f"c{index}" for index in range(150)])
    assert finding is not None
    assert finding.endswith("c10, c11 and 138 others")


def test_a_finding_names_the_model_and_only_those_engines_that_differ_from_the_rest() -> None:
    int8 = replace(COLLAPSED, engine="onnxruntime-int8")
    assert run_warnings([TEACHER, COLLAPSED, int8]) == ["student predicts only background"]
    assert run_warnings([TEACHER, GOOD, int8]) == ["student (onnxruntime-int8) predicts only background"]
    blind = replace(GOOD, never_predicted=["signal", "lane"])
    assert run_warnings([TEACHER, blind]) == ["student never predicts: signal, lane"]
    assert run_warnings([TEACHER, GOOD]) == []
    assert run_warnings([]) == []


def test_scores_of_the_split_that_chose_the_checkpoint_are_called_optimistic_once() -> None:
    rows = [replace(row, split="val", selected_on=True) for row in (TEACHER, GOOD)]
    assert run_warnings(rows) == [
        "the scores are optimistic: the checkpoint was chosen on val, the split that is reported; "
        "add a test split (data.splits.test)"
    ]


def test_a_mean_says_over_how_many_classes_it_goes() -> None:
    fewer = replace(GOOD, classes_scored=4)
    assert scored_classes([TEACHER, GOOD]) == "mean IoU over 5 classes"
    assert scored_classes([replace(TEACHER, classes_scored=4), fewer]) == "mean IoU over 4 of 5 classes"
    assert scored_classes([TEACHER, fewer]) == "mean IoU over 5 classes: teacher; 4 of 5 classes: student"
    int8 = replace(fewer, engine="onnxruntime-int8")
    assert scored_classes([TEACHER, GOOD, int8]) == (
        "mean IoU over 5 classes: teacher, student (onnxruntime-fp32); 4 of 5 classes: student (onnxruntime-int8)"
    )
    assert scored_classes([]) == ""


def test_rows_that_failed_alike_share_a_line() -> None:
    failed = [FailedRow("student", engine, "test", "no such operator") for engine in ("onnxruntime-fp32", "openvino")]
    assert failures([*failed, FailedRow("teacher", "pytorch", "test", "killed")]) == [
        "student onnxruntime-fp32, student openvino failed: no such operator",
        "teacher pytorch failed: killed",
    ]
