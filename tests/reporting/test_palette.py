"""Colours of figures under simulated colour blindness."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from segdistill.reporting.palette import COLOURS, CONFUSED, INVENTED, MISSED, OTHER_COLOUR, SERIES, SPLIT_COLOURS

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009,
# severity 1.0, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(colour: tuple[float, ...]) -> np.ndarray:
    levels = np.array(colour)
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def lab(colour: tuple[float, ...], vision: np.ndarray) -> np.ndarray:
    """CIELAB of an sRGB colour in [0, 1] as it is seen."""
    x, y, z = np.cbrt(TO_XYZ @ np.clip(vision @ linear(colour), 0, 1) / WHITE)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def least_distance(colours: list[tuple[float, ...]], vision: np.ndarray) -> float:
    return min(float(np.linalg.norm(lab(a, vision) - lab(b, vision))) for a, b in combinations(colours, 2))


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(
    ("colours", "least"),  # in CIELAB, where about 2 can just be told apart side by side
    [
        pytest.param([to_rgb(colour) for colour in COLOURS.values()], 60, id="networks"),
        pytest.param([to_rgb(colour) for colour in [*COLOURS.values(), OTHER_COLOUR]], 30, id="networks and others"),
        pytest.param([to_rgb(colour) for colour in SPLIT_COLOURS.values()], 30, id="splits"),
        pytest.param([to_rgb(colour) for colour in SERIES], 15, id="lines"),
        pytest.param(
            [
                tuple(level / 255 for level in colour)
                for colour in (MISSED, INVENTED, CONFUSED, (35, 35, 35), (124,) * 3)
            ],
            30,
            id="errors, and the greys of the image below",
        ),
    ],
)
def test_colours_can_be_told_apart(colours: list[tuple[float, ...]], least: float, vision: str) -> None:
    assert least_distance(colours, VISION[vision]) >= least


def test_names_in_the_colour_of_their_network_can_be_read_on_white() -> None:
    for colour in (*COLOURS.values(), OTHER_COLOUR):
        luminance = float(linear(to_rgb(colour)) @ TO_XYZ[1])
        assert 1.05 / (luminance + 0.05) >= 4.5  # WCAG 2.1, AA
