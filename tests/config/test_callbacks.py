"""Entries of `callbacks` that build nothing: refused where the command line sets them, tolerated in an experiment."""

from __future__ import annotations

import pytest
from helpers.composed import parsed

from segdistill.config.callbacks import built_callbacks, refuse_unused_callbacks
from segdistill.utils.errors import UserError

CHOOSE = "choose callbacks=default or callbacks=export"


@pytest.mark.parametrize(
    ("overrides", "name", "cure"),
    [
        (["+callbacks.quantise.limit=0.1"], "quantise", "did you mean callbacks.quantize?"),
        (["++callbacks.quantise.limit=0.1"], "quantise", "did you mean callbacks.quantize?"),
        (["+callbacks={quantise: {limit: 0.1}}"], "quantise", "did you mean callbacks.quantize?"),
        (["+callbacks.quantise=3"], "quantise", "did you mean callbacks.quantize?"),
        (["callbacks.latency=null"], "latency", CHOOSE),
        (["callbacks=none", "+callbacks.quantize.aware_epochs=3"], "quantize", CHOOSE),
        (["experiment=smoke", "callbacks=none", "callbacks.quantize.images=4"], "quantize", CHOOSE),
    ],
)
def test_an_override_of_an_entry_that_builds_nothing_is_refused(overrides: list[str], name: str, cure: str) -> None:
    callbacks = parsed(*overrides).callbacks
    assert name not in built_callbacks(callbacks)
    with pytest.raises(UserError) as caught:
        refuse_unused_callbacks(callbacks, overrides)
    reason = f"has no effect, because callbacks.{name} has no `_target_`; {cure} (~callbacks.{name} leaves it out)"
    assert str(caught.value) == f"{overrides[-1].lstrip('+')}: {reason}"


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=smoke", "callbacks=none"],
        ["experiment=smoke", "callbacks=none", "callbacks.quantize.images=4", "~callbacks.quantize"],
        ["callbacks=export", "callbacks.quantize.limit=0.1", "~callbacks.onnx_export", "seed=3"],
        ["+callbacks.stop={_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/miou}"],
    ],
)
def test_what_an_experiment_brings_or_an_override_leaves_out_is_tolerated(overrides: list[str]) -> None:
    refuse_unused_callbacks(parsed(*overrides).callbacks, overrides)
