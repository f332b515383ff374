"""Serves the page on this machine, and sends nothing elsewhere."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image

from segdistill.inference.demo.uploads import MAX_BYTES
from segdistill.utils.errors import UserError
from segdistill.utils.interruption import ending_in_order

SESSIONS = 20
"""Open pages whose last comparison is kept."""


@contextmanager
def private_gradio() -> Iterator[Path]:
    """Keep Gradio, imported within the block, from the network; yield its folder of uploads, which vanishes."""
    with tempfile.TemporaryDirectory(prefix="segdistill_demo_") as folder:
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": folder, "HF_HUB_DISABLE_TELEMETRY": "1"}
        exempt = [
            os.environ.get("NO_PROXY", ""),
            "127.0.0.1",
            "localhost",
        ]  # Gradio asks its own server whether it runs
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(filter(None, exempt))
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # uploads have a lower limit, and their answer
        yield Path(folder)


def serve(page: Any, *, host: str, port: int | None, share: bool) -> None:
    """Serve a page until Ctrl-C, which is raised on, or SIGTERM.

    Args:
        page: A `gradio.Blocks`.
        host: Address to listen on.
        port: Port to listen on; None takes the first free one from 7860 on.
        share: Whether to open a public link, through Gradio's servers.

    Raises:
        UserError: If the address cannot be listened on.
    """
    from segdistill.inference.demo.page import CSS, THEME

    with ending_in_order():
        try:
            _try_address(host, port)
            _, address, public = page.launch(
                server_name=host,
                server_port=port,
                share=share,
                css=CSS,
                theme=THEME,
                max_file_size=MAX_BYTES,
                state_session_capacity=SESSIONS,
                prevent_thread_lock=True,
                quiet=True,
                inline=False,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
            )
            sys.stdout.write(f"{public or address}  (Ctrl-C ends it)\n")
            sys.stdout.flush()
            threading.Event().wait()
        except (OSError, ValueError) as error:
            where = f"port {port}" if port else "the ports from 7860 on"
            raise UserError(f"{host}, {where}: cannot be listened on; take another --port or --host") from error
        finally:
            with suppress(KeyboardInterrupt):  # pressed twice
                page.close(verbose=False)


def _try_address(host: str, port: int | None) -> None:
    """Raise OSError if an address cannot be listened on: Gradio would try a hundred ports of a wrong host."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socket.create_server((host, port or 0), family=family).close()
