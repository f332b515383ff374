"""Evaluation in tiles: the scores, losses and masks of the whole images, with never more than a tile in a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.networks import Tiny
from helpers.runs import command, finished
from torch import Tensor, nn

from segdistill.callbacks.inputs import predict_masks
from segdistill.data.datamodule import Batch
from segdistill.export.onnx import export_wrapper
from segdistill.inference.benchmark import Backend, measure
from segdistill.inference.round_buffer import Images
from segdistill.inference.scoring import MaskScores
from segdistill.losses import DistillationLoss, FocalLoss, PixelwiseKL
from segdistill.models import FrozenTeacher
from segdistill.reporting.results import read_results
from segdistill.tasks import DistillationTask
from segdistill.utils.preprocessing import Preprocessing
from segdistill.utils.tiles import Tiling

HEIGHT, WIDTH, TILE, VOID = 149, 203, (64, 96), 255
TILING = Tiling(TILE, 16)


class SmallOnly(nn.Module):
    """Refuses more than a tile."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-2] > TILE[0] or image.shape[-1] > TILE[1]:
            raise ValueError(f"{list(image.shape)} is more than a tile")
        logits: Tensor = self.network(image)
        return logits


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(1)
    image = torch.rand(2, 3, HEIGHT, WIDTH)
    mask = (image.mean(dim=1) > 0.5).long()
    mask[torch.rand(mask.shape) < 0.1] = VOID
    mask[:, :, :90] = VOID  # leaves tiles in which nothing is counted
    return {"image": image, "mask": mask}


def distillation_task(tiling: Tiling | None) -> DistillationTask:
    torch.manual_seed(0)
    networks: list[nn.Module] = [Tiny().eval(), Tiny().eval()]
    if tiling is not None:
        networks = [SmallOnly(network) for network in networks]
    loss = DistillationLoss(FocalLoss(), {"kl": PixelwiseKL(temperature=2.0)})
    task = DistillationTask(networks[0], FrozenTeacher(networks[1]), loss, class_names=["off", "on"], tiling=tiling)
    return task.eval()


@torch.no_grad()
def test_steps_in_tiles_count_what_steps_on_whole_images_count(batch: Batch) -> None:
    whole, tiled = distillation_task(None), distillation_task(TILING)
    for task in (whole, tiled):
        for _ in range(2):
            task.validation_step(batch, 0)
            task.test_step(batch, 0)
    for name in ("val_metrics", "test_metrics", "teacher_metrics"):
        confusion, expected = (getattr(task, name).confusion for task in (tiled, whole))
        assert torch.equal(confusion, expected)
        assert int(confusion.sum()) == 2 * int((batch["mask"] != VOID).sum())
    assert float(tiled.val_loss.compute()) == pytest.approx(float(whole.val_loss.compute()), rel=1e-5)
    assert torch.equal(tiled.predict_step(batch, 0), whole.predict_step(batch, 0))


def test_drawn_masks_are_predicted_in_tiles() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    tiled, whole = (predict_masks(distillation_task(tiling), pixels) for tiling in (TILING, None))
    assert tiled.keys() == whole.keys() == {"teacher", "student"}
    for role in whole:
        np.testing.assert_array_equal(tiled[role], whole[role])


@pytest.mark.slow
def test_backends_get_tiles_when_they_are_timed_and_scored(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Tiny().eval()
    torch.save(export_wrapper(network), tmp_path / "whole.pt")
    torch.save(export_wrapper(SmallOnly(network)), tmp_path / "small.pt")
    pixels = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
    truth = (pixels.mean(axis=3) > 127).astype(np.uint8)
    images = Images([Path()] * 2, lambda index: (pixels[index], truth[index]), Preprocessing((HEIGHT, WIDTH)))
    engines = [Backend(name, "pytorch", tmp_path / f"{name}.pt") for name in ("whole", "small")]
    confusions = []
    for tiling in (None, TILING):
        scores = MaskScores([0, 0], 2)
        measured = measure(engines, images, scores, threads=1, batch_size=2, tiling=tiling)
        assert [each.error is None for each in measured] == [True, tiling is not None]
        confusions.append(scores.confusions)
    for confusion in confusions[1]:
        np.testing.assert_array_equal(confusion, confusions[0][0])


@pytest.mark.slow
@pytest.mark.long
def test_a_run_in_tiles_times_what_it_tests(tmp_path: Path) -> None:
    tiles = ["data.eval_tile=[64,64]", "data.eval_overlap=32", "distill=none", "logger=csv"]
    tiles += [f"~callbacks.{name}" for name in ("quantize", "predictions", "dashboard")]
    finished(command(tmp_path / "run", *tiles), tmp_path)
    rows = {row.engine: row for row in read_results(tmp_path / "run" / "results.json") if row.model == "student"}
    (metrics,) = (tmp_path / "run").glob("**/metrics.csv")
    heading, *lines = metrics.read_text().splitlines()
    place = heading.split(",").index("test/overall_acc")
    (tested,) = (line.split(",")[place] for line in lines if line.split(",")[place])
    assert rows["pytorch"].overall_acc == pytest.approx(float(tested), abs=2e-3)
