"""Colours of figures and error panels: readers with deuteranopia or protanopia can tell them apart.

They are Okabe and Ito's ("Color Universal Design", 2008), with a darker vermillion, in which text can be read on white.
"""

from __future__ import annotations

from matplotlib.colors import to_rgb

SERIES = ("#0072b2", "#b84a00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#000000")
"""Colours of lines and bars, in the order in which they are taken; figures with more lines also vary their dashes."""

COLOURS = {"student": SERIES[0], "teacher": SERIES[1]}
SPLIT_COLOURS = {"train": SERIES[0], "val": SERIES[1], "test": SERIES[2]}
OTHER_COLOUR = "#555555"
DASHES = ("-", "--", ":", "-.")

MISSED, INVENTED, CONFUSED = (213, 94, 0), (86, 180, 233), (240, 228, 66)
"""(R, G, B) of the errors of a prediction, over an image that is grey and dark."""


READABLE = 4.5  # contrast on white that WCAG 2.1 asks of text


def readable(colour: str) -> tuple[float, float, float]:
    """Return a colour, or as dark a shade of it as text on white needs, as (R, G, B) in [0, 1].

    Example:
        >>> readable("#000000")
        (0.0, 0.0, 0.0)
    """
    red, green, blue = to_rgb(colour)
    while 1.05 / (_luminance(red, green, blue) + 0.05) < READABLE:
        red, green, blue = 0.97 * red, 0.97 * green, 0.97 * blue
    return red, green, blue


def _luminance(*levels: float) -> float:
    """Return the relative luminance of an sRGB colour, red, green and blue in [0, 1]."""
    linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
    return sum(weight * level for weight, level in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def series_style(index: int) -> dict[str, str]:
    """Return colour and dashes of the line at an index, as keyword arguments of `Axes.plot`.

    Example:
        >>> series_style(0)
        {'color': '#0072b2', 'linestyle': '-'}
    """
    return {"color": SERIES[index % len(SERIES)], "linestyle": DASHES[index // len(SERIES) % len(DASHES)]}
