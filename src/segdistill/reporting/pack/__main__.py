"""`segdistill pack RUN_DIR -o DIR` packs a run's exported files into a folder that can be published."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from segdistill.reporting.pack.folder import pack
from segdistill.reporting.pack.run import read_run
from segdistill.reporting.pack.study import measured_gain
from segdistill.reporting.sweep.arguments import read_sweeps, settings
from segdistill.utils.errors import UserError
from segdistill.utils.io import readable_bytes


def main() -> None:
    """Parse the command line, and write the folder."""
    parser = argparse.ArgumentParser(
        prog="segdistill pack",
        description="Packs exported files of a run with a model card, labels, sample images, masks and checksums.",
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="directory of a finished run")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="folder; its name is the model's")
    names = "student.int8, student.fp32, teacher.int8, ...; default: %(default)s"
    parser.add_argument("--files", nargs="+", metavar="FILE", default=["student.int8"], help=names)
    images = (
        "sample images, and no image of the run's data beside them: no drawings of failures; "
        "default: three of the split that was reported"
    )
    parser.add_argument("--images", type=Path, nargs="+", metavar="FILE", default=[], help=images)
    study = "sweep directories or files of rows, as for report-sweep: the card tells the gain over their baseline"
    parser.add_argument("--study", type=Path, nargs="+", metavar="PATH", help=study)
    parser.add_argument("--baseline", metavar="KEY=VALUE,...", type=settings, help="baseline of the study")
    parser.add_argument("--license", metavar="ID", help="licence, by its identifier on the Hugging Face hub")
    parser.add_argument("--overwrite", action="store_true", help="replace a folder that was packed before")
    given = parser.parse_args()
    try:
        run = read_run(given.run)
        gain = None if given.study is None else measured_gain(read_sweeps(given.study), run, given.baseline)
        packed = pack(
            run,
            given.out,
            given.files,
            images=given.images,
            gain=gain,
            license_id=given.license,
            overwrite=given.overwrite,
        )
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    sizes = [(path, readable_bytes((given.out / path).stat().st_size)) for path in packed]
    sys.stdout.write("".join(f"{size:>9}  {given.out / path}\n" for path, size in sizes))


if __name__ == "__main__":
    main()
