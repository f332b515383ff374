"""Types, class ids and units that the whole renderer shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
RGB = tuple[float, float, float]  # 0 to 255, or factors on light

BACKGROUND, CAR, SIGNAL, PEDESTRIAN, LANE = range(5)

REFERENCE_WIDTH = 484  # image width in pixels for which blur radii, streaks and drops are given
