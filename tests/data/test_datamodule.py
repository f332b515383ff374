from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.settings import fit_config
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from segdistill.config.data import FolderConfig
from segdistill.data.datamodule import Batch, SegmentationDataModule
from segdistill.data.sampling import SeededSampler
from segdistill.data.sources.base import DatasetIndex
from segdistill.data.sources.folder import open_folder
from segdistill.data.workers import default_workers, quiet_when_abandoned
from segdistill.utils.preprocessing import Preprocessing

INPUT_SIZE, CROP = (24, 36), [16, 20]
STEPS = Preprocessing(INPUT_SIZE)
CLASS_IDS = {0, 1, 2, 255}


@pytest.fixture
def source(folder_config: FolderConfig, cache_dir: Path) -> DatasetIndex:
    return open_folder(folder_config, cache_dir)


def data_module(
    source: DatasetIndex,
    *,
    batch_size: int = 2,
    input_size: tuple[int, int] = INPUT_SIZE,
    workers: int = 0,
    seed: int = 0,
) -> SegmentationDataModule:
    fit = fit_config(max_epochs=1, batch_size=batch_size, crop=CROP)
    return SegmentationDataModule(
        source, fit, preprocessing=Preprocessing(input_size), eval_batch_size=2, num_workers=workers, seed=seed
    )


def epoch_of(loader: DataLoader[Batch], epoch: int) -> Tensor:
    """The images of an epoch, as Lightning asks for it."""
    assert isinstance(loader.sampler, SeededSampler)
    loader.sampler.set_epoch(epoch)
    return torch.cat([batch["image"] for batch in loader])


def test_training_batches_keep_the_contract(source: DatasetIndex) -> None:
    for batch in data_module(source).train_dataloader():
        image, mask = batch["image"], batch["mask"]
        assert (image.shape, image.dtype) == ((2, 3, *CROP), torch.float32)
        assert (mask.shape, mask.dtype) == ((2, *CROP), torch.int64)
        assert type(image) is type(mask) is torch.Tensor
        assert 0 <= image.min() < image.max() <= 1
        assert set(mask.flatten().tolist()) <= CLASS_IDS


@pytest.mark.parametrize("input_size", [INPUT_SIZE, (33, 47)])
@pytest.mark.parametrize(("split", "sizes"), [("val", [2, 1]), ("test", [2])])
def test_evaluation_sees_every_image_once_in_order(
    source: DatasetIndex, split: str, sizes: list[int], input_size: tuple[int, int]
) -> None:
    data = data_module(source, input_size=input_size)
    batches = list(data.val_dataloader() if split == "val" else data.test_dataloader())
    assert [len(batch["image"]) for batch in batches] == sizes
    for batch in batches:
        image, mask = batch["image"], batch["mask"]
        assert (image.shape[1:], image.dtype) == ((3, *input_size), torch.float32)
        assert (mask.shape[1:], mask.dtype) == (input_size, torch.int64)
        assert set(mask.unique().tolist()) == CLASS_IDS
    if input_size == INPUT_SIZE:
        samples = [source.read(split, index) for index in range(sum(sizes))]
        images, masks = (torch.cat([batch[part] for batch in batches]).numpy() for part in ("image", "mask"))
        np.testing.assert_allclose(images.transpose(0, 2, 3, 1) * 255, [image for image, _ in samples], atol=1e-3)
        np.testing.assert_array_equal(masks, [ids for _, ids in samples])


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [
        pytest.param(2, [2, 2], id="the odd one is left out"),
        pytest.param(4, [4], id="one batch and a rest"),
        pytest.param(5, [5], id="all in one"),
        pytest.param(8, [5], id="fewer images than a batch"),
        pytest.param(1, [1] * 5, id="batch of one"),
    ],
)
def test_a_partial_training_batch_is_left_out_unless_it_is_the_only_one(
    source: DatasetIndex, batch_size: int, sizes: list[int]
) -> None:
    loader = data_module(source, batch_size=batch_size).train_dataloader()
    assert [len(batch["image"]) for batch in loader] == sizes
    assert len(loader) == len(sizes)


