"""A configuration as the command line composes it, and checks it."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from helpers.runs import ROOT
from segdistill.config.parse import parse, register
from segdistill.config.schema import Config


def composed(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def parsed(*overrides: str) -> Config:
    return parse(composed(*overrides))
