"""INT8: what is quantised, what stays in float32 and why, and what the file says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn

from segdistill.deploy.export import export_onnx
from segdistill.deploy.quantize import METHODS, quantize_int8
from segdistill.deploy.segmenter import Segmenter
from segdistill.errors import UserError

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


def pictures(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 24, 36, 3), np.uint8))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "student.onnx"
    export_onnx(Stacked(), path, np.stack(pictures(2)), {"classes": '["a", "b", "c"]', "model": "student"})
    return path


def float32_convolutions(path: Path) -> int:
    graph = onnx.load(path).graph
    quantized = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    return sum(node.op_type == "Conv" and node.input[1] not in quantized for node in graph.node)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_weights_become_eight_bits_per_channel_and_the_file_says_how(method: str, source: Path, tmp_path: Path) -> None:
    path = tmp_path / "student.int8.onnx"
    result = quantize_int8(source, path, pictures(4), method=method, score=lambda _: 0.5)
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
    expected = {"method": method, "pictures": 4, "drop": 0.0, "float32_layers": []}
    assert json.loads(metadata["quantization"]) == expected == vars(result)
    onnx.checker.check_model(model, full_check=True)
    assert Segmenter(path).masks(np.stack(pictures(2))).shape == (2, 24, 36)
    assert Segmenter(path)(pictures(1)[0][:17, :19]).shape == (17, 19)


def test_where_the_drop_is_too_large_the_most_sensitive_layers_return_to_float32(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "student.int8.onnx"

    def score(candidate: Path) -> float:
        return float32_convolutions(candidate) / LAYERS

    result = quantize_int8(source, path, pictures(4), limit=0.5, score=score)
    assert float32_convolutions(path) == len(result.float32_layers) == 2
    assert result.float32_layers[0] == "layers.2"
    assert result.drop == 0.5


def test_without_pictures_there_is_nothing_to_calibrate_on(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"student\.int8\.onnx: quantisation needs pictures to calibrate on"):
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
        quantize_int8(source, tmp_path / "student.int8.onnx", pictures(2), score=lambda _: 0.5)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_loses_too_much_whatever_is_spared_is_not_kept(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not kept; 50\.00 points of mean IoU are lost"):
        quantize_int8(source, tmp_path / "x.onnx", pictures(2), score=lambda path: 0.9 if path == source else 0.4)
    assert list(tmp_path.iterdir()) == []
