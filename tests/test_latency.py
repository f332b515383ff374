"""The harness: every engine sees every picture once, alone in its process; what it counts is right."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segdistill.deploy.export import deployable, export_onnx
from segdistill.deploy.latency import Engine, Measurement, Pictures, count, measure


class Brightest(nn.Module):
    """Classifies a pixel by its brightest channel."""

    def forward(self, image: Tensor) -> Tensor:
        return image * 2


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (19, 10, 12, 3), np.uint8)
    masks = images.argmax(axis=3).astype(np.uint8)
    masks[:, :3] = (masks[:, :3] + 1) % 3  # wrong on purpose
    masks[:, :, :2] = 255
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "masks.npy", masks)
    return Pictures(tmp_path / "images.npy", tmp_path / "masks.npy", num_classes=3)


def test_every_engine_is_timed_on_every_picture_and_scored_by_its_own_masks(pictures: Pictures, tmp_path: Path) -> None:
    network = Brightest()
    torch.save(deployable(network), tmp_path / "m.pt")
    export_onnx(network, tmp_path / "m.onnx", np.load(pictures.images)[:2], {})
    engines = [
        Engine("student", "pytorch", tmp_path / "m.pt"),
        Engine("student", "onnxruntime-fp32", tmp_path / "m.onnx"),
    ]
    measured = measure(engines, pictures, threads=1)
    truth, predicted = np.load(pictures.masks), np.load(pictures.images).argmax(axis=3)
    expected = np.zeros((3, 3), np.int64)
    np.add.at(expected, (truth[truth != 255], predicted[truth != 255]), 1)
    assert [m.engine for m in measured] == engines
    for measurement in measured:
        assert len(measurement.latencies_ms) == len(pictures) == 19
        assert min(measurement.latencies_ms) > 0
        np.testing.assert_array_equal(measurement.confusion, expected)
    assert not multiprocessing.active_children()


def test_an_engine_that_cannot_open_is_named(pictures: Pictures, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(RuntimeError, match="teacher onnxruntime-fp32: "):
        measure([Engine("teacher", "onnxruntime-fp32", broken)], pictures, threads=1)
    assert not multiprocessing.active_children()


def test_count_leaves_void_out() -> None:
    predicted = np.array([[0, 1, 1, 0]], np.uint8)
    truth = np.array([[0, 0, 1, 255]], np.uint8)
    np.testing.assert_array_equal(count(predicted, truth, 2), [[1, 1], [0, 1]])


def test_percentiles_are_those_of_numpy() -> None:
    measured = Measurement(Engine("student", "pytorch", Path()), latencies_ms=[1.0, 2.0, 3.0, 10.0])
    assert measured.percentile_ms(50) == 2.5
    assert measured.percentile_ms(95) == pytest.approx(np.percentile([1, 2, 3, 10], 95))
