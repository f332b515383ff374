"""Videos that are written: by the writer, and by `predict --video` and `--stream`."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers.exported import HEIGHT, PALETTE, WIDTH, export_brightest, run_predict, sample_image, written_masks

from segdistill.inference import Segmenter, predict
from segdistill.inference.flicker import Flicker
from segdistill.inference.video import VideoReader, open_stream
from segdistill.inference.video_writer import ENCODERS, VideoWriter
from segdistill.utils.errors import UserError
from segdistill.utils.image import ImageError

SMOOTH = np.repeat(np.tile(np.linspace(0, 255, 33).astype(np.uint8), (21, 1))[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_brightest(tmp_path_factory.mktemp("model") / "model.onnx")


def write_frames(path: Path, frames: list[np.ndarray], rate: int = 10) -> Path:
    """Writes a video whose frames come back without a loss."""
    with av.open(str(path), "w") as video:
        stream = video.add_stream("ffv1", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "bgr0"
        for frame in frames:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode())
    return path


def test_frames_come_back_at_their_times_even_of_odd_size(tmp_path: Path) -> None:
    times = [5.0, 5.1, 5.5, 5.5, 7.0]  # begins late, varies, stands still
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for seconds in times:
            writer.write(SMOOTH, seconds)
        assert not (tmp_path / "a.mp4").exists()  # it appears when it is whole
    read = list(VideoReader(tmp_path / "a.mp4"))
    assert [seconds for _, seconds in read] == pytest.approx([0, 0.1, 0.5, 0.5, 2], abs=1e-3)
    assert {frame.shape for frame, _ in read} == {(22, 34, 3)}
    assert max(np.abs(frame[:21, :33].astype(int) - SMOOTH).mean() for frame, _ in read) < 6
    with av.open(str(tmp_path / "a.mp4")) as video:
        assert video.streams.video[0].codec_context.name in ("h264", "av1", "libdav1d")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name in av.codecs_available])
def test_every_encoder_that_is_there_writes_a_video(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(av, "codecs_available", {encoder})
    frame = np.full((72, 96, 3), 120, np.uint8)
    with VideoWriter(tmp_path / "a.mp4") as writer:
        for index in range(3):
            writer.write(frame, index / 30)
    read = [np.abs(each.astype(int) - 120).mean() for each, _ in VideoReader(tmp_path / "a.mp4")]
    assert len(read) == 3
    assert max(read) < 4


def test_frames_of_another_size_are_fitted_into_the_first_ones(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4") as writer:
        writer.write(SMOOTH, 0)
        writer.write(SMOOTH.swapaxes(0, 1).copy(), 1)
    assert [frame.shape for frame, _ in VideoReader(tmp_path / "a.mp4")] == [(22, 34, 3)] * 2


def test_neither_an_error_nor_a_video_without_frames_leaves_a_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "none.mp4"):
        pass

    def interrupted() -> None:
        with VideoWriter(tmp_path / "half.mp4") as writer:
            writer.write(SMOOTH, 0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("count", [3, 20])  # found when the file is closed, and when the last frames are encoded
def test_a_disk_that_is_full_at_the_end_leaves_neither_a_file_nor_an_open_one(count: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (count, 128, 192, 3), np.uint8)

    def full() -> None:
        with VideoWriter(tmp_path / "a.mp4") as writer:
            for index, frame in enumerate(noise):  # the encoder holds them back
                writer.write(frame, index / 10)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match="File too large"):
            full()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
    descriptors = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [target for target in descriptors if target.startswith(str(tmp_path))]


def test_without_an_encoder_the_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with (
        pytest.raises(UserError, match=r"a\.mp4: PyAV has no encoder of libx264"),
        VideoWriter(tmp_path / "a.mp4") as it,
    ):
        it.write(SMOOTH, 0)


def check_overlay(path: Path, count: int) -> None:
    expected = 0.5 * sample_image() + 0.5 * np.array(PALETTE)[sample_image().argmax(axis=2)]
    frames = [frame for frame, _ in VideoReader(path)]
    assert len(frames) == count
    assert max(np.abs(frame.mean(axis=(0, 1)) - expected.mean(axis=(0, 1))).max() for frame in frames) < 6


def test_video_writes_one_video_instead_of_frames_and_prints_its_flicker(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [sample_image()] * 4
    write_frames(tmp_path / "drive.mkv", frames)
    arguments = (model, tmp_path / "drive.mkv", "-o", tmp_path / "out", "--video")
    assert run_predict(monkeypatch, *arguments) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["drive.overlay.mp4"]
    check_overlay(tmp_path / "out" / "drive.overlay.mp4", 4)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("drive.mkv: 4 frames, ")
    assert line.endswith("flicker: 0.00% of the still pixels (100.0% of all) change class a frame")
    assert run_predict(monkeypatch, *arguments) == predict.EXIT_USER_ERROR
    assert "drive.overlay.mp4: exists; --overwrite replaces it" in capsys.readouterr().err
    assert run_predict(monkeypatch, *arguments, "--overwrite") == 0


def test_flicker_is_printed_for_the_masks_of_frames_too(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dim, bright = np.full((2, HEIGHT, WIDTH, 3), 100, np.uint8)
    dim[..., 0], bright[..., 1] = 103, 103  # hardly another image, but red becomes green
    write_frames(tmp_path / "drive.mkv", [dim, bright, bright])
    assert run_predict(monkeypatch, model, tmp_path / "drive.mkv", "-o", tmp_path / "out") == 0
    assert [int(mask[0, 0]) for mask in written_masks(tmp_path / "out").values()] == [0, 1, 1]
    assert "flicker: 50.00% of the still pixels (100.0% of all)" in capsys.readouterr().out


def test_a_damaged_video_is_kept_as_far_as_it_goes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def two(self: VideoReader) -> Iterator[tuple[np.ndarray, float]]:
        yield sample_image(), 0.0
        yield sample_image(), 0.1
        raise ImageError(f"{self.source}: cannot be decoded (cut)")

    monkeypatch.setattr(VideoReader, "__iter__", two)
    (tmp_path / "drive.mp4").touch()
    assert run_predict(monkeypatch, model, tmp_path / "drive.mp4", "-o", tmp_path / "out", "--video") == 3
    check_told_cut_short(capsys, 2)
    assert run_predict(monkeypatch, model, tmp_path / "drive.mp4", "-o", tmp_path / "masks") == 3
    check_told_cut_short(capsys, 2)
    assert run_predict(monkeypatch, model, "--stream", "drive.mp4", "-o", tmp_path / "out") == 3
    check_told_cut_short(capsys, 2)
    monkeypatch.undo()
    check_overlay(tmp_path / "out" / "drive.overlay.mp4", 2)
    check_overlay(tmp_path / "out" / "stream.overlay.mp4", 2)
    assert len(written_masks(tmp_path / "masks")) == 2


def check_told_cut_short(capsys: pytest.CaptureFixture[str], frames: int) -> None:
    printed = capsys.readouterr()
    assert f"drive.mp4: cannot be decoded (cut); kept up to frame {frames}\n" in printed.err
    assert printed.out.splitlines()[0].endswith("; 0 skipped, 1 cut short")


def test_a_video_without_a_whole_frame_is_skipped(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "drive.mp4").write_bytes(b"no video")
    assert run_predict(monkeypatch, model, tmp_path / "drive.mp4", "-o", tmp_path / "out", "--video") == 3
    printed = capsys.readouterr()
    assert printed.err.endswith("; skipped\n")
    assert printed.out.splitlines()[0] == "0 images; 1 skipped"
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("before", [None, b"a whole video"])
def test_ctrl_c_leaves_nothing_of_a_file_and_what_was_there(
    before: bytes | None, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: VideoReader) -> Iterator[tuple[np.ndarray, float]]:
        yield sample_image(), 0.0
        raise KeyboardInterrupt

    monkeypatch.setattr(VideoReader, "__iter__", interrupted)
    (tmp_path / "drive.mp4").touch()
    (tmp_path / "out").mkdir()
    if before is not None:
        (tmp_path / "out" / "drive.overlay.mp4").write_bytes(before)
    with pytest.raises(KeyboardInterrupt):
        run_predict(monkeypatch, model, tmp_path / "drive.mp4", "-o", tmp_path / "out", "--video", "--overwrite")
    left = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert left == ({} if before is None else {"drive.overlay.mp4": before})


def test_frames_a_second_do_not_pay_for_the_flicker(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]

    def frames(self: VideoReader) -> Iterator[tuple[np.ndarray, float]]:
        for index in range(4):
            now[0] += 0.25
            yield sample_image(), index / 10

    def slow(*_: object) -> None:
        now[0] += 60

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr(VideoReader, "__iter__", frames)
    monkeypatch.setattr(Flicker, "update", slow)
    (tmp_path / "drive.mp4").touch()
    assert run_predict(monkeypatch, model, tmp_path / "drive.mp4", "-o", tmp_path / "out", "--video") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "drive.mp4: 4 frames, 4.0 frames/s with decoding and writing"


def test_a_stream_is_anything_that_ffmpeg_opens(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_frames(tmp_path / "drive.mkv", [sample_image()] * 3)
    arguments = (model, "--stream", f"file:{path}", "-o", tmp_path / "out")
    assert run_predict(monkeypatch, *arguments) == 0
    check_overlay(tmp_path / "out" / "stream.overlay.mp4", 3)
    assert "drive.mkv: 3 frames, " in capsys.readouterr().out
    assert run_predict(monkeypatch, *arguments) == predict.EXIT_USER_ERROR
    assert "stream.overlay.mp4: exists; --overwrite replaces it" in capsys.readouterr().err


def test_ctrl_c_ends_a_stream_whose_video_is_kept(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(self: VideoReader) -> Iterator[tuple[np.ndarray, float]]:
        yield sample_image(), 0.0
        yield sample_image(), 0.2
        raise KeyboardInterrupt

    monkeypatch.setattr(VideoReader, "__iter__", endless)
    assert predict.predict_stream(Segmenter(model), "0", tmp_path).images == 2
    monkeypatch.undo()
    check_overlay(tmp_path / "stream.overlay.mp4", 2)


@pytest.mark.parametrize("source", ["97", "file:/absent.mkv", "rtsp://127.0.0.1:1/none"])
def test_a_stream_that_is_not_there_ends_in_one_line(
    source: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_predict(monkeypatch, model, "--stream", source, "-o", tmp_path) == predict.EXIT_USER_ERROR
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    opened = "/dev/video97" if source == "97" else source
    assert printed.startswith(f"error: --stream {source}: {opened}: cannot be decoded (")
    assert printed.endswith("; give the N of a /dev/videoN, or an address or file that FFmpeg opens\n")
    assert not list(tmp_path.iterdir())


def test_cameras_have_an_index_on_linux_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(UserError, match="--stream 0: cameras have an index on Linux alone"):
        open_stream("0")


@pytest.mark.parametrize("arguments", [[], ["a.png", "--stream", "0"]])
def test_a_path_or_a_stream_is_given_and_not_both(
    arguments: list[Any], model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run_predict(monkeypatch, model, *arguments, "-o", "out")
    assert "--stream" in capsys.readouterr().err
