"""A data source in code: a class that finds files, which are checked and indexed as a folder's are."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml
from helpers.composed import parsed
from helpers.runs import ROOT

from segdistill.config.data import FolderConfig, SourceConfig
from segdistill.config.locate import trusting
from segdistill.data.sources.folder import open_folder
from segdistill.data.sources.opening import labels_of, open_source
from segdistill.utils.errors import UserError

MODULE = """
from pathlib import Path
from segdistill.data.sources.base import Sample, Source

class Town(Source):
    def __init__(self, root, splits=("train", "val", "test"), unlabelled=()):
        if not Path(root).is_dir():
            raise FileNotFoundError(f"{root}: no such folder")
        self.root, self.splits, self.unlabelled = Path(root), splits, unlabelled

    def samples(self, cache_dir):
        found = {split: sorted((self.root / split / "images").glob("*.png")) for split in self.splits}
        return {
            split: [Sample(path, None if split in self.unlabelled else path.parents[1] / "masks" / path.name)
                    for path in paths]
            for split, paths in found.items()
        }

class Village:
    def __init__(self, root):
        pass
"""


@pytest.fixture
def overrides(folder_config: FolderConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of `folder_config`, found by a class of a package of the user's own."""
    (tmp_path / "my_data.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    classes = ", ".join(f"{name}: {values}" for name, values in folder_config.classes.items())
    return [
        "data=schema_source",
        f"data.input_size={folder_config.input_size}",
        f"+data.classes={{{classes}}}",
        "data.void=[255]",
        f"+data.source={{_target_: my_data.Town, root: {folder_config.root}}}",
        "trusted_packages=[my_data]",
        *(f"{role}.fit.crop=[16,16]" for role in ("teacher", "student")),
    ]


def test_a_source_in_code_is_indexed_as_a_folder_is(
    overrides: list[str], folder_config: FolderConfig, cache_dir: Path
) -> None:
    config = parsed(*overrides)
    assert config.teacher_source == "train"
    with trusting(config.trusted_packages):
        found = open_source(config.data, cache_dir)
    expected = open_folder(folder_config, cache_dir)
    assert replace(found, name=expected.name, coding=expected.coding) == expected
    assert found.coding.key == expected.coding.key
    assert found.name == "Town"
    assert labels_of(config.data) == found.labels


def test_the_example_of_the_docs_sets_keys_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (example,) = [block.partition("```")[0] for block in page.split("```yaml\n")[1:]]
    settings = yaml.safe_load(example)
    assert settings.pop("defaults") == ["schema_source"]
    assert set(settings) <= {field.name for field in fields(SourceConfig)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.source._target_=my_data.Village"], "data.source._target_=my_data.Village: must be a subclass"),
        (["+data.source.colour=red"], "data.source=.*unexpected keyword argument 'colour'"),
        (["data.source.root=/no/such"], "data.source=.*/no/such: no such folder"),
        (["+data.source.splits=[train]"], "data.source: Town finds no image of val"),
        (["+data.source.splits=[train,val,more]"], "data.source: Town finds a split more"),
        (["+data.source.unlabelled=[val]"], "data.source: Town finds images of val without a mask"),
        (["data.void=[9]"], "mask value 255 belongs to no class"),
    ],
)
def test_a_bad_source_is_refused(overrides: list[str], changes: list[str], message: str, cache_dir: Path) -> None:
    config = parsed(*overrides, *changes)
    with trusting(config.trusted_packages), pytest.raises(UserError, match=message):
        open_source(config.data, cache_dir)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["trusted_packages=[]"], "may not be called as source: it is not of segdistill.data.sources"),
        (["data.source._target_=segdistill.data.sources.base.Sauce"], "has no Sauce; did you mean Source"),
        (["~data.source._target_"], "data.source=.*needs a `_target_`"),
        (["data.source.root=???"], r"data.source.root=\?\?\?: needs a value"),
        (["data.unlabelled=more"], "the source finds the images"),
    ],
)
def test_a_target_that_is_no_source_is_refused_before_its_import(
    overrides: list[str], changes: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        parsed(*overrides, *changes)
