"""`segdistill check-data data=folder data.root=DIR ...`: look at a dataset before a training.

Every file is decoded once and checked; what was measured is kept in cache_dir, and a training does not read it again.
A page shows class shares, sizes, images with their masks, and everything that was found, with files and what to do.
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

import segdistill
from segdistill.config.data import DataConfig, FilesConfig, FolderConfig, SourceConfig
from segdistill.config.explain import one_line_errors
from segdistill.config.huggingface import HuggingFaceConfig
from segdistill.config.locate import trusting
from segdistill.config.parse import parse_data, register
from segdistill.data.check import DataError, summary
from segdistill.data.findings import Finding, Level, file_faults, findings, gravest_first
from segdistill.data.inspection import Entry, Inspection, inspect
from segdistill.data.labels import mask_coding
from segdistill.data.sources.folder import find_samples, unexpected_counts
from segdistill.data.sources.opening import labels_of, open_source
from segdistill.reporting.data_page import write_data_page
from segdistill.utils.errors import UserError
from segdistill.utils.interruption import ending_in_order

EXIT_CODES = (
    "exit code:\n"
    "  0  a training can start, even where something is worth a look\n"
    "  1  something would stop or spoil it, or the data cannot be opened\n"
    "  2  the command line is wrong"
)
CASES_PRINTED = 5
CONF = Path("conf")
HEADINGS = {"stops": "stops a training", "spoils": "spoils a training", "note": "worth a look"}


@dataclass(frozen=True)
class CheckedData:
    """A dataset that was looked at.

    Attributes:
        name: Name of the dataset.
        inspection: Inspected samples; None if they could not be paired.
        found: Everything that was found, the gravest first.
    """

    name: str
    inspection: Inspection | None
    found: Sequence[Finding]

    @property
    def can_train(self) -> bool:
        """Whether nothing was found that stops or spoils a training."""
        return all(finding.level == "note" for finding in self.found)


def check_data(data: DataConfig, cache_dir: Path) -> CheckedData:
    """Look at every file of a dataset, whatever part of it a training would take.

    Args:
        data: One of the dataclasses in `segdistill.config.sources.SCHEMAS`.
        cache_dir: Folder for what is measured, and for rendered scenes.

    Raises:
        UserError: If no files can be found.
    """
    skipping = isinstance(data, FilesConfig) and data.on_bad == "skip"
    unpaired, inspection = _inspected(data, cache_dir)
    if inspection is None:
        return CheckedData(_name(data), None, file_faults(unpaired))
    judged = inspection.usable if skipping else inspection
    level: Level = "note" if skipping and judged.splits.keys() == inspection.splits.keys() else "stops"
    allowing = isinstance(data, FilesConfig) and data.allow_duplicates
    found = [*file_faults([*unpaired, *inspection.faults], level), *findings(judged, allow_duplicates=allowing)]
    if isinstance(data, FolderConfig):
        labelled = {split: measures.labelled for split, measures in inspection.splits.items()}
        found += [Finding("note", line) for line in unexpected_counts(data, labelled)]
    return CheckedData(_name(data), inspection, gravest_first(found))


def _inspected(data: DataConfig, cache_dir: Path) -> tuple[Sequence[str], Inspection | None]:
    """Return a line for each file without a partner, and the inspection of the others; None if there are none."""
    whole = copy.copy(data)
    whole.limit, whole.overfit = None, False
    whole.unlabelled = data.unlabelled if isinstance(data.unlabelled, str) else None
    if isinstance(whole, FilesConfig):
        whole.on_bad = "error"
    try:
        source = open_source(whole, cache_dir)
    except DataError as error:
        if error.inspection is not None or not isinstance(data, FolderConfig):
            return () if error.inspection is not None else error.faults, error.inspection
        splits, coding = find_samples(data)[0], mask_coding(data.classes, data.void)
        return error.faults, inspect(splits, coding, labels_of(data).names, cache_dir)
    entries = [Entry(split, each, source.measures[each]) for split, part in source.splits.items() for each in part]
    return (), Inspection(entries, source.labels.names, source.coding)


def _name(data: DataConfig) -> str:
    if isinstance(data, FolderConfig):
        return Path(data.root).resolve().name
    if isinstance(data, HuggingFaceConfig):
        return data.title
    return str(data.source["_target_"]).rpartition(".")[2] if isinstance(data, SourceConfig) else "RoadScenes"


def lines(checked: CheckedData) -> Iterator[str]:
    """Yield what was found, for a terminal: a line for each split, then each finding with its first files."""
    if checked.inspection is not None:
        yield from summary(checked.inspection)
    for finding in checked.found:
        count = f" ({len(finding.cases)})" if finding.cases else ""
        yield f"{HEADINGS[finding.level]}: {finding.text}{count}" + (f"; {finding.mend}" if finding.mend else "")
        yield from (f"  {case}" for case in finding.cases[:CASES_PRINTED])
        if len(finding.cases) > CASES_PRINTED:
            yield f"  and {len(finding.cases) - CASES_PRINTED} more"
    if not checked.found:
        yield "nothing was found that is worth a look"


def composed(overrides: Sequence[str], conf: Path | None) -> DictConfig:
    """Compose a configuration as train.py does.

    Args:
        overrides: Overrides in Hydra's grammar.
        conf: Folder of the configuration; None takes `conf` of the current folder, or else of the source tree.

    Raises:
        UserError: If there is no such folder.
    """
    beside_source = Path(segdistill.__file__).parents[2] / CONF
    folder = conf or next((each for each in (CONF, beside_source) if (each / "config.yaml").is_file()), CONF)
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder}/config.yaml: no such file; run this beside train.py, or name its folder by --conf")
    register()
    with initialize_config_dir(str(folder.resolve()), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def main() -> None:
    """Parse the command line, check the data, print what was found and write the page."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("segdistill check-data", None, __doc__, EXIT_CODES, formatter_class=form)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py: data=camvid data.root=DIR")
    parser.add_argument("--out", type=Path, default=Path("check.html"), help="the page (default: %(default)s)")
    parser.add_argument("--conf", type=Path, metavar="DIR", help="where config.yaml lies (default: beside train.py)")
    given = parser.parse_intermixed_args()
    logging.getLogger("segdistill").addHandler(logging.NullHandler())  # the findings are printed below
    with one_line_errors(), ending_in_order():
        cfg = composed(given.overrides, given.conf)
        data = parse_data(cfg)
        with trusting(cfg.trusted_packages):
            checked = check_data(data, Path(cfg.cache_dir))
        write_data_page(given.out, checked.name, labels_of(data), checked.inspection, checked.found)
        sys.stdout.write("\n".join([*lines(checked), str(given.out), ""]))
    sys.exit(not checked.can_train)


if __name__ == "__main__":
    main()
