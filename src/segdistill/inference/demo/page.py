"""The page: Gradio's components, and which function answers which of them. Needs `pip install 'segdistill[demo]'`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from segdistill.inference.demo.comparison import Comparison, compare, draw, legend
from segdistill.inference.demo.engines import CALLS, Engine, first_choices
from segdistill.inference.demo.text import WELCOME, error_line, legend_style, results
from segdistill.inference.demo.uploads import read_upload
from segdistill.utils.errors import UserError

IMAGE_ALONE = "the image alone"
OVERLAY, DIFFERING = "over the image", "only where they differ"
OPACITY = 0.5

FONT = gr.themes.LocalFont("Source Sans Pro", weights=(400, 700))  # comes with Gradio, whose weight 600 lacks letters
THEME = gr.themes.Default(font=(FONT, "system-ui", "sans-serif"))
CSS = """
#classes label span::before {
    content: ""; display: inline-block; width: .9em; height: .9em; margin-right: .4em;
    border: 1px solid #8888; vertical-align: -.1em;
}
#status table { border-collapse: collapse; margin: .3em 0; }
#status table, #status tr, #status th, #status td { border: 0; }
#status th, #status td { padding: .15em .8em .15em 0; text-align: left; }
#status th { font-weight: 400; opacity: .7; }
#status th.number, #status td.number { text-align: right; white-space: nowrap; }
.failed { color: #b91c1c; font-weight: 700; overflow-wrap: anywhere; }
.note { opacity: .7; font-size: .85em; }
"""


class Handlers:
    """What the page answers.

    Args:
        engines: Opened files, by name.
    """

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self.engines = engines

    def legend(self, *names: str) -> dict[str, list[int]]:
        """Return the colours of the classes of the engines of these names."""
        return legend([self.engines.get(name) for name in names])

    def segment(
        self, path: str | None, left: str, right: str, known: Sequence[str], shown: Sequence[str], *view: Any
    ) -> tuple[Any, ...]:
        """Segment a new image, or the same one with other engines.

        Args:
            path: File of the image.
            left: Name of the engine on the left; one that is unknown is the image alone.
            right: Name of the engine on the right.
            known: Classes that can be chosen so far.
            shown: Those that are chosen.
            view: Opacity, and OVERLAY or DIFFERING.

        Returns:
            The comparison, the images of the slider, the results, the classes that can be chosen now, as a state and
            as check boxes, and the style of the boxes.
        """
        colours = self.legend(left, right)
        names = list(colours)
        shown = [name for name in names if name in shown or name not in known]
        boxes = (names, gr.update(choices=names, value=shown, visible=bool(names)), legend_style(colours))
        if path is None:
            return None, None, WELCOME, *boxes
        try:
            pair = (self.engines.get(left), self.engines.get(right))
            comparison = compare(read_upload(Path(path)), *pair)
        except (UserError, MemoryError) as error:
            return None, None, error_line(error), *boxes
        return comparison, self.draw(comparison, left, right, shown, *view), results(comparison, pair), *boxes

    def draw(
        self, comparison: Comparison | None, left: str, right: str, shown: Sequence[str], opacity: float, view: str
    ) -> Any:
        """Return the two images of the slider; None without an image."""
        if comparison is None:
            return None
        colours = self.legend(left, right)
        return draw(comparison, colours, shown, opacity=opacity, only_differing=view == DIFFERING)

    def repeat(self, comparison: Comparison | None, left: str, right: str) -> str:
        """Time each engine on as many calls as are kept, taking turns, and return the results."""
        if comparison is None:
            return WELCOME
        pair = (self.engines.get(left), self.engines.get(right))
        try:
            for _ in range(CALLS):
                compare(comparison.image, *pair)
        except (UserError, MemoryError) as error:
            return error_line(error)
        return results(comparison, pair)


def build_page(engines: Mapping[str, Engine], samples: Sequence[Path]) -> Any:
    """Build the page, a `gradio.Blocks`.

    Args:
        engines: Opened files, by name.
        samples: Images to choose from; the first one is shown at the start.
    """
    answers = Handlers(engines)
    first_left, first_right = first_choices(engines)
    choices = [*engines, IMAGE_ALONE]
    with gr.Blocks(title="segdistill", analytics_enabled=False) as page:
        gr.Markdown("## segdistill: one image, two networks")
        comparison = gr.State()
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                image = gr.Image(
                    value=str(samples[0]) if samples else None,
                    type="filepath",
                    sources=["upload", "webcam", "clipboard"],
                    label="Image",
                    height=260,
                    buttons=[],
                    elem_id="image",
                )
                image.preprocess = _uploaded_file  # Gradio's own opens it, and prints a traceback of a broken one
                if samples:
                    gr.Examples([[str(sample)] for sample in samples], image, label="Samples", elem_id="samples")
                left = gr.Dropdown(choices, value=first_left or IMAGE_ALONE, label="Left", elem_id="left")
                right = gr.Dropdown(choices, value=first_right, label="Right", elem_id="right")
            with gr.Column(scale=5, min_width=300):
                slider = gr.ImageSlider(
                    label="Left | right", interactive=False, max_height=560, buttons=["fullscreen"], elem_id="slider"
                )
                status = gr.HTML(WELCOME, elem_id="status")
                repeat = gr.Button(f"Time {CALLS} calls of each", size="sm", elem_id="repeat")
                with gr.Row():
                    opacity = gr.Slider(0, 1, OPACITY, step=0.05, label="Opacity", min_width=200, elem_id="opacity")
                    view = gr.Radio([OVERLAY, DIFFERING], value=OVERLAY, label="Show", min_width=200, elem_id="view")
                colours = answers.legend(left.value, right.value)
                known = gr.State(list(colours))
                classes = gr.CheckboxGroup(
                    list(colours), value=list(colours), label="Classes", visible=bool(colours), elem_id="classes"
                )
                style = gr.HTML(legend_style(colours), padding=False)
        drawing = [opacity, view]
        timed = {"concurrency_limit": 1, "concurrency_id": "networks"}  # one at a time, or they would slow each other
        gr.on(
            [page.load, image.change, left.change, right.change],
            answers.segment,
            [image, left, right, known, classes, *drawing],
            [comparison, slider, status, known, classes, style],
            show_progress_on=[slider],
            trigger_mode="always_last",  # what is chosen while the networks run counts
            **timed,
        )
        gr.on(
            [opacity.change, view.input, classes.input],
            answers.draw,
            [comparison, left, right, classes, *drawing],
            slider,
            show_progress="hidden",
            trigger_mode="always_last",
        )
        repeat.click(answers.repeat, [comparison, left, right], status, show_progress_on=[repeat], **timed)
    return page


def _uploaded_file(payload: Any) -> str | None:
    """Return the path of the file that an image component holds; None if it is empty."""
    return None if payload is None else payload.path
