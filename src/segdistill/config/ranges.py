"""Range checks of single values."""

from __future__ import annotations

from typing import Any

from segdistill.utils.errors import ConfigError


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Check a value.

    Raises:
        ConfigError: Names key, value and what is allowed.
    """
    if not condition:
        raise ConfigError(key, value, allowed)


MIN_SIDE = 16  # of an image, in pixels


def require_size(key: str, size: list[int]) -> None:
    """Check that a value is [height, width]."""
    valid = len(size) == 2 and min(size) >= MIN_SIDE
    require(valid, key, size, f"must be [height, width], each at least {MIN_SIDE}")


def is_number(value: object) -> bool:
    """Tell whether a value is a number; a bool is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def require_count(key: str, value: Any, least: int) -> None:
    """Check that a value is a whole number of at least `least`."""
    require(type(value) is int and value >= least, key, value, f"must be at least {least}, a whole number")


def require_temperature(key: str, temperature: Any) -> None:
    """Check the temperature of a softmax."""
    valid = is_number(temperature) and 0.1 <= temperature <= 100
    require(valid, key, temperature, "must be a number from 0.1 to 100")


def require_steps(key: str, steps: dict[str, Any]) -> None:
    """Check that every step of an augmentation names what is called."""
    for name, spec in steps.items():
        allowed = "needs a `_target_`, such as torchvision.transforms.v2.ColorJitter; ~ in front leaves a step out"
        require(isinstance(spec, dict) and "_target_" in spec, f"{key}.{name}", spec, allowed)
