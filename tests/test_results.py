"""results.json and its table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from result_rows import ROW
from rich.console import Console

from segdistill.files import write_json, written_whole
from segdistill.report.results import FailedRow, read_failures, read_results, write_results
from segdistill.report.table import results_table


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


def test_not_a_number_never_reaches_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_file_or_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"

    def fill(fail: bool) -> None:
        with written_whole(target) as temporary:
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
