"""What the demo page takes: exported files, sample images, and whatever somebody uploads."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.exported import HEIGHT, WIDTH, export_brightest, sample_image, with_metadata
from PIL import Image

from segdistill.data.labels import ROAD_SCENES
from segdistill.inference import Segmenter
from segdistill.inference.demo.sources import MAX_SAMPLES, find_files, write_samples
from segdistill.inference.demo.uploads import MAX_SIDE, as_shown, read_upload
from segdistill.reporting.panels import prediction_sheet
from segdistill.utils.errors import UserError
from segdistill.utils.image import ImageError


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter(export_brightest(tmp_path_factory.mktemp("exported") / "model.onnx"))


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_are_those_of_runs_folders_and_names_each_once_and_teachers_first(tmp_path: Path) -> None:
    run, pack = tmp_path / "run", tmp_path / "pack"
    names = ["student.int8.onnx", "student.onnx", "teacher.int8.onnx", "teacher.onnx"]
    touch(*(run / "onnx" / name for name in names), pack / "small.onnx", pack / "deeper" / "other.onnx")
    found = find_files([run, run / "onnx" / "student.onnx", pack])
    assert [path.name for path in found] == [
        "teacher.onnx",
        "teacher.int8.onnx",
        "small.onnx",
        "student.onnx",
        "student.int8.onnx",
    ]


def test_a_path_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent: no such file or directory"):
        find_files([tmp_path / "absent"])
    with pytest.raises(UserError, match=r"holds no \.onnx file, nor does its folder onnx/; give"):
        find_files([tmp_path])


def write_sheet(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nothing = np.zeros(image.shape[:2], np.uint8)
    prediction_sheet(image, nothing, {"teacher": nothing, "student": nothing}, ROAD_SCENES).save(path)


def test_samples_of_a_run_are_the_images_of_its_sheets_those_that_differ_first(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)
    folder, out = tmp_path / "run" / "predictions", tmp_path / "out"
    out.mkdir()
    write_sheet(folder / "a.png", images[0])
    write_sheet(folder / "b_1.png", images[1])
    write_sheet(folder / "differing" / "01_b_1.png", images[1])
    write_sheet(folder / "differing" / "02_c.png", images[2])
    write_sheet(folder / "other_size.png", images[0][:, :-1])
    (folder / "z.png").write_text("no image")
    samples = write_samples([tmp_path / "run"], segmenter, out)
    assert [path.name for path in samples] == ["b_1.png", "c.png", "a.png"]
    for path, image in zip(samples, images[[1, 2, 0]], strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), image)


@pytest.mark.parametrize("steps", ['{"resize": [24, 32], "cut_bottom": 4}', '{"resize": [20, 32], "gamma": 2}', "{}"])
def test_a_sheet_whose_image_would_be_cut_or_corrected_twice_is_no_sample(tmp_path: Path, steps: str) -> None:
    model = with_metadata(export_brightest(tmp_path / "m.onnx"), tmp_path / "m2.onnx", {"preprocessing": steps})
    write_sheet(tmp_path / "run" / "predictions" / "a.png", sample_image())
    assert write_samples([tmp_path / "run"], Segmenter(model), tmp_path) == []


def test_samples_of_a_packed_folder_are_neither_its_masks_nor_its_failures(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    out, pack = tmp_path / "out", tmp_path / "pack"
    out.mkdir()
    write_images(*(pack / "samples" / "images" / f"{index:02}.JPG" for index in range(MAX_SAMPLES + 3)))
    write_images(pack / "samples" / "masks" / "00.png", pack / "failures" / "x.png", pack / "top.png")
    touch(pack / "model.onnx")
    samples = write_samples([pack, pack / "model.onnx"], segmenter, out)
    assert [path.name for path in samples] == [f"{index:02}.png" for index in range(MAX_SAMPLES)]
    assert all(path.parent == out and path.is_file() for path in samples)


def write_images(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample_image()).save(path)


def test_samples_are_written_anew_and_nothing_that_is_no_image_is_served(tmp_path: Path, segmenter: Segmenter) -> None:
    out, given = tmp_path / "out", tmp_path / "given"
    out.mkdir()
    write_images(given / "a.jpg", tmp_path / "elsewhere.bmp", given / "hidden.jpg")
    notes = Image.Exif()
    notes[0x010E] = "where and when"
    Image.fromarray(sample_image()).save(given / "b.jpg", exif=notes)
    (tmp_path / "password").write_text("secret")
    (given / "c.png").symlink_to(tmp_path / "password")
    (given / "d.png").symlink_to(tmp_path / "elsewhere.bmp")
    (given / "e.png").symlink_to(tmp_path / "absent")
    (given / "f.png").mkdir()
    os.mkfifo(given / "g.png")
    (given / "hidden.jpg").write_bytes((given / "hidden.jpg").read_bytes()[:300])
    samples = write_samples([given], segmenter, out)
    assert [path.name for path in samples] == ["a.png", "b.png", "d.png"]
    assert sorted(out.iterdir()) == samples
    for path in samples:
        assert not path.is_symlink()
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert not image.getexif()
            read = np.asarray(image).astype(float)
        assert np.abs(read - sample_image()).mean() < (1 if path.name == "d.png" else 30)  # JPEG blurs small blocks


@pytest.mark.parametrize("name", ["samples/a.png", "images/a.png", "a.png"])
def test_samples_of_another_folder_lie_in_it_or_in_a_folder_that_says_so(
    tmp_path: Path, segmenter: Segmenter, name: str
) -> None:
    (tmp_path / "out").mkdir()
    write_images(tmp_path / "given" / name)
    touch(tmp_path / "given" / "notes.txt")
    assert write_samples([tmp_path / "given"], segmenter, tmp_path / "out") == [tmp_path / "out" / "a.png"]


def header_only(path: Path, width: int, height: int) -> Path:
    """A PNG of a few bytes that claims to be large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")))
    return path


