"""The original system's recipe on a folder of its kind: from frames to the masks that its exported file writes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.composed import parsed
from helpers.exported import run_predict
from helpers.runs import finished, train
from numpy.typing import NDArray
from PIL import Image

from segdistill.inference import Segmenter

FRAME, RESIZED, CUT, SEEN = (304, 484), (76, 121), 9, (67, 121)  # a quarter of the original's sides
SPLITS = {"train": 4, "val": 2}
CLASSES = 5


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark frames beside masks of the original's five ids, blocks of one colour for each class."""
    root, rng = tmp_path_factory.mktemp("frames"), np.random.default_rng(0)
    colours = np.array([[9, 12, 10], [90, 20, 20], [20, 90, 20], [20, 20, 90], [99, 99, 99]], np.uint8)
    for split, count in SPLITS.items():
        for index in range(count):
            blocks = rng.integers(0, CLASSES, (38, 44), np.uint8)
            mask = blocks.repeat(8, axis=0).repeat(11, axis=1)
            shade = rng.integers(0, 9, (*blocks.shape, 1), np.uint8).repeat(8, axis=0).repeat(11, axis=1)
            for kind, pixels in (("images", colours[mask] + shade), ("masks", mask)):
                path = root / split / kind / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


def prepared(path: Path) -> NDArray[np.uint8]:
    """The recipe's preprocessing, written out: resize, cube root, cut."""
    resized = Image.open(path).resize(RESIZED[::-1], Image.Resampling.BILINEAR)
    pixels: NDArray[np.uint8] = np.rint(255 * np.cbrt(np.asarray(resized) / 255)).astype(np.uint8)[:-CUT]
    return pixels


def test_the_recipe_is_the_originals(frames: Path) -> None:
    config = parsed("experiment=kd_original", f"data.root={frames}")
    assert (config.data.preprocessing.resize, config.data.preprocessing.size) == ((304, 484), (269, 484))
    assert config.data.gamma == 1 / 3
    assert config.teacher_source == "train"
    for role, model in (("teacher", config.teacher), ("student", config.student)):
        training = config.training(role)
        assert model.network["backbone"] == "mobilenetv2_100"
        assert (model.fit.batch_size, model.fit.crop, model.fit.scale) == (4, None, [1.0, 1.0])
        assert list(training.augment) == ["flip", "noise", "snow", "shadow"]
        assert training.loss["_target_"] == "segdistill.losses.FocalLoss"
        assert training.optimizer["_target_"] == "timm.optim.AdaBelief"
        assert (training.optimizer["lr"], training.optimizer["eps"]) == (1e-3, 1e-16)
        assert (training.schedule.warmup, training.schedule.power, training.schedule.backbone_lr_scale) == (0, 0.9, 0.1)
    head = {"head_norm": None, "head_bias": False, "classifier": "linear", "detail_channels": 0}
    assert head.items() <= config.student.network.items()


@pytest.mark.slow
@pytest.mark.long
def test_the_exported_file_writes_the_masks_that_the_run_scored(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"
    small = [f"{part}.fit.max_epochs=1" for part in ("teacher", "student")]
    small += [f"data.input_size={list(RESIZED)}", f"data.cut_bottom={CUT}"]
    offline = [f"{part}.network.pretrained=false" for part in ("teacher", "student")]
    callbacks = [
        "~callbacks.quantize",
        "~callbacks.predictions",
        "~callbacks.dashboard",
        "callbacks.latency.batch_size=1",
    ]
    placed = [f"data.root={frames}", f"hydra.run.dir={run_dir}", f"cache_dir={tmp_path / 'cache'}", "logger=csv"]
    output = finished(train("experiment=kd_original", *placed, *small, *offline, *callbacks), tmp_path)
    assert "replayed" in output  # the teacher's logits were computed once
    scored = json.loads((run_dir / "confusion.json").read_text())
    for role in ("teacher", "student"):
        model, out = run_dir / "onnx" / f"{role}.onnx", tmp_path / role
        segmenter = Segmenter(model)
        assert json.loads(segmenter.metadata["preprocessing"])["cut_bottom"] == CUT
        assert run_predict(monkeypatch, model, frames / "val" / "images", "-o", out) == 0
        confusion = np.zeros((CLASSES, CLASSES), np.int64)
        for path in sorted((frames / "val" / "images").iterdir()):
            mask = np.asarray(Image.open(out / path.name))
            truth = np.asarray(Image.open(frames / "val" / "masks" / path.name))
            assert mask.shape == truth.shape == FRAME
            assert (mask[4 * SEEN[0] :] == 255).all()
            seen = mask[2 : 4 * SEEN[0] : 4, 2::4]  # the centre of every 4 x 4 pixels, which are one of the network's
            np.testing.assert_array_equal(mask[: 4 * SEEN[0]], seen.repeat(4, axis=0).repeat(4, axis=1))
            np.testing.assert_array_equal(seen, segmenter.masks(prepared(path)[None])[0])
            np.add.at(confusion, (truth[2 : 4 * SEEN[0] : 4, 2::4], seen), 1)
        for engine in ("onnxruntime-fp32", "onnxruntime-fp32+decode"):
            assert scored[f"{role} {engine}"] == confusion.tolist()
