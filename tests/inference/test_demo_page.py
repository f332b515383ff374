"""The demo page in a browser, as somebody uses it; and the command that serves it."""

from __future__ import annotations

import io
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.exported import HEIGHT, PALETTE, WIDTH, Darkest, export_brightest, export_classes, sample_image
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("gradio", reason="the demo's package is not installed: pip install .[demo]")
api = pytest.importorskip("playwright.sync_api", reason="tests of the page need pip install playwright")
pytestmark = pytest.mark.slow

STARTED_S, ANSWERED_MS = 120, 60_000
COMMAND = [sys.executable, "-m", "segdistill.inference.commands", "demo"]


def heed_interrupts() -> None:
    """A shell starts what it runs in the background with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Served:
    """The command, running in a process of its own."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments), "--threads", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_interrupts,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()

    @property
    def address(self) -> str:
        return self.line.split()[0]

    def ended_by(self, number: signal.Signals) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=STARTED_S)
        return self.process.returncode, errors


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two networks that never agree, on colours of which one channel is the brightest."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "onnx").mkdir()
    export_classes(Darkest(), folder / "onnx" / "teacher.onnx")
    export_brightest(folder / "onnx" / "student.int8.onnx")
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[str]:
    served = Served(folder, "--port", free_port())
    yield served.address
    code, errors = served.ended_by(signal.SIGINT)
    assert (code, errors) == (0, "")  # after all that the tests uploaded


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    camera = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox", *camera])
        except api.Error as error:
            pytest.skip(f"no browser: apt-get install chromium, or playwright install chromium ({error})")
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, served: str) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(ANSWERED_MS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served)
    expect(page, "#status", "Upload an image")
    yield page
    page.close()
    assert not [url for url in asked if not url.startswith((served, "data:", "blob:"))]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Blocks of one colour each, large enough for their middle not to be blurred."""
    path = tmp_path / "image.png"
    Image.fromarray(sample_image(10 * HEIGHT, 10 * WIDTH)).save(path)
    return path


def expect(page: Any, selector: str, text: str) -> None:
    api.expect(page.locator(selector)).to_contain_text(text, timeout=ANSWERED_MS)


def upload(page: Any, path: Path, text: str) -> None:
    page.locator("#image input[type=file]").set_input_files(path)
    expect(page, "#status", text)


def drawn(page: Any, side: int) -> NDArray[np.int16]:
    """The image of a side of the slider, int16 [H, W, 3]."""
    address = page.locator("#slider img").nth(side).get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(page.request.get(address).body())).convert("RGB")).astype(np.int16)


def until_drawn(page: Any, side: int, before: str) -> NDArray[np.int16]:
    """The image of a side once it is another one than `before`, an address."""
    api.expect(page.locator("#slider img").nth(side)).not_to_have_attribute("src", before, timeout=ANSWERED_MS)
    return drawn(page, side)


def address(page: Any, side: int) -> str:
    found: str = page.locator("#slider img").nth(side).get_attribute("src")
    return found


def choose(page: Any, dropdown: str, name: str) -> None:
    page.locator(f"{dropdown} input").click()
    page.get_by_role("option", name=re.compile(rf"^\W*{re.escape(name)}( \(onnxruntime\))?$")).click()


def blocks(colours: NDArray[np.int16], image: Path, channel: int) -> NDArray[np.int16]:
    """The pixels in the middle of the blocks of a colour, int16 [N, 3]."""
    source = np.asarray(Image.open(image))
    height, width = source.shape[0] // 4, source.shape[1] // 4
    rows, columns = np.arange(4) * height + height // 2, np.arange(4) * width + width // 2
    centres = np.ix_(rows, columns)
    found: NDArray[np.int16] = colours[centres][source[centres].argmax(axis=2) == channel]
    return found


def test_an_uploaded_image_is_segmented_by_both_and_drawn_side_by_side(page: Any, image: Path) -> None:
    upload(page, image, "They differ on 100.00% of the pixels.")
    expect(page, "#status", "teacher, onnxruntime")
    expect(page, "#status", "student.int8, onnxruntime")
    for channel, colour in enumerate(PALETTE):
        half = np.array(colour) / 2 + 100 * np.eye(3)[channel]  # the blocks are 200 bright, the opacity is a half
        assert np.abs(blocks(drawn(page, 1), image, channel) - half).max() < 12  # the page is sent WebP
    assert np.abs(drawn(page, 0) - drawn(page, 1)).max() > 20


def test_the_slider_moves_the_border_between_the_two(page: Any, image: Path) -> None:
    upload(page, image, "They differ on")
    right = page.locator("#slider img").nth(1)
    api.expect(right).to_have_css("clip-path", re.compile(r"50%\)"))
    box = page.locator("#slider .inner").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 150, middle[1], steps=5)
    page.mouse.up()
    api.expect(right).not_to_have_css("clip-path", re.compile(r"50%\)"))


def test_another_engine_is_chosen_and_the_image_alone(page: Any, image: Path) -> None:
    upload(page, image, "They differ on 100.00%")
    choose(page, "#left", "student.int8")
    expect(page, "#status", "They differ on 0.00% of the pixels.")
    choose(page, "#left", "the image alone")
    expect(page, "#status", "One side is the image alone.")
    assert np.abs(blocks(drawn(page, 0), image, 0) - [200, 0, 0]).max() < 12


def test_a_class_that_is_left_out_shows_the_image(page: Any, image: Path) -> None:
    upload(page, image, "They differ on")
    before = address(page, 1)
    page.get_by_label("green", exact=True).uncheck()
    after = until_drawn(page, 1, before)
    assert np.abs(blocks(after, image, 1) - [0, 200, 0]).max() < 12
    assert np.abs(blocks(after, image, 0) - [105, 10, 15]).max() < 12
    choose(page, "#left", "student.int8")
    expect(page, "#status", "They differ on 0.00%")
    api.expect(page.get_by_label("green", exact=True)).not_to_be_checked()  # what was chosen stays


def test_opacity_and_the_view_of_differences_need_no_other_call(page: Any, image: Path) -> None:
    upload(page, image, "They differ on")
    before, calls = address(page, 1), page.locator("#status td.number").all_inner_texts()
    page.locator("#opacity input[type=number]").fill("0")
    page.locator("#opacity input[type=number]").press("Enter")
    assert np.abs(until_drawn(page, 1, before) - drawn(page, 0)).max() < 3  # both are the image
    before = address(page, 1)
    page.get_by_label("only where they differ").check()
    grey = until_drawn(page, 1, before)
    assert np.abs(grey - grey.mean(axis=2, keepdims=True)).max() < 12
    assert page.locator("#status td.number").all_inner_texts() == calls


def test_each_is_timed_on_twenty_calls(page: Any, image: Path) -> None:
    upload(page, image, "They differ on")
    page.locator("#repeat").click()
    api.expect(page.locator("#status td.number").nth(1)).to_have_text("20", timeout=ANSWERED_MS)


def test_a_snapshot_of_the_webcam_is_segmented(page: Any) -> None:
    page.get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_label("capture photo").click()
    expect(page, "#status", "They differ on")


@pytest.mark.parametrize("name", ["text.jpg", "<b>bold.jpg"])
def test_a_broken_file_is_named_on_the_page_and_the_next_one_is_segmented(
    page: Any, image: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("no image")
    upload(page, tmp_path / name, "is no image, or a damaged one; take a JPEG, PNG, WebP, BMP or TIFF")
    assert page.locator("#slider img").count() == 0
    assert page.locator("#status b").count() == 0
    page.get_by_label("Remove Image").click()
    expect(page, "#status", "Upload an image")
    upload(page, image, "They differ on")


def test_a_file_beyond_the_limit_is_refused_on_the_page(page: Any, tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(bytes(31 * 2**20))
    page.locator("#image input[type=file]").set_input_files(tmp_path / "large.jpg")
    expect(page, "[data-testid=toast-body]", "exceed the maximum allowed size of 30")


def test_nothing_is_cut_off_on_a_phone(page: Any, image: Path) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    upload(page, image, "They differ on")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    for box in (place.bounding_box() for place in page.locator("#status table, #slider, #classes, #view").all()):
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 400


def test_samples_of_a_folder_are_shown_and_the_first_one_is_segmented(
    browser: Any, folder: Path, image: Path, tmp_path: Path
) -> None:
    pack = tmp_path / "pack"
    shutil.copytree(folder / "onnx", pack)
    (pack / "samples" / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        shutil.copy(image, pack / "samples" / "images" / name)
    served = Served(pack, "--port", free_port())
    page = browser.new_page()
    page.goto(served.address)
    expect(page, "#status", "They differ on 100.00%")
    page.locator("#samples img").nth(1).click()
    api.expect(page.locator("#status td.number").nth(1)).to_have_text("2", timeout=ANSWERED_MS)
    page.close()
    assert served.ended_by(signal.SIGTERM) == (143, "")


def test_an_address_that_cannot_be_listened_on_is_one_line(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = f"error: 127.0.0.1, port {port}: cannot be listened on; take another --port or --host\n"
        assert refused(folder, "--port", str(port)) == told
    told = "error: 192.0.2.1, the ports from 7860 on: cannot be listened on; take another --port or --host\n"
    assert refused(folder, "--host", "192.0.2.1") == told  # an address of documents, which nobody has


def refused(*arguments: object) -> str:
    command = [*COMMAND, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=STARTED_S)
    assert (ended.returncode, ended.stdout) == (1, "")
    return ended.stderr
