"""How long does a visitor of the page wait, in a real browser, on an index of many images?

    .venv/bin/python benchmarks/page_latency.py --folder /tmp/page             # makes 100,000 images there, once
    .venv/bin/python benchmarks/page_latency.py --folder /tmp/page --images 20000 --rows first,filter

Chromium at 1440 x 1000 pixels, headless, on the same machine, of whose cores it takes its part. A wait is over
when what was asked for is there and the app is idle. The clocks begin with the click that asks; opening a list before
it does not count.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from page_data import environment_of, make_index, settings_in, write_slice
from page_served import PATIENCE_MS, one_browser, processor_seconds, resident_mb, settle, tab_of
from surroundings import surroundings, tell

from demo.serving import CHROMIUM, FLAGS, Served, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_CHOICES = ("CT", "XR", "MR", "US")
_VISITORS, _STEADY_SECONDS = 10, 30.0
_PACKAGES = ("streamlit", "numpy", "qdrant-edge-py", "torch", "playwright")
# Row -> its aim in seconds, at p95 but for the cold start's, and its words.
_ROWS = {
    "first": ("3", "first page, from the start of the process"),
    "filter": ("0.5", "Browse: filter to new grid"),
    "search": ("0.5", "Search: filter to new hits"),
    "upload": ("1.0", "CT slice to hits, model warm"),
    "next": ("0.5", "next lot in Browse"),
    "study": ("0.5", "open Study"),
    "ten": ("", "ten sessions, filter to new grid"),
}


@dataclass(slots=True)
class Waits:
    """Seconds by what was waited for, in the order of the table."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, seconds: float) -> None:
        self.seconds.setdefault(name, []).append(seconds)

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the index is made, and kept for the next run")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rows", default=",".join(_ROWS), help=f"of {','.join(_ROWS)} (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of repetitions")
    options = parser.parse_args()
    rows = options.rows.split(",")
    if not set(rows) <= set(_ROWS):
        parser.error(f"rows are {','.join(_ROWS)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    settings = settings_in(options.folder.resolve(), options.images)
    make_index(settings, options.images)
    waits = Waits()
    try:
        measure(environment_of(settings), rows, waits, options.scale)
    finally:  # what is known is not to be lost to an error in the last row
        report(waits, options)


def measure(environment: dict[str, str], rows: list[str], waits: Waits, scale: float) -> None:
    """All rows that are wanted, on one process but for the cold starts."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver, driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS) as browser:
        if "first" in rows:
            for _ in range(times(5, scale)):
                cold_start(browser, environment, waits)
        with served(**environment) as page_of:
            of_one = {
                "filter": (change_filter, 30),
                "search": (change_search, 30),
                "upload": (upload, 20),
                "next": (next_lot, 20),
                "study": (open_study, 20),
            }
            for name, (act, count) in of_one.items():
                if name in rows:
                    tell(_ROWS[name][1])
                    before = processor_seconds(page_of)
                    act(tab_of(browser), page_of, waits, times(count, scale))
                    used = (processor_seconds(page_of) - before) / times(count, scale)
                    waits.notes.append(
                        f"{_ROWS[name][1]}: {used:.2f} s of processor a time in the server, with what leads to it"
                    )
            if "ten" in rows:
                tell(_ROWS["ten"][1])
                ten_sessions(page_of, waits, _STEADY_SECONDS * scale)


def times(count: int, scale: float) -> int:
    """A number of repetitions."""
    return max(1, round(count * scale))


def cold_start(browser: "Browser", environment: dict[str, str], waits: Waits) -> None:
    """A new process; the machine's cache of files stays warm."""
    with served(**environment) as page_of:
        tab = tab_of(browser)
        begun = time.perf_counter()
        tab.goto(page_of.address)
        settle(tab, "invitation-grid")
        waits.add("first", page_of.seconds + time.perf_counter() - begun)
        waits.add("first: of it till the server answers", page_of.seconds)
        tab.context.close()


def change_filter(tab: "Page", page_of: Served, waits: Waits, count: int) -> None:
    """In Browse, one modality after the other in place of the one before."""
    tab.goto(f"{page_of.address}/browse?modality={_CHOICES[-1]}")
    settle(tab, "images")
    for number in range(count):
        waits.add("filter", _change(tab, "images", _CHOICES[number % 4], _CHOICES[number % 4 - 1]))
    tab.context.close()


def change_search(tab: "Page", page_of: Served, waits: Waits, count: int) -> None:
    """The same beside an indexed image that is searched by."""
    tab.goto(f"{page_of.address}/?modality={_CHOICES[-1]}")
    settle(tab, "invitation-grid")
    tab.locator(".rs-act-similar").first.click()
    settle(tab, "hits")
    for number in range(count):
        waits.add("search", _change(tab, "hits", _CHOICES[number % 4], _CHOICES[number % 4 - 1]))
    tab.context.close()


def _change(tab: "Page", grid: str, wanted: str, there: str) -> float:
    """Take a modality out, then measure the way from another one's click to its grid."""
    box = tab.locator(".st-key-field-modality")
    box.locator("[aria-label^='Clear']").click()
    settle(tab, grid, f"cards => !cards.length || !cards.every(one => /\\b{there}/.test(one))")
    box.locator("input").click()
    option = tab.get_by_role("option", name=f"{wanted} (")
    option.wait_for()
    begun = time.perf_counter()
    option.click()
    settle(tab, grid, f"cards => cards.length == 24 && cards.every(one => /^(\\d+ · )?{wanted}/.test(one))")
    return time.perf_counter() - begun


def upload(tab: "Page", page_of: Served, waits: Waits, count: int) -> None:
    """A new CT slice each time, after one that loads the model."""
    with tempfile.TemporaryDirectory() as folder:
        files = [write_slice(Path(folder) / f"{number}.dcm", number) for number in range(count + 1)]
        for number, file in enumerate(files):
            tab.goto(page_of.address)
            settle(tab, "invitation-grid")
            with waits.clock("upload" if number else "upload: the first, which loads the model"):
                tab.set_input_files("input[type=file]", file)
                settle(tab, "hits")
    tab.context.close()


def next_lot(tab: "Page", page_of: Served, waits: Waits, count: int) -> None:
    """Forth through Browse, without a filter."""
    tab.goto(f"{page_of.address}/browse")
    settle(tab, "images")
    for number in range(1, count + 1):
        with waits.clock("next"):
            tab.locator(".st-key-next button").click()
            tab.get_by_text(f"Images {24 * number + 1:,} to").wait_for()
            settle(tab, "images", "cards => cards.length == 24")
    tab.context.close()


def open_study(tab: "Page", page_of: Served, waits: Waits, count: int) -> None:
    """From an image in Browse to its own page with the others of its series."""
    for number in range(count):
        tab.goto(f"{page_of.address}/browse")
        settle(tab, "images")
        with waits.clock("study"):
            tab.locator(".rs-act-open").nth(number % 24).click()
            tab.locator(".st-key-similar-large").wait_for()
            settle(tab, "beside-study")
    tab.context.close()


def ten_sessions(page_of: Served, waits: Waits, seconds: float) -> None:
    """Ten visitors at once search by a file each, and then change the filter as fast as it answers."""
    with tempfile.TemporaryDirectory() as folder, one_browser() as browser:
        files = [write_slice(Path(folder) / f"{number}.dcm", 1000 + number) for number in range(_VISITORS + 1)]
        with ThreadPoolExecutor(1) as alone:  # in a thread of his own, as this one has a browser already
            alone.submit(_visit, page_of, browser, files.pop(), lambda: 0.0).result()  # the model is loaded, once
        resident = resident_mb(page_of)
        used = 0.0
        end = 0.0

        def begin() -> None:
            nonlocal used, end
            used, end = processor_seconds(page_of), time.perf_counter() + seconds

        ready = threading.Barrier(_VISITORS, begin, timeout=PATIENCE_MS / 1000)

        def until() -> float:
            ready.wait()
            return end

        with ThreadPoolExecutor(_VISITORS) as visitors:
            waited = list(visitors.map(lambda file: _visit(page_of, browser, file, until), files))
        used = processor_seconds(page_of) - used
    for one in (second for some in waited for second in some):
        waits.add("ten", one)
    changes = sum(map(len, waited))
    waits.notes.append(
        f"{_ROWS['ten'][1]}: {changes} changes, {used / changes:.2f} s of processor each in the server, which held "
        f"{resident:,.0f} MB after one visitor's search by a file and {resident_mb(page_of):,.0f} MB at the end"
    )


def _visit(page_of: Served, browser: str, file: Path, until: Callable[[], float]) -> list[float]:
    """Search by a file, wait for the others, change the filter; Playwright's objects belong to one thread."""
    from playwright.sync_api import sync_playwright

    waited: list[float] = []
    with sync_playwright() as driver:
        tab = tab_of(driver.chromium.connect_over_cdp(browser))
        tab.goto(page_of.address)
        settle(tab, "invitation-grid")
        tab.set_input_files("input[type=file]", file)
        settle(tab, "hits")
        tab.goto(f"{page_of.address}/browse?modality={_CHOICES[-1]}")
        settle(tab, "images")
        end = until()
        while time.perf_counter() < end:
            turn = len(waited) % len(_CHOICES)
            waited.append(_change(tab, "images", _CHOICES[turn], _CHOICES[turn - 1]))
        tab.context.close()
    return waited


def report(waits: Waits, options: argparse.Namespace) -> None:
    """Print the table."""
    print(f"{date.today()}; {surroundings(_PACKAGES)}; {options.images:,} images; {os.getloadavg()[1]:.1f} load\n")  # noqa: DTZ011
    print("| wait | p50, s | p95, s | n | aim, s |\n| --- | --- | --- | --- | --- |")
    for name, seconds in waits.seconds.items():
        key, _, more = name.partition(": ")
        p50, p95 = np.percentile(seconds, (50, 95))
        aim = "" if more else _ROWS[key][0]
        print(f"| {_ROWS[key][1]}{f': {more}' if more else ''} | {p50:.2f} | {p95:.2f} | {len(seconds)} | {aim} |")
    print("\n" + "\n".join(waits.notes))


if __name__ == "__main__":
    main()
