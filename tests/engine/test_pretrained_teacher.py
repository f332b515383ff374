"""A network with its own segmentation head teaches as it is: by configuration alone, through a class map."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.composed import parsed
from timm.data import IMAGENET_DEFAULT_MEAN
from torch import Tensor, nn
from torchvision.models import segmentation

from segdistill.engine.builders import Builder
from segdistill.engine.teacher import get_or_train_teacher
from segdistill.models import SegmentationModelAdapter
from segdistill.models.class_remap import ClassRemap
from segdistill.utils.errors import UserError
from segdistill.utils.interpolate import resized

VOC = 21
CLASS_MAP = "{background: [0], car: [6, 7], signal: [20], pedestrian: [15], lane: [1]}"
GROUPS = [[0], [6, 7], [20], [15], [1]]


def pretrained(*overrides: str) -> list[str]:
    chosen = ["teacher.source=pretrained", f"teacher.num_classes={VOC}", f"+teacher.class_map={CLASS_MAP}"]
    return [*chosen, *overrides]


@torch.no_grad()
def test_a_torchvision_network_keeps_its_own_head() -> None:
    factory = "teacher.network.factory=torchvision.models.segmentation.lraspp_mobilenet_v3_large"
    config = parsed("teacher=torchvision", *pretrained(factory))
    assert config.teacher_source == "pretrained"
    torch.manual_seed(0)
    teacher = Builder(config).probe_teacher()
    assert isinstance(teacher, ClassRemap)
    image = torch.rand(1, 3, 75, 98)
    logits = teacher.network.eval()(image)
    assert logits.shape[1] == VOC
    expected = torch.stack([logits[:, group].logsumexp(dim=1) for group in GROUPS], dim=1)
    torch.testing.assert_close(teacher.eval()(image), expected)


@torch.no_grad()
def test_a_transformers_network_is_loaded_with_its_head_from_a_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="optional for users")
    small = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16}
    settings = transformers.SegformerConfig(num_labels=VOC, **small)
    saved = transformers.SegformerForSemanticSegmentation(settings)
    saved.save_pretrained(tmp_path)
    options = [f"++teacher.network.{key}={value}" for key, value in small.items()]
    config = parsed("teacher=segformer", *pretrained(f"teacher.network.pretrained={tmp_path}", *options))
    teacher = Builder(config).probe_teacher()
    assert isinstance(teacher, ClassRemap)
    weights = {name.removeprefix("network."): value for name, value in teacher.network.state_dict().items()}
    for name, value in saved.state_dict().items():
        assert torch.equal(weights[name], value), name


VOC_MAP = "+teacher.class_map={signal: [tvmonitor], lane: [boat]}"
CITYSCAPES_MAP = "+teacher.class_map={background: ['*'], lane: [road]}"
STREET = {0: "road", 1: "car", 2: "person", 3: "traffic light", 4: "sky"}
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.1]


@torch.no_grad()
def test_torchvision_weights_give_names_and_normalisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = segmentation.LRASPP_MobileNet_V3_Large_Weights.DEFAULT
    own = segmentation.lraspp_mobilenet_v3_large(weights_backbone=None, num_classes=VOC).eval()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(own.state_dict(), tmp_path / "checkpoints" / Path(weights.url).name)
    factory = "teacher.network.factory=torchvision.models.segmentation.lraspp_mobilenet_v3_large"
    teacher = Builder(parsed("teacher=torchvision_pretrained", factory, VOC_MAP)).probe_teacher().eval()
    image = torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8)
    logits = own(weights.transforms(resize_size=None)(image))["out"]
    expected = logits[:, [0, 7, 20, 15, 4]]  # one of VOC's for each class
    assert_same(teacher, image, expected)


def assert_same(teacher: nn.Module, image: Tensor, expected: Tensor) -> None:
    """Compare a teacher, and its copy in another process, with logits of the library's own preprocessing."""
    for network in (teacher, pickle.loads(pickle.dumps(teacher))):
        torch.testing.assert_close(network(image / 255), expected, rtol=1e-4, atol=1e-4)


def saved_transformer(folder: Path, kind: str) -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers", reason="optional for users")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
    if kind == "segformer":
        config = transformers.SegformerConfig(**sizes, decoder_hidden_size=16, id2label=STREET)
        network = transformers.SegformerForSemanticSegmentation(config)
    else:
        backbone = transformers.ConvNextConfig(**sizes, out_features=[f"stage{index}" for index in range(1, 5)])
        head: dict[str, Any] = {"backbone_config": backbone, "hidden_size": 16, "auxiliary_in_channels": 24}
        network = transformers.UperNetForSemanticSegmentation(transformers.UperNetConfig(**head, id2label=STREET))
    processor = transformers.SegformerImageProcessor(image_mean=MEAN, image_std=STD)
    network.save_pretrained(folder)
    processor.save_pretrained(folder)
    return network.eval(), processor


