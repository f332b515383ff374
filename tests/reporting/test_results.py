"""results.json and its table."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.result_rows import ROW
from rich.console import Console

from segdistill.reporting.results import FailedRow, Row, read_failures, read_results, write_results
from segdistill.reporting.table import results_table
from segdistill.utils.io import atomic_write, write_json


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", [ROW, ROW])
    assert read_results(tmp_path / "results.json") == [ROW, ROW]
    assert json.loads((tmp_path / "results.json").read_text())[0]["class_iou"] == {"car": 0.5, "lane": None}


def test_failed_rows_are_kept_beside_measured_ones(tmp_path: Path) -> None:
    failed = FailedRow("student", "onnxruntime-int8", "test", "no such operator")
    write_results(tmp_path / "results.json", [ROW], [failed])
    assert read_results(tmp_path / "results.json") == [ROW]
    assert read_failures(tmp_path / "results.json") == [failed]


def test_the_table_fits_into_100_columns_with_every_figure_whole() -> None:
    console = Console(width=100)
    with console.capture() as printed:
        decoding = replace(ROW, engine="onnxruntime-int8+decode", latency_ms_p50=4.06)
        console.print(results_table([decoding, replace(ROW, model="teacher")]))
    text = printed.get()
    assert "…" not in text
    for figure in ("onnxruntime-int8+decode", "97.49", "75.03", "95.20", "-", "99.99", "25.3", "17.0", "118.3"):
        assert figure in text
    for figure in ("4.2x", "6.25 M parameters", "8.12 GMACs", "than teacher onnxruntime-fp32"):
        assert figure in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100


def test_seconds_of_latency_and_full_agreement_fit_as_well() -> None:
    slow = replace(ROW, agreement=1.0, file_mb=1024.5, latency_ms_p50=999.96, latency_ms_p95=12376.9)
    text = printed_at_100_columns([replace(slow, engine="onnxruntime-int8+decode"), slow], [])
    figures = ["97.49", "75.03", "95.20", "-", "100.00", "1024", "1000", "12377", "1.0x"]
    assert text.splitlines()[4].split() == ["student", "onnxruntime-int8+decode", *figures]


ERROR = "RuntimeError: Check 'a == b' failed at " + "long/" * 30 + "file.hpp [NODE_1]"
FAILED = FailedRow("student", "openvino-int8", "val", ERROR)


def printed_at_100_columns(rows: list[Row], failed: list[FailedRow]) -> str:
    console = Console(width=100)
    with console.capture() as printed:
        console.print(results_table(rows, failed))
    text = printed.get()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    return text


def test_the_table_names_the_split_and_says_below_it_what_to_know() -> None:
    collapsed = replace(ROW, split="val", selected_on=True, collapsed_to="car", never_predicted=["lane"])
    teacher = replace(collapsed, model="teacher", collapsed_to=None, never_predicted=[], classes_scored=2)
    text = " ".join(printed_at_100_columns([teacher, collapsed], []).split())
    assert text.startswith("143 val images (selected on) of 269 x 484, batch 1, 2 threads")
    assert "mean IoU over 2 classes: teacher; 1 of 2 classes: student" in text
    assert "warning: student predicts only car" in text
    assert "warning: the scores are optimistic: the checkpoint was chosen on val" in text
    assert "warning" not in printed_at_100_columns([ROW], [])


def test_a_failed_row_has_dashes_and_its_error_whole_below() -> None:
    text = printed_at_100_columns([ROW], [FAILED])
    (row,) = [line.split() for line in text.splitlines() if line.startswith(" student  openvino-int8")]
    assert row == ["student", "openvino-int8", "failed", *["-"] * 8]
    assert f"warning:studentopenvino-int8failed:{''.join(ERROR.split())}" in "".join(text.split())


@pytest.mark.parametrize("failed", [[FAILED], []])
def test_a_table_without_measured_rows_says_so(failed: list[FailedRow]) -> None:
    text = printed_at_100_columns([], failed)
    assert "nothing was timed" in text
    assert text.count("openvino-int8") == 2 * len(failed)


def test_not_a_number_never_reaches_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_temporaries_of_dead_processes_are_removed_and_of_living_ones_kept(tmp_path: Path) -> None:
    host, ended = platform.node().replace(".", "-"), 999_999_999  # beyond every system's process numbers
    names = [f".{host}.{ended}.x", f".{host}.{os.getppid()}.x", f".other.{ended}.x", f".{host}.{ended}.y"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    with atomic_write(tmp_path / "x") as temporary:
        temporary.touch()
    assert {path.name for path in tmp_path.iterdir()} == {"x", *names[1:]}


def test_a_file_or_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"

    def fill(fail: bool) -> None:
        with atomic_write(target) as temporary:
            temporary.mkdir()
            (temporary / "part").write_text("x")
            assert not target.exists()
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(fail=True)
    assert list(target.parent.iterdir()) == []
    fill(fail=False)
    assert [path.name for path in target.parent.iterdir()] == ["folder"]
    assert (target / "part").read_text() == "x"
