"""What the demo page says of two engines: masks, shares, latencies and drawings, counted by hand."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from helpers.exported import (
    HEIGHT,
    PALETTE,
    WIDTH,
    Darkest,
    export_brightest,
    export_classes,
    sample_image,
    with_metadata,
    write_interface,
)

from segdistill.inference import Segmenter
from segdistill.inference.demo.comparison import Comparison, Side, compare, draw, legend
from segdistill.inference.demo.engines import CALLS, Engine, first_choices, open_engines
from segdistill.inference.demo.text import error_line, results
from segdistill.utils.errors import UserError

NAMES = ["red", "green", "blue"]
COLOURS = dict(zip(NAMES, PALETTE, strict=True))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("exported")
    return [export_classes(Darkest(), folder / "teacher.onnx"), export_brightest(folder / "student.int8.onnx")]


def opened(path: Path) -> Engine:
    return Engine(Segmenter(path, threads=1), "onnxruntime")


def test_masks_are_those_of_the_file_at_the_size_that_is_shown(files: list[Path]) -> None:
    image = sample_image(2 * HEIGHT, 2 * WIDTH)
    comparison = compare(image, None, opened(files[1]))
    left, right = comparison.sides
    assert left is None
    assert right is not None
    assert np.array_equal(right.mask, image.argmax(axis=2))
    assert comparison.share_differing is None


def test_a_pixel_whose_brightest_channel_is_its_darkest_is_the_only_one_that_agrees(files: list[Path]) -> None:
    image = sample_image()
    image[:5, :8] = 77  # all channels are equal: both say red, the first
    comparison = compare(image, opened(files[0]), opened(files[1]))
    assert comparison.share_differing == pytest.approx(1 - 5 * 8 / (HEIGHT * WIDTH))
    assert not comparison.differing[:5, :8].any()  # type: ignore[index] # is none of None


def test_void_does_not_differ_and_other_classes_are_not_compared() -> None:
    image = np.zeros((1, 4, 3), np.uint8)
    left = Side(np.array([[0, 1, 255, 2]], np.uint8), NAMES)
    right = Side(np.array([[0, 2, 1, 255]], np.uint8), NAMES)
    assert Comparison(image, (left, right)).share_differing == 0.25
    assert Comparison(image, (left, Side(right.mask, ["red", "blue", "green"]))).share_differing is None


def test_colours_are_blended_over_chosen_classes_alone() -> None:
    image = np.full((1, 4, 3), 100, np.uint8)
    side = Side(np.array([[0, 1, 255, 2]], np.uint8), NAMES)
    left, right = draw(Comparison(image, (side, None)), COLOURS, ["red", "blue"], opacity=0.25)
    assert right.tolist() == image.tolist()
    assert left.tolist() == [[[78, 80, 82], [100, 100, 100], [100, 100, 100], [92, 95, 98]]]


def test_only_what_differs_is_drawn_over_a_grey_image() -> None:
    image = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)
    sides = (Side(np.array([[0, 1]], np.uint8), NAMES), Side(np.array([[0, 2]], np.uint8), NAMES))
    left, right = draw(Comparison(image, sides), COLOURS, NAMES, opacity=1, only_differing=True)
    assert left.tolist() == [[[76, 76, 76], PALETTE[1]]]
    assert right.tolist() == [[[76, 76, 76], PALETTE[2]]]


def test_the_first_engine_that_knows_a_class_gives_its_colour(files: list[Path], tmp_path: Path) -> None:
    changed = {"classes": '["blue", "sky"]', "palette": "[[1, 2, 3], [4, 5, 6]]"}
    other = opened(with_metadata(files[0], tmp_path / "other.onnx", changed))
    assert legend([opened(files[0]), None, other]) == {**COLOURS, "sky": [4, 5, 6]}
    assert legend([other, opened(files[0])])["blue"] == [1, 2, 3]


def test_a_file_that_names_nothing_is_drawn_all_the_same(tmp_path: Path) -> None:
    engine = opened(write_interface(tmp_path / "bare.onnx", mask_of=[1, 4, 6, 3]))
    assert (engine.classes, engine.colours) == ([], [])
    image = np.full((4, 6, 3), 1, np.uint8)
    left, _ = draw(compare(image, engine, None), {}, [], opacity=1)
    assert left.tolist() == [[[0, 128, 0]] * 6] * 4  # VOC's colour of the class after the background's
    with pytest.raises(UserError, match="cannot segment images"):
        compare(image[:3], engine, None)


def test_names_and_colours_that_lack_are_filled_up(files: list[Path], tmp_path: Path) -> None:
    changed = {"classes": '["red"]', "palette": "[[1, 2, 3], [4, 5, 6]]"}
    engine = opened(with_metadata(files[0], tmp_path / "short.onnx", changed))
    assert engine.classes == ["red", "class 1"]
    changed = {"palette": "[]"}
    assert len(opened(with_metadata(files[0], tmp_path / "grey.onnx", changed)).colours) == 3


def test_the_last_twenty_latencies_count_and_the_results_show_their_median(files: list[Path]) -> None:
    engine = opened(files[1])
    for _ in range(CALLS + 5):
        comparison = compare(sample_image(), None, engine)
    assert len(engine.latencies_ms) == 20
    engine.latencies_ms.extend([1.0] * 9 + [3.0] * 11)
    assert engine.p50_ms == 3
    shown = results(comparison, [None, engine])
    assert "student.int8, onnxruntime" in shown
    assert '<td class="number">3.0</td><td class="number">20</td>' in shown
    assert "One side is the image alone." in shown


def test_an_error_is_text_and_no_markup() -> None:
    assert "&lt;img src=x&gt;.png: bad" in error_line(UserError("<img src=x>.png: bad"))
    assert "MemoryError" in error_line(MemoryError())


def test_files_have_names_that_tell_them_apart(files: list[Path], tmp_path: Path) -> None:
    twin = export_brightest(tmp_path / "teacher.onnx")
    names = list(open_engines([*files, twin]))
    assert len(set(names)) == len(names)
    assert any(name.startswith(str(twin.with_suffix(""))) for name in names)
    assert any(name.startswith("student.int8") for name in names)


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_every_runtime_gives_the_same_masks(files: list[Path]) -> None:
    engines = open_engines(files[1:], threads=1)
    assert list(engines) == ["student.int8 (onnxruntime)", "student.int8 (openvino)"]
    assert compare(sample_image(), *engines.values()).share_differing == 0


@pytest.mark.parametrize(
    ("stems", "first"),
    [
        (["teacher", "teacher.int8", "student", "student.int8"], ("teacher", "student.int8")),
        (["teacher", "student"], ("teacher", "student")),
        (["small", "large"], ("small", "large")),
        (["teacher"], (None, "teacher")),
    ],
)
def test_the_teacher_and_the_smallest_student_come_first_and_one_file_beside_the_image(
    files: list[Path], tmp_path: Path, stems: list[str], first: tuple[str | None, str]
) -> None:
    copies = [Path(shutil.copy(files[0], tmp_path / f"{stem}.onnx")) for stem in stems]
    names = first_choices(open_engines(copies, threads=1))
    assert tuple(name and name.removesuffix(" (onnxruntime)") for name in names) == first


def test_a_folder_called_after_teachers_makes_no_teacher(files: list[Path], tmp_path: Path) -> None:
    given = [tmp_path / "teacher.int8_runs" / name for name in ("a/student.onnx", "b/student.onnx", "b/teacher.onnx")]
    for path in given:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(files[0], path)
    names = first_choices(open_engines(given, threads=1))
    left, right = (name and name.removesuffix(" (onnxruntime)") for name in names)
    assert (left, right) == ("teacher", str(given[0].with_suffix("")))
