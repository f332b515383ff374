"""docs/data.md: every layout of the page is built, configured as it says, and opened."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from segdistill.config.class_table import read_class_table, rgb
from segdistill.config.data import FolderConfig
from segdistill.config.parse import parse, register
from segdistill.data.sources.folder import find_samples
from segdistill.data.sources.opening import open_source

PAGE = (ROOT / "docs" / "data.md").read_text("utf-8")


@dataclass
class Layout:
    """A section of the page: listed files, files with content, and the overrides that open it."""

    files: list[str] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)


def layouts() -> dict[str, Layout]:
    found = {}
    for section in PAGE.partition("## Bad input")[0].split("\n### ")[1:]:
        layout = found[section.splitlines()[0]] = Layout()
        for kind, block in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL):
            first = block.splitlines()[0]
            if kind == "bash":
                layout.overrides = shlex.split(block)[2:]
            elif kind == "csv":
                layout.contents["classes.csv"] = block
            elif first.startswith("# "):
                layout.contents[first[2:]] = block
            else:
                layout.files = block.split()
    return found


@pytest.mark.parametrize("title", layouts())
def test_a_layout_of_the_page_opens_as_it_says(title: str, tmp_path: Path, cache_dir: Path) -> None:
    layout, root = layouts()[title], tmp_path / "root"
    overrides = [override for override in layout.overrides if not override.startswith("data.root=")]
    for name, content in layout.contents.items():
        path = tmp_path / name if name.startswith("conf/") else root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    if not overrides:
        (tmp_path / "conf/data").mkdir(parents=True, exist_ok=True)
        overrides = ["data=mine", f"hydra.searchpath=[file://{tmp_path / 'conf'}]"]
    GlobalHydra.instance().clear()
    register()
    root.mkdir(exist_ok=True)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = parse(compose("config", overrides=[*overrides, f"data.root={root}"])).data
    assert isinstance(config, FolderConfig)
    values = [value for owned in config.classes.values() for value in (owned if isinstance(owned, list) else [owned])]
    for name in layout.files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([*name.encode()])
        Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8)).save(root / name)
    splits, faults = find_samples(config)
    assert not any(faults.values())
    for sample in (sample for part in splits.values() for sample in part):
        assert sample.mask is not None
        if isinstance(values[0], str):
            pixels = np.array([rgb(str(value)) for value in values], np.uint8)
        else:
            pixels = np.array(values, np.uint8)
        Image.fromarray(np.resize(pixels, (8, 10, *pixels.shape[1:]))).save(sample.mask)
    index = open_source(config, cache_dir)
    paired = [path for part in index.splits.values() for sample in part for path in (sample.image, sample.mask)]
    listed = [root / name for name in layout.files if "000039" not in name]  # no list of the page names this one
    assert sorted(map(str, paired)) == sorted(map(str, listed))
    assert {"train", "val"} <= set(index.splits)
    assert set(np.unique(index.read("train", 0)[1])) == set(range(len(config.classes)))


def test_the_table_of_the_page_merges_and_ignores_rows(tmp_path: Path) -> None:
    (content,) = [layout.contents["classes.csv"] for layout in layouts().values() if "classes.csv" in layout.contents]
    (tmp_path / "classes.csv").write_text(content)
    table = read_class_table(tmp_path / "classes.csv")
    assert table.classes == {"road": ["#804080"], "car": ["#00008e", "#000046"]}
    assert table.void == ["#000000"]


def test_the_page_has_a_layout_for_each_kind() -> None:
    assert len(layouts()) == 7
    assert all(layout.files and (layout.overrides or layout.contents) for layout in layouts().values())
