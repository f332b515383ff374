"""Camera, light, weather and sensor of a rendered road scene."""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

FloatArray = NDArray[np.floating[Any]]
RGB = tuple[float, float, float]

REFERENCE_WIDTH = 484  # blur radii, streaks and drops are given in pixels at this width
HORIZON_DISTANCE = 600.0  # ground beyond this distance in metres is drawn at this distance
_NOISE_SIZE = 512
_HILL_DISTANCE = 150.0  # metres of air in front of the hills, short enough to see them on clear days
_LONGEST_SHADOW = 2.5  # metres of shadow per metre of height
_STEADY_SHARE = 0.7  # of the scenes have no motion blur
_NIGHT_NOISE = {"day": 0.0, "dusk": 2.0, "night": 4.0}


def _noise_tile() -> FloatArray:
    """Return a tileable fractal noise in [0, 1], the same in every process."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.fftfreq(_NOISE_SIZE, 1 / _NOISE_SIZE)
    radius = np.hypot(spectrum[:, None], spectrum[None, :])
    radius[0, 0] = np.inf
    wave = np.fft.fft2(rng.standard_normal((_NOISE_SIZE, _NOISE_SIZE))) / np.maximum(radius, 4.0) ** 1.3
    field = np.real(np.fft.ifft2(wave))
    ranks = np.clip(0.5 + field / (5.0 * field.std()), 0.0, 1.0)
    return np.asarray(ranks, dtype=np.float32)


NOISE = _noise_tile()


def sample_noise(x: FloatArray, y: FloatArray, texel: float) -> FloatArray:
    """Look the noise tile up at world positions, `texel` metres to a texel."""
    columns = (x / texel).astype(np.int32) & (_NOISE_SIZE - 1)
    rows = (y / texel).astype(np.int32) & (_NOISE_SIZE - 1)
    return np.asarray(NOISE.ravel()[rows * _NOISE_SIZE + columns])


@dataclass(frozen=True)
class Camera:
    """Pinhole camera above the ground plane; x points right, y up and z ahead, in metres."""

    size: tuple[int, int]
    focal: float
    height: float
    rotation: FloatArray  # rows: right, up and forward of the camera in world axes

    def scaled(self, factor: int) -> Camera:
        """Return the same camera with `factor` times as many pixels along each side."""
        height, width = self.size
        return Camera((height * factor, width * factor), self.focal * factor, self.height, self.rotation)

    def rays(self, rows: slice = slice(None)) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the viewing direction through the centre of the pixels of some rows, in world axes."""
        height, width = self.size
        right = ((np.arange(width, dtype=np.float32) + 0.5 - width / 2) / self.focal)[None, :]
        up = ((height / 2 - 0.5 - np.arange(height, dtype=np.float32)[rows]) / self.focal)[:, None]
        r = self.rotation
        x, y, z = (right * r[0, axis] + up * r[1, axis] + r[2, axis] for axis in range(3))
        return x, y, z


def make_camera(rng: random.Random, size: tuple[int, int]) -> Camera:
    """Draw a windscreen-mounted camera with a slightly wrong yaw, pitch and roll."""
    yaw, pitch, roll = rng.gauss(0.0, 0.035), rng.uniform(-0.075, 0.015), rng.gauss(0.0, 0.012)
    sy, cy, sp, cp, sr, cr = (f(a) for a in (yaw, pitch, roll) for f in (math.sin, math.cos))
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    tilt = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    bank = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    rotation = (bank @ tilt @ turn).astype(np.float32)
    return Camera(size, rng.uniform(0.74, 1.08) * size[1], rng.uniform(1.2, 1.9), rotation)


@dataclass(frozen=True)
class Conditions:
    """Time of day, weather and the light they make."""

    time: str
    weather: str
    zenith: RGB
    haze: RGB
    light: RGB
    visibility: float  # metres after which a contrast has fallen to 1/e
    shadow: tuple[float, float]  # ground displacement (x, z) of a shadow per metre of height
    shadow_depth: float
    sun: tuple[float, float, float]  # direction towards the sun
    glare: float
    beam: float  # strength of the own headlights

    @property
    def dark(self) -> bool:
        """Whether lamps are switched on."""
        return self.time != "day" or self.weather in ("rain", "fog")

    @property
    def wet(self) -> bool:
        """Whether the road is wet."""
        return self.weather == "rain"

    def headlight(self, x: FloatArray, z: FloatArray) -> FloatArray:
        """Return the light of the own headlights at places on the ground."""
        spread = np.clip(1.2 - np.abs(x) / (2.5 + 0.4 * z), 0.0, 1.0)
        return np.asarray(self.beam * spread * np.exp(-((z - 9.0) ** 2) / 500.0), dtype=np.float32)

    def clarity(self, distance: FloatArray) -> FloatArray:
        """Return the share of contrast the air leaves at a distance."""
        return np.asarray(np.exp(-distance / self.visibility), dtype=np.float32)


