"""report.html: everything a run leaves is on it, and nothing from elsewhere."""

from __future__ import annotations

import html
import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.pages import Tags
from helpers.result_rows import ROW
from omegaconf import OmegaConf
from PIL import Image

from segdistill.reporting import __main__ as command
from segdistill.reporting.page import write_report
from segdistill.reporting.results import FailedRow, read_results, write_results
from segdistill.utils.io import write_json

TEACHER = replace(ROW, model="teacher", miou=0.5, latency_ms_p50=60.0, file_mb=25.8)
INT8 = replace(ROW, engine="onnxruntime-int8", miou=0.42, latency_ms_p50=10.0, file_mb=6.7)
OVERRIDES = ["experiment=kd_deeplab", "+data.classes={road: 0, car: [1, 2]}", f"data.root={'long/' * 40}<b>"]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    write_results(tmp_path / "results.json", [TEACHER, replace(ROW, miou=None), INT8])
    matrices = {"teacher pytorch": [[5, 1], [0, 7]], "student pytorch": [[4, 2], [1, 6]]}
    write_json(tmp_path / "confusion.json", matrices)
    (tmp_path / "csv" / "version_0").mkdir(parents=True)
    (tmp_path / "csv" / "version_0" / "metrics.csv").write_text(
        "epoch,step,train/loss,val/miou\n0,0,2.5,\n0,1,1.5,\n0,1,,0.25\n1,3,,0.31\n"
    )
    (tmp_path / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create(OVERRIDES), tmp_path / ".hydra" / "overrides.yaml")
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 0 # <script>\n")
    pixels = np.zeros((20, 60, 3), np.uint8)
    (tmp_path / "predictions" / "differing").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "predictions" / "00001.png")
    Image.fromarray(pixels).save(tmp_path / "predictions" / "differing" / "01_00007.png")
    return tmp_path


def test_the_page_holds_what_the_run_left_and_needs_nothing_else(run_dir: Path) -> None:
    page = write_report(run_dir).read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert all(address.startswith(("data:image/", "#")) for address in tags.addresses)
    assert "<script" not in page
    assert page.count("<figure>") == 5 + 1  # scatter, classes, curves, two matrices; one image
    command = re.search(r"<pre>(python train.py .*?)</pre>", page)
    assert command is not None
    assert shlex.split(html.unescape(command[1])) == ["python", "train.py", *OVERRIDES]
    assert "seed: 0 # &lt;script&gt;" in page
    assert "01_00007" in page
    assert "<figcaption>IoU of every class, the student&#39;s largest losses first</figcaption>" in page
    for name in ("speed_accuracy", "per_class_iou", "training_curves", "confusion_teacher", "confusion_student"):
        with Image.open(run_dir / "figures" / f"{name}.png") as figure:
            assert min(figure.size) >= 400


def test_engines_are_compared_with_the_teacher(run_dir: Path) -> None:
    page = re.sub(r"\s+", " ", write_report(run_dir).read_text())
    row = re.findall(r"<tr class=\"student\">.*?</tr>", page)[1]
    cells = re.findall(r"<td>(.*?)</td>", row)
    assert cells[:7] == ["student", "onnxruntime-int8", "10.0", "118.3", "6.00 x", "42.00", "-8.00"]
    unknown = re.findall(r"<td>(.*?)</td>", re.findall(r"<tr class=\"student\">.*?</tr>", page)[0])
    assert unknown[5:7] == ["-", "-"]
    assert "<b>6.0 x</b>faster than teacher onnxruntime-fp32, in onnxruntime-int8" in page
    assert "<b>-8.00</b>points" in page


