"""The command that segments images without torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.exported import HEIGHT, PALETTE, WIDTH, export_brightest, run_predict, sample_image, written_masks
from helpers.png_file import write_png16
from PIL import Image

from segdistill.inference import Segmenter, predict


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_brightest(tmp_path_factory.mktemp("model") / "model.onnx")


def test_masks_have_the_size_of_their_images_and_the_palette_of_the_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.fromarray(sample_image()).save(folder / "same.png")
    Image.fromarray(sample_image(3 * HEIGHT, 3 * WIDTH)).save(folder / "large.bmp")
    (folder / "notes.txt").write_text("no image")
    assert run_predict(monkeypatch, model, folder, "-o", out) == 0
    written = written_masks(out)
    assert list(written) == ["large.png", "same.png"]
    np.testing.assert_array_equal(written["same.png"], sample_image().argmax(axis=2))
    np.testing.assert_array_equal(written["large.png"], sample_image(3 * HEIGHT, 3 * WIDTH).argmax(axis=2))
    printed = capsys.readouterr().out
    assert printed.startswith("2 images, ")
    assert "0 skipped" in printed
    share = np.mean(sample_image().argmax(axis=2) == 1)
    assert f"green  {share:7.2%} of all pixels" in printed


def test_a_damaged_image_is_skipped_counted_and_told_by_the_exit_code(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        Image.fromarray(sample_image()).save(tmp_path / f"{name}.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    assert run_predict(monkeypatch, model, tmp_path, "-o", tmp_path / "out") == predict.EXIT_SKIPPED
    printed = capsys.readouterr()
    assert list(written_masks(tmp_path / "out")) == ["a.png", "c.png"]
    assert f"warning: {tmp_path / 'b.png'}: cannot be read as an image (" in printed.err
    assert "; skipped" in printed.err
    assert "1 skipped" in printed.out


def test_a_full_disk_is_no_damaged_image(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    Image.fromarray(sample_image()).save(tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        predict.predict(Segmenter(model), str(tmp_path / "a.png"), tmp_path / "out")


def test_the_overlay_blends_the_palette_over_the_image(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(sample_image()).save(tmp_path / "a.png")
    assert run_predict(monkeypatch, model, tmp_path / "a.png", "-o", tmp_path / "out", "--overlay", "0.25") == 0
    expected = 0.75 * sample_image() + 0.25 * np.array(PALETTE)[sample_image().argmax(axis=2)]
    blended = np.asarray(Image.open(tmp_path / "out" / "a.overlay.jpg")).astype(float)
    assert np.abs(blended - expected).mean() < 12  # JPEG
    assert np.abs(blended.mean(axis=(0, 1)) - expected.mean(axis=(0, 1))).max() < 3


def test_masks_are_upright_where_the_image_is_turned_by_its_exif_orientation(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn against the clock
    stored = np.rot90(sample_image(HEIGHT, WIDTH))
    assert stored.shape == (WIDTH, HEIGHT, 3)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    assert run_predict(monkeypatch, model, tmp_path / "a.png", "-o", tmp_path / "out", "--overlay") == 0
    np.testing.assert_array_equal(written_masks(tmp_path / "out")["a.png"], sample_image(HEIGHT, WIDTH).argmax(axis=2))
    with Image.open(tmp_path / "out" / "a.overlay.jpg") as overlay:
        assert overlay.size == (WIDTH, HEIGHT)


def test_a_dark_12_bit_image_is_segmented_like_any_other(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png16(tmp_path / "a.png", sample_image().astype(np.uint16) * np.uint16(16))
    assert run_predict(monkeypatch, model, tmp_path / "a.png", "-o", tmp_path / "out", "--overlay", "0") == 0
    np.testing.assert_array_equal(written_masks(tmp_path / "out")["a.png"], sample_image().argmax(axis=2))
    with Image.open(tmp_path / "out" / "a.overlay.jpg") as overlay:
        assert np.abs(np.asarray(overlay).astype(float) - sample_image()).mean() < 12  # JPEG


def test_frames_of_a_video_become_numbered_masks(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    with av.open(str(tmp_path / "drive.mp4"), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for _ in range(3):
            video.mux(stream.encode(av.VideoFrame.from_ndarray(sample_image(), format="rgb24")))
        video.mux(stream.encode())
    assert run_predict(monkeypatch, model, tmp_path / "drive.mp4", "-o", tmp_path / "out") == 0
    written = written_masks(tmp_path / "out")
    assert list(written) == [f"drive_{index:06d}.png" for index in range(3)]
    assert (
        np.mean(written["drive_000001.png"] == sample_image().argmax(axis=2)) > 0.8
    )  # its colours are coded at half the size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/absent.onnx", "{tmp}/a.png", "-o", "{tmp}/out"], "absent.onnx: no such file"),
        (
            ["{tmp}/cut.onnx", "{tmp}/a.png", "-o", "{tmp}/out"],
            "cut.onnx: cannot be loaded as an ONNX file",
        ),
        (["{tmp}/other.onnx", "{tmp}/a.png", "-o", "{tmp}/out"], "other.onnx: is no exported segmentation network"),
        (["{model}", "{tmp}/empty", "-o", "{tmp}/out"], "empty: holds, or matches, no file of .jpg"),
        (["{model}", "{tmp}/*.gif", "-o", "{tmp}/out"], "*.gif: holds, or matches, no file of .jpg"),
        (["{model}", "{tmp}/a.png", "-o", "{tmp}/a.png"], "a.png: cannot be written to"),
        (["{model}", "{tmp}/a.png", "-o", "/proc/out"], "/proc/out: cannot be written to"),
    ],
)
def test_bad_input_ends_in_one_line(
    arguments: Sequence[str],
    message: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.fromarray(sample_image()).save(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.onnx").write_bytes(model.read_bytes()[:200])
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "other", [value], [other])
    opsets = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "other.onnx")
    filled = [argument.format(tmp=tmp_path, model=model) for argument in arguments]
    assert run_predict(monkeypatch, *filled) == predict.EXIT_USER_ERROR
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_neither_torch_nor_anything_else_that_is_heavy_is_imported() -> None:
    program = "import sys, segdistill.inference.predict; print([m for m in %r if m in sys.modules])"
    heavy = ["torch", "onnx", "pytorch_lightning", "hydra", "omegaconf", "rich", "scipy", "matplotlib", "filelock"]
    ended = subprocess.run([sys.executable, "-c", program % heavy], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
