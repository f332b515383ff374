"""Texts of the page, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from segdistill.inference.demo.comparison import Comparison
from segdistill.inference.demo.engines import CALLS, Engine
from segdistill.utils.errors import first_line

WELCOME = "<p>Upload an image, take one with the webcam, or choose a sample.</p>"


def error_line(error: BaseException) -> str:
    """Return an error as a paragraph."""
    return f'<p class="failed" role="alert">{escape(first_line(error))}</p>'


def results(comparison: Comparison, engines: Sequence[Engine | None]) -> str:
    """Return what each engine took, and the share of pixels on which they differ."""
    rows = [
        f"<tr><td>{side}</td><td>{escape(engine.path.stem)}, {escape(engine.runtime)}</td>"
        f"{_number(f'{engine.p50_ms:.1f}')}{_number(str(len(engine.latencies_ms)))}{_number(f'{engine.file_mb:.1f}')}</tr>"
        for side, engine in zip(("left", "right"), engines, strict=True)
        if engine is not None
    ]
    head = "<th></th><th>network</th>" + "".join(
        f'<th class="number">{name}</th>' for name in ("p50 ms", "calls", "MB")
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    note = (
        f"p50: median of the last {CALLS} calls, from the prepared image to its mask, beside whatever else runs; "
        "segdistill benchmark inference times each file in a process of its own"
    )
    return f'<p class="differing">{_difference(comparison)}</p>{table}<p class="note">{note}</p>'


def _number(text: str) -> str:
    return f'<td class="number">{text}</td>'


def _difference(comparison: Comparison) -> str:
    share = comparison.share_differing
    if share is not None:
        return f"They differ on <b>{share:.2%}</b> of the pixels."
    if None in comparison.sides:
        return "One side is the image alone."
    return "They do not know the same classes, and are not compared."


def legend_style(colours: Mapping[str, Sequence[int]]) -> str:
    """Return the style that puts a swatch of its colour before each class of the list."""
    swatches = [
        f"#classes label:nth-of-type({place}) span::before {{ background: rgb{tuple(colour)}; }}"
        for place, colour in enumerate(colours.values(), 1)
    ]
    return f"<style>{' '.join(swatches)}</style>"
