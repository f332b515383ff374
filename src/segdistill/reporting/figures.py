"""Figures of a report, small enough to be read on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from segdistill.reporting.findings import split_label
from segdistill.reporting.palette import COLOURS, OTHER_COLOUR, SPLIT_COLOURS, series_style
from segdistill.reporting.results import Row
from segdistill.reporting.scatter import Point, speed_scatter

SIZE = (5.6, 4.0)  # inches; 400 pixels wide on a phone, where its letters are as tall as the page's
DPI = 160  # of PNG files
NO_DATE = {"svg": "Date", "pdf": "CreationDate"}  # metadata that differs each time
LARGEST_SIDE, MOST_NUMBERED = 16, 32  # side of a confusion matrix in inches; number of classes whose shares it shows
LOSS_PLACE = 132  # where the student's losses stand beside the bars of IoU, which end at 100
MIN_SMOOTHED, WINDOW = 40, 15  # points that a curve needs to be drawn as a running median, too; points of that
Curve = tuple[Sequence[float], Sequence[float]]


def speed_accuracy(rows: Sequence[Row]) -> Figure:
    """Plot mean IoU over latency, with one mark per model and engine; times that include decoding are left out.

    Args:
        rows: Rows of one split, at least one.
    """
    label = split_label(rows[0].split, rows[0].selected_on, "mean IoU")
    points = [
        Point(
            row.latency_ms_p50,
            100 * row.miou,
            network=row.model,
            engine=row.engine,
            name=f"{row.model} {row.engine}",
            colour=COLOURS.get(row.model, OTHER_COLOUR),
        )
        for row in rows
        if row.miou is not None and not row.decodes
    ]
    return speed_scatter(points, "p50 latency, ms an image (log)", f"{label}, %", SIZE)


def per_class_iou(rows: Sequence[Row]) -> Figure:
    """Plot the IoU of every class as horizontal bars, one per network, measured in PyTorch if available.

    Where there are two networks, the classes that the student loses most of against the teacher come first, and the
    difference stands beside the bars, in points.

    Args:
        rows: Rows of one split, at least one.
    """
    figure, axes = _figure()
    by_model = {row.model: row for row in rows[::-1]} | {row.model: row for row in rows if row.engine == "pytorch"}
    rows = [by_model[model] for model in dict.fromkeys(row.model for row in rows)]
    gains = _gains(by_model["student"], by_model["teacher"]) if {"student", "teacher"} <= by_model.keys() else {}
    names = sorted(rows[0].class_iou, key=lambda name: gains.get(name, np.inf))
    height = 0.8 / len(rows)
    for offset, row in enumerate(rows):
        values = [100 * (row.class_iou[name] or 0.0) for name in names]
        texts = [
            "-" if row.class_iou[name] is None else f"{value:.1f}" for name, value in zip(names, values, strict=True)
        ]
        places = np.arange(len(names)) + (offset - (len(rows) - 1) / 2) * height
        label = f"{row.model} {row.engine}"
        bars = axes.barh(places, values, height, color=COLOURS.get(row.model, OTHER_COLOUR), label=label)
        axes.bar_label(bars, texts, padding=2, fontsize=9)
    for place, name in enumerate(names):
        if name in gains:
            points = f"{gains[name]:+.1f}" if round(gains[name], 1) else "0.0"
            axes.text(LOSS_PLACE, place, points, ha="right", va="center", fontsize=10, weight="bold")
    if gains:
        axes.text(LOSS_PLACE, -0.65, "student - teacher", ha="right", va="bottom", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.55)
    axes.set_xlim(0, LOSS_PLACE + 3 if gains else 112)
    axes.set_xticks(range(0, 101, 20))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(f"{split_label(rows[0].split, rows[0].selected_on, 'IoU')}, %")
    figure.set_size_inches(SIZE[0], min(2 * LARGEST_SIDE, 1.6 + 0.45 * len(names)))
    figure.legend(loc="outside upper left", ncols=len(rows), fontsize=9, frameon=False)
    return figure


def _gains(student: Row, teacher: Row) -> dict[str, float]:
    """Return the student's IoU of each class minus the teacher's, in points, where both are known."""
    pairs = {name: (student.class_iou[name], value) for name, value in teacher.class_iou.items()}
    return {name: 100 * (a - b) for name, (a, b) in pairs.items() if a is not None and b is not None}


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
    """Plot losses over the steps above, and scores below; long curves as running medians before their values."""
    figure = Figure(figsize=(SIZE[0], 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, curves, unit in ((upper, losses, "loss"), (lower, scores, "mean IoU, %")):
        for index, (name, (steps, values)) in enumerate(curves.items()):
            style, long = series_style(index), len(steps) >= MIN_SMOOTHED
            if long:
                axes.plot(steps, values, color=style["color"], linewidth=0.6, alpha=0.3)
                values = median_filter(np.asarray(values), WINDOW, mode="reflect")
            marker = "" if long else "o" if len(steps) > 1 else "*"
            axes.plot(
                steps, values, **style, label=name, linewidth=1.8, marker=marker, markersize=4 if len(steps) > 1 else 11
            )
        axes.set_ylabel(unit)
        axes.grid(visible=True, alpha=0.25)
        if curves:
            axes.legend(fontsize=9, frameon=False)
    upper.set_yscale("log")
    upper.yaxis.set_major_formatter("{x:g}")
    upper.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    upper.yaxis.set_minor_formatter("{x:g}")
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
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    axes.set_title(f"{title}\n% of each true class", fontsize=10)
    return figure


def save_figure(figure: Figure, file: Path | TextIO, form: str) -> None:
    """Write a figure as "png", "svg" or "pdf"; text of an SVG stays text, and the same figure gives the same file."""
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(file, format=form, dpi=DPI, metadata={NO_DATE[form]: None} if form in NO_DATE else None)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.subplots()
