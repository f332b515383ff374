from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from segdistill.metrics import SegmentationMetrics, collapsed_to, never_predicted, scores

IGNORE_INDEX, CLASSES = 255, 5
SCALARS = ("overall_acc", "mean_acc", "freqw_acc", "miou")
Ids = NDArray[np.int64]


def random_batch(shape: tuple[int, ...], seed: int, present: int = CLASSES) -> tuple[Ids, Ids]:
    """Predicted and true ids that agree on about half of the pixels; a fifth of the truth is void."""
    rng = np.random.default_rng(seed)
    truth, noise = rng.integers(0, present, shape), rng.integers(0, present, shape)
    predicted = np.where(rng.random(shape) < 0.5, truth, noise)
    truth[rng.random(shape) < 0.2] = IGNORE_INDEX
    return predicted, truth


def evaluator(predicted: Ids, truth: Ids, classes: int = CLASSES) -> dict[str, float | list[float]]:
    """The original system's evaluator: one histogram, four accuracies."""
    mask = truth != IGNORE_INDEX
    cells = classes * truth[mask] + predicted[mask]
    hist = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # NaN of absent classes is the point
        freq = hist.sum(axis=1) / hist.sum()
        iou = np.diag(hist) / (hist.sum(axis=1) + hist.sum(axis=0) - np.diag(hist))
        return {
            "overall_acc": float(np.diag(hist).sum() / hist.sum()),
            "mean_acc": float(np.nanmean(np.diag(hist) / hist.sum(axis=1))),
            "freqw_acc": float((freq[freq > 0] * iou[freq > 0]).sum()),
            "miou": float(np.nanmean(iou)),
            "class_iou": iou.tolist(),
        }


def measured(*batches: tuple[Ids, Ids], classes: int = CLASSES) -> dict[str, float | list[float]]:
    metrics = SegmentationMetrics(classes)
    for predicted, truth in batches:
        metrics.update(torch.from_numpy(predicted), torch.from_numpy(truth))
    return plain(metrics.compute())


def plain(values: dict[str, Tensor]) -> dict[str, float | list[float]]:
    return {name: value.tolist() for name, value in values.items() if name != "confusion"}


def assert_same(actual: dict[str, float | list[float]], expected: dict[str, float | list[float]]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name] == pytest.approx(value, rel=1e-12, nan_ok=True), name


@pytest.mark.parametrize("shape", [(1, 7, 13), (3, 5, 1), (4, 16, 16)])
def test_scores_are_those_of_the_original_evaluator(shape: tuple[int, ...]) -> None:
    batch = random_batch(shape, seed=1)
    assert_same(measured(batch), evaluator(*batch))


def test_absent_classes_are_skipped_and_not_counted_as_zero() -> None:
    batch = random_batch((2, 9, 11), seed=2, present=3)
    values = measured(batch)
    assert_same(values, evaluator(*batch))
    class_iou = values["class_iou"]
    assert isinstance(class_iou, list)
    assert [math.isnan(iou) for iou in class_iou] == [False, False, False, True, True]
    assert values["miou"] == pytest.approx(sum(class_iou[:3]) / 3)


def test_scores_by_hand() -> None:
    # Truth 0 0 0 1, prediction 0 0 1 1, and one void pixel that was called 1.
    predicted, truth = np.array([[[0, 0, 1, 1, 1]]]), np.array([[[0, 0, 0, 1, IGNORE_INDEX]]])
    assert_same(
        measured((predicted, truth), classes=3),
        {
            "overall_acc": 3 / 4,
            "mean_acc": (2 / 3 + 1) / 2,
            "freqw_acc": 3 / 4 * 2 / 3 + 1 / 4 * 1 / 2,
            "miou": (2 / 3 + 1 / 2) / 2,
            "class_iou": [2 / 3, 1 / 2, math.nan],
        },
    )


def test_a_class_that_is_only_predicted_has_an_iou_of_zero_and_no_recall() -> None:
    values = measured((np.array([[[0, 1]]]), np.array([[[0, 0]]])), classes=2)
    assert values["class_iou"] == [0.5, 0.0]
    assert values["miou"] == 0.25
    assert values["mean_acc"] == 0.5


def test_all_void_scores_nan() -> None:
    values = measured((np.zeros((2, 3, 4), np.int64), np.full((2, 3, 4), IGNORE_INDEX)))
    assert_same(values, {**dict.fromkeys(SCALARS, math.nan), "class_iou": [math.nan] * CLASSES})


def test_uneven_batches_add_up_to_one_shot_exactly() -> None:
    predicted, truth = random_batch((7, 9, 11), seed=3)
    parts = [(predicted[:1], truth[:1]), (predicted[1:5], truth[1:5]), (predicted[5:], truth[5:])]
    assert measured(*parts) == measured((predicted, truth))


