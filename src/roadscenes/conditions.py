"""Time of day, weather and the resulting light."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np

from roadscenes.vocabulary import RGB, FloatArray

MIN_CLARITY = 0.07  # share of contrast; where the air leaves less, nothing is drawn or labelled
_LONGEST_SHADOW = 2.5  # metres of shadow per metre of height

_SKIES: dict[str, tuple[RGB, RGB, RGB]] = {  # colours of zenith and horizon, and light on objects
    "clear": ((88, 138, 205), (188, 208, 228), (1.0, 0.99, 0.96)),
    "overcast": ((158, 164, 174), (203, 206, 210), (0.8, 0.81, 0.83)),
    "rain": ((112, 118, 126), (160, 165, 170), (0.6, 0.62, 0.65)),
    "fog": ((178, 181, 185), (190, 192, 194), (0.75, 0.76, 0.77)),
    "dusk": ((62, 70, 116), (226, 152, 108), (0.5, 0.43, 0.45)),
    "night": ((7, 9, 18), (27, 26, 34), (0.15, 0.16, 0.21)),
}
_VISIBILITY = {"clear": (350.0, 900.0), "overcast": (250.0, 600.0), "rain": (80.0, 200.0), "fog": (28.0, 75.0)}


@dataclass(frozen=True)
class Conditions:
    """Time of day, weather and the resulting light."""

    time: str  # day, dusk or night
    weather: str  # clear, overcast, rain or fog
    zenith: RGB
    haze: RGB
    light: RGB
    visibility: float  # metres after which a contrast has fallen to 1/e
    shadow: tuple[float, float]  # ground displacement (x, z) of a shadow per metre of height
    shadow_depth: float
    sun: tuple[float, float, float]  # unit vector towards the sun
    glare: float
    beam: float  # brightness of the ego vehicle's headlights

    @property
    def dark(self) -> bool:
        """Whether lamps are on: at dusk and night, in rain and in fog."""
        return self.time != "day" or self.weather in ("rain", "fog")

    @property
    def wet(self) -> bool:
        """Whether the road is wet."""
        return self.weather == "rain"

    def headlight(self, x: FloatArray, z: FloatArray) -> FloatArray:
        """Return the light of the ego vehicle's headlights at points on the ground, as float32."""
        spread = np.clip(1.2 - np.abs(x) / (2.5 + 0.4 * z), 0.0, 1.0)
        return np.asarray(self.beam * spread * np.exp(-((z - 9.0) ** 2) / 500.0), dtype=np.float32)

    def clarity(self, distance: FloatArray) -> FloatArray:
        """Return the share of contrast that the air leaves at each distance in metres, as float32."""
        return np.asarray(np.exp(-distance / self.visibility), dtype=np.float32)

    def clarity_at(self, distance: float) -> float:
        """Return the share of contrast that the air leaves at a single distance in metres."""
        return math.exp(-distance / self.visibility)


def make_conditions(rng: random.Random) -> Conditions:
    """Sample time of day, weather and sun."""
    time = rng.choices(("day", "dusk", "night"), (0.54, 0.18, 0.28))[0]
    weather = rng.choices(("clear", "overcast", "rain", "fog"), (0.46, 0.22, 0.22, 0.10))[0]
    zenith, haze, light = _SKIES[weather if time == "day" else time]
    if time != "day" and weather != "clear":  # clouds take the colour out of the horizon
        haze = (0.7 * haze[0] + 14, 0.7 * haze[1] + 14, 0.7 * haze[2] + 14)
    gain = rng.uniform(0.85, 1.12)
    sunny = weather == "clear" and time != "night"
    low = sunny and rng.random() < 0.3
    azimuth = rng.gauss(0.0, 0.3) if low else rng.uniform(-math.pi, math.pi)
    elevation = rng.uniform(0.07, 0.25) if low else rng.uniform(0.35, 1.1)
    east, ahead, level = math.sin(azimuth), math.cos(azimuth), math.cos(elevation)
    reach = min(_LONGEST_SHADOW, 1 / math.tan(elevation))
    return Conditions(
        time=time,
        weather=weather,
        zenith=zenith,
        haze=haze,
        light=(light[0] * gain, light[1] * gain, light[2] * gain),
        visibility=rng.uniform(*_VISIBILITY[weather]),
        shadow=(-east * reach, -ahead * reach),
        shadow_depth=sunny * (rng.uniform(0.35, 0.62) if time == "day" else 0.25),
        sun=(east * level, math.sin(elevation), ahead * level),
        glare=low * rng.uniform(0.5, 1.0),
        beam={"day": 0.0, "dusk": 0.15, "night": rng.uniform(0.4, 0.75)}[time],
    )
