"""INT8: what is quantised, what stays in float32 and why, and what the file says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from helpers.emulation import layer_weights
from helpers.settings import fit_config
from numpy.typing import NDArray
from onnx import TensorProto
from PIL import Image
from torch import Tensor, nn

from segdistill.callbacks.quantize import Quantize, validation_miou
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.labels import label_set, mask_coding
from segdistill.data.sources.base import DatasetIndex, Sample
from segdistill.export.onnx import export_onnx
from segdistill.export.quantize import METHODS, WEIGHT_BITS, quantize_int8
from segdistill.inference.segmenter import Segmenter
from segdistill.utils.errors import ConfigError, UserError
from segdistill.utils.preprocessing import Preprocessing
from segdistill.utils.tiles import Tiling

OUTLIER = 1000.0
LAYERS = 4


class Stacked(nn.Module):
    """Four convolutions; the second one's weights span a range that eight bits cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6(), nn.Conv2d(8, 8, 1), nn.ReLU6(), nn.Conv2d(8, 8, 1), nn.ReLU6()
        )
        self.classifier = nn.Conv2d(8, 3, 1)
        with torch.no_grad():
            self.get_parameter("layers.0.weight")[0] = 0  # a channel that is always 0 ...
            self.get_parameter("layers.0.bias")[0] = 0
            self.get_parameter("layers.2.weight")[:, 0] = OUTLIER  # ... times what takes the whole range

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.layers(image))
        return logits


def random_images(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 24, 36, 3), np.uint8))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "student.onnx"
    export_onnx(Stacked(), path, np.stack(random_images(2)), {"classes": '["a", "b", "c"]', "model": "student"})
    return path


def float32_convolutions(path: Path) -> int:
    graph = onnx.load(path).graph
    quantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return sum(node.op_type == "Conv" and node.input[1] not in quantized for node in graph.node)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_weights_become_seven_bits_per_channel_and_the_file_says_how(method: str, source: Path, tmp_path: Path) -> None:
    path = tmp_path / "student.int8.onnx"
    result = quantize_int8(source, path, random_images(4), method=method, score=lambda _: 0.5)
    model = onnx.load(path)
    weights = [
        tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 4
    ]
    assert len(weights) == LAYERS
    assert float32_convolutions(path) == 0
    scales = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and list(t.dims) == [8]]
    assert len(scales) >= 3  # a scale for each output channel
    metadata = Segmenter(path).metadata
    assert (metadata["classes"], metadata["model"]) == ('["a", "b", "c"]', "student")
    expected = {
        "method": method,
        "images": 4,
        "drop": 0.0,
        "float32_layers": [],
        "target": "portable",
        "per_channel": True,
        "weight_bits": 7,
        "weight_type": "int8",
        "activation_type": "uint8",
        "saturates_without_vnni": False,
    }
    assert json.loads(metadata["quantization"]) == expected == vars(result)
    onnx.checker.check_model(model, full_check=True)
    assert Segmenter(path).masks(np.stack(random_images(2))).shape == (2, 24, 36)
    assert Segmenter(path)(random_images(1)[0][:17, :19]).shape == (17, 19)