def test_results_alone_make_a_page(tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", [replace(TEACHER, class_iou={"a": None, "b": 0.5})])
    page = write_report(tmp_path).read_text()
    assert page.count("<figure>") == 2
    assert "Configuration" not in page
    assert "<figcaption>IoU of every class</figcaption>" in page


def test_the_page_and_its_figures_name_a_split_that_was_selected_on(run_dir: Path) -> None:
    assert "optimistic" not in write_report(run_dir).read_text()
    rows = [replace(row, split="val", selected_on=True) for row in (TEACHER, INT8)]
    write_results(run_dir / "results.json", rows)
    with (run_dir / "csv" / "version_0" / "metrics.csv").open("w") as file:
        file.write("epoch,step,train/loss,val/miou,test/miou\n0,0,2.5,,\n0,0,,0.25,\n1,1,,,0.25\n")
    page = write_report(run_dir).read_text()
    assert "143 val images (selected on) of 269 x 484" in page
    assert "The scores are optimistic: the checkpoint was chosen on val" in page
    assert "its mean IoU on val (selected on)" in page
    for text in ("val mean IoU (selected on), %", "val IoU (selected on), %", "teacher on val (selected on)"):
        assert f">{text}<" in page
    assert ">test/miou, on val (selected on)<" in page


def test_the_page_warns_of_a_network_that_predicts_too_few_classes(tmp_path: Path) -> None:
    blind = replace(TEACHER, never_predicted=["lane"])
    collapsed = replace(INT8, collapsed_to="car", never_predicted=["lane"], classes_scored=2)
    write_results(tmp_path / "results.json", [blind, collapsed])
    (box,) = re.findall(r'<section class="warnings".*?</section>', write_report(tmp_path).read_text(), re.DOTALL)
    assert re.findall("<p>(.*?)</p>", box) == ["Teacher never predicts: lane.", "Student predicts only car."]


def test_the_page_says_over_how_many_classes_each_mean_goes_where_they_differ(tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", [TEACHER, INT8])
    assert "mean IoU over 1 of 2 classes." in write_report(tmp_path).read_text()
    write_results(tmp_path / "results.json", [TEACHER, replace(INT8, classes_scored=2)])
    page = re.sub(r"\s+", " ", write_report(tmp_path).read_text())
    assert "mean IoU over 1 of 2 classes: teacher; 2 classes: student." in page
    cells = [re.findall(r"<td>(.*?)</td>", row)[5:7] for row in re.findall(r"<tr class=.*?</tr>", page)]
    assert cells == [["50.00", "1 of 2 classes"], ["42.00", "2 classes"]]


@pytest.mark.parametrize("measured", [True, False])
def test_failed_rows_show_their_error_beside_measured_ones_or_alone(run_dir: Path, measured: bool) -> None:
    failed = FailedRow("student", "openvino-int8", "test", "no such <operator>")
    write_results(run_dir / "results.json", [TEACHER, INT8] if measured else [], [failed])
    page = write_report(run_dir).read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert re.search(r'<td class="failed" colspan="1[24]">failed: no such &lt;operator&gt;</td>', page)
    assert ("nothing was timed" in page) != measured
    assert page.count("<figure>") == (6 if measured else 2)  # without rows: curves, and an image


def test_a_run_without_any_row_still_has_a_page(tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", [])
    assert "nothing was timed" in write_report(tmp_path).read_text()


def test_the_same_run_gives_the_same_page(run_dir: Path) -> None:
    first = write_report(run_dir).read_text()
    strip = re.compile(r'id="[^"]*"|url\(#[^)]*\)|href="#[^"]*"')  # matplotlib draws its ids anew
    assert strip.sub("", write_report(run_dir).read_text()) == strip.sub("", first)
    assert json.loads((run_dir / "results.json").read_text())


def test_the_command_writes_the_page_or_prints_the_table(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def called(*arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["report", *arguments])
        command.main()
        return capsys.readouterr().out.splitlines()

    assert called(str(run_dir)) == [str(run_dir / "report.html")]
    rows = read_results(run_dir / "results.json")
    for given in (run_dir, run_dir / "results.json"):
        lines = called(str(given), "--markdown")
        assert lines[2].startswith("| model | engine | overall |")
        assert [line.split("|")[2].strip() for line in lines[4 : 4 + len(rows)]] == [row.engine for row in rows]
    (tmp_path / "results.json").write_text("[{}]")
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path), "--markdown"])
    with pytest.raises(SystemExit, match=r"error: .*results\.json: "):
        command.main()
