"""`segdistill COMMAND ...`: the commands beside a training, by name."""

from __future__ import annotations

import runpy
import sys
from typing import NamedTuple


class Command(NamedTuple):
    """A command.

    Attributes:
        module: Module that runs it.
        summary: What it does, in a line.
        install: What pip installs for it.
    """

    module: str
    summary: str
    install: str = "segdistill[train]"


COMMANDS = {
    "check-data": Command(
        "segdistill.engine.check_data", "look at a dataset before a training, and write a page of it"
    ),
    "predict": Command(
        "segdistill.inference.predict", "segment images, folders and videos with an exported file", "segdistill"
    ),
    "demo": Command(
        "segdistill.inference.demo", "open a page on which exported files segment your images", "segdistill[demo]"
    ),
    "benchmark": Command("segdistill.benchmarks", "time a training step, the loader, exported files, or a long run"),
    "report": Command("segdistill.reporting", "write the page of a run anew, or compare the students of several"),
    "pack": Command("segdistill.reporting.pack", "make a folder of a run's files that can be published"),
    "report-sweep": Command("segdistill.reporting.sweep", "write the summary of a sweep anew, or its rows"),
}
"""The commands by name; `predict` needs only onnxruntime, numpy and Pillow, and `demo` Gradio besides."""


def main() -> None:
    """Run the command named by the first argument with the remaining arguments."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        lines = [f"  {command:<14}{summary}" for command, (_, summary, _) in COMMANDS.items()]
        sys.stdout.write("\n".join(["usage: segdistill COMMAND ...", "", *lines, "", "COMMAND --help tells more\n"]))
        return
    if name not in COMMANDS:
        sys.exit(f"error: {name}: no such command; there are {', '.join(COMMANDS)}")
    del sys.argv[1]
    try:
        runpy.run_module(COMMANDS[name].module, run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "segdistill":
            raise
        sys.exit(f"error: {name} needs the package {error.name}: pip install '{COMMANDS[name].install}'")


if __name__ == "__main__":
    main()