def test_a_file_for_vnni_keeps_eight_bits_and_says_that_it_saturates_elsewhere(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "student.int8.onnx"
    result = quantize_int8(source, path, random_images(2), target="vnni", score=lambda _: 0.5)
    assert {int(abs(weight.astype(int)).max()) for weight in layer_weights(path).values()} == {127}
    assert (result.target, result.weight_bits, result.saturates_without_vnni) == ("vnni", 8, True)
    assert json.loads(Segmenter(path).metadata["quantization"])["saturates_without_vnni"] is True


def test_a_portable_file_that_could_saturate_is_refused_and_not_left(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WEIGHT_BITS, "portable", 8)
    with pytest.raises(UserError, match=r"student\.int8\.onnx: not kept; .* can clip the products of 4 weights"):
        quantize_int8(source, tmp_path / "student.int8.onnx", random_images(2), score=lambda _: 0.5)
    assert list(tmp_path.iterdir()) == []


def test_where_the_drop_is_too_large_the_most_sensitive_layers_return_to_float32(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "student.int8.onnx"

    def score(candidate: Path) -> float:
        return float32_convolutions(candidate) / LAYERS

    result = quantize_int8(source, path, random_images(4), limit=0.5, score=score)
    assert float32_convolutions(path) == len(result.float32_layers) == 2
    assert result.float32_layers[0] == "layers.2"
    assert result.drop == 0.5


def test_without_images_there_is_nothing_to_calibrate_on(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"student\.int8\.onnx: quantisation needs images to calibrate on"):
        quantize_int8(source, tmp_path / "student.int8.onnx", [], score=lambda _: 0.5)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_no_half_file(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = onnx.save

    def interrupted(model: onnx.ModelProto, path: Path, **options: Any) -> None:
        save(model, path, **options)
        if tmp_path in Path(path).parents:
            raise KeyboardInterrupt

    monkeypatch.setattr(onnx, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantize_int8(source, tmp_path / "student.int8.onnx", random_images(2), score=lambda _: 0.5)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_loses_too_much_whatever_is_spared_is_not_kept(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not kept; 50\.00 points of mean IoU are lost"):
        quantize_int8(source, tmp_path / "x.onnx", random_images(2), score=lambda path: 0.9 if path == source else 0.4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"target": "avx2"}, r"callbacks\.quantize\.target=avx2: must be one of \('portable', 'vnni'\)"),
        ({"method": "mean"}, r"callbacks\.quantize\.method=mean: must be one of \('minmax', 'entropy', 'percentile'\)"),
        ({"images": 0}, r"callbacks\.quantize\.images=0: must be at least 1"),
        ({"limit": -0.1}, r"callbacks\.quantize\.limit=-0\.1: must be at least 0"),
        ({"aware_epochs": -1}, r"callbacks\.quantize\.aware_epochs=-1: must be at least 0"),
        ({"aware_epochs": 1, "method": "entropy"}, r"callbacks\.quantize\.aware_epochs=1: .* with another method"),
    ],
    ids=["target", "method", "images", "limit", "aware_epochs", "aware_method"],
)
def test_a_bad_setting_is_one_line(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Quantize(**setting)


class ColourOf(nn.Module):
    """The class of a pixel is its largest channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        nn.init.eye_(self.conv.weight.data.view(3, 3))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.conv(image)
        return logits


@pytest.fixture(scope="module")
def colour_of(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export_onnx(ColourOf(), path, np.stack(random_images(1)), {})
    return path


def validation_data(shown: NDArray[np.uint8], truth: NDArray[np.uint8], folder: Path) -> SegmentationDataModule:
    """A validation split of one image, whose pixels have the colours of the classes `shown`."""
    Image.fromarray(255 * np.eye(3, dtype=np.uint8)[shown]).save(folder / "image.png")
    Image.fromarray(truth).save(folder / "mask.png")
    classes: dict[str, int | list[int]] = {"red": 0, "green": 1, "blue": 2}
    source = DatasetIndex(
        name="colours",
        labels=label_set(tuple(classes), {}),
        splits={"val": [Sample(folder / "image.png", folder / "mask.png")]},
        coding=mask_coding(classes, [255]),
        fingerprint="",
    )
    fit = fit_config(max_epochs=1, crop=[16, 16])
    return SegmentationDataModule(
        source, fit, preprocessing=Preprocessing((truth.shape[0], truth.shape[1])), num_workers=0
    )


def test_one_stray_pixel_of_an_absent_class_does_not_move_the_gate(colour_of: Path, tmp_path: Path) -> None:
    truth = np.repeat(np.array([[0], [1]], np.uint8), 1000, axis=1)
    shown = truth.copy()
    shown[1, -1] = 2  # one of 2000 pixels looks like a class that is nowhere in the truth
    assert validation_miou(colour_of, validation_data(truth, truth, tmp_path)) == 1
    assert validation_miou(colour_of, validation_data(shown, truth, tmp_path)) == pytest.approx((1 + 0.999) / 2)


def test_the_gate_of_a_split_that_is_void_is_zero(colour_of: Path, tmp_path: Path) -> None:
    void = np.full((4, 4), 255, np.uint8)
    assert validation_miou(colour_of, validation_data(np.zeros_like(void), void, tmp_path)) == 0


class MeanColour(nn.Module):
    """The class of every pixel is the largest channel of the mean over what it sees."""

    def forward(self, image: Tensor) -> Tensor:
        return image.mean(dim=(2, 3), keepdim=True).expand_as(image)


def test_the_gate_sees_the_tiles_of_the_evaluation(tmp_path: Path) -> None:
    export_onnx(MeanColour(), tmp_path / "model.onnx", np.stack(random_images(1)), {})
    truth = np.repeat(np.array([[0] * 70 + [1] * 58], np.uint8), 64, axis=0)
    data = validation_data(truth, truth, tmp_path)
    assert validation_miou(tmp_path / "model.onnx", data) == pytest.approx((70 / 128 + 0) / 2)
    tiled = validation_miou(tmp_path / "model.onnx", data, Tiling((64, 64), 0))  # the right one has 6 columns of red
    assert tiled == pytest.approx((64 / 70 + 58 / 64) / 2)
