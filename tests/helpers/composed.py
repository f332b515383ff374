"""A configuration as the command line composes and checks it."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from helpers.runs import ROOT
from segdistill.config.parse import parse, register
from segdistill.config.schema import Config


def parsed(*overrides: str) -> Config:
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return parse(compose("config", overrides=list(overrides)))
