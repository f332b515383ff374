"""Objects that stand and drive along a road, and their places."""

from __future__ import annotations

import math
import random

from roadscenes.item import Item
from roadscenes.road import Road
from roadscenes.vehicles import BODIES

_EMPTY_ROAD_SHARE = 0.07
_VEHICLE_WEIGHTS = {"sedan": 34, "hatch": 26, "suv": 18, "van": 12, "truck": 5, "bus": 3}
_BUILT_SHARE = {"town": 0.93, "suburb": 0.7, "country": 0.12}
_BOXES = (
    ("bin", (0.6, 1.1, 0.6)),
    ("column", (1.1, 3.0, 1.1)),
    ("container", (2.2, 1.6, 3.5)),
    ("container", (1.6, 1.3, 2.0)),
)
_FAR = {"parked": 75, "posts": 110, "backdrop": 120, "traffic": 130}  # metres beyond which none is placed


def make_layout(road: Road, rng: random.Random) -> list[Item]:
    """Sample all objects of a scene."""
    layout = _Layout(road, rng)
    for side in (-1, 1):
        layout.add_backdrop(side)
        layout.add_posts(side)
        layout.add_street_furniture(side)
        layout.add_railing(side)
        layout.add_people(side)
        layout.add_parked(side)
    if rng.random() > _EMPTY_ROAD_SHARE:
        layout.add_traffic()
    layout.add_signals()
    return layout.items