@pytest.mark.parametrize("kind", ["segformer", "upernet"])
@torch.no_grad()
def test_transformers_weights_give_names_and_normalisation(kind: str, tmp_path: Path) -> None:
    own, processor = saved_transformer(tmp_path, kind)
    config = parsed(f"teacher={kind}_pretrained", f"teacher.network.pretrained={tmp_path}", CITYSCAPES_MAP)
    teacher = Builder(config).probe_teacher().eval()
    assert isinstance(teacher, ClassRemap)
    assert teacher.groups == [[4], [1], [3], [2], [0]]
    image = torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8)
    pixels = processor(images=image, do_resize=False, return_tensors="pt")["pixel_values"]
    assert_same(teacher, image, resized(own(pixels).logits, (64, 96))[:, [4, 1, 3, 2, 0]])


def test_weights_without_normalisation_take_imagenets_and_warn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved_transformer(tmp_path, "segformer")
    (tmp_path / "preprocessor_config.json").unlink()
    factory, options = "segdistill.models.pretrained.transformer", dict[str, Any](pretrained=str(tmp_path))
    network = SegmentationModelAdapter(None, factory, **options)
    assert network.mean.flatten().tolist() == pytest.approx(IMAGENET_DEFAULT_MEAN)
    assert network.class_names == tuple(STREET.values())
    assert f"{tmp_path} does not tell how its images are normalised" in caplog.text
    given = SegmentationModelAdapter(None, factory, mean=MEAN, std=STD, **options)
    assert given.mean.flatten().tolist() == pytest.approx(MEAN)


@pytest.mark.parametrize(("scale", "max_pixel_value"), [(1, 255.0), (255, 1.0)])
@torch.no_grad()
def test_smp_weights_give_normalisation(scale: int, max_pixel_value: float, tmp_path: Path) -> None:
    package = pytest.importorskip("segmentation_models_pytorch", reason="optional for users")
    torch.manual_seed(0)
    own = package.create_model("fpn", encoder_name="resnet18", encoder_weights=None, classes=19).eval()
    own.save_pretrained(tmp_path)
    mean, std = ([scale * value for value in values] for values in (MEAN, STD))
    normalize = {"__class_fullname__": "Normalize", "mean": mean, "std": std, "max_pixel_value": max_pixel_value}
    steps = [{"__class_fullname__": "Resize", "height": 64, "width": 64}, {**normalize, "normalization": "standard"}]
    transform = {"transform": {"__class_fullname__": "Compose", "transforms": steps}}
    (tmp_path / "albumentations_config_eval.json").write_text(json.dumps(transform))
    config = parsed("teacher=smp_pretrained", f"teacher.network.pretrained={tmp_path}", CITYSCAPES_MAP)
    teacher = Builder(config).probe_teacher().eval()
    assert isinstance(teacher, ClassRemap)
    assert teacher.groups[1:] == [[13], [6], [11], [0]]
    image = torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8)
    shift, factor = (max_pixel_value * torch.tensor(each).view(1, 3, 1, 1) for each in (mean, std))
    logits = own((image - shift) / factor)  # albumentations' formula
    rest = [index for index in range(19) if index not in (13, 6, 11, 0)]
    assert_same(
        teacher, image, torch.cat([logits[:, rest].logsumexp(1, keepdim=True), logits[:, [13, 6, 11, 0]]], dim=1)
    )


def test_classes_without_a_match_are_one_error_with_both_lists(tmp_path: Path) -> None:
    saved_transformer(tmp_path, "segformer")
    config = parsed("teacher=segformer_pretrained", f"teacher.network.pretrained={tmp_path}")
    with pytest.raises(UserError, match=r"like background, lane; .*0 road, 1 car, 2 person, 3 traffic light, 4 sky"):
        Builder(config).probe_teacher()


@pytest.mark.parametrize("family", ["transformer", "smp"])
def test_weights_that_cannot_be_loaded_are_one_error(family: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers" if family == "transformer" else "segmentation_models_pytorch", reason="optional")
    with pytest.raises(UserError, match=r"pretrained=.*: cannot be loaded \(.*save_pretrained"):
        SegmentationModelAdapter(None, f"segdistill.models.pretrained.{family}", pretrained=str(tmp_path))


def test_a_pretrained_teacher_is_not_trained_and_needs_a_class_map() -> None:
    config = parsed("teacher=torchvision", *pretrained())
    probe = torch.nn.Identity()
    assert get_or_train_teacher(Builder(config), None, probe) is probe  # type: ignore[arg-type] # no data is read for it
    with pytest.raises(UserError, match="misses the class background, and the teacher tells no names"):
        Builder(parsed("teacher=torchvision", "teacher.source=pretrained")).probe_teacher()
