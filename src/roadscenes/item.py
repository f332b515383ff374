"""One object of a scene: its kind, place and size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One object of a scene.

    Attributes:
        kind: Kind of object, which selects the function that draws it.
        x: Metres to the right of the camera.
        z: Metres ahead of the camera.
        heading: Rotation of its local axes to the right, in radians.
        size: Width, height and length in metres; for a post its overhang, height and distance to the next post,
            for a billboard its width, height and height above ground, for a signal its lamp size, height and arm.
        seed: Seed of its appearance, which therefore does not depend on what else is drawn.
        depth: Distance in metres by which objects are painted from far to near.
        variant: Variant of the kind.
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
