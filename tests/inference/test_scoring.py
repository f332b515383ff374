"""Mask scores: what is added up round by round equals arithmetic by hand, and no mask outlives its round."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from numpy.typing import NDArray

from segdistill.inference.scoring import MaskScores, count


def masks(*rows: list[int]) -> NDArray[np.uint8]:
    """One image of one row each."""
    return np.array([[row] for row in rows], np.uint8)


TRUTH = masks([0, 1, 1, 255], [1, 1, 0, 0])


def test_count_leaves_void_out() -> None:
    predicted = np.array([[0, 1, 1, 0]], np.uint8)
    truth = np.array([[0, 0, 1, 255]], np.uint8)
    np.testing.assert_array_equal(count(predicted, truth, 2), [[1, 1], [0, 1]])


def test_confusion_agreement_and_differences_by_hand() -> None:
    scores = MaskScores([0, 0, 2], num_classes=2)
    answers = [masks([0, 1, 0, 0], [1, 1, 1, 0]), TRUTH % 255, masks([0, 1, 0, 1], [0, 0, 1, 0])]
    for image in range(2):  # a round of one image each
        for place in scores.order:
            scores.add(place, answers[place][image : image + 1], TRUTH[image : image + 1])
        scores.end_round()
    np.testing.assert_array_equal(scores.confusions[0], [[2, 1], [1, 3]])
    np.testing.assert_array_equal(scores.confusions[1], [[3, 0], [0, 4]])
    assert scores.agreement(0) == 1
    assert scores.agreement(1) == 6 / 8
    assert scores.differences == [1 / 4, 2 / 4]  # of the references, 0 and 2


def test_references_add_their_masks_first() -> None:
    assert MaskScores([1, 1, 1, 3, None, 3], num_classes=2).order == [1, 3, 0, 2, 4, 5]


@pytest.mark.parametrize("last_round", [0, 1])
def test_agreement_with_a_reference_that_failed_is_unknown(last_round: int) -> None:
    scores = MaskScores([0, 0, 2], num_classes=2)
    for number in range(3):
        for place in scores.order:
            if place or number <= last_round:
                scores.add(place, TRUTH, TRUTH)
        scores.end_round()
    assert scores.agreement(0) == 1
    assert scores.agreement(1) is None
    assert scores.agreement(2) == 1
    assert len(scores.differences) == 2 * (last_round + 1)


def test_agreement_without_a_reference_is_unknown() -> None:
    scores = MaskScores([None], num_classes=2)
    scores.add(0, TRUTH, TRUTH)
    assert scores.agreement(0) is None


def test_masks_of_a_round_are_freed() -> None:
    scores = MaskScores([0, 0], num_classes=2)
    given = [TRUTH.copy(), TRUTH.copy()]
    alive = [weakref.ref(each) for each in given]
    for place in scores.order:
        scores.add(place, given[place], TRUTH)
    scores.end_round()
    given.clear()
    assert [reference() for reference in alive] == [None, None]