def test_training_sees_every_image_once_an_epoch_in_an_order_of_its_own(source: DatasetIndex) -> None:
    as_it_is = fit_config(max_epochs=1, batch_size=1, crop=list(INPUT_SIZE), scale=[1.0, 1.0])
    loader = SegmentationDataModule(source, as_it_is, preprocessing=STEPS, num_workers=0).train_dataloader()
    truth = [source.read("train", index)[1].tolist() for index in range(5)]
    orders = []
    for epoch in range(4):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined] # as Lightning does
        orders.append([truth.index(batch["mask"][0].tolist()) for batch in loader])
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert len({tuple(order) for order in orders}) > 1


def test_last_epochs_show_whole_images(source: DatasetIndex) -> None:
    fit = fit_config(max_epochs=3, batch_size=5, crop=CROP, full_frame_epochs=1)
    data = SegmentationDataModule(source, fit, preprocessing=STEPS, num_workers=0)
    data.teacher_logits = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 6, 9)  # stride 4
    loader = data.train_dataloader()
    for epoch, size in ((0, CROP), (1, CROP), (2, list(INPUT_SIZE))):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined] # as Lightning does
        (batch,) = loader
        assert list(batch["image"].shape[-2:]) == list(batch["mask"].shape[-2:]) == size
        assert list(batch["teacher_logits"].shape[-2:]) == [side // 4 for side in size]
        assert torch.equal(batch["teacher_logits"][:, 0, 0, 0].round().long(), batch["index"])
    for index, mask in zip(batch["index"].tolist(), batch["mask"], strict=True):
        assert np.array_equal(mask, source.read("train", index)[1])


def test_an_epoch_depends_on_its_seed_and_number_alone(source: DatasetIndex) -> None:
    first = data_module(source, seed=1).train_dataloader()
    epochs = [epoch_of(first, number) for number in range(3)]
    torch.rand(7)  # the caller's random state has no part in it
    assert torch.equal(epoch_of(data_module(source, seed=1).train_dataloader(), 2), epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epoch_of(data_module(source, seed=2).train_dataloader(), 0), epochs[0])


def test_augmentation_leaves_the_random_state_of_the_process_alone(source: DatasetIndex) -> None:
    torch.manual_seed(3)
    before, dataset = torch.random.get_rng_state(), data_module(source).train_dataloader().dataset
    first, again, other = dataset[0, 5, 0], dataset[0, 5, 0], dataset[0, 6, 0]
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_does_not_change_an_epoch(source: DatasetIndex, workers: int) -> None:
    alone = data_module(source).train_dataloader()
    shared = data_module(source, workers=workers).train_dataloader()
    for number in range(2):
        assert torch.equal(epoch_of(shared, number), epoch_of(alone, number))


def test_processes_share_an_epoch_without_overlap(source: DatasetIndex) -> None:
    shares = [list(SeededSampler(range(6), 0, rank=rank, processes=2)) for rank in (0, 1)]  # type: ignore[arg-type]
    alone = list(SeededSampler(range(6), 0))  # type: ignore[arg-type] # it has a length
    assert sorted(shares[0] + shares[1]) == sorted(alone)
    assert len({seed for _, seed, _ in alone}) == 6


def test_without_a_test_split_the_report_is_on_val(folder_config: FolderConfig, cache_dir: Path) -> None:
    splits = {name: folder_config.splits[name] for name in ("train", "val")}
    source = open_folder(replace(folder_config, splits=splits), cache_dir)
    data = data_module(source)
    assert (source.eval_split, len(source.splits["val"])) == ("val", 3)
    for tested, validated in zip(data.test_dataloader(), data.val_dataloader(), strict=True):
        assert all(torch.equal(tested[part], validated[part]) for part in ("image", "mask"))


@pytest.mark.parametrize("input_size", [INPUT_SIZE, (33, 47), (13, 19)])
def test_a_report_image_is_the_eval_batch_in_bytes(source: DatasetIndex, input_size: tuple[int, int]) -> None:
    data = data_module(source, input_size=input_size)
    batch = next(iter(data.test_dataloader()))
    images, masks = batch["image"], batch["mask"]
    for index in range(2):
        image, mask = data.eval_image(index)
        assert {image.dtype, mask.dtype} == {np.dtype(np.uint8)}
        expected = np.round(images[index].permute(1, 2, 0).numpy() * 255)
        np.testing.assert_array_equal(image, expected)
        np.testing.assert_array_equal(mask, masks[index].numpy())


def test_every_batch_and_image_is_cut_and_corrected(source: DatasetIndex) -> None:
    steps = Preprocessing((32, 36), cut_bottom=8, gamma=0.5)
    fit = fit_config(max_epochs=2, batch_size=5, crop=None, scale=[1.0, 1.0])
    data = SegmentationDataModule(source, fit, preprocessing=steps, eval_batch_size=5, num_workers=0)
    assert data.input_size == (24, 36)
    loaders = {"train": data.train_dataloader(), "val": data.val_dataloader(), "test": data.test_dataloader()}
    for split, loader in loaders.items():
        (batch,) = loader
        for index, image, mask in zip(batch["index"].tolist(), batch["image"], batch["mask"], strict=True):
            pixels, ids = source.read(split, index)
            expected = np.asarray(Image.fromarray(pixels).resize((36, 32), Image.Resampling.BILINEAR))[:24] / 255
            np.testing.assert_allclose(image.permute(1, 2, 0), expected**0.5, atol=0.07 if split == "train" else 0.002)
            np.testing.assert_array_equal(mask, steps.mask(ids))
    assert torch.equal(
        next(iter(data.plain_train_dataloader([3])))["mask"][0], torch.tensor(data.raw_sample("train", 3)[1]).long()
    )


def test_the_pixels_of_classes_are_counted_where_networks_see_them(source: DatasetIndex) -> None:
    upper = [source.read("train", index)[1][:18] for index in range(5)]
    assert source.class_pixels("train", 18 / 24).tolist() == [
        int((np.stack(upper) == label).sum()) for label in range(3)
    ]


def test_loader_processes_are_chosen_within_bounds_and_may_be_set(source: DatasetIndex) -> None:
    fit = fit_config(max_epochs=1, crop=CROP)
    chosen = SegmentationDataModule(source, fit, preprocessing=STEPS)
    assert chosen.num_workers == default_workers()
    assert 1 <= default_workers() <= 8
    assert data_module(source).train_dataloader().num_workers == 0


def test_a_limit_keeps_images_of_the_whole_split_and_makes_other_data_of_them(source: DatasetIndex) -> None:
    limited = source.limited(2)
    assert [sample.image.stem for sample in limited.splits["train"]] == ["000", "002"]  # of five
    assert {name: len(samples) for name, samples in limited.splits.items()} == {"train": 2, "val": 2, "test": 2}
    assert source.limited(99).splits == source.splits
    assert len({source.fingerprint, limited.fingerprint, source.limited(3).fingerprint}) == 3


def test_overfitting_shows_the_training_images_everywhere(source: DatasetIndex) -> None:
    overfitting = source.overfitting()
    assert all(samples == source.splits["train"] for samples in overfitting.splits.values())
    assert overfitting.fingerprint != source.fingerprint


def test_a_worker_is_quiet_where_its_process_is_gone_and_loud_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    quiet_when_abandoned(0)
    sys.excepthook(BrokenPipeError, BrokenPipeError("gone"), None)
    assert not capsys.readouterr().err
    sys.excepthook(ValueError, ValueError("a defect"), None)
    assert "a defect" in capsys.readouterr().err


def test_a_batch_names_its_parts_and_its_images(source: DatasetIndex) -> None:
    data = data_module(source)
    for batch in (next(iter(data.train_dataloader())), next(iter(data.val_dataloader()))):
        assert set(batch) == {"image", "mask", "index"}
    shown = next(iter(data.predict_dataloader()))
    for index, mask in zip(shown["index"].tolist(), shown["mask"], strict=True):
        assert mask.tolist() == source.read("test", index)[1].tolist()


def test_class_pixels_are_those_of_all_masks(source: DatasetIndex) -> None:
    masks = np.concatenate([source.read("train", index)[1].ravel() for index in range(len(source.splits["train"]))])
    assert source.class_pixels("train").tolist() == [int((masks == index).sum()) for index in range(3)]
