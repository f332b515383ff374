"""A network with its own segmentation head teaches as it is: by configuration alone, through a class map."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.composed import parsed

from segdistill.engine.builders import Builder
from segdistill.engine.teacher import get_or_train_teacher
from segdistill.models.class_remap import ClassRemap
from segdistill.utils.errors import UserError

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


def test_a_pretrained_teacher_is_not_trained_and_needs_a_class_map() -> None:
    config = parsed("teacher=torchvision", *pretrained())
    probe = torch.nn.Identity()
    assert get_or_train_teacher(Builder(config), None, probe) is probe  # type: ignore[arg-type] # no data is read for it
    with pytest.raises(UserError, match="is needed where source=pretrained"):
        parsed("teacher=torchvision", "teacher.source=pretrained")
