"""Figures of a report, small enough to be read on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from segdistill.reporting.findings import split_label
from segdistill.reporting.results import Row

SIZE = (5.6, 4.0)  # inches; 400 pixels wide on a phone, where its letters are as tall as the page's
COLOURS = {"teacher": "#b5541c", "student": "#1f5fa8"}
SPLIT_COLOURS = {"train": "#1f5fa8", "val": "#b5541c", "test": "#3d8a4e"}
OTHER_COLOUR = "#555555"
LARGEST_SIDE, MOST_NUMBERED = 16, 32  # side of a confusion matrix in inches; number of classes whose shares it shows
MARKERS = "osD^vP*X"
Curve = tuple[Sequence[float], Sequence[float]]


def speed_accuracy(rows: Sequence[Row]) -> Figure:
    """Plot mean IoU over latency, with one mark per model and engine; times that include decoding are left out.

    Args:
        rows: Rows of one split, at least one.
    """
    figure, axes = _figure()
    label = split_label(rows[0].split, rows[0].selected_on, "mean IoU")
    axes.set_ylabel(f"{label}, %")
    rows = [row for row in rows if not row.decodes]
    engines = list(dict.fromkeys(row.engine for row in rows))
    for row in rows:
        if row.miou is not None:
            marker = MARKERS[engines.index(row.engine) % len(MARKERS)]
            colour = COLOURS.get(row.model, OTHER_COLOUR)
            label = f"{row.model} {row.engine}"
            axes.plot(row.latency_ms_p50, 100 * row.miou, marker, color=colour, markersize=9, alpha=0.8, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("p50 latency, ms an image (log)")
    axes.margins(0.12)
    axes.grid(visible=True, which="both", alpha=0.25)
    figure.set_size_inches(SIZE[0], SIZE[1] + 0.22 * len(rows))
    figure.legend(loc="outside lower center", fontsize=9, frameon=False)
    return figure


def per_class_iou(rows: Sequence[Row]) -> Figure:
    """Plot the IoU of every class as horizontal bars, one per network, measured in PyTorch if available.

    Args:
        rows: Rows of one split, at least one.
    """
    figure, axes = _figure()
    by_model = {row.model: row for row in rows[::-1]} | {row.model: row for row in rows if row.engine == "pytorch"}
    rows = [by_model[model] for model in dict.fromkeys(row.model for row in rows)]
    names = list(rows[0].class_iou)
    height = 0.8 / len(rows)
    for offset, row in enumerate(rows):
        values = [100 * (row.class_iou[name] or 0.0) for name in names]
        texts = [
            "-" if row.class_iou[name] is None else f"{value:.1f}" for name, value in zip(names, values, strict=True)
        ]
        places = np.arange(len(names)) + (offset - (len(rows) - 1) / 2) * height
        label = f"{row.model} {row.engine}"
        bars = axes.barh(places, values, height, color=COLOURS.get(row.model, OTHER_COLOUR), label=label)
        axes.bar_label(bars, texts, padding=2, fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 112)
    axes.set_xlabel(f"{split_label(rows[0].split, rows[0].selected_on, 'IoU')}, %")
    figure.set_size_inches(SIZE[0], min(2 * LARGEST_SIDE, 1.6 + 0.45 * len(names)))
    figure.legend(loc="outside lower center", fontsize=9, frameon=False)
    return figure


def class_shares(shares: Mapping[str, NDArray[np.float64]], names: Sequence[str]) -> Figure:
    """Plot the share of every class in the labelled pixels of each split, in % on a logarithmic scale.

    Args:
        shares: Share of each of the C classes by split, float64 [C].
        names: Names of the C classes.
    """
    figure, axes = _figure()
    height = 0.8 / len(shares)
    for offset, (split, values) in enumerate(shares.items()):
        places = np.arange(len(names)) + (offset - (len(shares) - 1) / 2) * height
        axes.barh(places, 100 * values, height, color=SPLIT_COLOURS.get(split, OTHER_COLOUR), label=split)
    least = min((100 * values[values > 0].min() for values in shares.values() if values.any()), default=1.0)
    axes.set_xscale("log")
    axes.set_xlim(10 ** np.floor(np.log10(least) - 0.1), 100)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=True, axis="x", alpha=0.25)
    axes.set_xlabel("share of the labelled pixels, % (log)")
    figure.set_size_inches(SIZE[0], min(2 * LARGEST_SIDE, 1.6 + 0.3 * len(names)))
    figure.legend(loc="outside lower center", ncols=len(shares), fontsize=9, frameon=False)
    return figure


def training_curves(losses: Mapping[str, Curve], scores: Mapping[str, Curve]) -> Figure:
    """Plot losses over the steps above, and validation scores below."""
    figure = Figure(figsize=(SIZE[0], 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, curves, unit in ((upper, losses, "loss"), (lower, scores, "mean IoU, %")):
        for name, (steps, values) in curves.items():
            axes.plot(steps, values, label=name, linewidth=1.4, marker="o" if len(steps) < 40 else "", markersize=3)
        axes.set_ylabel(unit)
        axes.grid(visible=True, alpha=0.25)
        if curves:
            axes.legend(fontsize=9, frameon=False)
    upper.set_yscale("log")
    lower.set_xlabel("step")
    return figure


def confusion_matrix(confusion: NDArray[np.int64], names: Sequence[str], title: str) -> Figure:
    """Plot the shares of each true class, in %, that one network predicts as each class; rows are the truth.

    Args:
        confusion: Pixel counts, [C, C].
        names: Names of the C classes.
        title: Title that names the network and the split.
    """
    side = min(LARGEST_SIDE, max(4.4, 0.46 * len(names) + 1.8))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    shares = 100 * confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(shares.shape):
        if shares[row, column] >= 0.5 and len(names) <= MOST_NUMBERED:
            colour = "white" if shares[row, column] > 60 else "black"
            axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.set_title(f"{title}\n% of each true class", fontsize=10)
    return figure


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.subplots()
