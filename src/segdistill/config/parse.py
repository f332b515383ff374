"""Parsing: from a composed configuration to the checked dataclasses."""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf, open_dict

from segdistill.config.data import DataConfig
from segdistill.config.locate import check_targets
from segdistill.config.schema import Config
from segdistill.config.sources import SCHEMAS
from segdistill.config.suggest import unknown
from segdistill.utils.errors import ConfigError


def register() -> None:
    """Register the schema with Hydra: `schema` for the root, `data/schema_*` for the data sources."""
    store = ConfigStore.instance()
    ConfigStore.__deepcopy__ = _not_copied  # type: ignore[attr-defined]
    store.store(name="schema", node=Config)
    for name, node in SCHEMAS.items():
        store.store(group="data", name=name, node=node)


def _not_copied(store: ConfigStore, memo: dict[int, Any]) -> ConfigStore:
    """Return the store itself: Hydra copies it for every group that `--help` lists, and whatever it loads from it."""
    return store


def parse(cfg: DictConfig) -> Config:
    """Convert a composed configuration to the checked dataclasses.

    Raises:
        ConfigError: If there is no such key, a value is missing or out of its range, or a name may not be called.
    """
    cfg = copy.deepcopy(cfg)
    with open_dict(cfg):
        cfg.pop("hydra", None)
    for key in sorted(OmegaConf.missing_keys(cfg)):
        raise ConfigError(key, "???", "needs a value")
    _check(cfg, "")
    config = OmegaConf.to_object(cfg)
    if not isinstance(config, Config):
        raise TypeError(f"expected a configuration composed from `schema`, got {type(config).__name__}")
    settings = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    check_targets(settings, config.trusted_packages, config.unused)
    return config


def parse_data(cfg: DictConfig) -> DataConfig:
    """Convert the data of a composed configuration alone; settings of a training are not looked at.

    Raises:
        ConfigError: If a key is unknown or missing, a value out of its range, or a source may not be called.
    """
    for key in sorted(OmegaConf.missing_keys(cfg.data)):
        raise ConfigError(key, "???", "needs a value")
    _check(cfg.data, "data")
    settings = {"data": OmegaConf.to_container(cfg.data, resolve=True)}
    check_targets(settings, list(cfg.trusted_packages))
    return cast(DataConfig, OmegaConf.to_object(cfg.data))


def _check(node: DictConfig, path: str) -> None:
    """Build the dataclasses from the leaves up, so that an error names the full path of its key."""
    for key, child in node.items():
        if isinstance(child, DictConfig):
            _check(child, f"{path}.{key!s}".lstrip("."))
    kind = OmegaConf.get_type(node)
    if kind is not None and is_dataclass(kind):
        for key in sorted(map(str, node.keys() - {known.name for known in fields(kind)})):  # Hydra's `+` adds them
            name = f"{path}.{key}".lstrip(".")
            raise ConfigError(name, node[key], unknown(name))
        try:
            OmegaConf.to_object(node)
        except ConfigError as error:
            raise error.under(path) from None
