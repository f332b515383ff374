"""The exported file: it agrees with its network, at any size, and explains itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segdistill.export import onnx as export
from segdistill.export.onnx import export_fp16, export_onnx, export_wrapper
from segdistill.inference.segmenter import Segmenter
from segdistill.models import DeepLabV3, DeepLabV3Plus
from segdistill.models.cpu_depthwise import replace_depthwise_convs
from segdistill.models.fusion import deployed
from segdistill.utils.errors import UserError


def random_images(count: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


class Linear(nn.Module):
    """One 1 x 1 convolution whose result can be worked out by hand."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, classes, 1, bias=False)
        nn.init.eye_(self.conv.weight.data.view(classes, 3))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.conv(image)
        return logits


DETAILED = partial(DeepLabV3, classifier="subpixel", detail_channels=8)
PADDED = partial(DeepLabV3, backbone="convnext_atto", pretrained=False)  # a backbone that would leave out the edges


class Unfaithful(Linear):
    """Behaves differently once it is traced for export."""

    def forward(self, image: Tensor) -> Tensor:
        logits = super().forward(image)
        return logits.flip(1) if torch.compiler.is_exporting() else logits


def test_the_file_is_written_of_another_form_and_compared_with_the_network(tmp_path: Path) -> None:
    network = nn.Sequential(Linear(), nn.Conv2d(3, 3, 1, bias=False))
    agreement = export_onnx(network, tmp_path / "m.onnx", random_images(2, 16, 16), {}, traced=network[1])
    assert agreement.pixels == 1
    assert [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node].count("Conv") == 1
    with pytest.raises(UserError, match="agree on"):
        export_onnx(network, tmp_path / "m.onnx", random_images(2, 16, 16), {}, traced=network[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "form"), [(DeepLabV3, None), (DETAILED, deployed), (PADDED, None), (DeepLabV3Plus, deployed)]
)
def test_file_and_network_agree_at_three_sizes_and_two_batches(
    architecture: Callable[[int], DeepLabV3 | DeepLabV3Plus],
    form: Callable[[nn.Module], nn.Module] | None,
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    network = architecture(5)
    for name, weight in network.head.named_parameters():
        if name.endswith("classifier.weight"):
            nn.init.normal_(weight)  # an untrained one hardly tells classes apart
    replace_depthwise_convs(network)  # as a task leaves it
    path = tmp_path / "model.onnx"
    traced = None if form is None else form(network)
    export_onnx(network, path, random_images(2, 64, 96), {"classes": "[]"}, traced=traced)
    segmenter, original = Segmenter(path), export_wrapper(network)
    for batch, height, width in [(1, 64, 96), (3, 97, 131), (1, 48, 160)]:
        image = random_images(batch, height, width)
        with torch.no_grad():
            mask, logits = original(torch.from_numpy(image))
        np.testing.assert_allclose(segmenter.logits(image), logits.numpy(), atol=1e-3)
        assert segmenter.masks(image).shape == (batch, height, width)
        assert segmenter.masks(image).dtype == np.uint8
        assert np.mean(segmenter.masks(image) == mask.numpy()) >= 0.999
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    dims = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["N", "H", "W", 3]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_corrected_files_equal_arithmetic_by_hand_and_keep_metadata(tmp_path: Path) -> None:
    image = random_images(2, 17, 19)
    agreement = export_onnx(Linear(), tmp_path / "m.onnx", image, {"classes": '["r", "g", "b"]'})
    segmenter = Segmenter(tmp_path / "m.onnx")
    np.testing.assert_allclose(segmenter.logits(image), image.transpose(0, 3, 1, 2) / 255, atol=1e-6)
    np.testing.assert_array_equal(segmenter.masks(image), image.argmax(axis=3))
    np.testing.assert_array_equal(segmenter(image[0]), image[0].argmax(axis=2))
    assert segmenter.metadata["classes"] == '["r", "g", "b"]'
    assert agreement.pixels == 1.0


def test_a_file_in_float16_has_half_the_size_and_the_same_interface(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU6(), nn.Conv2d(64, 3, 3, padding=1))
    image = random_images(2, 24, 36)
    source, path = tmp_path / "m.onnx", tmp_path / "m.fp16.onnx"
    export_onnx(network, source, image, {"classes": "[]"})
    assert export_fp16(source, path, image) >= 0.99
    weights = [tensor for tensor in onnx.load(path).graph.initializer if len(tensor.dims) == 4]
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.FLOAT16}
    assert path.stat().st_size < 0.75 * source.stat().st_size
    assert Segmenter(path).logits(image).dtype == np.float32
    np.testing.assert_allclose(Segmenter(path).logits(image), Segmenter(source).logits(image), atol=1e-2)
    assert Segmenter(path).metadata["classes"] == "[]"


def test_a_float16_file_that_disagrees_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_onnx(Linear(), tmp_path / "m.onnx", random_images(1, 16, 16), {})
    monkeypatch.setattr(export, "MIN_FP16_AGREEMENT", 1.01)
    with pytest.raises(UserError, match="not kept; in float16"):
        export_fp16(tmp_path / "m.onnx", tmp_path / "m.fp16.onnx", random_images(1, 16, 16))
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.slow
def test_openvino_gives_the_same_masks_and_logits(tmp_path: Path) -> None:
    network = DeepLabV3(5)
    nn.init.normal_(network.head.get_parameter("classifier.weight"))
    path = tmp_path / "model.onnx"
    export_onnx(network, path, random_images(2, 64, 96), {})
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for image in (random_images(1, 64, 96), random_images(3, 49, 83)):
        answer = model([image])
        np.testing.assert_allclose(answer["logits"], Segmenter(path).logits(image), atol=1e-3)
        assert np.mean(answer["mask"] == Segmenter(path).masks(image)) >= 0.999


def test_a_file_that_disagrees_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not kept"):
        export_onnx(Unfaithful(), tmp_path / "m.onnx", random_images(1, 16, 16), {})
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_survives_an_export_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"earlier")

    def half_written(model: onnx.ModelProto, temporary: Path | str, **_: object) -> None:
        Path(temporary).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx, "save", half_written)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(Linear(), path, random_images(1, 16, 16), {})
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


def test_masks_hold_at_most_256_classes(tmp_path: Path) -> None:
    network = nn.Conv2d(3, 257, 1)
    with pytest.raises(UserError, match="257 classes"):
        export_onnx(network, tmp_path / "m.onnx", random_images(1, 16, 16), {})


def test_exporting_leaves_the_network_as_it_was() -> None:
    network = DeepLabV3(3, pretrained=False).train()
    inplace = [getattr(module, "inplace", None) for module in network.modules()]
    export_wrapper(network)
    assert network.training
    assert [getattr(module, "inplace", None) for module in network.modules()] == inplace
