"""An exported file as a function, and files that are none: one line each, from every command that takes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.exported import HEIGHT, PALETTE, WIDTH, export_brightest, sample_image, with_metadata, write_interface
from PIL import Image

from segdistill.benchmarks import __main__ as benchmark
from segdistill.inference import Segmenter, predict
from segdistill.inference.metadata import write_preprocessing
from segdistill.utils.errors import UserError
from segdistill.utils.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_brightest(tmp_path_factory.mktemp("model") / "model.onnx")


def test_masks_have_the_size_of_the_given_image(model: Path) -> None:
    segmenter = Segmenter(model)
    assert (segmenter.classes, segmenter.palette) == (["red", "green", "blue"], PALETTE)
    assert segmenter.input_size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(segmenter(sample_image(40, 64)), sample_image(40, 64).argmax(axis=2))
    with pytest.raises(UserError, match="no such file"):
        Segmenter("absent.onnx")


def test_onnxruntime_reports_to_nobody(model: Path, tmp_path: Path) -> None:
    told = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")  # any of them switches its telemetry off
    environment = {name: value for name, value in os.environ.items() if name not in told}
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    code = f"from segdistill.inference import Segmenter; Segmenter({str(model)!r})"
    subprocess.run([sys.executable, "-c", code], env=environment | places, check=True)
    assert not list(tmp_path.rglob("*"))  # where events wait for a network


def test_a_file_tells_how_images_are_prepared_and_rows_that_it_cuts_are_void(model: Path, tmp_path: Path) -> None:
    steps = Preprocessing((20, 32), cut_bottom=5, gamma=1 / 3)
    told = with_metadata(model, tmp_path / "cut.onnx", {"preprocessing": write_preprocessing(steps)})
    segmenter = Segmenter(told)
    assert (segmenter.preprocessing, segmenter.input_size) == (steps, (15, 32))
    mask = segmenter(sample_image(40, 64))
    np.testing.assert_array_equal(mask[:30], sample_image(40, 64).argmax(axis=2)[:30])
    assert (mask[30:] == 255).all()
    Image.fromarray(sample_image(40, 64)).save(tmp_path / "a.png")
    summary = predict.predict(segmenter, str(tmp_path / "a.png"), tmp_path / "out", overlay=0.5)
    assert summary.lines(segmenter.classes)[-1].split() == ["void", "25.00%", "of", "all", "pixels"]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), mask)


def test_a_file_of_an_earlier_version_resizes_alone(model: Path, tmp_path: Path) -> None:
    earlier = '{"resize": [20, 32], "interpolation": "bilinear, antialiased"}'
    told = with_metadata(model, tmp_path / "earlier.onnx", {"preprocessing": earlier})
    assert Segmenter(told).preprocessing == Preprocessing((20, 32))


def test_a_file_without_metadata_is_accepted(model: Path, tmp_path: Path) -> None:
    silent = onnx.load(model)
    del silent.metadata_props[:]
    onnx.save(silent, tmp_path / "silent.onnx")
    segmenter = Segmenter(tmp_path / "silent.onnx")
    assert (segmenter.classes, segmenter.palette, segmenter.input_size) == ([], [], None)
    np.testing.assert_array_equal(segmenter(sample_image(40, 64)), sample_image(40, 64).argmax(axis=2))
    Image.fromarray(sample_image()).save(tmp_path / "a.png")
    assert predict.predict(segmenter, str(tmp_path / "a.png"), tmp_path / "out").images == 1


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("classes", "[red, green", "must be JSON"),
        ("classes", "[" * 100_000, "must be JSON"),
        ("classes", '"red"', "must be a list of at most 256 names"),
        ("classes", '{"red": 0}', "must be a list of at most 256 names"),
        ("classes", "[1, 2, 3]", "must be a list of at most 256 names"),
        ("classes", str(["c"] * 257).replace("'", '"'), "must be a list of at most 256 names"),
        ("palette", "3", "must be a list of at most 256"),
        ("palette", "[[1, 2]]", "each from 0 to 255"),
        ("palette", "[[1, 2, 256]]", "each from 0 to 255"),
        ("palette", "[[1, 2, -1]]", "each from 0 to 255"),
        ("palette", "[[1, 2, 3.5]]", "each from 0 to 255"),
        ("palette", '["red"]', "each from 0 to 255"),
        ("preprocessing", "[20, 32]", "must be an object"),
        ("preprocessing", '{"resize": 20}', "its resize must be"),
        ("preprocessing", '{"resize": ["20", "32"]}', "its resize must be"),
        ("preprocessing", '{"resize": [0, 32]}', "its resize must be"),
        ("preprocessing", '{"resize": [20, 32, 3]}', "its resize must be"),
        ("preprocessing", '{"resize": [20, 32], "cut_bottom": 20}', "its cut_bottom must be"),
        ("preprocessing", '{"resize": [20, 32], "cut_bottom": -1}', "its cut_bottom must be"),
        ("preprocessing", '{"resize": [20, 32], "gamma": 0}', "its gamma must be"),
        ("preprocessing", '{"resize": [20, 32], "gamma": Infinity}', "its gamma must be"),
        ("preprocessing", '{"resize": [20, 32], "gamma": true}', "its gamma must be"),
    ],
)
def test_malformed_metadata_are_named(name: str, text: str, wanted: str, model: Path, tmp_path: Path) -> None:
    path = with_metadata(model, tmp_path / "malformed.onnx", {name: text})
    with pytest.raises(UserError, match="malformed metadata: ") as raised:
        Segmenter(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert f"{name}=" in message
    assert wanted in message
    assert "\n" not in message
    assert len(message) < len(str(path)) + 250


def test_a_network_with_other_inputs_or_outputs_is_named(tmp_path: Path) -> None:
    path = write_interface(tmp_path / "other.onnx", mask_of=[0, 0, 0, 0], logit_type=onnx.TensorProto.INT64)
    with pytest.raises(UserError, match="is no exported segmentation network") as raised:
        Segmenter(path)
    assert "tensor(int64)" in str(raised.value)


def test_a_network_that_fails_on_an_image_is_named(tmp_path: Path) -> None:
    path = write_interface(tmp_path / "fixed.onnx", mask_of=[1, 4, 4, 3])
    segmenter = Segmenter(path)
    assert segmenter(sample_image(4, 4)).shape == (4, 4)
    for run in (segmenter.masks, segmenter.logits):
        with pytest.raises(UserError, match=r"fixed\.onnx: cannot segment images \(1, 8, 8, 3\)") as raised:
            run(sample_image(8, 8)[None])
        assert "\n" not in str(raised.value)


def test_a_network_whose_masks_have_another_size_is_named(tmp_path: Path) -> None:
    segmenter = Segmenter(write_interface(tmp_path / "half.onnx", mask_of=[1, -1, 4, 3]))
    with pytest.raises(UserError, match=r"half\.onnx: gives masks \(1, 16, 4\) of images \(1, 8, 8, 3\)"):
        segmenter(sample_image(8, 8))


@pytest.mark.parametrize("command", ["predict", "benchmark"])
@pytest.mark.parametrize("fault", ["empty", "text", "cut", "name", "foreign", "types"])
def test_a_faulty_file_is_one_line_in_every_command(
    command: str,
    fault: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path, whole = tmp_path / "faulty.onnx", model.read_bytes()
    contents = {"empty": b"", "text": b"no network", "cut": whole[:200], "name": whole.replace(b"image", b"im\xffge")}
    if fault in contents:
        path.write_bytes(contents[fault])
    elif fault == "foreign":
        write_interface(path, mask_of=[0, 0, 0, 0], logit_type=onnx.TensorProto.INT64)
    else:
        with_metadata(model, path, {"classes": "7"})
    assert error_line(command, path, tmp_path, monkeypatch, capfd).startswith(f"error: {path}: ")


def test_a_network_that_fails_on_an_image_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_interface(tmp_path / "fixed.onnx", mask_of=[1, 4, 4, 3])
    message = error_line("predict", path, tmp_path, monkeypatch, capfd)
    assert message.startswith(f"error: {path}: cannot segment images (1, {HEIGHT}, {WIDTH}, 3) (")


def error_line(
    command: str, path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> str:
    """Runs a command on a file, and returns the only line that it leaves."""
    if command == "predict":
        Image.fromarray(sample_image()).save(folder / "a.png")
        arguments = [str(path), str(folder / "a.png"), "-o", str(folder / "out")]
        monkeypatch.setattr(sys, "argv", ["predict", *arguments])
        assert predict.main() == predict.EXIT_USER_ERROR
        printed = capfd.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        return printed.err
    monkeypatch.setattr(sys, "argv", ["benchmark", "inference", str(path), "--output", str(folder / "rows.json")])
    with pytest.raises(SystemExit) as ended:
        benchmark.main()
    assert capfd.readouterr() == ("", "")
    assert "\n" not in str(ended.value.code)
    return str(ended.value.code)
