"""Defaults: each lives in one place, a YAML file of conf/ or, where none sets it, the dataclass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast, get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import MISSING, OmegaConf

from segdistill.config.data import DataConfig, FolderConfig, RoadScenesConfig
from segdistill.config.huggingface import HuggingFaceConfig
from segdistill.config.parse import register
from segdistill.config.schema import Config
from segdistill.config.sources import SCHEMAS

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = sorted(f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml"))

KINDS: dict[str, type[DataConfig]] = {
    "image_column": HuggingFaceConfig,
    "splits": FolderConfig,
    "train": RoadScenesConfig,
}
"""A key that a data YAML of some kind sets, and the kind."""


@pytest.fixture(autouse=True)
def hydra_without_the_schema() -> Iterator[None]:
    """Leave what the YAML files set, and nothing of the dataclasses."""
    GlobalHydra.instance().clear()
    store = ConfigStore.instance()
    store.store(name="schema", node={})
    for name in SCHEMAS:
        store.store(name=name, group="data", node={})
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    register()


def set_by_yaml(*overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values of the YAML files and, of the same keys, those of the dataclasses, as far as they have one."""
    composed = compose("config", overrides=list(overrides))
    values: dict[str, Any] = {}
    defaults: dict[str, Any] = {}

    def walk(schema: Any, node: Mapping[Any, Any], prefix: str) -> None:
        kinds = get_type_hints(schema)
        for field in fields(schema):
            kind, key = kinds[field.name], f"{prefix}{field.name}"
            if kind is DataConfig:
                kind = next(schema for key, schema in KINDS.items() if key in node["data"])
            if is_dataclass(kind):
                walk(kind, node.get(field.name, {}), f"{key}.")
            elif field.name in node:
                values[key] = node[field.name]
                default = field.default_factory() if callable(field.default_factory) else field.default
                if default != MISSING:
                    defaults[key] = default

    walk(Config, cast(dict[str, Any], OmegaConf.to_container(composed)), "")
    return values, defaults


def test_what_the_default_configuration_sets_has_no_default_in_a_dataclass() -> None:
    values, defaults = set_by_yaml()
    assert {"stage", "data.train", "teacher.fit.batch_size", "distill.alpha", "trainer.precision"} <= set(values)
    assert not defaults


def test_what_every_data_source_of_a_kind_sets_has_no_default_in_its_dataclass() -> None:
    folder, camvid = (set_by_yaml(f"data={name}")[1] for name in ("folder", "camvid"))
    assert not folder
    assert set(camvid) == {"data.palette", "data.expected"}  # elsewhere colours are chosen, and counts are unknown


@pytest.mark.parametrize("option", OPTIONS)
def test_no_option_repeats_a_default_of_a_dataclass(option: str) -> None:
    values, defaults = set_by_yaml(option)
    assert {key: value for key, value in defaults.items() if values[key] == value} == {}
