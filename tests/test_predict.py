"""The command that segments pictures without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from segdistill.deploy import Segmenter, predict
from segdistill.deploy.export import export_onnx
from segdistill.errors import UserError

PALETTE = [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
HEIGHT, WIDTH = 20, 32


class Brightest(nn.Module):
    """Classifies a pixel by its brightest channel."""

    def forward(self, image: Tensor) -> Tensor:
        return image * 2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    metadata = {
        "classes": json.dumps(["red", "green", "blue"]),
        "palette": json.dumps(PALETTE),
        "preprocessing": json.dumps({"resize": [HEIGHT, WIDTH]}),
    }
    export_onnx(Brightest(), path, picture()[None], metadata)
    return path


def picture(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Blocks of one pure colour each."""
    ids = (np.arange(height)[:, None] // (height // 4) + np.arange(width) // (width // 4)) % 3
    colours: NDArray[np.uint8] = (np.eye(3)[ids] * 200).astype(np.uint8)
    return colours


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    return predict.main()


def masks(folder: Path) -> dict[str, NDArray[np.uint8]]:
    found = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            assert image.mode == "P"
            assert (image.getpalette() or [])[:9] == [level for colour in PALETTE for level in colour]
            found[path.name] = np.asarray(image)
    return found


def test_masks_have_the_size_of_their_pictures_and_the_palette_of_the_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.fromarray(picture()).save(folder / "same.png")
    Image.fromarray(picture(3 * HEIGHT, 3 * WIDTH)).save(folder / "large.bmp")
    (folder / "notes.txt").write_text("no picture")
    assert run(monkeypatch, model, folder, "-o", out) == 0
    written = masks(out)
    assert list(written) == ["large.png", "same.png"]
    np.testing.assert_array_equal(written["same.png"], picture().argmax(axis=2))
    np.testing.assert_array_equal(written["large.png"], picture(3 * HEIGHT, 3 * WIDTH).argmax(axis=2))
    printed = capsys.readouterr().out
    assert printed.startswith("2 pictures, ")
    assert "0 skipped" in printed
    share = np.mean(picture().argmax(axis=2) == 1)
    assert f"green  {share:7.2%} of all pixels" in printed


def test_a_damaged_picture_is_skipped_counted_and_told_by_the_exit_code(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        Image.fromarray(picture()).save(tmp_path / f"{name}.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    assert run(monkeypatch, model, tmp_path, "-o", tmp_path / "out") == predict.EXIT_SKIPPED
    printed = capsys.readouterr()
    assert list(masks(tmp_path / "out")) == ["a.png", "c.png"]
    assert f"warning: {tmp_path / 'b.png'}: cannot be read as an image (" in printed.err
    assert "; skipped" in printed.err
    assert "1 skipped" in printed.out


def test_what_exists_is_kept_unless_it_is_to_be_overwritten(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    assert run(monkeypatch, model, tmp_path / "a.png", "-o", out) == predict.EXIT_USER_ERROR
    assert "a.png: exists; --overwrite replaces it" in capsys.readouterr().err
    assert (out / "a.png").read_bytes() == b"mine"
    assert run(monkeypatch, model, tmp_path / "a.png", "-o", out, "--overwrite") == 0
    assert list(masks(out)) == ["a.png"]


def test_the_pictures_themselves_are_never_written_over(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    assert run(monkeypatch, model, tmp_path, "-o", tmp_path, "--overwrite") == predict.EXIT_USER_ERROR
    assert "a.png: is a picture to be segmented; give another folder" in capsys.readouterr().err
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_full_disk_is_no_damaged_picture(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    Image.fromarray(picture()).save(tmp_path / "a.png")
    monkeypatch.setattr(predict, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        predict.predict(Segmenter(model), str(tmp_path / "a.png"), tmp_path / "out")


def test_the_overlay_blends_the_palette_over_the_picture(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    assert run(monkeypatch, model, tmp_path / "a.png", "-o", tmp_path / "out", "--overlay", "0.25") == 0
    expected = 0.75 * picture() + 0.25 * np.array(PALETTE)[picture().argmax(axis=2)]
    blended = np.asarray(Image.open(tmp_path / "out" / "a.overlay.jpg")).astype(float)
    assert np.abs(blended - expected).mean() < 12  # JPEG
    assert np.abs(blended.mean(axis=(0, 1)) - expected.mean(axis=(0, 1))).max() < 3


def test_patterns_choose_and_equal_stems_are_told_apart(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "a.bmp", "b.png", "other.bmp"):
        Image.fromarray(picture()).save(tmp_path / name)
    assert run(monkeypatch, model, tmp_path / "[ab].*", "-o", tmp_path / "out") == 0
    assert list(masks(tmp_path / "out")) == ["a.bmp.png", "a.png.png", "b.png"]


def test_frames_of_a_video_become_numbered_masks(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    with av.open(str(tmp_path / "drive.mp4"), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for _ in range(3):
            video.mux(stream.encode(av.VideoFrame.from_ndarray(picture(), format="rgb24")))
        video.mux(stream.encode())
    assert run(monkeypatch, model, tmp_path / "drive.mp4", "-o", tmp_path / "out") == 0
    written = masks(tmp_path / "out")
    assert list(written) == [f"drive_{index:06d}.png" for index in range(3)]
    assert (
        np.mean(written["drive_000001.png"] == picture().argmax(axis=2)) > 0.8
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
    Image.fromarray(picture()).save(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.onnx").write_bytes(model.read_bytes()[:200])
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "other", [value], [other])
    opsets = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "other.onnx")
    filled = [argument.format(tmp=tmp_path, model=model) for argument in arguments]
    assert run(monkeypatch, *filled) == predict.EXIT_USER_ERROR
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_neither_torch_nor_anything_else_that_is_heavy_is_imported() -> None:
    program = "import sys, segdistill.deploy.predict; print([m for m in %r if m in sys.modules])"
    heavy = ["torch", "onnx", "pytorch_lightning", "hydra", "omegaconf", "rich", "scipy", "matplotlib", "filelock"]
    ended = subprocess.run([sys.executable, "-c", program % heavy], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_a_program_gets_masks_of_its_own_size(model: Path) -> None:
    segmenter = Segmenter(model)
    assert (segmenter.classes, segmenter.palette) == (["red", "green", "blue"], PALETTE)
    assert segmenter.input_size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(segmenter(picture(40, 64)), picture(40, 64).argmax(axis=2))
    with pytest.raises(UserError, match="no such file"):
        Segmenter("absent.onnx")
