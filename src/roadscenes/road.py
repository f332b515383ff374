"""Course of a road, its lanes and its painted lines."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass

from roadscenes.vocabulary import RGB

_SETTINGS = {"town": 0.5, "suburb": 0.32, "country": 0.18}  # settings and their shares
_JUNCTION_SHARE = {"town": 0.75, "suburb": 0.55, "country": 0.1}
_EDGE_LINE_SHARE = 0.78
_UNMARKED_SHARE = 0.05


@dataclass(frozen=True)
class Line:
    """Line painted along the road at lateral position `s`, in metres.

    `dash` is (painted length, period), or None for a solid line; `wear` is 0 for fresh paint.
    """

    s: float
    width: float
    colour: RGB
    dash: tuple[float, float] | None
    wear: float


@dataclass(frozen=True)
class Junction:
    """Crossing road: the distance of its near kerb and its width, in metres."""

    start: float
    width: float

    @property
    def end(self) -> float:
        """Distance of the far kerb, in metres."""
        return self.start + self.width


@dataclass(frozen=True)
class Road:
    """Road in lateral coordinates `s` around the camera, bent to x = s + bend * z^2 / 2, in metres."""

    setting: str  # town, suburb or country
    left: float  # lateral positions of the edges
    right: float
    oncoming: tuple[float, ...]  # lane centres
    same: tuple[float, ...]  # lane centres of the ego direction
    lane_width: float
    bend: float
    pavement: float  # width, 0 if there is none
    junction: Junction | None
    lines: tuple[Line, ...]

    def place(self, s: float, z: float) -> tuple[float, float]:
        """Return the world x of a road position, and the heading of the road there in radians."""
        return s + self.bend * z * z / 2, math.atan(self.bend * z)

    def edge(self, side: int) -> float:
        """Return the lateral position of the left (-1) or right (1) edge."""
        return self.left if side < 0 else self.right

    def blocked(self, z: float, margin: float = 0.0) -> bool:
        """Return whether a position along the road lies in the junction, or within `margin` metres of it."""
        crossing = self.junction
        return crossing is not None and -margin < z - crossing.start < crossing.width + margin


def make_road(rng: random.Random) -> Road:
    """Sample the course of the road, its lanes and its painted lines."""
    setting = rng.choices(tuple(_SETTINGS), tuple(_SETTINGS.values()))[0]
    lane = rng.uniform(2.9, 3.6)
    ahead, against = rng.choice(((1, 1), (1, 1), (2, 2), (2, 1), (2, 0), (3, 0), (3, 3), (1, 2)))
    drive = rng.choice((-1, 1))  # side of the road on which traffic drives
    ego = rng.randrange(ahead)
    centre = -drive * (ego + 0.5) * lane + rng.gauss(0.0, 0.25)  # between the directions, seen from the camera
    same = tuple(centre + drive * (k + 0.5) * lane for k in range(ahead))
    oncoming = tuple(centre - drive * (k + 0.5) * lane for k in range(against))
    inner = centre - drive * against * lane
    outer = centre + drive * ahead * lane
    shoulder = rng.uniform(0.3, 1.0) if setting == "town" else rng.uniform(0.3, 2.2)
    bend = rng.choice((0.0, rng.uniform(-1, 1))) / rng.uniform(110, 400)
    distance = rng.uniform(11, 42) if rng.random() < _JUNCTION_SHARE[setting] else None
    left, right = sorted((inner - drive * shoulder, outer + drive * shoulder))
    pavement = {"town": rng.uniform(2.4, 4.5), "suburb": rng.uniform(1.4, 2.5), "country": 0.0}[setting]
    crossing = rng.uniform(7, 13)
    return Road(
        setting=setting,
        left=left,
        right=right,
        oncoming=oncoming,
        same=same,
        lane_width=lane,
        bend=bend,
        pavement=pavement,
        junction=None if distance is None else Junction(distance, crossing),
        lines=_make_lines(rng, [*oncoming[::-1], *same], centre, lane, both_ways=against > 0),
    )


def _make_lines(
    rng: random.Random, lanes: list[float], centre: float, lane_width: float, *, both_ways: bool
) -> tuple[Line, ...]:
    """Sample the lines between and beside lanes; if `both_ways`, those at `centre` separate the directions."""
    if rng.random() < _UNMARKED_SHARE:
        return ()
    white, yellow = (rng.uniform(205, 240),) * 3, (232.0, 176.0, 48.0)
    wear, width = rng.uniform(0.1, 0.95), rng.uniform(0.12, 0.2)
    dash = rng.choice(((5.0, 10.0), (6.0, 15.0), (3.0, 9.0), (4.0, 8.0)))
    between = [(a + b) / 2 for a, b in itertools.pairwise(lanes)]
    lines = [Line(s, width, white, dash, wear) for s in between if not both_ways or abs(s - centre) > 1]
    if both_ways:
        tint, middle = rng.choice((white, yellow)), rng.choice(("solid", "double", "dashed"))
        for shift in (-0.14, 0.14) if middle == "double" else (0.0,):
            lines.append(Line(centre + shift, width, tint, dash if middle == "dashed" else None, wear))
    for edge in (min(lanes) - lane_width / 2, max(lanes) + lane_width / 2):
        if rng.random() < _EDGE_LINE_SHARE:
            lines.append(Line(edge, width, white, None, wear * rng.uniform(0.6, 1.2)))
    return tuple(lines)
