"""Paints that several kinds of objects share, so that colour alone reveals no class."""

from __future__ import annotations

from roadscenes.vocabulary import RGB

CAR_PAINTS: tuple[RGB, ...] = (
    (232, 233, 235), (205, 207, 210), (150, 153, 158), (92, 95, 100), (38, 39, 43), (24, 26, 34),
    (158, 26, 30), (34, 62, 128), (70, 96, 140), (122, 98, 72), (36, 74, 52), (205, 160, 40),
    (214, 208, 190), (196, 92, 30),
)  # fmt: skip
WALL_PAINTS: tuple[RGB, ...] = (
    (176, 168, 156), (150, 140, 130), (196, 190, 180), (132, 92, 76), (160, 120, 96), (110, 114, 120),
    (208, 200, 178), (92, 88, 86), (150, 160, 168),
)  # fmt: skip
SIGN_PAINTS: tuple[RGB, ...] = (
    (196, 40, 40), (36, 90, 170), (240, 196, 40), (36, 130, 80), (238, 238, 232), (220, 110, 30), (120, 50, 120),
)  # fmt: skip
SIGNAL_LIGHTS: tuple[RGB, ...] = ((255, 40, 32), (255, 176, 30), (40, 240, 170))
GLASS: RGB = (46, 56, 66)
TYRE: RGB = (20, 20, 22)
