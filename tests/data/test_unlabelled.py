"""Training images that nobody labelled: the labels' loss is silent on them, the teacher's is not."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.composed import parsed
from helpers.references import random_logits, random_target
from helpers.settings import fit_config
from PIL import Image

from segdistill.config.data import IGNORE_INDEX, UNLABELLED, FolderConfig
from segdistill.data.datamodule import SegmentationDataModule
from segdistill.data.sampling import SeededSampler, mixed
from segdistill.data.sources.opening import open_source
from segdistill.losses import (
    BalancedLoss,
    DistillationLoss,
    ModelOutput,
    PixelwiseKL,
    boundary_kl,
    cross_entropy,
    pixelwise_kl,
)
from segdistill.utils.errors import ConfigError, UserError
from segdistill.utils.preprocessing import Preprocessing


def test_a_number_of_images_lose_their_labels_and_the_others_stay_evenly_spaced(
    folder_config: FolderConfig, cache_dir: Path
) -> None:
    whole = open_source(folder_config, cache_dir)
    source = open_source(replace(folder_config, unlabelled=3), cache_dir)
    assert [sample.mask is not None for sample in source.splits["train"]] == [True, False, True, False, False]
    assert source.unlabelled == 3
    assert all(sample.mask for split in ("val", "test") for sample in source.splits[split])
    image, ids = source.read("train", 1)
    assert np.array_equal(image, whole.read("train", 1)[0])
    assert ids.shape == image.shape[:2]
    assert (ids == UNLABELLED).all()
    labelled = source.labelled()
    assert [sample.image for sample in labelled.splits["train"]] == [whole.splits["train"][i].image for i in (0, 2)]
    assert np.array_equal(labelled.class_pixels("train"), source.class_pixels("train", 1.0))
    assert source.class_pixels("train").sum() < whole.class_pixels("train", 1.0).sum()
    assert len({each.fingerprint for each in (whole, source, labelled)}) == 3
    assert whole.labelled() is whole
    assert all(sample.mask for sample in open_source(replace(folder_config, overfit=True), cache_dir).splits["val"])


def test_a_folder_of_images_comes_on_top(folder_config: FolderConfig, cache_dir: Path) -> None:
    root = Path(folder_config.root)
    (root / "more").mkdir()
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 256, (24, 36, 3), np.uint8)).save(root / "more" / "a.png")
    config = replace(folder_config, unlabelled="more")
    source = open_source(config, cache_dir)
    assert [sample.mask is None for sample in source.splits["train"]] == [False] * 5 + [True]
    whole = open_source(folder_config, cache_dir)
    assert source.labelled().fingerprint == whole.fingerprint != source.fingerprint
    fitted = open_source(replace(config, overfit=True), cache_dir)
    assert [len(fitted.splits[split]) for split in ("train", "val")] == [6, 5]
    shutil.copy(root / "val/images/000.png", root / "more" / "b.png")
    with pytest.raises(UserError, match=r"val holds the same image as train.*b\.png"):
        open_source(config, cache_dir)
    (root / "more" / "b.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"more/b\.png"):
        open_source(config, cache_dir)
    with pytest.raises(UserError, match=r"absent: no such folder"):
        open_source(replace(folder_config, unlabelled="absent"), cache_dir)


def test_batches_tell_unlabelled_pixels_from_padding(folder_config: FolderConfig, cache_dir: Path) -> None:
    source = open_source(replace(folder_config, unlabelled=4), cache_dir)
    fit = fit_config(1, 5, crop=[40, 60], scale=[1.0, 1.0], class_crop=1.0)  # larger than the images
    (batch,) = SegmentationDataModule(
        source, fit, preprocessing=Preprocessing((24, 36)), num_workers=0
    ).train_dataloader()
    for index, mask in zip(batch["index"].tolist(), batch["mask"], strict=True):
        assert (mask == IGNORE_INDEX).sum() >= 40 * 60 - 24 * 36
        assert bool((mask == UNLABELLED).any()) == (index != 0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_an_epoch_has_the_share_of_labelled_images_that_is_asked_for(share: float) -> None:
    labelled = [index % 10 == 3 for index in range(40)]
    epochs = [mixed(labelled, share, seed) for seed in (0, 1)]
    for places in epochs:
        assert len(places) == len(set(places)) == 40  # no image twice with the same augmentation
        assert sum(labelled[index] for index, _ in places) == round(share * 40)
        taken = Counter(index for index, _ in places)
        for kind in (True, False):
            counts = {taken[index] for index in range(40) if labelled[index] is kind}
            assert max(counts) - min(counts) <= 1
        assert {before for index, before in places if index == 3} == set(range(taken[3]))
    assert epochs[0] != epochs[1]
    assert mixed(labelled, share, 0) == epochs[0]


def test_training_sees_the_labelled_images_again_with_other_augmentations(
    folder_config: FolderConfig, cache_dir: Path
) -> None:
    source = open_source(replace(folder_config, unlabelled=4), cache_dir)
    for share, labelled in ((None, 1), (0.6, 3)):
        fit = fit_config(2, 5, crop=[16, 20], labelled_share=share)
        data = SegmentationDataModule(source, fit, preprocessing=Preprocessing((24, 36)), num_workers=0)
        (batch,) = data.train_dataloader()
        own = batch["image"][batch["index"] == 0]
        assert (len(own), len(batch["index"])) == (labelled, 5)
        assert all(not torch.equal(own[0], other) for other in own[1:])
    alone = SegmentationDataModule(source.labelled(), fit, preprocessing=Preprocessing((24, 36)), num_workers=0)
    (batch,) = alone.train_dataloader()
    assert batch["index"].tolist() == [0]  # where all have labels, the share means nothing


def test_processes_share_a_mixed_epoch_without_overlap() -> None:
    labelled = [index < 2 for index in range(8)]
    options = {"processes": 2, "labelled": (labelled, 0.5)}
    shares = [list(SeededSampler(range(8), 0, rank=rank, **options)) for rank in (0, 1)]  # type: ignore[arg-type]
    seen = shares[0] + shares[1]
    assert sum(labelled[index] for index, _, _ in seen) == 4
    assert len({seed for _, seed, _ in seen}) == 8


def test_the_supervised_loss_is_silent_and_the_distillation_loss_is_not() -> None:
    shape = (3, 4, 6, 7)
    student, teacher = random_logits(*shape, seed=1).requires_grad_(), random_logits(*shape, seed=2)
    target = random_target(shape)
    target[0] = UNLABELLED
    target[1, :3] = UNLABELLED
    loss = DistillationLoss(cross_entropy, {"kl": PixelwiseKL(temperature=2.0)})
    values = loss(ModelOutput(student), ModelOutput(teacher), target)
    known = target.where(target != UNLABELLED, IGNORE_INDEX)
    torch.testing.assert_close(values["loss_supervised"], cross_entropy(student, known))
    everything = pixelwise_kl(student, teacher, torch.where(target == UNLABELLED, 0, target), temperature=2.0)
    torch.testing.assert_close(values["loss_kl"], everything)
    (gradient,) = torch.autograd.grad(values["loss_supervised"], student)
    assert not gradient[0].any()
    assert gradient[2].any()


def test_pseudo_labels_are_the_teachers_classes_where_no_label_is() -> None:
    shape = (2, 4, 6, 7)
    student, target = random_logits(*shape, seed=1).requires_grad_(), random_target(shape)
    teacher = random_logits(2, 4, 3, 4, seed=2)  # of a coarser grid than the labels
    target[0] = UNLABELLED
    target[0, 0] = IGNORE_INDEX
    loss = DistillationLoss(cross_entropy, {}, alpha=0.0, pseudo_labels=True)
    values = loss(ModelOutput(student), ModelOutput(teacher.requires_grad_()), target)
    classes = torch.nn.functional.interpolate(teacher, (6, 7), mode="bilinear").argmax(dim=1)
    known = torch.where(target == UNLABELLED, classes, target)
    torch.testing.assert_close(values["loss"], cross_entropy(student, known))
    torch.autograd.backward(values["loss"])
    assert student.grad is not None
    assert student.grad[0, :, 1:].any()
    assert not student.grad[0, :, 0].any()
    assert teacher.grad is None


@pytest.mark.parametrize("options", [{"class_balance": 0.5}, {"only_correct": True}])
def test_unlabelled_pixels_have_the_teachers_class(options: dict[str, float]) -> None:
    shape = (2, 4, 6, 7)
    student, teacher, target = random_logits(*shape, seed=1), random_logits(*shape, seed=2), random_target(shape)
    target[0] = UNLABELLED
    known = target.where(target != UNLABELLED, teacher.argmax(dim=1))
    losses = [pixelwise_kl(student, teacher, ids, temperature=2.0, **options) for ids in (target, known)]  # type: ignore[arg-type] # one of them is a bool
    torch.testing.assert_close(*losses)


def test_a_batch_without_any_label_trains_on_the_teacher_alone() -> None:
    student, teacher = random_logits(2, 3, 4, 5, seed=1).requires_grad_(), random_logits(2, 3, 4, 5, seed=2)
    loss = DistillationLoss(BalancedLoss([1.0, 2.0, 3.0]), {"kl": PixelwiseKL(temperature=2.0)}, alpha=0.5)
    values = loss(ModelOutput(student), ModelOutput(teacher), torch.full((2, 4, 5), UNLABELLED))
    assert values["loss_supervised"] == 0
    (gradient,) = torch.autograd.grad(values["loss"], student)
    assert bool(gradient.isfinite().all())
    assert gradient.any()


def test_borders_of_unlabelled_images_are_the_teachers() -> None:
    student, teacher = random_logits(1, 3, 8, 9, seed=1), random_logits(1, 3, 8, 9, seed=2)
    unlabelled = torch.full((1, 8, 9), UNLABELLED)
    losses = [boundary_kl(student, teacher, ids, temperature=1.0) for ids in (unlabelled, teacher.argmax(dim=1))]
    torch.testing.assert_close(*losses)
    assert losses[0] > 0


def test_a_batch_that_the_labelled_scenes_cannot_fill_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"student\.fit\.batch_size=4: must be at most 2: .* has 2 images"):
        parsed("distill=none", "data.unlabelled=478")
    assert parsed("distill=kl", "data.unlabelled=476", "teacher.fit.batch_size=4").data.unlabelled == 476


@pytest.mark.parametrize("value", ["-1", "1.5", "480", "folder"])
def test_a_number_that_leaves_no_labels_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.unlabelled={value}: must be"):
        parsed(f"data.unlabelled={value}")
