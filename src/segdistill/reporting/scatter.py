"""Speed against accuracy: points named in place, arrows to their INT8 form, and the Pareto line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from operator import mul

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axes._secondary_axes import SecondaryAxis
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from segdistill.reporting.label_placement import place_labels
from segdistill.reporting.palette import OTHER_COLOUR, readable

MARKERS = {"pytorch": "o", "onnxruntime": "s", "openvino": "D"}
FILLS = {"int8": "full", "fp16": "left"}  # float32 is hollow
MARKER_SIZE, FONT_SIZE = 8.0, 9.0  # points
MAX_BARE_GAP = 12.0  # points between a mark and its name that need no line
TALLEST, TALLER = 9.0, 0.8  # inches: a figure whose labels collide is drawn taller


@dataclass(frozen=True)
class Point:
    """One network in one engine.

    Attributes:
        latency: Position on the horizontal axis, above 0.
        accuracy: Position on the vertical axis.
        network: Network that it belongs to; arrows connect points of one network and runtime.
        engine: Runtime, and the precision after a dash, as in `results.Row`.
        name: Text beside the mark.
        colour: Colour of mark and text.
    """

    latency: float
    accuracy: float
    network: str
    engine: str
    name: str
    colour: str

    @property
    def runtime(self) -> str:
        """The engine without its precision."""
        return self.engine.partition("-")[0]

    @property
    def precision(self) -> str:
        """Precision, "fp32", "fp16" or "int8"; empty for an engine that has no choice of them."""
        return self.engine.partition("-")[2]


def pareto_front(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other one beats in both speed and accuracy, from the fastest to the slowest."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.latency, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def quantisations(points: Sequence[Point]) -> Iterator[tuple[Point, Point]]:
    """Yield each float32 point that has an INT8 one of the same network and runtime, with that."""
    for before, after in product(points, points):
        same = (before.network, before.runtime) == (after.network, after.runtime)
        if same and before.precision == "fp32" and after.precision == "int8":
            yield before, after


def speed_scatter(
    points: Sequence[Point], x_label: str, y_label: str, size: tuple[float, float], top: tuple[float, str] | None = None
) -> Figure:
    """Plot points over a logarithmic axis, each with its name beside it, arrows to INT8, and the Pareto line.

    Args:
        points: Points to plot; may be empty.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.
        size: Width and least height in inches; the figure grows until no names collide.
        top: Factor and label of a second horizontal axis above, whose values are the factor times the lower ones.
    """
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", xlabel=x_label, ylabel=y_label)
    for point in points:
        marker, fill = MARKERS.get(point.runtime, "^"), FILLS.get(point.precision, "none")
        (drawn,) = axes.plot(point.latency, point.accuracy, marker, color=point.colour, fillstyle=fill, zorder=3)
        drawn.set(markersize=MARKER_SIZE, markeredgewidth=1.6)
    axes.margins(0.2)
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # what follows does not move them
    axes.grid(visible=True, alpha=0.25)
    axes.yaxis.get_major_formatter().set_useOffset(False)  # type: ignore[attr-defined]
    _tick(axes)
    if top is not None:
        factor, label = top
        above = axes.secondary_xaxis("top", functions=(partial(mul, factor), partial(mul, 1 / factor)))
        above.set_xlabel(label)
        _tick(above)
    lines = [_draw_front(axes, points)] if points else []
    for before, after in quantisations(points):
        ends = (before.latency, before.accuracy), (after.latency, after.accuracy)
        arrow = {"arrowstyle": "-|>", "color": before.colour, "alpha": 0.6, "shrinkA": 6, "shrinkB": 6}
        axes.annotate("", ends[1], ends[0], arrowprops=arrow)
        lines.append(np.array(ends))
    _name(axes, points, lines)
    return figure


def _tick(axes: Axes | SecondaryAxis) -> None:
    """Have ticks at round numbers, closer together where the axis covers less than a decade."""
    low, high = axes.get_xlim()
    steps = (1, 1.5, 2, 3, 4, 5, 7) if high < 5 * low else (1, 2, 3, 5, 7) if high < 20 * low else (1, 2, 5)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")


def _draw_front(axes: Axes, points: Sequence[Point]) -> NDArray[np.float64]:
    """Draw the best accuracy that each time allows, and return the corners of the line, float64 [N, 2]."""
    front = pareto_front(points)
    x = [*(point.latency for point in front), axes.get_xlim()[1]]
    y = [*(point.accuracy for point in front), front[-1].accuracy]
    axes.step(x, y, where="post", color=OTHER_COLOUR, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    corners = np.repeat(np.array([x, y]).T, 2, axis=0)
    return np.column_stack([corners[1:, 0], corners[:-1, 1]])


def _name(axes: Axes, points: Sequence[Point], lines: Sequence[NDArray[np.float64]]) -> None:
    """Write the name of each point beside it, where it covers neither a mark nor another name."""
    figure = axes.figure.get_figure(root=True)
    while True:
        figure.draw_without_rendering()
        places, collides = _places(axes, points, lines)
        width, height = figure.get_size_inches()
        if not collides or height + TALLER > TALLEST:
            break
        figure.set_size_inches(width, height + TALLER)
    figure.set_layout_engine("none")  # names were placed in this layout
    for point, size, (right, up) in zip(points, _sizes(points), places, strict=True):
        gap = np.hypot(*np.maximum(np.abs([right, up]) - size / 2, 0))
        leader = {"arrowstyle": "-", "color": point.colour, "linewidth": 0.6, "alpha": 0.7, "shrinkB": MARKER_SIZE / 2}
        axes.annotate(
            point.name,
            (point.latency, point.accuracy),
            (right, up),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=FONT_SIZE,
            color=readable(point.colour),
            arrowprops=leader if gap > MAX_BARE_GAP else None,
        )


def _sizes(points: Sequence[Point]) -> NDArray[np.float64]:
    """Return width and height of each name in points, [P, 2]."""
    widths = [TextPath((0, 0), point.name, size=FONT_SIZE).get_extents().width for point in points]
    return np.array([(width, 1.2 * FONT_SIZE) for width in widths]).reshape(-1, 2)


def _places(
    axes: Axes, points: Sequence[Point], lines: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], bool]:
    """Return where the centre of each name lies from its mark, in points [P, 2], and whether some had to collide."""
    scale = 72 / axes.figure.get_figure(root=True).dpi  # a display pixel in points
    place = axes.transData.transform
    marks = scale * place(np.array([(point.latency, point.accuracy) for point in points]).reshape(-1, 2))
    frame = scale * axes.get_window_extent().get_points().ravel()
    segments = np.concatenate([np.empty((0, 4)), *(scale * _segments(place(line)) for line in lines)])
    centres, collides = place_labels(marks, MARKER_SIZE, _sizes(points), frame, segments)
    return centres - marks, collides


def _segments(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the segments, [N - 1, 4], of a line through N corners, [N, 2]."""
    return np.concatenate([corners[:-1], corners[1:]], axis=1)