class _Layout:
    """Objects of a scene placed so far; `side` is -1 on the left of the road and 1 on the right."""

    def __init__(self, road: Road, rng: random.Random) -> None:
        self.road, self.rng = road, rng
        self.items: list[Item] = []

    def _add(
        self,
        kind: str,
        s: float,
        z: float,
        size: tuple[float, float, float],
        variant: str = "",
        turn: float = 0.0,
        nearer: float = 0.0,
    ) -> None:
        """Add an object at a road position.

        Args:
            kind: Kind of object.
            s: Lateral road coordinate in metres.
            z: Metres ahead of the camera.
            size: Size of the object, see `Item`.
            variant: Variant of the kind.
            turn: Rotation relative to the road, in radians to the right.
            nearer: Metres by which the object is painted as if it were closer.
        """
        x, heading = self.road.place(s, z)
        self.items.append(Item(kind, x, z, heading + turn, size, self.rng.getrandbits(32), z - nearer, variant))

    def add_backdrop(self, side: int) -> None:
        """Line one side of the road with buildings, hedges, fences and trees."""
        rng, junction, house = self.rng, self.road.junction, self.road.setting != "town"
        s, z = self.road.edge(side) + side * self.road.pavement, rng.uniform(-12, 4)
        while z < _FAR["backdrop"]:
            deep, wide = rng.uniform(8, 20), rng.uniform(8, 16)
            if junction is not None and self.road.blocked(z, deep + 2):
                z = junction.end + 2.5
            tall = rng.uniform(3.2, 6) if house else rng.uniform(6, 26)
            gap = 5 + rng.uniform(0, 4) if house else rng.uniform(0.1, 0.8)
            if rng.random() < _BUILT_SHARE[self.road.setting]:
                variant = "house" if house else rng.choice(("shop", "shop", "block"))
                middle, size = s + side * (gap + wide / 2), (wide, tall, deep)
                self._add("building", middle, z + deep / 2, size, variant, nearer=-deep / 2)
            else:
                for _ in range(2):
                    size = (rng.uniform(3.5, 7), rng.uniform(4, 11), 1.0)
                    self._add("tree", s + side * rng.uniform(2.5, 12), z + rng.uniform(0, deep), size)
            if house and rng.random() < 0.5:
                border, thick = rng.choice((("hedge", 0.5), ("fence", 0.06)))
                size = (thick, rng.uniform(0.8, 1.5), deep)
                self._add("box", s + side * 0.6, z + deep / 2, size, border, nearer=-deep / 2)
            z += deep + rng.uniform(0.3, 6)

    def _kerb(self, side: int) -> float:
        """Return the lateral position of posts and railings."""
        return self.road.edge(side) + side * 0.5

    def add_posts(self, side: int) -> None:
        """Add a row of street lamps or utility poles along one kerb."""
        rng = self.rng
        variant, z, spacing = rng.choice(("lamp", "utility")), rng.uniform(5, 25), rng.uniform(22, 34)
        while z < _FAR["posts"]:
            if not self.road.blocked(z, 1.0):
                self._add("post", self._kerb(side), z, (-side * 1.8, rng.uniform(6.5, 9), spacing), variant)
            z += spacing

    def add_street_furniture(self, side: int) -> None:
        """Add signs, bins, trees and look-alikes along one kerb."""
        rng, s = self.rng, self._kerb(side)
        for _ in range(rng.randint(3, 9)):
            z, kind = rng.uniform(6, 60), rng.random()
            if self.road.blocked(z, 1.5):
                continue
            if kind < 0.22:
                self._add("post", s, z, (0.0, rng.uniform(2.4, 3.6), 0.2), rng.choice(("sign", "board")))
            elif kind < 0.36:
                variant = rng.choice(("car", "person"))
                size = (rng.uniform(2.5, 5), rng.uniform(1.6, 2.6), rng.uniform(0.3, 3))
                self._add("billboard", s + side * 3.2, z, size, variant, rng.gauss(0, 0.2))
            elif kind < 0.5:
                self._add("statue", s + side * rng.uniform(0, 2), z, (0.6, rng.uniform(1.2, 2.2), 0.6))
            elif kind < 0.78:
                variant, size = rng.choice(_BOXES)
                self._add("box", s + side * rng.uniform(0.3, 2.5), z, size, variant)
            elif self.road.setting != "town" or kind > 0.88:
                size = (rng.uniform(2.5, 5), rng.uniform(4, 8), 1.0)
                self._add("tree", s + side * rng.uniform(0.5, 6), z, size)

    def add_railing(self, side: int) -> None:
        """Add a guard rail along country roads, and a railing along some others."""
        country = self.road.setting == "country"
        if country or self.rng.random() < 0.3:
            for step in range(2, 18):
                if not self.road.blocked(4.0 * step, 4.0):
                    size = (0.1, 0.8, 4.05)
                    self._add("box", self._kerb(side), 4.0 * step, size, "rail" if country else "railing", nearer=-2.0)

    def add_people(self, side: int) -> None:
        """Add single people and groups on one pavement, and some people on the crosswalk."""
        rng, road = self.rng, self.road
        groups = {"town": rng.randint(1, 6), "suburb": rng.randint(0, 4), "country": rng.randint(0, 1)}
        for _ in range(groups[road.setting]):
            z = 4.5 + 42 * rng.random() ** 1.5
            s = road.edge(side) + side * rng.uniform(0.3, max(0.8, road.pavement - 0.3))
            for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
                self._add_person(s + rng.gauss(0, 0.45), z + rng.gauss(0, 0.6))
        if road.junction is not None and rng.random() < 0.4:
            for _ in range(rng.randint(1, 4)):
                z = road.junction.start - rng.uniform(1, 3)
                self._add_person(rng.uniform(road.left, road.right), z)

    def _add_person(self, s: float, z: float) -> None:
        """Add an adult or, less often, a child."""
        tall = self.rng.choices((self.rng.gauss(1.7, 0.08), self.rng.uniform(1.05, 1.4)), (9, 1))[0]
        self._add("pedestrian", s, z, (0.55, tall, 0.4))

    def add_parked(self, side: int) -> None:
        """Park some vehicles along the kerb, or at an angle behind the pavement."""
        rng, edge = self.rng, self.road.edge(side)
        z, row = rng.uniform(6, 40), rng.random()
        if row < 0.3 and self.road.setting != "country":
            while z < _FAR["parked"] and not self.road.blocked(z + 2, 9.0):
                turn = rng.choice((0.0, math.pi)) + rng.gauss(0, 0.03)
                z += self._add_vehicle(edge + side * rng.uniform(0.1, 0.5), z, turn) + rng.uniform(0.8, 9)
        elif row < 0.5:
            turn = rng.choice((-1, 1)) * rng.uniform(0.6, 1.57)
            for step in range(rng.randint(1, 5)):
                if not self.road.blocked(z + 3 * step, 5.0):
                    self._add_vehicle(edge + side * (self.road.pavement + 3.2), z + 3.0 * step, turn)

    def add_traffic(self) -> None:
        """Fill the lanes with vehicles, and let some cross the junction."""
        rng = self.rng
        for lanes, turn in ((self.road.same, 0.0), (self.road.oncoming, math.pi)):
            for s in lanes:
                own = abs(s) < self.road.lane_width / 2
                z = rng.uniform(6, 38) if own else rng.uniform(-2, 36)
                while z < _FAR["traffic"]:
                    if not self.road.blocked(z + 3, 6.0):
                        z += self._add_vehicle(s + rng.gauss(0, 0.2), z, turn + rng.gauss(0, 0.015))
                    z += rng.uniform(3, 12) if rng.random() < 0.3 else rng.expovariate(1 / 30) + 4
        junction = self.road.junction
        if junction is not None and rng.random() < 0.4:
            for part, turn in ((0.25, math.pi / 2), (0.7, -math.pi / 2)):
                if rng.random() < 0.6:
                    self._add_vehicle(rng.uniform(-14, 14), junction.start + part * junction.width, turn)

    def _add_vehicle(self, s: float, z: float, turn: float) -> float:
        """Add a vehicle whose near end is at `z`, and return its length in metres."""
        variant = self.rng.choices(tuple(_VEHICLE_WEIGHTS), tuple(_VEHICLE_WEIGHTS.values()))[0]
        body = BODIES[variant]
        spread = abs(body.length * math.cos(turn)) / 2 + abs(body.width * math.sin(turn)) / 2
        size = (body.width, body.height, body.length)
        self._add("vehicle", s, z + spread, size, variant, turn, nearer=spread)
        return body.length

    def add_signals(self) -> None:
        """Add traffic lights at the junction or, if there is none, sometimes over the road."""
        rng, junction = self.rng, self.road.junction
        if junction is None:
            if rng.random() < 0.35:
                side = rng.choice((-1, 1))
                self._add_signal(side, rng.uniform(14, 60), -side * rng.uniform(3, 8), 0.0, level=True)
        elif rng.random() < 0.9:
            level = rng.random() < 0.5
            for side in (-1, 1):
                for z in (junction.start - 4.2, junction.end + 4.2):
                    if rng.random() < 0.75:
                        arm = -side * rng.choice((0.0, rng.uniform(2.5, 7.5)))
                        turn = rng.choice((0.0, 0.0, 0.0, math.pi, 1.4, -1.4)) + rng.gauss(0, 0.06)
                        self._add_signal(side, z, arm, turn, level=level)

    def _add_signal(self, side: int, z: float, arm: float, turn: float, *, level: bool) -> None:
        """Add one post with traffic lights; on an arm, their lamps are side by side if `level`."""
        high = self.rng.uniform(4.6, 5.8) if arm else self.rng.uniform(2.7, 4.0)
        arm = arm if abs(turn) < 1 else 0.0
        unit, variant = self.rng.uniform(0.33, 0.46), "horizontal" if level and arm else "vertical"
        self._add("signal", self.road.edge(side) + side * 0.6, z, (unit, high, arm), variant, turn)
