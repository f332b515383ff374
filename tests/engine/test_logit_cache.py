from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.settings import fit_config, schedule_config
from torch import Tensor, nn
from torchvision.transforms import v2

from segdistill.config.data import FolderConfig
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.sources.folder import open_folder
from segdistill.engine import logit_cache
from segdistill.engine.logit_cache import LogitCache, replay_distance
from segdistill.losses import DistillationLoss, PixelwiseKL, cross_entropy
from segdistill.models import FrozenTeacher
from segdistill.models.output import lowres_logits
from segdistill.models.teacher_logits import DiskLogitStore, logits_shape, predict_logits, weights_digest
from segdistill.tasks import DistillationTask
from segdistill.utils.errors import ConfigError, UserError
from segdistill.utils.preprocessing import Preprocessing

CPU = torch.device("cpu")
CLASSES, STRIDE = 3, 4
MADE_FROM = {"network": {"_target_": "Strided"}}


class Strided(nn.Module):
    """Logits at stride 4, with a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, CLASSES, STRIDE, stride=STRIDE)
        self.norm = nn.BatchNorm2d(CLASSES)

    def lowres_logits(self, image: Tensor) -> Tensor:
        logits: Tensor = self.norm(self.convolution(image))
        return logits

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.interpolate(self.lowres_logits(image), size=image.shape[-2:])


class Counting(FrozenTeacher):
    """A teacher that counts its images, and may break in the middle of them."""

    images, breaks_after = 0, 10**6

    def __call__(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.images += len(image)
        if self.images > self.breaks_after:
            raise KeyboardInterrupt
        return super().__call__(image)


@pytest.fixture
def data(folder_config: FolderConfig, cache_dir: Path) -> SegmentationDataModule:
    fit = fit_config(max_epochs=1, batch_size=2, crop=[16, 20])
    return SegmentationDataModule(
        open_folder(folder_config, cache_dir),
        fit,
        preprocessing=Preprocessing((24, 36)),
        eval_batch_size=2,
        num_workers=0,
    )


def teacher(seed: int = 0) -> Counting:
    torch.manual_seed(seed)
    return Counting(Strided())


def logits_of(maps: Any, count: int = 5) -> Tensor:
    return torch.stack([maps[index] for index in range(count)])


def test_memory_and_disk_hold_the_teachers_own_logits_in_the_order_of_the_images(
    data: SegmentationDataModule, cache_dir: Path
) -> None:
    frozen, data.cell_multiple = teacher(), 32
    images = torch.cat([batch["image"] for batch in data.plain_train_dataloader(range(5))])
    expected = lowres_logits(frozen.network, F.pad(images, (0, 28, 0, 8), mode="replicate"))
    for place in ("memory", "disk"):
        kept = logits_of(LogitCache(place, cache_dir, MADE_FROM).logits(frozen, data, CPU))
        assert (kept.dtype, kept.shape) == (torch.float16, (5, CLASSES, 8, 16))
        torch.testing.assert_close(kept.float(), expected, rtol=1e-3, atol=1e-3)


def test_what_is_on_disk_is_not_computed_again(data: SegmentationDataModule, cache_dir: Path) -> None:
    first, second = teacher(), teacher()
    cache = LogitCache("disk", cache_dir, MADE_FROM)
    before = logits_of(cache.logits(first, data, CPU))
    assert first.images == 5
    assert torch.equal(logits_of(cache.logits(second, data, CPU)), before)
    assert second.images == 0


def test_an_interrupted_computation_goes_on_where_it_was(data: SegmentationDataModule, cache_dir: Path) -> None:
    cache, broken, whole = LogitCache("disk", cache_dir, MADE_FROM), teacher(), teacher()
    broken.breaks_after = 2
    with pytest.raises(KeyboardInterrupt):
        cache.logits(broken, data, CPU)
    kept = logits_of(cache.logits(whole, data, CPU))
    assert whole.images == 3
    assert torch.equal(kept, logits_of(LogitCache("memory", cache_dir, MADE_FROM).logits(whole, data, CPU)))


@pytest.mark.parametrize("left", [0, 8, -1])
def test_a_file_that_is_cut_short_is_computed_again(left: int, tmp_path: Path) -> None:
    folder = DiskLogitStore.of(tmp_path, {"teacher": "a"}, count=2, shape=(2, 3, 4))
    logits = np.ones((2, 3, 4), np.float16)
    folder.keep(0, logits)
    folder.keep(1, logits)
    assert folder.missing() == []
    path = sorted(folder.folder.glob("*.npy"))[1]
    path.write_bytes(path.read_bytes()[:left])
    assert folder.missing() == [1]


OTHER_STEPS = {
    "input size": Preprocessing((48, 72)),
    "cut": Preprocessing((28, 36), cut_bottom=4),
    "gamma": Preprocessing((24, 36), gamma=0.5),
}


@pytest.mark.parametrize("changed", ["weights", "statistics", "network", "data", *OTHER_STEPS])
def test_another_teacher_or_other_data_has_another_place(
    changed: str, data: SegmentationDataModule, cache_dir: Path
) -> None:
    frozen, made_from = teacher(), dict(MADE_FROM)
    LogitCache("disk", cache_dir, made_from).logits(frozen, data, CPU)
    if changed == "weights":
        frozen = teacher(1)
    elif changed == "statistics":
        frozen.network.get_buffer("norm.running_mean").add_(1)
    elif changed == "network":
        made_from = {"network": {"_target_": "Other"}}
    elif changed == "data":
        data.source = type(data.source)(**{**vars(data.source), "fingerprint": "other"})
    else:
        data.preprocessing = OTHER_STEPS[changed]
    frozen.images = 0
    LogitCache("disk", cache_dir, made_from).logits(frozen, data, CPU)
    assert frozen.images == 5
    assert len([path for path in (cache_dir / "logits").iterdir() if path.is_dir()]) == 2


def test_a_folder_of_another_teacher_is_refused(data: SegmentationDataModule, cache_dir: Path) -> None:
    cache = LogitCache("disk", cache_dir, MADE_FROM)
    cache.logits(teacher(), data, CPU)
    (folder,) = (path for path in (cache_dir / "logits").iterdir() if path.is_dir())
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"teacher": "0" * 64}))
    with pytest.raises(UserError, match=f"{folder}: holds logits of another teacher; delete the folder"):
        cache.logits(teacher(), data, CPU)


@pytest.mark.parametrize(("place", "free"), [("memory", "in memory"), ("disk", "on the disk of")])
def test_logits_that_do_not_fit_are_refused_with_both_sizes(
    place: str, free: str, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logit_cache, "available_memory", lambda: 5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    cache = LogitCache(place, cache_dir, MADE_FROM)
    cache.require_room(100, (5, 50, 100))
    sizes = rf"teacher_cache={place}: 102 .* take 5\.1 MB, 5\.0 MB are free {free}"
    with pytest.raises(ConfigError, match=sizes):
        cache.require_room(102, (5, 50, 100))


def test_logits_that_nobody_asked_for_take_a_gigabyte_at_most_whatever_is_free(
    cache_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = LogitCache("memory", cache_dir, MADE_FROM, required=False)
    asked_for = LogitCache("memory", cache_dir, MADE_FROM)
    with caplog.at_level("INFO"):
        assert [chosen.has_room(count, (4, 128, 128)) for count in (8192, 8193)] == [True, False]
    assert "would take 1.1 GB, the teacher runs at every step instead" in caplog.text
    assert asked_for.has_room(8193, (4, 128, 128))


def test_training_batches_bring_the_logits_of_what_they_show(data: SegmentationDataModule, cache_dir: Path) -> None:
    data.fit.scale, data.fit.crop, data.augment = [1.0, 1.0], [24, 36], (v2.RandomHorizontalFlip(1.0),)
    frozen = teacher()
    data.cell_multiple = 32
    data.teacher_logits = LogitCache("memory", cache_dir, MADE_FROM).logits(frozen, data, CPU)
    plain = logits_of(data.teacher_logits)[..., :6, :9].flip(-1)  # what lies within the image
    for batch in data.train_dataloader():
        image, mask, known = batch["image"], batch["mask"], batch["teacher_logits"]
        assert (known.shape, known.dtype) == ((2, CLASSES, 8, 16), torch.float16)
        assert len(image) == len(mask) == 2
        for one in known[..., :6, :9]:
            assert (plain - one).abs().amax(dim=(1, 2, 3)).min() < 1e-2


def test_known_logits_give_the_loss_of_the_live_teacher_without_running_it() -> None:
    frozen, student = teacher(), Strided()
    loss = DistillationLoss(cross_entropy, {"kl": PixelwiseKL(temperature=2.0)})
    options: dict[str, Any] = {"class_names": ["a", "b", "c"], "optimizer": None, "schedule": schedule_config()}
    task = DistillationTask(student, frozen, loss, **options).eval()
    image, target = torch.rand(2, 3, 16, 20), torch.randint(0, CLASSES, (2, 16, 20))
    live = task.compute_losses({"image": image, "mask": target})
    seen, known = frozen.images, frozen(image)[0]
    frozen.images = 0
    assert seen == 2
    for name, value in task.compute_losses({"image": image, "mask": target, "teacher_logits": known}).items():
        torch.testing.assert_close(value, live[name])
    assert frozen.images == 0


def test_the_distance_of_replayed_logits_by_hand() -> None:
    class Says(FrozenTeacher):
        def __call__(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            return torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2), {}

    replayed = torch.zeros(1, 2, 2, 2)
    replayed[0, 1, 0] = 1.0  # the first row says the other class, the second is undecided: class 0
    mask = torch.tensor([[[0, 255], [0, 1]]])
    same, divergence = replay_distance(
        Says(nn.Identity()), [{"image": torch.zeros(1, 3, 2, 2), "mask": mask, "teacher_logits": replayed}], CPU
    )
    p = np.exp([2.0, 0.0]) / np.exp([2.0, 0.0]).sum()
    said = np.exp(np.array([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))
    q = said / said.sum(axis=1, keepdims=True)
    assert same == pytest.approx(2 / 3)
    assert divergence == pytest.approx(float((p * np.log(p / q)).sum(axis=1).mean()), rel=1e-5)


def test_the_shape_is_told_without_changing_the_network() -> None:
    network = Strided().train()
    before = weights_digest(network)
    assert logits_shape(network, (24, 36), 32) == (CLASSES, 8, 16)
    assert logits_shape(network, (24, 36), 1) == (CLASSES, 6, 9)
    assert network.training
    assert weights_digest(network) == before


@pytest.mark.parametrize("sizes", [[1], [3, 1]])
def test_logits_beyond_float16_are_clamped(sizes: Sequence[int]) -> None:
    network = Strided().eval()
    nn.init.constant_(network.get_parameter("convolution.bias"), 1e6)
    results = list(predict_logits(FrozenTeacher(network), (torch.rand(size, 3, 8, 8) for size in sizes), 1))
    assert len(results) == sum(sizes)
    assert all(np.isfinite(one).all() and one.max() == 65504 for one in results)
