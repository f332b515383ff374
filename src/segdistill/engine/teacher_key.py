"""What a trained teacher depends on: the key under which it is cached."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from segdistill.config.schema import Config
from segdistill.utils.code import code_digest

TEACHER_CODE = (
    "data",
    "losses",
    "models",
    "tasks",
    "engine/trainer.py",
    "callbacks/epoch_seed.py",
    "utils/image.py",
    "utils/interpolate.py",
    "utils/preprocessing.py",
)
"""Code that a trained teacher depends on, besides its settings."""


def teacher_key(config: Config, fingerprint: str) -> dict[str, Any]:
    """Return everything that shapes the teacher that a configuration trains.

    Args:
        config: Checked configuration.
        fingerprint: Fingerprint of the data that it is trained on.
    """
    return {
        "network": config.teacher.network,
        "fit": asdict(config.teacher.fit),
        "training": asdict(config.teacher.training),
        "trainer": config.trainer.shaping,
        "seed": config.teacher.seed,
        "data": fingerprint,
        "preprocessing": asdict(config.data.preprocessing),
        "draft": config.data.draft,
        "eval_tile": [config.data.eval_tile, config.data.eval_overlap],
        "code": code_digest(*(f"segdistill/{place}" for place in TEACHER_CODE)),
    }
