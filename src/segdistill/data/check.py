"""The check before every training: each sample on its own, then the splits against each other."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from segdistill.data.findings import bounded, findings
from segdistill.data.inspection import Inspection, inspect
from segdistill.data.labels import MaskCoding
from segdistill.data.sources.base import Sample
from segdistill.utils.errors import UserError

FAULTS_SHOWN, SIZES_SHOWN = 10, 3
FEW_FAULTY = 0.1
"""Share of unusable samples below which leaving them out is worth naming; more look like a wrong setting."""

log = logging.getLogger(__name__)


class DataError(UserError):
    """Faults of the data, of which the message names the first ones.

    Attributes:
        faults: One line for each fault.
        inspection: Inspection of all samples; None if they could not even be paired.
    """

    def __init__(self, faults: Sequence[str], inspection: Inspection | None = None) -> None:
        few = inspection is not None and 0 < len(inspection.faults) < FEW_FAULTY * len(inspection.entries)
        mend = "; mend what cannot be used, or leave it out by data.on_bad=skip" if few else ""
        super().__init__(named_faults(faults) + mend)
        self.faults, self.inspection = faults, inspection


def check_splits(
    splits: Mapping[str, Sequence[Sample]],
    coding: MaskCoding,
    classes: Sequence[str],
    cache_dir: Path,
    *,
    allow_duplicates: bool = False,
    skip_faulty: bool = False,
) -> Inspection:
    """Check every sample, then the splits against each other; log what they hold, and possible mistakes as warnings.

    Samples that pass are remembered in `cache_dir`, so that the next call compares the splits and repeats its warnings
    without decoding the files again.

    Args:
        splits: Samples of each split.
        coding: What the pixels of the masks mean.
        classes: Class names by id.
        cache_dir: Folder in which passed checks are cached.
        allow_duplicates: Whether to accept an image that occurs in two splits, with a warning.
        skip_faulty: Whether to leave unusable samples out of account, unless no other sample of their split remains.

    Returns:
        The inspected samples, all of them usable unless `skip_faulty`.

    Raises:
        DataError: If a file is unusable, an image is in two splits, or a split has no labels; names the first faults.
    """
    inspection = inspect(splits, coding, classes, cache_dir)
    judged = inspection.usable if skip_faulty else inspection
    found = findings(judged, allow_duplicates=allow_duplicates)
    kept = judged.splits if skip_faulty else {}
    faults = [entry.fault for entry in inspection.entries if entry.measures is None and entry.split not in kept]
    faults += [finding.line for finding in found if finding.level == "stops"]
    if faults:
        raise DataError(faults, inspection)
    for line in summary(judged):
        log.info(line)
    for finding in found:
        log.warning(finding.line)
    return inspection


def named_faults(faults: Sequence[str]) -> str:
    """Join the first faults, and count the others."""
    more = f" (and {len(faults) - FAULTS_SHOWN} more)" if len(faults) > FAULTS_SHOWN else ""
    return "; ".join(faults[:FAULTS_SHOWN]) + more


def left_out_line(split: str, faults: Sequence[str]) -> str:
    """Return the line that names what `data.on_bad=skip` leaves out of a split.

    Example:
        >>> left_out_line("val", ["a.png: cannot be read"])
        '1 left out of val by data.on_bad=skip: a.png: cannot be read'
    """
    return f"{len(faults)} left out of {split} by data.on_bad=skip: {named_faults(faults)}"


def raise_if_any(faults: Sequence[str]) -> None:
    """Raise one DataError that names the first faults and counts the others, if there are any."""
    if faults:
        raise DataError(faults)


def summary(inspection: Inspection) -> list[str]:
    """Return a line for each split: its images, their sizes, and the share of each class, the largest first."""
    lines = []
    for split, measures in inspection.splits.items():
        sizes = [f"{width} x {height}" for height, width in measures.sizes]
        shares = sorted(zip(inspection.classes, measures.shares, strict=True), key=lambda share: -share[1])
        named = bounded([f"{name} {share:.1%}" for name, share in shares if share])
        void = f", void {measures.void_share:.1%}" if measures.void else ""
        lines.append(f"{split}: {measures.images} images of {bounded(sizes, SIZES_SHOWN)}; {named}{void}")
    return lines
