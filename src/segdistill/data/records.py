"""Records of inspected files: what was measured is read again only if a file changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from os.path import commonpath
from pathlib import Path

from segdistill.data.labels import MaskCoding
from segdistill.data.measures import Measures
from segdistill.data.sources.base import Sample
from segdistill.utils.io import atomic_write, read_object

RECORD_VERSION = 3  # increment when the contents of a cached record or the decoding of files change
Stamp = list[int]
"""Size and time of the last change of each of a sample's files."""


def stamp(sample: Sample) -> Stamp:
    """Return what changes when a file of a sample is written.

    Raises:
        OSError: If there is no such file.
    """
    states = [path.stat() for path in (sample.image, sample.mask) if path is not None]
    return [figure for state in states for figure in (state.st_size, state.st_mtime_ns)]


def record_path(samples: Sequence[Sample], coding: MaskCoding, cache_dir: Path) -> Path:
    """Return the path of the record for one coding of masks and the folder that holds all images."""
    folder = commonpath({str(sample.image.absolute().parent) for sample in samples})
    identity = json.dumps([RECORD_VERSION, folder, coding.key])
    return cache_dir / "checked" / f"{hashlib.sha256(identity.encode()).hexdigest()}.json"


def recalled(record: Path, stamps: Mapping[Sample, Stamp]) -> dict[Sample, Measures]:
    """Return the remembered measures of the samples whose files are as they were."""
    rows = _rows(record)
    known = {sample: rows.get(_key(sample)) for sample in stamps}
    return {sample: row[1] for sample, row in known.items() if row is not None and row[0] == stamps[sample]}


def remember(record: Path, stamps: Mapping[Sample, Stamp], found: Mapping[Sample, Measures | str]) -> None:
    """Add the samples that have measures to a record, and take out those whose image is gone."""
    rows = {key: row for key, row in _rows(record).items() if Path(key[0]).exists()}
    for sample in stamps:
        outcome, key = found.get(sample), _key(sample)
        rows.pop(key, None)
        if isinstance(outcome, Measures):
            rows[key] = (stamps[sample], outcome)
    listed = [[*key, stamp, measures.as_row()] for key, (stamp, measures) in rows.items()]
    with atomic_write(record) as temporary:
        temporary.write_text(json.dumps({"samples": listed}, separators=(",", ":")))


def _rows(record: Path) -> dict[tuple[str, str], tuple[Stamp, Measures]]:
    try:
        rows = read_object(record).get("samples", [])
        return {(image, mask): (stamp, Measures.of_row(row)) for image, mask, stamp, row in rows}
    except (TypeError, ValueError):  # damaged
        return {}


def _key(sample: Sample) -> tuple[str, str]:
    return str(sample.image.absolute()), "" if sample.mask is None else str(sample.mask.absolute())
