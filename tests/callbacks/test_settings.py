"""Settings of the callbacks that work at the end of a fit: a bad one is refused when they are built, before it."""

from __future__ import annotations

import pytest
from helpers.composed import parsed
from hydra.errors import InstantiationException

from segdistill.callbacks import Dashboard, Latency, Predictions
from segdistill.config.explain import explain
from segdistill.engine.builders import Builder
from segdistill.utils.hardware import cpu_count


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ("latency.batch_size=hot", "must be at least 1, a whole number"),
        ("latency.batch_size=0", "must be at least 1, a whole number"),
        ("latency.threads=-3", "must be null, for all cores, or at least 1"),
        ("latency.threads=0", "must be null, for all cores, or at least 1"),
        ("predictions.count=x", "must be at least 0, a whole number"),
        ("predictions.differing=-1", "must be at least 0, a whole number"),
        ("dashboard.count=2.5", "must be at least 0, a whole number"),
        ("quantize.images=2.5", "must be at least 1, a whole number"),
        ("quantize.limit=hot", "must be at least 0, a fraction of mean IoU"),
        ("quantize.aware_epochs=x", "must be at least 0, a whole number"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line_when_the_callbacks_are_built(setting: str, allowed: str) -> None:
    builder = Builder(parsed(f"callbacks.{setting}"))
    with pytest.raises(InstantiationException) as raised:
        builder.callbacks()
    assert explain(raised.value) == f"callbacks.{setting}: {allowed}"


def test_no_image_and_all_cores_are_settings() -> None:
    assert (Predictions(0, 0).count, Dashboard(0).count) == (0, 0)
    assert Latency(threads=None, batch_size=1).threads == cpu_count()
