"""Colours of figures and error panels: readers with deuteranopia or protanopia can tell them apart.

They are Okabe and Ito's ("Color Universal Design", 2008), with a darker vermillion, in which text can be read on white.
"""

from __future__ import annotations

SERIES = ("#0072b2", "#b84a00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#000000")
"""Colours of lines and bars, in the order in which they are taken; figures with more lines also vary their dashes."""

COLOURS = {"student": SERIES[0], "teacher": SERIES[1]}
SPLIT_COLOURS = {"train": SERIES[0], "val": SERIES[1], "test": SERIES[2]}
OTHER_COLOUR = "#555555"
DASHES = ("-", "--", ":", "-.")

MISSED, INVENTED, CONFUSED = (213, 94, 0), (86, 180, 233), (240, 228, 66)
"""(R, G, B) of the errors of a prediction, over an image that is grey and dark."""


def series_style(index: int) -> dict[str, str]:
    """Return colour and dashes of the line at an index, as keyword arguments of `Axes.plot`.

    Example:
        >>> series_style(0)
        {'color': '#0072b2', 'linestyle': '-'}
    """
    return {"color": SERIES[index % len(SERIES)], "linestyle": DASHES[index // len(SERIES) % len(DASHES)]}
