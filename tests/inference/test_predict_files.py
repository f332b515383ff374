"""Which files `predict` reads and writes, and which it leaves alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers.exported import export_brightest, run_predict, sample_image, written_masks
from PIL import Image

from segdistill.inference import Segmenter, predict


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_brightest(tmp_path_factory.mktemp("model") / "model.onnx")


def test_what_exists_is_kept_unless_it_is_to_be_overwritten(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(sample_image()).save(tmp_path / "a.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    assert run_predict(monkeypatch, model, tmp_path / "a.png", "-o", out) == predict.EXIT_USER_ERROR
    assert "a.png: exists; --overwrite replaces it" in capsys.readouterr().err
    assert (out / "a.png").read_bytes() == b"mine"
    assert run_predict(monkeypatch, model, tmp_path / "a.png", "-o", out, "--overwrite") == 0
    assert list(written_masks(out)) == ["a.png"]


def test_the_images_themselves_are_never_written_over(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(sample_image()).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    assert run_predict(monkeypatch, model, tmp_path, "-o", tmp_path, "--overwrite") == predict.EXIT_USER_ERROR
    assert "a.png: is an image to be segmented; give another folder" in capsys.readouterr().err
    assert (tmp_path / "a.png").read_bytes() == before


def test_overlays_are_kept_like_masks(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    Image.fromarray(sample_image()).save(tmp_path / "a.png")
    Image.fromarray(sample_image()).save(out / "a.overlay.jpg")
    arguments = (model, tmp_path / "a.png", "-o", out, "--overlay")
    assert run_predict(monkeypatch, *arguments) == predict.EXIT_USER_ERROR
    assert "a.overlay.jpg: exists; --overwrite replaces it" in capsys.readouterr().err
    assert run_predict(monkeypatch, *arguments, "--overwrite") == 0
    Image.fromarray(sample_image()).save(out / "b.jpg")
    Image.fromarray(sample_image()).save(out / "b.overlay.jpg")
    assert (
        run_predict(monkeypatch, model, out / "b*.jpg", "-o", out, "--overlay", "--overwrite")
        == predict.EXIT_USER_ERROR
    )
    assert "b.overlay.jpg: is an image to be segmented" in capsys.readouterr().err


def test_the_frames_of_an_earlier_call_are_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "drive.mp4").write_bytes(b"no video")
    (out / "drive_000007.png").write_bytes(b"mine")
    (out / "drive_home.png").write_bytes(b"mine")
    assert run_predict(monkeypatch, model, tmp_path / "drive.mp4", "-o", out) == predict.EXIT_USER_ERROR
    assert "drive_000007.png: exists; --overwrite replaces it" in capsys.readouterr().err
    (out / "drive_000007.png").unlink()
    assert run_predict(monkeypatch, model, tmp_path / "drive.mp4", "-o", out) == predict.EXIT_SKIPPED


def test_patterns_choose_and_equal_stems_are_told_apart(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "a.bmp", "b.png", "other.bmp"):
        Image.fromarray(sample_image()).save(tmp_path / name)
    assert run_predict(monkeypatch, model, tmp_path / "[ab].*", "-o", tmp_path / "out") == 0
    assert list(written_masks(tmp_path / "out")) == ["a.bmp.png", "a.png.png", "b.png"]


def test_overwriting_asks_the_disk_a_constant_number_of_times_an_image(model: Path, tmp_path: Path) -> None:
    segmenter = Segmenter(model)

    def asked(count: int) -> int:
        """How often the disk is asked of a path, or for what a folder holds, when `count` masks are overwritten."""
        folder, out, calls = tmp_path / f"in{count}", tmp_path / f"out{count}", 0
        folder.mkdir()
        for index in range(count):
            Image.fromarray(sample_image()).save(folder / f"{index}.png")
        predict.predict(segmenter, str(folder), out)

        def count_calls(_: object, event: str, function: object) -> None:
            nonlocal calls
            if event == "c_call" and getattr(function, "__module__", None) == "posix":
                calls += 1

        sys.setprofile(count_calls)
        try:
            predict.predict(segmenter, str(folder), out, overwrite=True)
        finally:
            sys.setprofile(None)
        return calls

    few, more, most = asked(10), asked(20), asked(30)
    assert most - more == more - few > 0
