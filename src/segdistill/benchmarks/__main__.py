"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import sys

from segdistill import benchmarks
from segdistill.benchmarks import inference, loader, operators, soak, training
from segdistill.utils.errors import UserError
from segdistill.utils.worker import SubprocessError


def main() -> None:
    """Parse the command line and run one benchmark."""
    parser = argparse.ArgumentParser(prog="segdistill benchmark", description=benchmarks.__doc__)
    summaries = {
        training: "a training step, on a CPU",
        operators: "a training step's time, operator by operator",
        loader: "the data loader, against the student's steps",
        inference: "exported files, on a CPU",
        soak: "memory and open files of many predictions or jobs",
    }
    names = [module.__name__.rpartition(".")[2] for module in summaries]
    commands = parser.add_subparsers(required=True, metavar=" | ".join(names), dest="name")
    for name, (module, summary) in zip(names, summaries.items(), strict=True):
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except (UserError, SubprocessError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
