"""Downloads the archives of a public data set, and unpacks them into a new folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from shutil import rmtree

from filelock import FileLock

from segdistill.config.archives import Archive, PublishedSet
from segdistill.utils.errors import UserError, first_line
from segdistill.utils.io import atomic_write, full_disk

log = logging.getLogger(__name__)


def fetch(published: PublishedSet, root: Path, needed: Sequence[str], downloads: Path) -> None:
    """Fill `root` with a data set, unless it is there; parallel runs wait for the first of them.

    Archives that lie in `downloads` already are taken from there if their checksum is right.

    Args:
        published: What to download.
        root: Folder of the unpacked set, new or empty; it is there only once everything is.
        needed: Files and folders of the set, relative to `root`, that tell whether it is there.
        downloads: Folder for the archives, which stay there.

    Raises:
        UserError: If an archive cannot be fetched, or `root` holds something else.
    """
    root = root.absolute()
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.parent / f".{root.name}.lock"):
        missing = [name for name in needed if not (root / name).exists()]
        if not missing:
            return
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            mend = "name a new or an empty folder, or unpack the missing files by hand"
            raise UserError(f"data.root={root}: lacks {missing[0]} but holds other files, which stay; {mend}")
        for archive in published.archives:
            _download(archive, published.size, downloads)
        _unpack([downloads / archive.name for archive in published.archives], root, published.folder)
    log.info("%s is complete; the archives in %s are no longer needed", root, downloads)


def _download(archive: Archive, size: str, downloads: Path) -> None:
    """Download an archive unless a file of its checksum is there, with a progress bar.

    Raises:
        UserError: If it cannot be fetched; says where to put it instead.
    """
    from torchvision.datasets.utils import download_url  # imports torch, which data that is there does not need

    log.info("fetching %s (the set is %s) into %s", archive.url, size, downloads)
    try:
        download_url(archive.url, downloads, archive.name, archive.md5)
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: wrong checksum, or too many redirects
        if full_disk(error) is not None:
            raise
        by_hand = f"fetch it elsewhere and put it into {downloads.absolute()}, md5 {archive.md5}; then run this again"
        raise UserError(f"{archive.url}: cannot be downloaded ({first_line(error)}); {by_hand}") from error


def _unpack(archives: Sequence[Path], root: Path, folder: str) -> None:
    from torchvision.datasets.utils import extract_archive

    with atomic_write(root) as temporary:
        for archive in archives:
            log.info("unpacking %s into %s", archive.name, root)
            extract_archive(archive, temporary)
        if folder:
            for path in list((temporary / folder).iterdir()):
                path.rename(temporary / path.name)
            rmtree(temporary / Path(folder).parts[0])
