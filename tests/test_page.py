"""report.html: everything a run leaves is on it, and nothing from elsewhere."""

from __future__ import annotations

import html
import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image
from result_rows import ROW

from segdistill.files import write_json
from segdistill.report.page import write_report
from segdistill.report.results import write_results

TEACHER = replace(ROW, model="teacher", miou=0.5, latency_ms_p50=60.0, file_mb=25.8)
INT8 = replace(ROW, engine="onnxruntime-int8", miou=0.42, latency_ms_p50=10.0, file_mb=6.7)
OVERRIDES = ["experiment=kd_deeplab", "+data.classes={road: 0, car: [1, 2]}", f"data.root={'long/' * 40}<b>"]


class Tags(HTMLParser):
    """What is opened and closed, and which addresses are named."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


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
    assert page.count("<figure>") == 5 + 1  # scatter, classes, curves, two matrices; one picture
    command = re.search(r"<pre>(python train.py .*?)</pre>", page)
    assert command is not None
    assert shlex.split(html.unescape(command[1])) == ["python", "train.py", *OVERRIDES]
    assert "seed: 0 # &lt;script&gt;" in page
    assert "01_00007" in page
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


def test_the_same_run_gives_the_same_page(run_dir: Path) -> None:
    first = write_report(run_dir).read_text()
    strip = re.compile(r'id="[^"]*"|url\(#[^)]*\)|href="#[^"]*"')  # matplotlib draws its ids anew
    assert strip.sub("", write_report(run_dir).read_text()) == strip.sub("", first)
    assert json.loads((run_dir / "results.json").read_text())