_SKIES: dict[str, tuple[RGB, RGB, RGB]] = {  # zenith, horizon and light on things
    "clear": ((88, 138, 205), (188, 208, 228), (1.0, 0.99, 0.96)),
    "overcast": ((158, 164, 174), (203, 206, 210), (0.8, 0.81, 0.83)),
    "rain": ((112, 118, 126), (160, 165, 170), (0.6, 0.62, 0.65)),
    "fog": ((178, 181, 185), (190, 192, 194), (0.75, 0.76, 0.77)),
    "dusk": ((62, 70, 116), (226, 152, 108), (0.5, 0.43, 0.45)),
    "night": ((7, 9, 18), (27, 26, 34), (0.15, 0.16, 0.21)),
}
_VISIBILITY = {
    "clear": (350.0, 900.0),
    "overcast": (250.0, 600.0),
    "rain": (80.0, 200.0),
    "fog": (28.0, 75.0),
}


def make_conditions(rng: random.Random) -> Conditions:
    """Draw time of day, weather and sun."""
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


def paint_sky(camera: Camera, conditions: Conditions, rows: slice, offset: float, ridge: float) -> FloatArray:
    """Return some rows of the sky, colour first: gradient, clouds, sun and a chain of hills `ridge` high."""
    x, y, z = camera.rays(rows)
    plane = np.maximum(y, 0.0) + 0.12  # clouds lie on a plane high above
    clouds = sample_noise(x / plane + offset, z / plane + offset, 0.012)
    cover = np.clip((clouds - (0.5 if conditions.weather == "clear" else 0.35)) * 3, 0.0, 0.8)
    cover *= np.clip(y * 8, 0.0, 1.0)
    blend = np.clip(y * 2.2, 0.0, 1.0) ** 0.7
    skyline = ridge * sample_noise(x / z + offset, 0 * z, 0.004)
    hills = np.clip((skyline - y) * camera.focal, 0.0, 1.0)
    hills *= math.exp(-_HILL_DISTANCE / conditions.visibility)
    shine = np.zeros_like(y)
    if conditions.glare:
        near = towards_sun(camera, conditions, rows)
        shine = 260 * near**900 + 110 * near**40
    sky = np.empty((3, *y.shape), dtype=np.float32)
    for channel, warmth in enumerate((1.0, 0.92, 0.75)):
        haze, light = conditions.haze[channel], conditions.light[channel]
        tone = haze + (conditions.zenith[channel] - haze) * blend
        tone += (0.6 * haze + 90 * light - tone) * cover
        sky[channel] = tone + ((62 + 12 * channel) * light + 0.2 * haze - tone) * hills + warmth * shine
    return sky


def towards_sun(camera: Camera, conditions: Conditions, rows: slice = slice(None)) -> FloatArray:
    """Return the cosine between viewing rays and the sun, not below zero."""
    x, y, z = camera.rays(rows)
    east, up, ahead = conditions.sun
    cosine = (x * east + y * up + z * ahead) / np.sqrt(x * x + y * y + z * z)
    return np.asarray(np.maximum(cosine, 0.0), dtype=np.float32)


