"""One thing of a scene: what it is and where it stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One thing of a scene.

    Attributes:
        kind: Which function draws it.
        x: Metres to the right of the camera.
        z: Metres ahead of it.
        heading: The turn of its own axes to the right, in radians.
        size: Width, height and length in metres; a post has its overhang, height and distance to the next,
            a billboard its width, height and height above ground, a signal its lamp unit, height and arm.
        seed: Of its looks, so that they do not depend on what else is drawn.
        depth: Orders the painting from far to near.
        variant: Which of its kind.
    """

    kind: str
    x: float
    z: float
    heading: float
    size: tuple[float, float, float]
    seed: int
    depth: float
    variant: str = ""

    @property
    def extent(self) -> tuple[float, float, float]:
        """Half the width, the height and half the length."""
        wide, tall, deep = self.size
        return wide / 2, tall, deep / 2
