"""`segdistill demo RUN_DIR|DIR|FILE...`: the command line of the page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from segdistill.inference.demo.engines import open_engines
from segdistill.inference.demo.serving import private_gradio, serve
from segdistill.inference.demo.sources import find_files, write_samples
from segdistill.inference.segmenter import Segmenter
from segdistill.utils.errors import UserError


def main() -> int:
    """Parse the command line and serve the page; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="segdistill demo",
        description="Opens a page on which exported files segment images of yours, side by side. Nothing leaves the "
        "machine unless --share or --host lets others in.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="RUN_DIR|DIR|FILE", help="where the .onnx files are")
    parser.add_argument("--port", type=_port, help="port to listen on; default: the first free one from 7860 on")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default: %(default)s, this machine")
    parser.add_argument("--share", action="store_true", help="open a public link through Gradio's servers, for a week")
    parser.add_argument("--threads", type=int, default=0, help="cores to use; 0: all")
    arguments = parser.parse_args()
    try:
        with private_gradio() as folder:
            from segdistill.inference.demo.page import build_page  # takes seconds, and needs gradio

            files = find_files(arguments.paths)
            engines = open_engines(files, arguments.threads)
            samples = write_samples(arguments.paths, Segmenter(files[0]), folder)
            page = build_page(engines, samples)
            serve(page, host=arguments.host, port=arguments.port, share=arguments.share)
    except KeyboardInterrupt:  # how the page is meant to be ended
        sys.stdout.write("\n")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text}: must be from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
