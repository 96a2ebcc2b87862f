"""Attack: the whole system, run for real on planted studies; then every file that it has written is searched.

May name files, by contract, for their owner's eyes only: the catalogue, ingest reports, an inbox's memory, and a run
over published vectors, whose manifest names them. A visitor's browser tells the page what the files are called that it
is given. Nothing may hold what is in a file.
"""

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from browser import NEEDED
from marks import Find, of_kind
from page_session import visit
from PIL import Image
from planted_studies import SIDE
from whole_system import Stage, command_line, flows, mutated_code, payloads, plant, published_vectors

pytestmark = NEEDED
IN_ARCHIVE, IN_MANIFEST, IN_INBOX = 19, 12, 1  # images
BY_BROWSER = "page/sent"
BRIGHTEST_INSIDE = 160
REFUSALS = 1  # exit code of an ingest that refused some files


@dataclass(frozen=True)
class Ran:
    """What is left of a run. found, named: marks by file, in what may hold none, and in what may name files."""

    stage: Stage
    images: int
    found: dict[str, set[Find]]
    named: dict[str, set[Find]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    with pytest.MonkeyPatch.context() as patch:
        stage = Stage(tmp_path_factory.mktemp("stage"))
        patch.setenv("RADSEARCH_SECRET", stage.environment["RADSEARCH_SECRET"])
        files = plant(stage)
        command_line(stage, files)
        published_vectors(stage)
        flows(stage)
        visit(stage, files)
        images = payloads(stage)
    yield Ran(stage, images, stage.marks.found_below(stage.written), stage.marks.found_below(stage.private))
    (stage.written / "snapshot").unlink()  # hundreds of megabytes, of which pytest would keep three


def kinds(found: dict[str, set[Find]], *wanted: str) -> dict[str, list[str]]:
    words = {file: sorted(of_kind(finds, *wanted)) for file, finds in found.items()}
    return {file: some[:5] for file, some in words.items() if some}


def test_all_of_it_was_run_and_did_its_work(ran: Ran) -> None:
    expected = dict.fromkeys(ran.stage.codes, 0) | dict.fromkeys(("ingest", "ingest-listed"), REFUSALS)
    failing = (
        "ingest-again", "search-damaged", "search-missing", "search-nowhere", "search-refused", "flow-ingest.missing",
        "flow-ingest.refused",
    )  # fmt: skip
    assert ran.stage.codes == expected | dict.fromkeys(failing, 2)
    assert ran.images == IN_ARCHIVE + IN_MANIFEST + IN_INBOX
    written = [path for path in ran.stage.written.rglob("*") if path.is_file()]
    assert len(written) > 150
    expected_files = {
        "prefect.db",
        "page.log",
        "received",
        "report.html",
        "comparison.html",
        "snapshot",
        "metrics.json",
        "audit.jsonl",
    }
    assert expected_files <= {path.name for path in written}


def test_nothing_that_was_written_holds_a_mark(ran: Ran) -> None:
    assert kinds(ran.found, "content") == {}
    assert set(kinds(ran.found, "name")) <= {BY_BROWSER}


def test_nothing_that_was_written_holds_a_secret(ran: Ran) -> None:
    assert kinds(ran.found, "secret") == kinds(ran.named, "secret") == {}


def test_what_names_files_holds_nothing_of_their_content(ran: Ran) -> None:
    assert kinds(ran.named, "content") == {}
    for place in ("catalogue.sqlite", "reports/by-hand.json", "reports/flow.json", "inbox-state/last-ingest.json"):
        assert of_kind(ran.named[place], "name"), place


def test_what_names_files_is_for_its_owner_only(ran: Ran) -> None:
    def is_open(path: Path) -> bool:
        inside = [path, *path.relative_to(ran.stage.private).parents]
        ways = [path, *(ran.stage.private / folder for folder in inside[1:-1])]
        return all(stat.S_IMODE(way.stat().st_mode) & 0o077 for way in ways)

    assert [name for name in ran.named if is_open(ran.stage.private / name)] == []


def test_pictures_vectors_and_judged_queries_are_for_their_owner_only(ran: Ran) -> None:
    places = ("index", "index/thumbnails", "snapshot", "runs/one", "settings", "audit/audit.jsonl")
    assert [place for place in places if (ran.stage.written / place).stat().st_mode & 0o077] == []


def test_no_program_leaves_a_temporary_file_behind(ran: Ran) -> None:
    assert [path.name for path in (ran.stage.written / "tmp").rglob("*")] == []


def test_no_picture_shows_what_is_burned_in_beside_the_regions_of_ultrasound(ran: Ran) -> None:
    """The strip is of black and white, the region of dark grey; the page's viewer shows the original."""
    points = json.loads((ran.stage.said / "payloads.json").read_text())
    names = [payload["thumbnail"] for _, payload in points if payload.get("modality") == "US"]
    assert len(names) == 1
    (thumbnail,) = (ran.stage.index / "thumbnails").glob(f"*/{names[0]}.webp")
    for file in (thumbnail, ran.stage.written / "page" / "ultrasound"):
        picture = np.asarray(Image.open(file).convert("L"))
        assert SIDE / 2 < len(picture) <= 4 * SIDE
        assert picture.max() < BRIGHTEST_INSIDE


def test_the_search_finds_what_a_mistake_lets_out(tmp_path: Path) -> None:
    """A fact too many, a message that quotes a name, a thumbnail under a file's name: each in a copy of the code."""
    stage = Stage(tmp_path / "stage")
    files = plant(stage)
    kept = "            name = self._thumbnails.write(image.thumbnail)\n"
    code = mutated_code(
        tmp_path / "code",
        {
            "radsearch/reading/facts.py": (
                'manufacturer_word(text_of(header, "Manufacturer"))', 'text_of(header, "Manufacturer")'
            ),
            "ingest/report.py": (
                "        rows = [(item.position",
                "        import sys\n        sys.stderr.write(f'{outcomes}\\n')\n        rows = [(item.position",
            ),
            "ingest/pipeline.py": (
                kept, f"{kept}            (self._thumbnails.folder / job.decode.source.path.name).touch()\n"
            ),
        },
    )  # fmt: skip
    stage.run("ingest", "-m", "ingest", str(files["ct"].parent), more={"PYTHONPATH": str(code)})
    payloads(stage)
    found = stage.marks.found_below(stage.written)
    assert "Manufacturer beside a known word" in " ".join(of_kind(found["said/payloads.json"], "content"))
    assert of_kind(found["said/ingest.err"], "name")
    assert any(file.startswith("index/thumbnails/") and of_kind(finds, "name") for file, finds in found.items())
    assert any(file.startswith("index/shard/") and of_kind(finds, "content") for file, finds in found.items())
