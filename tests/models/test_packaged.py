"""The teacher that comes along: its classes, its network, and what it scores on a few scenes."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from roadscenes.render import render_scene
from segdistill.config.schema import PACKAGED_NETWORK
from segdistill.data.labels import ROAD_SCENES
from segdistill.metrics import SegmentationMetrics
from segdistill.models import DeepLabV3, DeepLabV3Plus
from segdistill.models.packaged import WEIGHTS, load_packaged
from segdistill.utils.errors import UserError

SCENES = 6


def test_packaged_teacher_scores_on_scenes() -> None:
    network = DeepLabV3Plus(5, pretrained=False)
    known = load_packaged(network, ROAD_SCENES.names)
    assert json.loads(known["network"]) == PACKAGED_NETWORK
    metrics = SegmentationMetrics(5)
    with torch.no_grad():
        for index in range(SCENES):
            image, ids = render_scene(0, "test", index)
            logits = network.eval()(torch.tensor(image).permute(2, 0, 1)[None].float() / 255)
            metrics.update(logits, torch.tensor(ids)[None].long())
    scores = metrics.compute()
    assert scores["miou"] > 0.6
    assert scores["class_iou"].min() > 0.3


def test_packaged_weights_are_at_most_13_mb_and_have_the_scored_digest() -> None:
    assert WEIGHTS.stat().st_size < 13e6
    scored = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == scored["sha256"]


def test_other_classes_and_networks_are_refused() -> None:
    with pytest.raises(UserError, match=r"predicts .* this data has .* teacher\.source=train"):
        load_packaged(DeepLabV3Plus(2, pretrained=False), ["a", "b"])
    with pytest.raises(UserError, match=r"no DeepLabV3; teacher\.source=train"):
        load_packaged(DeepLabV3(5, pretrained=False), ROAD_SCENES.names)
