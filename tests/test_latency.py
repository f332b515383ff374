"""The harness: every engine sees every picture once, alone in its process; what it counts is right."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from segdistill.deploy.export import deployable, export_onnx
from segdistill.deploy.latency import BATCHES, Engine, Measurement, Pictures, count, installed_runtimes, measure


class Brightest(nn.Module):
    """Classifies a pixel by its brightest channel."""

    def forward(self, image: Tensor) -> Tensor:
        return image * 2


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (19, 10, 12, 3), np.uint8)


@pytest.fixture
def pictures(images: NDArray[np.uint8], tmp_path: Path) -> Pictures:
    np.save(tmp_path / "decoded.npy", images)
    files = [tmp_path / f"{index}.png" for index in range(len(images))]
    for pixels, path in zip(images, files, strict=True):
        Image.fromarray(pixels).save(path)
    return Pictures(tmp_path / "decoded.npy", files)


@pytest.fixture
def exported(images: NDArray[np.uint8], tmp_path: Path) -> Path:
    export_onnx(Brightest(), tmp_path / "m.onnx", images[:2], {})
    return tmp_path / "m.onnx"


def test_every_engine_sees_every_picture_and_keeps_its_own_masks(
    images: NDArray[np.uint8], pictures: Pictures, exported: Path, tmp_path: Path
) -> None:
    torch.save(deployable(Brightest()), tmp_path / "m.pt")
    engines = [
        Engine("student", "pytorch", tmp_path / "m.pt"),
        *(Engine("student", f"{runtime}-fp32", exported) for runtime in installed_runtimes()),
        Engine("student", "onnxruntime-fp32+decode", exported, decodes=True),
    ]
    measured = measure(engines, pictures, threads=1, batch_size=4)
    assert [m.engine for m in measured] == engines
    for measurement in measured:
        assert len(measurement.latencies_ms) == len(pictures) == 19
        assert min(measurement.latencies_ms) > 0
        assert len(measurement.batches_ms) == (0 if measurement.engine.decodes else BATCHES)
        np.testing.assert_array_equal(measurement.masks, images.argmax(axis=3))
        assert measurement.agreement(measured[0]) == 1
    assert not multiprocessing.active_children()


def test_openvino_is_measured_where_this_suite_runs() -> None:
    assert installed_runtimes() == ["onnxruntime", "openvino"]


def test_pictures_of_other_sizes_are_resized_inside_the_clock(
    images: NDArray[np.uint8], pictures: Pictures, exported: Path
) -> None:
    Image.fromarray(images[0].repeat(2, axis=0).repeat(2, axis=1)).save(pictures.files[0])
    (measured,) = measure([Engine("s", "onnxruntime-fp32+decode", exported, decodes=True)], pictures, threads=1)
    assert measured.masks.shape == (19, 10, 12)
    np.testing.assert_array_equal(measured.masks[1:], images[1:].argmax(axis=3))


def test_an_engine_that_cannot_open_is_named(pictures: Pictures, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(RuntimeError, match="teacher onnxruntime-fp32: "):
        measure([Engine("teacher", "onnxruntime-fp32", broken)], pictures, threads=1)
    assert not multiprocessing.active_children()


def test_confusion_and_agreement_by_hand() -> None:
    truth = np.array([[[0, 1, 1, 255]], [[1, 1, 0, 0]]], np.uint8)
    one = Measurement(Engine("s", "pytorch", Path()), masks=np.array([[[0, 1, 0, 0]], [[1, 1, 1, 0]]], np.uint8))
    other = Measurement(Engine("s", "onnxruntime-fp32", Path()), masks=truth % 255)
    np.testing.assert_array_equal(one.confusion(truth, 2), [[2, 1], [1, 3]])
    assert one.agreement(other) == 6 / 8


def test_count_leaves_void_out() -> None:
    predicted = np.array([[0, 1, 1, 0]], np.uint8)
    truth = np.array([[0, 0, 1, 255]], np.uint8)
    np.testing.assert_array_equal(count(predicted, truth, 2), [[1, 1], [0, 1]])


def test_percentiles_are_those_of_numpy() -> None:
    measured = Measurement(Engine("student", "pytorch", Path()), latencies_ms=[1.0, 2.0, 3.0, 10.0])
    assert measured.percentile_ms(50) == 2.5
    assert measured.percentile_ms(95) == pytest.approx(np.percentile([1, 2, 3, 10], 95))
