"""A configuration as the command line composes and checks it."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from runs import ROOT

from segdistill import config


def parsed(*overrides: str) -> config.Config:
    GlobalHydra.instance().clear()
    config.register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return config.parse(compose("config", overrides=list(overrides)))
