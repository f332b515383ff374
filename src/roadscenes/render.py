"""Rendering of one scene: sample it, paint it from far to near, take the photo.

Labels: `car` is every motor vehicle with its wheels but not its shadow, `signal` the housings of traffic lights but
not their posts, `pedestrian` a person with what they carry, and `lane` the lines painted along the road. Crosswalks,
stop lines, arrows, speed numbers and kerbs are look-alike background, and so are posters, statues, shop signs and the
bonnet of the ego vehicle. Paint that has worn off entirely is not labelled as a lane.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roadscenes.buildings import draw_building
from roadscenes.camera import Camera, make_camera
from roadscenes.canvas import Canvas
from roadscenes.conditions import MIN_CLARITY, Conditions, make_conditions
from roadscenes.ground import Ground
from roadscenes.item import Item
from roadscenes.layout import make_layout
from roadscenes.lookalikes import draw_billboard, draw_bonnet, draw_statue
from roadscenes.markings import paint_lane_lines, paint_other_marks
from roadscenes.people import draw_pedestrian
from roadscenes.road import make_road
from roadscenes.sensor import develop
from roadscenes.shadows import draw_shadows
from roadscenes.signals import draw_signal
from roadscenes.sky import paint_sky
from roadscenes.street import draw_box, draw_post, draw_tree
from roadscenes.vehicles import draw_vehicle
from roadscenes.vocabulary import BACKGROUND, LANE
from roadscenes.weather import add_glare, add_glow, add_rain

_DRAW: dict[str, Callable[[Canvas, Item, random.Random], None]] = {
    "vehicle": draw_vehicle,
    "pedestrian": draw_pedestrian,
    "signal": draw_signal,
    "building": draw_building,
    "tree": draw_tree,
    "post": draw_post,
    "billboard": draw_billboard,
    "statue": draw_statue,
    "box": draw_box,
}
_LABELLED = ("vehicle", "pedestrian", "signal")
_MIN_PIXELS = 8.0  # labelled objects smaller than this many pixels of the mask are not drawn
_FIELD = 0.62  # half the width of the frame, as a share of it, with a margin for the yaw of the camera
_LAMP_REACH = 70.0  # metres beyond which the light of street lamps is too small to see
_SUPERSAMPLING = 2
_BONNET_SHARE = 0.35
_BARE_GROUND = LANE + 1  # mask value of uncovered ground while a scene is painted; background in the end


def render_scene(
    seed: int, split: str, index: int, size: tuple[int, int] = (269, 484)
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render one scene, which depends only on seed, split and index.

    Args:
        seed: Non-negative seed of the dataset.
        split: Name of the split.
        index: Index of the scene within its split.
        size: Height and width in pixels; a scene has the same content at every size.

    Returns:
        Image, uint8 RGB [H, W, 3], and class ids, uint8 [H, W].
    """
    root = np.random.SeedSequence([seed, zlib.crc32(split.encode()), index])
    rng = random.Random(int(root.generate_state(1, np.uint64)[0]))
    camera, conditions, road = make_camera(rng, size), make_conditions(rng), make_road(rng)
    items = make_layout(road, rng)
    ground = Ground(camera, road, conditions, rng.uniform(0, 500))
    ground.paint_surfaces(rng)
    paint_lane_lines(ground, rng)
    paint_other_marks(ground, rng)
    backdrop, labels = _backdrop(camera, conditions, ground, items, rng)
    canvas = Canvas(camera.scaled(_SUPERSAMPLING), conditions, _enlarged(backdrop), _enlarged(labels))
    drawn = [item for item in items if _is_drawn(item, camera, conditions)]
    for item in sorted(drawn, key=lambda item: -item.depth):
        _DRAW[item.kind](canvas, item, random.Random(item.seed))
    if rng.random() < _BONNET_SHARE:
        draw_bonnet(canvas, rng)
    image = np.array(canvas.image.reduce(_SUPERSAMPLING), dtype=np.float32)
    mask = np.array(canvas.mask)[1::_SUPERSAMPLING, 1::_SUPERSAMPLING]
    if conditions.dark:
        add_glow(image, canvas.glow, canvas.streaks, (mask == LANE) | (mask == _BARE_GROUND))
    if conditions.glare:
        add_glare(image, camera, conditions)
    if conditions.wet:
        add_rain(image, rng)
    photo = develop(image, conditions, np.random.default_rng(root.spawn(1)[0]))
    return photo, np.where(mask == _BARE_GROUND, np.uint8(BACKGROUND), mask)


def _backdrop(
    camera: Camera, conditions: Conditions, ground: Ground, items: list[Item], rng: random.Random
) -> tuple[Image.Image, Image.Image]:
    """Return image and mask of sky and ground, before any object is drawn."""
    ridge = rng.choice((0.0, rng.uniform(0.02, 0.16)))
    below = ground.top + int((~ground.seen).any(axis=1).sum())  # rows that show any sky
    planes = np.empty((3, *camera.size), dtype=np.float32)
    planes[:, :below] = paint_sky(camera, conditions, slice(0, below), rng.uniform(0, 6), ridge)
    lamps: list[tuple[float, float]] = []
    if conditions.time != "day":
        lamps = [(item.x + item.size[0], item.z) for item in items if item.variant == "lamp" and item.z < _LAMP_REACH]
    lit = ground.lit(draw_shadows(camera, conditions, items), lamps)
    np.copyto(planes[:, ground.top :], lit, where=ground.seen)
    mask = np.zeros(camera.size, dtype=np.uint8)
    mask[ground.top :] = np.where(ground.lane, LANE, ground.seen * _BARE_GROUND)
    pixels = np.clip(planes, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(pixels)), Image.fromarray(mask)


def _enlarged(layer: Image.Image) -> Image.Image:
    """Return a layer at the resolution in which objects are drawn."""
    size = (layer.width * _SUPERSAMPLING, layer.height * _SUPERSAMPLING)
    return layer.resize(size, Image.Resampling.NEAREST)


def _is_drawn(item: Item, camera: Camera, conditions: Conditions) -> bool:
    """Return whether an object is in view, visible through the air and, if it is labelled, large enough."""
    reach = max(item.size)
    if item.z < -reach or abs(item.x) > reach + (item.z + reach) * _FIELD * camera.size[1] / camera.focal:
        return False
    if conditions.clarity_at(item.depth) < MIN_CLARITY:
        return False
    if item.kind not in _LABELLED:
        return True
    wide, tall, _ = item.size
    if item.kind == "signal":  # its width is that of one lamp
        wide, tall = 1.2 * wide, 3.3 * wide
    return wide * tall * (camera.focal / max(1.0, item.z)) ** 2 >= _MIN_PIXELS
