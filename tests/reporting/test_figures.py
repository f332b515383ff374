"""Figures of a report: what stands where."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from helpers.result_rows import ROW
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from segdistill.reporting.figures import per_class_iou, speed_accuracy
from segdistill.reporting.results import Row
from segdistill.reporting.scatter import Point, pareto_front, quantisations

TIMES = {
    "pytorch": 106.5,
    "onnxruntime-fp32": 72.0,
    "openvino-fp32": 69.9,
    "onnxruntime-int8": 24.9,
    "openvino-int8": 21.3,
}
"""Latencies of a teacher, some of which lie close together."""


def measured() -> list[Row]:
    scores = {"teacher": (0.7367, 1.0), "student": (0.6983, 0.55)}
    return [
        replace(ROW, model=model, engine=engine, miou=miou, latency_ms_p50=factor * time)
        for model, (miou, factor) in scores.items()
        for engine, time in TIMES.items()
    ]


def names(figure: Figure) -> list[Annotation]:
    return [text for axes in figure.axes for text in axes.texts if isinstance(text, Annotation) and text.get_text()]


def point(latency: float, accuracy: float, engine: str = "pytorch") -> Point:
    return Point(latency, accuracy, "student", engine, "name", "black")


@pytest.mark.parametrize("seed", range(4))
def test_the_pareto_line_goes_through_what_nothing_beats(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = [point(*values) for values in rng.integers(1, 12, (25, 2)).tolist()]  # with ties
    unbeaten = {
        (a.latency, a.accuracy)
        for a in points
        if not any(
            b.latency <= a.latency and b.accuracy >= a.accuracy and (b.latency, b.accuracy) != (a.latency, a.accuracy)
            for b in points
        )
    }
    front = pareto_front(points)
    assert [(p.latency, p.accuracy) for p in front] == sorted(unbeaten)
    assert pareto_front([]) == []


def test_arrows_lead_from_float32_to_int8_of_the_same_network_and_runtime() -> None:
    points = [point(3, 2, "a-fp32"), point(1, 2, "a-int8"), point(4, 2, "b-fp32"), point(2, 2, "a-fp16"), point(5, 2)]
    assert list(quantisations(points)) == [(points[0], points[1])]


def test_every_mark_of_speed_against_accuracy_is_named_and_no_names_collide() -> None:
    figure = speed_accuracy(measured())
    figure.draw_without_rendering()
    (axes,) = figure.axes
    written = names(figure)
    assert sorted(text.get_text() for text in written) == sorted(f"{row.model} {row.engine}" for row in measured())
    boxes = [Text.get_window_extent(text) for text in written]  # without the line to the mark
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    frame = axes.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)
    marks = axes.transData.transform([(row.latency_ms_p50, 100 * (row.miou or 0)) for row in measured()])
    assert not any(box.contains(*mark) for box in boxes for mark in marks)
    arrows = [text for text in axes.texts if isinstance(text, Annotation) and not text.get_text()]
    assert len(arrows) == 4


def test_rows_without_a_score_or_with_decoding_are_left_out() -> None:
    rows = [replace(ROW, miou=0.5), replace(ROW, engine="onnxruntime-int8"), replace(ROW, engine="a+decode", miou=0.5)]
    assert [text.get_text() for text in names(speed_accuracy(rows))] == ["student onnxruntime-fp32"]
    assert names(speed_accuracy([ROW])) == []


def test_classes_are_sorted_by_what_the_student_loses() -> None:
    teacher = replace(ROW, model="teacher", class_iou={"a": 0.9, "b": 0.5, "c": None, "d": 0.7})
    student = replace(ROW, class_iou={"a": 0.8, "b": 0.52, "c": 0.1, "d": 0.4})
    (axes,) = per_class_iou([teacher, student]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["d", "a", "b", "c"]
    assert {"-30.0", "-10.0", "+2.0"} <= {text.get_text() for text in axes.texts}
    (axes,) = per_class_iou([teacher, replace(ROW, class_iou={"a": 0.8997, "b": 0.5003, "c": 0.1, "d": 0.7})]).axes
    assert [text.get_text() for text in axes.texts if text.get_text()[:1] in "+-0"].count("0.0") == 3
    assert not {"-0.0", "+0.0"} & {text.get_text() for text in axes.texts}
    (alone,) = per_class_iou([student]).axes
    assert [label.get_text() for label in alone.get_yticklabels()] == ["a", "b", "c", "d"]
