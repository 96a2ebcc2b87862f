"""`radsearch reveal`: the way back to a file, which leaves a line in the audit before anything is said."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radsearch.__main__ import main
from radsearch.catalogue import Catalogue
from radsearch.index import IndexedImage, open_index
from radsearch.settings import Settings
from radsearch.study import Fingerprint

MODEL = Fingerprint("tiny", "sha256:0", 4, "none", "float32", 1)
KNOWN, LOST, PUBLIC = (f"00000000-0000-0000-0000-00000000000{number}" for number in range(3))
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def reveal(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], "check")
        index.write([
            IndexedImage(point, {"tiny": np.eye(4, dtype=np.float32)[0]}, {"instance": point, "dataset": name})
            for point, name in ((KNOWN, "ward"), (LOST, "ward"), (PUBLIC, "nih14"))
        ])  # fmt: skip
    monkeypatch.setenv("RADSEARCH_INDEX", settings.index)
    monkeypatch.setenv("RADSEARCH_CATALOGUE", str(tmp_path / "catalogue.sqlite"))
    Catalogue(tmp_path / "catalogue.sqlite").record([(KNOWN, Path("/archive/a.dcm")), (PUBLIC, Path("/nih/b.png"))])

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["reveal", *arguments])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


def audited(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_file_is_revealed_and_the_audit_beside_the_catalogue_has_it(reveal: Run, tmp_path: Path) -> None:
    assert reveal(KNOWN) == (0, f"{KNOWN}\t/archive/a.dcm\t-\n", "")
    (told,) = audited(tmp_path / "catalogue.sqlite.audit.jsonl")
    assert (told["action"], told["ids"]) == ("reveal", [KNOWN])
    assert "/archive" not in json.dumps(told)


def test_a_name_gives_a_terminal_no_orders(reveal: Run, tmp_path: Path) -> None:
    name = f"/archive/\x1b]0;owned\x07\n{LOST}\t/x\u202e\udcffü.dcm"
    Catalogue(tmp_path / "catalogue.sqlite").record([(KNOWN, Path(name))])
    out = reveal(KNOWN)[1]
    assert out == f"{KNOWN}\t/archive/\\x1b]0;owned\\x07\\n{LOST}\\t/x\\u202e\\udcffü.dcm\t-\n"
    assert json.loads(reveal(KNOWN, "--json")[1])["file"] == name


def test_the_audit_of_the_settings_is_taken(reveal: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADSEARCH_AUDIT", str(tmp_path / "audit.jsonl"))
    reveal(KNOWN, "--json")
    assert [one["ids"] for one in audited(tmp_path / "audit.jsonl")] == [[KNOWN]]
    assert not (tmp_path / "catalogue.sqlite.audit.jsonl").exists()


def test_nothing_is_said_where_the_audit_cannot_be_written(
    reveal: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADSEARCH_AUDIT", str(tmp_path))
    code, out, err = reveal(KNOWN)
    assert (code, out) == (2, "")
    assert "cannot be written" in err
    assert "/archive" not in err


def test_a_file_that_the_catalogue_does_not_know_is_said_to_be_unknown(reveal: Run, tmp_path: Path) -> None:
    code, out, _ = reveal(KNOWN, LOST.upper(), "--json")
    assert code == 1
    assert [json.loads(line)["file"] for line in out.splitlines()] == ["/archive/a.dcm", None]
    assert audited(tmp_path / "catalogue.sqlite.audit.jsonl")[0]["ids"] == [KNOWN, LOST]


def test_a_data_set_without_patients_leaves_no_line(
    reveal: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADSEARCH_OPEN_DATASETS", "chexpert, nih14")
    assert reveal(PUBLIC)[1] == f"{PUBLIC}\t/nih/b.png\t-\n"
    assert audited(tmp_path / "catalogue.sqlite.audit.jsonl") == []
    reveal(PUBLIC, KNOWN)
    assert audited(tmp_path / "catalogue.sqlite.audit.jsonl")[0]["ids"] == [KNOWN]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["no-id"], "look like UUIDs"), ([KNOWN.replace("0000-", "1111-")], "no indexed image")],
)
def test_what_is_no_indexed_image_is_an_error(reveal: Run, arguments: list[str], words: str) -> None:
    code, out, err = reveal(*arguments)
    assert (code, out) == (2, "")
    assert words in err


@pytest.mark.parametrize(("value", "words"), [("", "none is named"), ("/nowhere/catalogue.sqlite", "there is no cat")])
def test_without_the_catalogue_there_is_no_way_back(
    reveal: Run, monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    monkeypatch.setenv("RADSEARCH_CATALOGUE", value)
    code, out, err = reveal(KNOWN)
    assert (code, out) == (2, "")
    assert words in err
