"""Notes for the reader of a report: the split, collapsed predictions, failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from segdistill.reporting.results import SELECTION_SPLIT, FailedRow, Row

MAX_NAMED = 12  # classes named in one sentence


def split_label(split: str, selected_on: bool, what: str = "") -> str:
    """Join the split's name, `what` is reported, and a note if checkpoints were selected on that split.

    Example:
        >>> split_label("val", True, "mean IoU")
        'val mean IoU (selected on)'
    """
    return " ".join(word for word in (split, what, "(selected on)" if selected_on else "") if word)


def optimism(split: str) -> str:
    """Return the warning for scores of the split on which checkpoints were selected."""
    return (
        f"the scores are optimistic: the checkpoint was chosen on {split}, the split that is reported; "
        "add a test split (data.splits.test)"
    )


def selected_on(split: str) -> bool:
    """Return whether the best checkpoint is selected on this split."""
    return split == SELECTION_SPLIT


def prediction_finding(collapsed_to: str | None, never_predicted: Sequence[str]) -> str | None:
    """Describe what is wrong with a network's predictions, without its name; None if every true class is predicted.

    Example:
        >>> prediction_finding(None, ["signal", "lane"])
        'never predicts: signal, lane'
    """
    if not never_predicted:
        return None
    if collapsed_to is not None:
        return f"predicts only {collapsed_to}"
    named = ", ".join(islice(never_predicted, MAX_NAMED))
    others = len(never_predicted) - MAX_NAMED
    return f"never predicts: {named}" + (f" and {others} others" if others > 0 else "")


def run_warnings(rows: Sequence[Row]) -> list[str]:
    """Return a sentence for each thing that makes a run's scores mean less than they seem to."""
    selected = dict.fromkeys(row.split for row in rows if row.selected_on)
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        finding = prediction_finding(row.collapsed_to, row.never_predicted)
        if finding is not None:
            found.setdefault((row.model, finding), []).append(row)
    left = dict.fromkeys((row.skipped, row.split, row.images) for row in rows if row.skipped)
    return [
        *map(optimism, selected),
        *(f"{count} more of {split} could not be used: scores are of {images} images" for count, split, images in left),
        *(f"{_named(those, rows)} {finding}" for (_, finding), those in found.items()),
    ]


def scored_classes(rows: Sequence[Row]) -> str:
    """Describe how many classes the mean IoU averages over, by row if that differs; empty without rows."""
    groups: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.classes_scored, len(row.class_iou)), []).append(row)
    if len(groups) < 2:
        return "".join(f"mean IoU over {count_of(*count)}" for count in groups)
    return "mean IoU over " + "; ".join(f"{count_of(*count)}: {_named(those, rows)}" for count, those in groups.items())


def count_of(scored: int, total: int) -> str:
    """Return "5 classes", or "4 of 5 classes" if some neither occur nor are predicted."""
    return f"{total} classes" if scored == total else f"{scored} of {total} classes"


def failures(failed: Iterable[FailedRow]) -> list[str]:
    """Return one line per error, naming the rows that share it."""
    rows_by_error: dict[str, list[str]] = {}
    for failure in failed:
        rows_by_error.setdefault(failure.error, []).append(f"{failure.model} {failure.engine}")
    return [f"{', '.join(rows)} failed: {error}" for error, rows in rows_by_error.items()]


def _named(chosen: Sequence[Row], rows: Sequence[Row]) -> str:
    """Name the chosen ones of all rows; a model is named without engines if all of its engines are chosen."""
    engines = {row.model: [other.engine for other in chosen if other.model == row.model] for row in chosen}
    totals = {model: sum(row.model == model for row in rows) for model in engines}
    names = [model if len(own) == totals[model] else f"{model} ({', '.join(own)})" for model, own in engines.items()]
    return ", ".join(names)
