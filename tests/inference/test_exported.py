"""Which file of a folder is meant."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.exported import export_brightest, run_predict, sample_image, written_masks
from PIL import Image

from segdistill.inference import Segmenter
from segdistill.inference.exported import exported_file
from segdistill.utils.errors import UserError


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).touch()
    return path


def test_a_file_is_itself_and_a_folder_its_only_file_or_the_int8_student(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", "teacher.onnx", ".host.7.student.onnx", "README.md")
    assert exported_file(one) == exported_file(one / "teacher.onnx") == one / "teacher.onnx"
    two = folder_of(tmp_path / "two", "student.onnx", "student.int8.onnx", "teacher.onnx")
    assert exported_file(two) == two / "student.int8.onnx"


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ((), "holds no .onnx file"),
        (("labels.json",), "holds no .onnx file"),
        (("teacher.onnx", "student.onnx"), "holds student.onnx, teacher.onnx; give one of them"),
    ],
)
def test_a_folder_that_does_not_tell_is_named_with_what_it_holds(
    names: tuple[str, ...], wanted: str, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path / "folder", *names)
    with pytest.raises(UserError) as caught:
        exported_file(folder)
    assert str(folder) in str(caught.value)
    assert wanted in str(caught.value)


def test_a_folder_is_segmented_with_and_predict_says_by_which_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = export_brightest(tmp_path / "packed" / "student.int8.onnx")
    shutil.copy(model, tmp_path / "packed" / "student.onnx")
    Image.fromarray(sample_image()).save(tmp_path / "a.png")
    assert Segmenter(tmp_path / "packed").path == model
    assert run_predict(monkeypatch, tmp_path / "packed", tmp_path / "a.png", "-o", tmp_path / "out") == 0
    assert capsys.readouterr().out.splitlines()[0] == str(model)
    np.testing.assert_array_equal(written_masks(tmp_path / "out")["a.png"], sample_image().argmax(axis=2))