def test_reset_clears_the_confusion_matrix() -> None:
    first, second = random_batch((2, 5, 6), seed=4), random_batch((2, 5, 6), seed=5)
    metrics = SegmentationMetrics(CLASSES)
    metrics.update(*map(torch.from_numpy, first))
    metrics.reset()
    metrics.update(*map(torch.from_numpy, second))
    assert_same(plain(metrics.compute()), evaluator(*second))


def test_logits_count_as_the_class_of_their_maximum() -> None:
    predicted, truth = random_batch((3, 7, 5), seed=6)
    logits = torch.from_numpy(np.eye(CLASSES)[predicted]).permute(0, 3, 1, 2) - 0.5
    metrics = SegmentationMetrics(CLASSES)
    metrics.update(logits, torch.from_numpy(truth))
    assert_same(plain(metrics.compute()), evaluator(predicted, truth))


def test_small_integer_types_do_not_overflow() -> None:
    # 20 * 19 + 19 does not fit into the uint8 that masks on disk have.
    truth = np.full((1, 2, 3), 19)
    metrics = SegmentationMetrics(20)
    metrics.update(*(torch.from_numpy(truth.astype(np.uint8)) for _ in range(2)))
    assert metrics.confusion[19, 19] == truth.size
    assert metrics.confusion.sum() == truth.size


def test_another_ignore_index_is_left_out() -> None:
    metrics = SegmentationMetrics(3, ignore_index=0)
    metrics.update(torch.tensor([[[1, 1, 2]]]), torch.tensor([[[0, 1, 2]]]))
    assert metrics.compute()["overall_acc"] == 1.0


@pytest.mark.parametrize(
    ("predicted", "truth"),
    [
        pytest.param(torch.full((1, 2, 2), 7), torch.zeros(1, 2, 2, dtype=torch.int64), id="predicted id"),
        pytest.param(torch.zeros(1, 2, 2, dtype=torch.int64), torch.full((1, 2, 2), 7), id="true id"),
        pytest.param(
            torch.eye(8)[torch.full((1, 2, 2), 7)].permute(0, 3, 1, 2),
            torch.zeros(1, 2, 2, dtype=torch.int64),
            id="logits of more classes",
        ),
    ],
)
def test_ids_beyond_the_classes_are_refused_and_never_counted_elsewhere(predicted: Tensor, truth: Tensor) -> None:
    # With 5 classes the cell of truth 0 and prediction 7 is also that of truth 1 and prediction 2.
    metrics = SegmentationMetrics(CLASSES)
    with pytest.raises(ValueError, match=r"7|8"):
        metrics.update(predicted, truth)


def test_frequency_weights_are_shares_of_the_truth() -> None:
    confusion = torch.tensor([[90, 0], [5, 5]])
    assert scores(confusion)["freqw_acc"].item() == pytest.approx(0.9 * 90 / 95 + 0.1 * 5 / 10)


@pytest.mark.parametrize(
    ("confusion", "single", "missed"),
    [
        ([[5, 0, 0], [4, 0, 0], [3, 0, 0]], 0, [1, 2]),  # a network that has collapsed
        ([[0, 0, 5], [0, 0, 4], [0, 0, 0]], 2, [0, 1]),  # to a class that does not occur
        ([[5, 1, 0], [0, 4, 0], [2, 1, 0]], None, [2]),
        ([[5, 1, 0], [0, 4, 0], [0, 0, 0]], None, []),  # the third neither occurs nor is predicted
        ([[5, 0, 0], [0, 0, 0], [0, 0, 0]], 0, []),
        ([[0, 0, 0], [0, 0, 0], [0, 0, 0]], None, []),
    ],
)
def test_collapsed_and_missed_classes_of_hand_made_confusions(
    confusion: list[list[int]], single: int | None, missed: list[int]
) -> None:
    assert collapsed_to(torch.tensor(confusion)) == single
    assert never_predicted(torch.tensor(confusion)) == missed


def _score_a_share(rank: int, folder: str) -> None:
    """One of two processes: the first sees five images, the second two."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    share = slice(0, 5) if rank == 0 else slice(5, 7)
    predicted, truth = random_batch((7, 9, 11), seed=7)
    metrics = SegmentationMetrics(CLASSES)
    metrics.update(torch.from_numpy(predicted[share]), torch.from_numpy(truth[share]))
    torch.save(metrics.compute(), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_uneven_shares_score_the_whole_set(tmp_path: Path) -> None:
    spawn(_score_a_share, args=(str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call] # torch leaves it so
    whole = random_batch((7, 9, 11), seed=7)
    for rank in range(2):
        values = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_same(plain(values), evaluator(*whole))
        assert values["confusion"].sum() == (whole[1] != IGNORE_INDEX).sum()
