"""A small exported file whose masks are known, and what `predict` makes of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from segdistill.export.onnx import export_onnx
from segdistill.inference import predict

PALETTE = [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
HEIGHT, WIDTH = 20, 32


class Brightest(nn.Module):
    """Classifies a pixel by its brightest channel."""

    def forward(self, image: Tensor) -> Tensor:
        return image * 2


class Darkest(nn.Module):
    """Classifies a pixel by its darkest channel."""

    def forward(self, image: Tensor) -> Tensor:
        return image * -2


def sample_image(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Blocks of one pure colour each."""
    ids = (np.arange(height)[:, None] // (height // 4) + np.arange(width) // (width // 4)) % 3
    colours: NDArray[np.uint8] = (np.eye(3)[ids] * 200).astype(np.uint8)
    return colours


def export_brightest(path: Path) -> Path:
    return export_classes(Brightest(), path)


def export_classes(network: nn.Module, path: Path) -> Path:
    """Exports a network of three classes, with their names, their colours and the size of its images."""
    metadata = {
        "classes": json.dumps(["red", "green", "blue"]),
        "palette": json.dumps(PALETTE),
        "preprocessing": json.dumps({"resize": [HEIGHT, WIDTH]}),
    }
    export_onnx(network, path, sample_image()[None], metadata)
    return path


def with_metadata(source: Path, path: Path, changes: Mapping[str, str]) -> Path:
    """Writes a copy whose metadata are changed."""
    model = onnx.load(source)
    metadata = {entry.key: entry.value for entry in model.metadata_props} | dict(changes)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def write_interface(path: Path, *, mask_of: list[int], logit_type: int = onnx.TensorProto.FLOAT) -> Path:
    """Writes a network that passes for an exported one, but reshapes every image to `mask_of`, [N, H, W, 3]."""
    helper, proto = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Reshape", ["image", "shape"], ["shaped"]),
        helper.make_node("ReduceMax", ["shaped", "last"], ["mask"], keepdims=0),
        helper.make_node("Cast", ["shaped"], ["logits"], to=logit_type),
    ]
    graph = helper.make_graph(
        nodes,
        "interface",
        [helper.make_tensor_value_info("image", proto.UINT8, ["N", "H", "W", 3])],
        [
            helper.make_tensor_value_info("mask", proto.UINT8, ["n", "h", "w"]),
            helper.make_tensor_value_info("logits", logit_type, ["n", "h", "w", "c"]),
        ],
        [helper.make_tensor("shape", proto.INT64, [4], mask_of), helper.make_tensor("last", proto.INT64, [1], [3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def run_predict(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    return predict.main()


def written_masks(folder: Path) -> dict[str, NDArray[np.uint8]]:
    found = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            assert image.mode == "P"
            assert (image.getpalette() or [])[:9] == [level for colour in PALETTE for level in colour]
            found[path.name] = np.asarray(image)
    return found
