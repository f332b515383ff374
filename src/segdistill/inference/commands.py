"""`segdistill check-data | predict | benchmark | report | pack | report-sweep`: the commands beside a training."""

from __future__ import annotations

import runpy
import sys

COMMANDS = {
    "check-data": ("segdistill.engine.check_data", "look at a dataset before a training, and write a page of it"),
    "predict": ("segdistill.inference.predict", "segment images, folders and videos with an exported file"),
    "benchmark": ("segdistill.benchmarks", "time a training step, the loader, exported files, or a long run"),
    "report": ("segdistill.reporting", "write the page of a run anew, or print its table"),
    "pack": ("segdistill.reporting.pack", "make a folder of a run's files that can be published"),
    "report-sweep": ("segdistill.reporting.sweep", "write the summary of a sweep anew, or its rows"),
}
"""Module that runs each command, and its summary; `predict` needs only onnxruntime, numpy and Pillow."""


def main() -> None:
    """Run the command named by the first argument with the remaining arguments."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        lines = [f"  {command:<14}{summary}" for command, (_, summary) in COMMANDS.items()]
        sys.stdout.write("\n".join(["usage: segdistill COMMAND ...", "", *lines, "", "COMMAND --help tells more\n"]))
        return
    if name not in COMMANDS:
        sys.exit(f"error: {name}: no such command; there are {', '.join(COMMANDS)}")
    del sys.argv[1]
    try:
        runpy.run_module(COMMANDS[name][0], run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "segdistill":
            raise
        sys.exit(f"error: {name} needs the package {error.name}: pip install 'segdistill[train]'")


if __name__ == "__main__":
    main()
