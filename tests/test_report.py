"""Accounts and report: every file once, the figures add up, and only the owner may read them."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.report import Accounts, FileOutcome, Summary, read_refused, summarise, write_report
from radsearch.errors import SettingsError
from radsearch.study import Fingerprint

MODEL = Fingerprint("first", "sha256:1", 4, "8 px", "float32", 1)


@pytest.fixture
def accounts() -> Iterator[Accounts]:
    made = Accounts()
    yield made
    made.close()


@pytest.fixture
def full(accounts: Accounts) -> Accounts:
    """Recorded out of order, as chunks finish."""
    accounts.record([FileOutcome(3, "d.txt", "skipped", "not an image")])
    accounts.record([FileOutcome(0, "a.dcm", "indexed", images=3), FileOutcome(1, "b.png", "unchanged")])
    accounts.record(
        [FileOutcome(4, "e.dcm", "refused", "truncated file"), FileOutcome(2, "c.png", "indexed", images=1)]
    )
    accounts.record(
        [FileOutcome(5, "f.dcm", "refused", "truncated file"), FileOutcome(6, "g", "refused", "empty file")]
    )
    return accounts


def test_the_figures_are_the_sums_of_the_outcomes(full: Accounts) -> None:
    assert full.totals() == {"indexed": 2, "unchanged": 1, "skipped": 1, "refused": 3}
    assert full.done() == 7
    assert full.images() == 4
    assert full.reasons("refused") == {"truncated file": 2, "empty file": 1}
    assert list(full.reasons("refused")) == ["truncated file", "empty file"]


def test_files_are_listed_once_in_the_archives_order(full: Accounts) -> None:
    assert [file for file, _, _ in full.files()] == ["a.dcm", "b.png", "c.png", "d.txt", "e.dcm", "f.dcm", "g"]


def test_a_later_outcome_of_a_file_takes_the_place_of_its_earlier_one(full: Accounts) -> None:
    full.record([FileOutcome(4, "e.dcm", "indexed", images=2)])
    assert full.done() == 7
    assert full.totals()["refused"] == 2
    assert full.images() == 6


def test_the_first_claim_of_an_instance_holds(accounts: Accounts) -> None:
    assert accounts.claim("instance", "content", 0) is None
    assert accounts.claim("instance", "another content", 1) == "content"
    assert accounts.claim("another instance", "content", 2) is None


def test_the_next_in_order_gets_the_chance_that_an_unreadable_file_lost(accounts: Accounts) -> None:
    for position in (0, 5, 3):
        accounts.claim("instance", f"content {position}", position)
    assert accounts.second_chances() == frozenset()
    accounts.record([FileOutcome(0, "a", "refused", "truncated file")])
    assert accounts.second_chances() == {3}
    assert accounts.claim("instance", "content 3", 3) is None
    accounts.record([FileOutcome(3, "b", "refused", "truncated file")])
    assert accounts.second_chances() == {5}
    accounts.claim("instance", "content 5", 5)
    accounts.record([FileOutcome(5, "c", "indexed", images=1)])
    assert accounts.second_chances() == frozenset()


@pytest.mark.parametrize(
    ("indexed", "unchanged", "skipped", "refused", "expected"),
    [
        (2, 0, 0, 0, 0), (0, 2, 1, 0, 0), (1, 0, 0, 1, 1), (0, 1, 0, 1, 1), (0, 0, 0, 1, 2), (0, 0, 1, 0, 2),
        (0, 0, 0, 0, 2),
    ],
)  # fmt: skip
def test_the_exit_code_tells_done_from_partly_done_from_not_done(
    indexed: int, unchanged: int, skipped: int, refused: int, expected: int
) -> None:
    reasons = ({"why": number} if number else {} for number in (skipped, refused))
    found = indexed + unchanged + skipped + refused
    assert Summary(found, indexed, unchanged, *reasons, indexed, 1.0, (MODEL,)).exit_code == expected


def test_the_summary_says_the_figures_in_words(full: Accounts) -> None:
    assert summarise(full, [MODEL], 2.0).lines() == [
        "7 files: 2 indexed (4 images), 1 unchanged, 1 skipped, 3 refused; 2.0 s, 2.0 images/s",
        "  skipped: 1 x not an image",
        "  refused: 2 x truncated file",
        "  refused: 1 x empty file",
    ]


def test_the_report_keeps_its_contract(full: Accounts, tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.json"
    write_report(path, summarise(full, [MODEL], 2.0), full)
    report = json.loads(path.read_text())
    files = report.pop("files")
    models = report.pop("models")
    assert report == {
        "found": 7,
        "indexed": 2,
        "unchanged": 1,
        "skipped": {"not an image": 1},
        "refused": {"truncated file": 2, "empty file": 1},
        "images": 4,
        "images_taken_out": 0,
        "seconds": 2.0,
        "images_per_second": 2.0,
        "model": models[0],
    }
    assert models[0]["model"] == "first"
    assert len(files) == report["found"]
    assert files[0] == {"file": "a.dcm", "outcome": "indexed", "reason": None}
    assert files[4] == {"file": "e.dcm", "outcome": "refused", "reason": "truncated file"}


def test_a_report_of_nothing_is_still_json(accounts: Accounts, tmp_path: Path) -> None:
    write_report(tmp_path / "report.json", summarise(accounts, [MODEL], 0.0), accounts)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["found"], report["files"], report["images_per_second"]) == (0, [], 0.0)


def test_only_its_owner_may_read_a_report(full: Accounts, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("an older one")
    path.chmod(0o644)
    write_report(path, summarise(full, [MODEL], 2.0), full)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_report_that_cannot_be_written_is_an_error(full: Accounts, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.json", summarise(full, [MODEL], 2.0), full)


def test_the_refused_files_of_a_report_are_read_back(full: Accounts, tmp_path: Path) -> None:
    write_report(tmp_path / "report.json", summarise(full, [MODEL], 2.0), full)
    assert read_refused(tmp_path / "report.json") == {"e.dcm", "f.dcm", "g"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": [{"file": "a"}]}', '{"files": 3}', "null"])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(SettingsError, match="no report of an ingest"):
        read_refused(tmp_path / "report.json")


def test_a_missing_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_refused(tmp_path / "none.json")
