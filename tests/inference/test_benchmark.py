"""The harness: every engine sees every image once, alone in its process; what it counts is right."""

from __future__ import annotations

import multiprocessing
import os
import signal
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from segdistill.export.onnx import export_onnx, export_wrapper
from segdistill.inference.backends import installed_runtimes
from segdistill.inference.benchmark import BATCHES, IMAGES_PER_ROUND, Backend, Measurement, measure
from segdistill.inference.round_buffer import Images, RoundBuffer
from segdistill.inference.scoring import MaskScores
from segdistill.utils.preprocessing import Preprocessing

Pixels = NDArray[np.uint8]


class Brightest(nn.Module):
    """Classifies a pixel by its brightest channel."""

    def forward(self, image: Tensor) -> Tensor:
        return image * 2


class DyingAfter(Brightest):
    """Kills its process at the given call."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, image: Tensor) -> Tensor:
        self.calls -= 1
        if self.calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(image)


class Watching(MaskScores):
    """Notes how many masks it was given, and how many of the arrays are still held by anybody."""

    def __init__(self, references: Sequence[int | None], num_classes: int) -> None:
        super().__init__(references, num_classes)
        self.given: list[weakref.ref[Pixels]] = []
        self.lengths: list[int] = []
        self.most_alive = 0

    def add(self, place: int, masks: Pixels, truth: Pixels) -> None:
        super().add(place, masks, truth)
        self.given.append(weakref.ref(masks))
        self.lengths.append(len(masks))
        self.most_alive = max(self.most_alive, sum(each() is not None for each in self.given))


@pytest.fixture
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (19, 10, 12, 3), np.uint8)


@pytest.fixture
def images(pixels: Pixels, tmp_path: Path) -> Images:
    """The truth of each is its brightest channel."""
    files = [tmp_path / f"{index}.png" for index in range(len(pixels))]
    for image, path in zip(pixels, files, strict=True):
        Image.fromarray(image).save(path)
    return Images(
        files, lambda index: (pixels[index], pixels[index].argmax(axis=2).astype(np.uint8)), Preprocessing((10, 12))
    )


@pytest.fixture
def exported(pixels: Pixels, tmp_path: Path) -> Path:
    export_onnx(Brightest(), tmp_path / "m.onnx", pixels[:2], {})
    return tmp_path / "m.onnx"


def saved(network: nn.Module, path: Path) -> Path:
    torch.save(export_wrapper(network), path)
    return path


def class_pixels(pixels: Pixels) -> NDArray[np.int64]:
    return np.diag(np.bincount(pixels.argmax(axis=3).ravel(), minlength=3))


@pytest.mark.slow
def test_every_engine_sees_every_image_and_no_mask_is_kept_beyond_its_round(
    pixels: Pixels, images: Images, exported: Path, tmp_path: Path
) -> None:
    engines = [
        *(Backend("student", f"{runtime}-fp32", exported) for runtime in installed_runtimes()),
        Backend("student", "pytorch", saved(Brightest(), tmp_path / "m.pt")),
        Backend("student", "onnxruntime-fp32+decode", exported, decodes=True),
    ]
    scores = Watching([2] * len(engines), num_classes=3)
    measured = measure(engines, images, scores, threads=1, batch_size=12)
    assert [m.engine for m in measured] == engines
    for place, measurement in enumerate(measured):
        assert measurement.error is None
        assert len(measurement.latencies_ms) == len(images) == 19
        assert min(measurement.latencies_ms) > 0
        assert len(measurement.batches_ms) == (0 if measurement.engine.decodes else BATCHES)
        np.testing.assert_array_equal(scores.confusions[place], class_pixels(pixels))
        assert scores.agreement(place) == 1
    assert scores.lengths == [8] * 4 + [8] * 4 + [3] * 4
    assert scores.most_alive == 2  # the reference's and those of the engine that is compared with it
    assert not multiprocessing.active_children()


def test_openvino_is_measured_where_this_suite_runs() -> None:
    assert installed_runtimes() == ["onnxruntime", "openvino"]


def test_images_of_other_sizes_are_resized_inside_the_clock(pixels: Pixels, images: Images, exported: Path) -> None:
    Image.fromarray(pixels[0].repeat(2, axis=0).repeat(2, axis=1)).save(images.files[0])
    scores = MaskScores([0], num_classes=3)
    measure([Backend("s", "onnxruntime-fp32+decode", exported, decodes=True)], images, scores, threads=1)
    assert scores.confusions[0].sum() == 19 * 10 * 12
    assert np.trace(scores.confusions[0]) >= 18 * 10 * 12


def test_an_engine_that_decodes_prepares_as_the_others_find_it(pixels: Pixels, images: Images, exported: Path) -> None:
    steps = Preprocessing((13, 17), cut_bottom=4, gamma=0.5)
    prepared = [steps.image(image) for image in pixels]
    seen = Images(images.files, lambda index: (prepared[index], prepared[index].argmax(axis=2).astype(np.uint8)), steps)
    scores = MaskScores([0], num_classes=3)
    measure([Backend("s", "onnxruntime-fp32+decode", exported, decodes=True)], seen, scores, threads=1)
    assert np.trace(scores.confusions[0]) == scores.confusions[0].sum() == 19 * 9 * 17


@pytest.mark.slow
def test_engines_that_fail_or_die_are_named_and_the_others_go_on(
    pixels: Pixels, images: Images, exported: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    calls = 5 + 1 + IMAGES_PER_ROUND + 1 + 3  # warming up, a first round, in the second
    engines = [
        Backend("teacher", "onnxruntime-fp32", broken),
        Backend("teacher", "pytorch", saved(DyingAfter(calls), tmp_path / "dying.pt")),
        Backend("student", "onnxruntime-fp32", exported),
        Backend("student", "pytorch", saved(Brightest(), tmp_path / "m.pt")),
    ]
    scores = MaskScores([1, 1, 3, 3], num_classes=3)
    opened, died, *others = measure(engines, images, scores, threads=1, batch_size=4)
    assert opened.error is not None
    assert "broken.onnx: cannot be loaded as an ONNX file" in opened.error
    assert "\n" not in opened.error
    assert died.error == "its process was killed by SIGKILL"
    for place, measurement in enumerate(others, 2):
        assert measurement.error is None
        assert (len(measurement.latencies_ms), len(measurement.batches_ms)) == (19, BATCHES)
        np.testing.assert_array_equal(scores.confusions[place], class_pixels(pixels))
        assert scores.agreement(place) == 1
    assert len(scores.differences) == IMAGES_PER_ROUND  # of the round that both went through
    assert not multiprocessing.active_children()


def test_a_round_replaces_the_previous_one(pixels: Pixels, images: Images, tmp_path: Path) -> None:
    buffer = RoundBuffer(tmp_path / "images.npy", images, capacity=8)
    mapped, size = np.load(buffer.path, mmap_mode="r"), buffer.path.stat().st_size
    for indices in (range(8), range(8, 16), range(16, 19)):
        truth = buffer.load(indices)
        np.testing.assert_array_equal(mapped[: len(indices)], pixels[indices.start : indices.stop])
        np.testing.assert_array_equal(truth, pixels[indices.start : indices.stop].argmax(axis=3))
    assert buffer.path.stat().st_size == size < 8 * pixels[0].nbytes + 256


def test_percentiles_are_those_of_numpy() -> None:
    measured = Measurement(Backend("student", "pytorch", Path()), latencies_ms=[1.0, 2.0, 3.0, 10.0])
    assert measured.percentile_ms(50) == 2.5
    assert measured.percentile_ms(95) == pytest.approx(np.percentile([1, 2, 3, 10], 95))
