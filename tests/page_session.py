"""What a visitor does with the page in a real browser, with all that the page sends and shows kept."""

import base64
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpx
from browser import act, cards, opened, press
from prefect_server import wait
from whole_system import Stage

if TYPE_CHECKING:
    from playwright.sync_api import Page, WebSocket

_LAST_DRAWN = {
    "browse": ".st-key-images .rs-card",
    "map": ".stPlotlyChart .nsewdrag",
    "evaluation": ".st-key-one-run",
    "archive": ".st-key-start-ingest button",
    "collections": ".st-key-saved .rs-card",
}


def visit(stage: Stage, files: dict[str, Path]) -> None:
    """Search by a file, look at an original, browse, collect, take away, start an ingest."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    address = f"http://localhost:{port}"
    with stage.running("page", "ui", "--port", str(port)):
        wait(lambda: _answers(address), 120, stage.said / "page.log")
        with opened(address) as tab:
            _Visit(stage, tab).through(address, files)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/_stcore/health", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


class _Visit:
    def __init__(self, stage: Stage, tab: "Page") -> None:
        self._folder, self._tab, self._seen = stage.written / "page", tab, 0
        self._folder.mkdir()
        tab.on("websocket", self._listen)
        tab.on("request", lambda asked: self._keep("requests", asked.url))
        tab.on("console", lambda said: self._keep("console", said.text.encode()))

    def _listen(self, connection: "WebSocket") -> None:
        connection.on("framereceived", lambda frame: self._keep("received", frame))
        connection.on("framesent", lambda frame: self._keep("sent", frame))

    def _keep(self, name: str, words: str | bytes) -> None:
        with (self._folder / name).open("ab") as stream:
            stream.write((words.encode() if isinstance(words, str) else words) + b"\n")

    def _look(self, name: str) -> None:
        """Keep what is on the page now."""
        self._seen += 1
        self._tab.wait_for_timeout(300)
        file = self._folder / f"{self._seen}-{name}.html"
        file.write_text(f"{self._tab.url}\n{self._tab.title()}\n{self._tab.content()}")

    def _keep_picture(self, name: str) -> None:
        """The picture of the viewer, which stands in the page or has an address of its own."""
        address = self._tab.locator(".view img").first.get_attribute("src") or ""
        inline = address.partition("base64,")[2]
        content = base64.b64decode(inline) if inline else self._tab.request.get(urljoin(self._tab.url, address)).body()
        (self._folder / name).write_bytes(content)

    def _take(self, button: str) -> None:
        with self._tab.expect_download() as taken:
            press(self._tab, button)
        taken.value.save_as(self._folder / f"{button}-{taken.value.suggested_filename}")

    def through(self, address: str, files: dict[str, Path]) -> None:
        from playwright.sync_api import expect

        tab = self._tab
        tab.goto(address)  # again, so that its connection is listened to
        tab.set_input_files("input[type=file]", files["damaged query"])
        expect(tab.get_by_role("alert").first).to_contain_text("cannot be searched by")
        self._look("damaged")
        tab.set_input_files("input[type=file]", files["query"])
        cards(tab, "hits").not_to_have_count(0)
        self._look("hits")
        act(tab, "add")
        expect(tab.locator("[data-testid=stToast]").first).to_contain_text("Added to")
        act(tab, "open")
        expect(tab.locator(".view img")).to_be_visible()
        self._look("study")
        tab.goto(f"{address}/browse?modality=US")
        cards(tab, "images").to_have_count(1)
        act(tab, "open")
        expect(tab.locator(".view img")).to_be_visible()
        self._look("original")
        self._keep_picture("ultrasound")
        for name, drawn in _LAST_DRAWN.items():
            tab.goto(f"{address}/{name}")
            expect(tab.locator(drawn).first).to_be_visible()  # a page that is not drawn yet shows no mark
            self._look(name)
        self._take("take-zip")
        tab.goto(f"{address}/archive")
        tab.locator(".st-key-start-ingest button").click()
        expect(tab.get_by_test_id("stAlert").filter(has_text="The ingest of")).to_contain_text("refused")
        self._look("ingested")