def text_renamed(path: Path) -> None:
    path.write_text("this is no image")


def cut_off(path: Path) -> None:
    Image.effect_noise((64, 64), 50).convert("RGB").save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:700])


def animation(path: Path) -> None:
    Image.new("RGB", (4, 4)).save(path, "WEBP", save_all=True, append_images=[Image.new("RGB", (4, 4), "red")])


def postscript(path: Path) -> None:
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (text_renamed, "is no image, or a damaged one; take a JPEG, PNG, WebP, BMP or TIFF"),
        (postscript, "is no image, or a damaged one"),
        (cut_off, "cannot be read as an image"),
        (animation, "holds 2 images"),
        (lambda path: header_only(path, 9000, 8000), "has 9000 x 8000 pixels; at most 64 million are taken, reduce it"),
        (lambda path: header_only(path, 60000, 60000), "has too many pixels; at most 64 million are taken"),
        (lambda path: path.write_bytes(b""), "is no image, or a damaged one"),
    ],
)
def test_what_is_no_image_within_the_limits_is_answered_in_a_line_without_its_folder(
    tmp_path: Path, write: Callable[[Path], object], told: str
) -> None:
    write(tmp_path / "up.jpg")
    with pytest.raises(ImageError) as caught:
        read_upload(tmp_path / "up.jpg")
    assert str(caught.value).startswith("up.jpg: ")
    assert told in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_pixel_transparent_and_turned_images_are_read(tmp_path: Path) -> None:
    Image.new("RGBA", (1, 1), (10, 20, 30, 0)).save(tmp_path / "one.png")
    assert read_upload(tmp_path / "one.png").tolist() == [[[10, 20, 30]]]
    stored = np.zeros((40, 60, 3), np.uint8)
    stored[:, :30] = (0, 0, 255)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown after a quarter turn clockwise
    Image.fromarray(stored).save(tmp_path / "phone.jpg", exif=turned, quality=95)
    image = read_upload(tmp_path / "phone.jpg")
    assert image.shape == (60, 40, 3)
    assert image[:28, :, 2].min() > 200
    assert image[32:, :, 2].max() < 50


@pytest.mark.parametrize(
    ("size", "shown"), [((1, 1), (1, 1)), ((2560, 101), (1280, 50)), ((3, 9000), (1, 1280)), ((1280, 7), (1280, 7))]
)
def test_a_large_image_is_shown_smaller_and_a_small_one_as_it_is(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert MAX_SIDE == 1280
    assert as_shown(np.zeros((*size, 3), np.uint8)).shape == (*shown, 3)
