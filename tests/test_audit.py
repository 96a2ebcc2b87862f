"""The audit: lines that are only ever added, by several processes at once, to a file that others cannot read."""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from radsearch import audit
from radsearch.audit import Audit, audit_of
from radsearch.errors import RadSearchError
from radsearch.search import told_of
from radsearch.settings import Settings
from radsearch.study import SearchFilter, Span


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "new" / "audit.jsonl"


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_line_says_when_who_and_what(file: Path) -> None:
    Audit(file, "anna\nbert").note("open", ids=["one"])
    Audit(file, "cem").note("search", hits=[], filters={"region": ["Schädel"]})
    first, second = lines(file)
    assert first.pop("when").endswith("+00:00")
    assert first == {"who": "anna\nbert", "action": "open", "ids": ["one"]}
    assert second["filters"] == {"region": ["Schädel"]}
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_without_a_file_nothing_is_kept(tmp_path: Path, settings: Settings) -> None:
    audit_of(settings).note("search")
    assert list(tmp_path.iterdir()) == []


def test_the_settings_file_is_written_by_the_systems_user(settings: Settings, file: Path) -> None:
    audit_of(replace(settings, audit=file)).note("search")
    assert lines(file)[0]["who"] == audit.system_user() != ""


def test_the_systems_user_is_who_he_is_and_not_who_he_says(settings: Settings, file: Path, monkeypatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "somebody else")
    audit_of(replace(settings, audit=file)).note("reveal", ids=["one"])
    assert lines(file)[0]["who"] == Path(f"/proc/{os.getpid()}").owner()


def test_a_full_file_is_set_aside_and_none_is_lost(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LARGEST_BYTES", 300)
    for number in range(20):
        Audit(file, "anna").note("open", ids=[str(number)])
    kept = sorted(file.parent.glob("audit*.jsonl"))
    assert len(kept) > 3
    assert sorted(int(one["ids"][0]) for each in kept for one in lines(each)) == list(range(20))
    assert all(each.stat().st_size < 450 for each in kept)


def _write_many(file: Path, who: str) -> None:
    audit.LARGEST_BYTES = 20_000
    for number in range(100):
        Audit(file, who).note("search", hits=[str(number)] * 20)


def test_processes_that_write_at_once_lose_and_mix_nothing(file: Path) -> None:
    people = [f"person {number}" for number in range(4)]
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_write_many, [file] * 4, people))
    told = [one for each in file.parent.glob("audit*.jsonl") for one in lines(each)]
    for who in people:
        assert sorted(int(one["hits"][0]) for one in told if one["who"] == who) == list(range(100))


def test_a_line_that_was_cut_off_does_not_take_the_next_one_with_it(file: Path) -> None:
    Audit(file, "anna").note("open", ids=["one"])
    with file.open("ab") as stream:
        stream.write(b'{"when": "2026')
    Audit(file, "bert").note("reveal", ids=["two"])
    first, _, last = file.read_text().splitlines()
    assert (json.loads(first)["who"], json.loads(last)["who"]) == ("anna", "bert")


@pytest.mark.parametrize("what", ["folder", "link", "pipe"])
def test_what_is_no_file_is_refused(file: Path, what: str) -> None:
    file.parent.mkdir()
    if what == "folder":
        file.mkdir()
    elif what == "link":
        file.symlink_to(file.parent / "elsewhere")
    else:
        os.mkfifo(file)
        reader = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(RadSearchError, match="cannot be written"):
        Audit(file, "anna").note("open")
    assert not (file.parent / "elsewhere").exists()
    if what == "pipe":
        os.close(reader)


def test_a_filter_is_kept_without_patients_and_without_values_that_may_be_anything() -> None:
    where = SearchFilter(
        region=("chest",),
        any_of={"view": ("PA",), "patient": ("Doe",)},
        none_of={"manufacturer": ("x",)},
        age=Span(40),
        without_ids=("a",),
        without_patients=("b",),
    )
    assert told_of(where) == {
        "region": ["chest"],
        "any_of": {"view": ["PA"], "patient": "not told"},
        "none_of": {"manufacturer": "not told"},
        "age": [40, None],
    }
    assert told_of(SearchFilter()) == {}
