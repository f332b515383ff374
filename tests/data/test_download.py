"""Downloads of public sets from a server of this machine: archives, checksums, and what is said without a network."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers import miniatures
from helpers.composed import parsed
from torchvision.datasets import OxfordIIITPet
from torchvision.datasets.voc import DATASET_YEAR_DICT

from segdistill.config.archives import PUBLISHED, Archive
from segdistill.config.data import DataConfig
from segdistill.data.sources.opening import open_source
from segdistill.utils.errors import ConfigError, UserError


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, and lists what was asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server of a folder, and the list of what was fetched from it."""
    asked: list[str] = []
    handler = partial(type("Listed", (Handler,), {"asked": asked}), directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()


def packed(folder: Path, name: str) -> dict[str, str]:
    """Write the archives of a set's miniature; return their names and checksums."""
    content, archives = folder / "content", folder / "archives"
    archives.mkdir(parents=True)
    if name == "voc2012":
        miniatures.voc2012(content / "VOCdevkit" / "VOC2012")
        members = {"VOCtrainval_11-May-2012.tar": "VOCdevkit"}
    else:
        miniatures.pets(content)
        members = {"images.tar.gz": "images", "annotations.tar.gz": "annotations"}
    for archive, member in members.items():
        with tarfile.open(archives / archive, "w:gz" if archive.endswith("gz") else "w") as tar:
            tar.add(content / member, member)
    return {archive: hashlib.md5((archives / archive).read_bytes()).hexdigest() for archive in members}


def publish(monkeypatch: pytest.MonkeyPatch, name: str, address: str, checksums: dict[str, str]) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    archives = tuple(Archive(f"{address}/{file}", md5) for file, md5 in checksums.items())
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], archives=archives))


def configured(name: str, root: Path) -> DataConfig:
    return parsed(f"data={name}", f"data.root={root}", "data.download=true").data


def test_archives_and_checksums_are_those_of_torchvision() -> None:
    voc = DATASET_YEAR_DICT["2012"]
    assert PUBLISHED["voc2012"].archives == (Archive(voc["url"], voc["md5"]),)
    assert PUBLISHED["voc2012"].archives[0].name == voc["filename"]
    assert Path(PUBLISHED["voc2012"].folder) == Path(voc["base_dir"])
    assert PUBLISHED["pets"].archives == tuple(Archive(*each) for each in vars(OxfordIIITPet)["_RESOURCES"])


@pytest.mark.parametrize(("name", "split", "count"), [("voc2012", "val", 3), ("pets", "test", 3)])
def test_a_set_is_fetched_once(
    name: str,
    split: str,
    count: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    checksums, root, cache = packed(tmp_path, name), tmp_path / "new" / "set", tmp_path / "cache"
    with served(tmp_path / "archives") as (address, asked):
        publish(monkeypatch, name, address, checksums)
        first = open_source(configured(name, root), cache)
        assert list(dict.fromkeys(asked)) == [f"/{file}" for file in checksums]
        asked.clear()
        assert "100%" in capfd.readouterr().err  # the bar
        again = open_source(configured(name, root), cache)
        assert not asked
    assert len(first.splits[split]) == count
    assert first.fingerprint == again.fingerprint
    assert not (root / "VOCdevkit").exists()
    assert [path.name for path in root.parent.iterdir() if path.suffix != ".lock"] == ["set"]
    shutil.rmtree(tmp_path / "archives")
    assert len(open_source(configured(name, root), cache).splits[split]) == count


def test_an_empty_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checksums, root = packed(tmp_path, "voc2012"), tmp_path / "set"
    root.mkdir()
    with served(tmp_path / "archives") as (address, _):
        publish(monkeypatch, "voc2012", address, checksums)
        assert len(open_source(configured("voc2012", root), tmp_path / "cache").splits["train"]) == 5


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "set"
    root.mkdir()
    (root / "thesis.tex").write_text("the only copy")
    with served(tmp_path) as (address, asked):
        publish(monkeypatch, "voc2012", address, packed(tmp_path, "voc2012"))
        with pytest.raises(UserError, match=r"data\.root=.*set: lacks JPEGImages but holds other files, which stay"):
            open_source(configured("voc2012", root), tmp_path / "cache")
    assert not asked
    assert [path.name for path in root.iterdir()] == ["thesis.tex"]


def test_an_archive_of_another_checksum_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed(tmp_path, "voc2012")
    with served(tmp_path / "archives") as (address, _):
        publish(monkeypatch, "voc2012", address, {"VOCtrainval_11-May-2012.tar": "0" * 32})
        with pytest.raises(UserError, match=r"VOCtrainval.*cannot be downloaded \(File not found or corrupted"):
            open_source(configured("voc2012", tmp_path / "set"), tmp_path / "cache")
    assert not (tmp_path / "set").exists()


def test_without_a_network_one_line_says_what_to_fetch_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checksums = packed(tmp_path, "pets")
    with served(tmp_path) as (address, _):
        pass  # a port at which nobody answers any more
    publish(monkeypatch, "pets", address, checksums)
    place = tmp_path / "cache" / "downloads" / "pets"
    for file, md5 in checksums.items():
        with pytest.raises(UserError) as raised:
            open_source(configured("pets", tmp_path / "set"), tmp_path / "cache")
        message = str(raised.value)
        assert message.startswith(f"{address}/{file}: cannot be downloaded (")
        assert message.endswith(f"fetch it elsewhere and put it into {place}, md5 {md5}; then run this again")
        assert "\n" not in message
        assert not (tmp_path / "set").exists()
        shutil.copy(tmp_path / "archives" / file, place)
    assert len(open_source(configured("pets", tmp_path / "set"), tmp_path / "cache").splits["test"]) == 3


def test_a_folder_that_is_missing_may_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such folder; data\.download=true fetches it, 2\.0 GB$"):
        parsed("data=voc2012", f"data.root={tmp_path / 'none'}")
    with pytest.raises(ConfigError, match=r"no such folder$"):
        parsed("data=ade20k", f"data.root={tmp_path / 'none'}")
