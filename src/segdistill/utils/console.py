"""The terminal, also when its output is piped, and tables for it."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 100


def compact_table(title: str, caption: str | None = None) -> Table:
    """Return an empty table that spends no columns on borders."""
    return Table(title=title, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def caption(table: Table, legend: Sequence[str], warnings: Sequence[str]) -> None:
    """Put lines below a table; they are not parsed as markup, and warnings are highlighted."""
    lines = [*map(Text, legend), *(Text(f"warning: {line}", "bold yellow not dim") for line in warnings)]
    table.caption, table.caption_justify = Text("\n").join(lines), "left"


def as_text(table: Table) -> str:
    """Render a table as the terminal shows it, but without colours, so that it can also be logged."""
    buffer = io.StringIO()
    Console(file=buffer, width=terminal().width).print(table)
    return buffer.getvalue()


def as_markdown(table: Table) -> str:
    """Render a table as Markdown, with its title above it and the lines of its caption below, each a paragraph."""
    columns = [
        [_without_html(cell).replace("|", r"\|") for cell in (column.header, *column.cells)] for column in table.columns
    ]
    heading, *rows = zip(*columns, strict=True)
    rule = ["---" if column.justify == "left" else "---:" for column in table.columns]
    lines = [f"| {' | '.join(cells)} |" for cells in (heading, rule, *rows)]
    below = _without_html(table.caption or "").replace("\n", "\n\n")
    return "\n".join([str(table.title or ""), "", *lines, "", below])


def _without_html(text: object) -> str:
    """Return text whose `<` begins no HTML; "<0.001" stays."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", str(text))


def terminal() -> Console:
    """Return a console as wide as the terminal, or 100 columns wide if the output is piped."""
    return Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