def _resized(layer: Image.Image, image: FloatArray) -> FloatArray:
    """Return a layer as floats at the size of the image."""
    height, width = image.shape[:2]
    return np.asarray(layer.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def add_glow(image: FloatArray, glow: Image.Image, streaks: Image.Image, ground: NDArray[np.bool_]) -> None:
    """Add the bloom of lamps and, on wet ground, their reflections."""
    unit = glow.width / REFERENCE_WIDTH
    halo = glow.reduce(4).filter(ImageFilter.GaussianBlur(3.0 * unit)).resize(glow.size, Image.Resampling.BILINEAR)
    core = glow.filter(ImageFilter.GaussianBlur(2.5 * unit))
    image += 1.2 * _resized(ImageChops.add(core, halo), image)
    smear = _resized(streaks.filter(ImageFilter.GaussianBlur((1.2 * unit, 7 * unit))), image)
    image += 0.9 * smear * ground[..., None]


def add_glare(image: FloatArray, camera: Camera, conditions: Conditions) -> None:
    """Wash the frame out around a low sun."""
    veil = 0.62 * conditions.glare * towards_sun(camera, conditions) ** 9
    image += (np.array((255, 238, 205), dtype=np.float32) - image) * veil[..., None]


def add_rain(image: FloatArray, rng: random.Random) -> None:
    """Add falling streaks and refracting drops on the windscreen."""
    height, width = image.shape[:2]
    unit = width / REFERENCE_WIDTH
    layer = Image.new("L", (width, height))
    draw = ImageDraw.Draw(layer)
    slant = rng.uniform(-0.35, 0.35)
    for _ in range(rng.randint(60, 260)):
        x, y, length = rng.random() * width, rng.random() * height, rng.uniform(8, 30) * unit
        draw.line((x, y, x + slant * length, y + length), fill=rng.randint(50, 150))
    image += 0.3 * np.asarray(layer.filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float32)[..., None]
    for _ in range(rng.randint(6, 45)):
        _add_drop(image, rng.random(), rng.random(), max(2, round(rng.uniform(2.0, 8.0) * unit)))


def _add_drop(image: FloatArray, across: float, down: float, radius: int) -> None:
    """Replace a disc by its surroundings turned upside down, as a water drop shows them."""
    height, width = image.shape[:2]
    x, y = round(across * (width - 4 * radius)), round(down * (height - 4 * radius))
    wide = image[y : y + 4 * radius, x : x + 4 * radius]
    seen = wide[::-2, ::-2] * np.float32(0.85) + 10
    patch = wide[radius : 3 * radius, radius : 3 * radius]
    axis = (np.arange(2 * radius, dtype=np.float32) + 0.5) / radius - 1
    distance = np.hypot(axis[:, None], axis[None, :])
    patch += (seen - patch) * np.clip((1 - distance) * 2.2, 0.0, 0.85)[..., None]


def develop(image: FloatArray, conditions: Conditions, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn scene light into the picture of a cheap camera: lens, exposure, noise and compression."""
    height, width = image.shape[:2]
    unit = width / REFERENCE_WIDTH
    _, gamma, grain, blur, smear, quality = settings = rng.random(6).tolist()
    _soil(image, conditions, rng)
    _expose(image, settings[0], rng)
    curve = [round(255 * (level / 255) ** (0.8 + 0.4 * gamma)) for level in range(256)]
    photo = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).point(curve * 3)
    if smear > _STEADY_SHARE:  # motion blur of a shaking or turning camera
        reach = (0.6 + 1.2 * (smear - _STEADY_SHARE) / (1 - _STEADY_SHARE)) * unit
        photo = photo.filter(ImageFilter.BoxBlur((reach, 0.3 * unit)))
    photo = photo.filter(ImageFilter.GaussianBlur((0.25 + 0.9 * blur**3) * unit))
    sigma = np.float32(1.5 + 5.0 * grain + _NIGHT_NOISE[conditions.time])
    coarse = rng.standard_normal((-(-height // 2), -(-width // 2), 3), dtype=np.float32)  # chroma noise
    noise = (0.8 * sigma * coarse).repeat(2, 0).repeat(2, 1)[:height, :width].reshape(height, -1)
    noise += (sigma * rng.standard_normal((height, width), dtype=np.float32)).repeat(3, 1)
    noise += np.asarray(photo).reshape(height, -1)
    pixels = np.clip(noise, 0, 255).astype(np.uint8).reshape(height, width, 3)
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "JPEG", quality=int(32 + 60 * quality))
    return np.array(Image.open(stored), dtype=np.uint8)


def _frame(height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """Return the rows and columns of a frame as coordinates from -1 to 1."""
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    return rows, np.linspace(-1, 1, width, dtype=np.float32)[None, :]


def _soil(image: FloatArray, conditions: Conditions, rng: np.random.Generator) -> None:
    """Put dirt on some lenses, and the mirrored dashboard into some windscreens."""
    rows, columns = _frame(*image.shape[:2])
    kind, size = rng.random(2).tolist()
    if kind > 0.65:
        spots = sample_noise((columns + 2) + 0 * rows, (rows + 2) + 0 * columns, 0.004 + 0.02 * size)
        amount = np.clip(spots - 0.62, 0.0, 1.0)[..., None]
        image += amount * (0.6 * np.array(conditions.haze, dtype=np.float32) - 0.5 * image)
    elif kind < 0.25:
        image += np.clip(rows - 0.1, 0, 1)[..., None] * np.float32((10 + 160 * kind) * conditions.light[0])


def _expose(image: FloatArray, exposure: float, rng: np.random.Generator) -> None:
    """Apply vignetting, exposure and white balance."""
    height, width = image.shape[:2]
    rows, columns = _frame(height, width)
    lens = 1 - np.float32(0.05 + 0.3 * rng.random()) * (rows * rows + columns * columns) / 2
    balance = (0.72 + 0.55 * exposure) * (1 + 0.05 * rng.standard_normal(3, dtype=np.float32))
    image.reshape(height, -1)[:] *= lens.repeat(3, 1) * np.tile(balance.astype(np.float32), width)
