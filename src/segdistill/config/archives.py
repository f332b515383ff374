"""Archives of public data sets that may be downloaded, with the checksums that torchvision knows them by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
        url: Where it is published.
        md5: Checksum of the file.
    """

    url: str
    md5: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class PublishedSet:
    """A data set as its authors publish it.

    Attributes:
        archives: Files that make up the set.
        size: Size of all of them, in words.
        folder: Folder inside the archives that becomes `data.root`; empty if they have no folder around all.
    """

    archives: tuple[Archive, ...]
    size: str
    folder: str = ""


PUBLISHED = {
    "voc2012": PublishedSet(
        (
            Archive(
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "6cd6e144f989b92b3379bac3b3de84fd",
            ),
        ),
        "2.0 GB",
        "VOCdevkit/VOC2012",
    ),
    "pets": PublishedSet(
        (
            Archive(
                "https://www.robots.ox.ac.uk/~vgg/data/pets/data/images.tar.gz",
                "5c4f3ee8e5d25df40f4fd59a7f44e54c",
            ),
            Archive(
                "https://www.robots.ox.ac.uk/~vgg/data/pets/data/annotations.tar.gz",
                "95a8c909bbe2e81eed6a22bccdf3f68f",
            ),
        ),
        "0.8 GB",
    ),
}
"""Value of `data.published` -> what `data.download=true` fetches."""
