"""Attack, the quick part: a mark in every element of every kind of file, and none in what is read from it.

`test_leaks_everywhere.py` runs the whole system on such files and searches all that it writes.
"""

import base64
import errno
import gzip
import hashlib
import io
import json
import logging
import os
import sqlite3
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from marks import AGE, GREEK, JAPANESE, LATIN, STUDY_YEAR, Marks, of_kind
from planted_studies import (
    SIDE,
    STRIP,
    TEXT_VRS,
    elements,
    planted,
    ultrasound,
    write,
    write_archive,
    write_listed,
)  # fmt: skip
from pydicom.dataset import Dataset

from radsearch.index.schema import Payload, payload_of
from radsearch.privacy import Pseudonymizer
from radsearch.reading import dicom, facts, identify, read
from radsearch.reading.manifest import read_rows
from radsearch.rendering import render


@pytest.fixture(scope="module")
def marks() -> Marks:
    return Marks()


@pytest.fixture(scope="module")
def archive(marks: Marks, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_archive(marks, tmp_path_factory.mktemp("archive"))


def payloads(path: Path, pseudonymizer: Pseudonymizer) -> list[Payload]:
    """All that an ingest would keep of a file, but for the picture."""
    identity = identify(path, pseudonymizer, name=str(path))
    images = (replace(one, facts=replace(one.facts, instance=identity.instance)) for one in read(path, pseudonymizer))
    return [payload_of(one, content=identity.content, described="", models=()) for one in images]


# What is planted


def test_every_element_of_text_in_the_dictionary_has_a_mark(marks: Marks) -> None:
    planted_keywords = {one.keyword for one in elements(*TEXT_VRS)}
    assert len(planted_keywords) > 2500
    assert {"PatientName", "InstitutionName", "StudyDescription", "DeviceSerialNumber"} <= planted_keywords
    whole = planted(marks)
    assert all(str(whole[one.tag].value) == marks.of(one.vr, one.keyword) for one in elements(*TEXT_VRS))


def test_a_planted_file_holds_its_marks(archive: dict[str, Path], marks: Marks) -> None:
    found = " ".join(one.words for one in marks.found_in_file(archive["ct"]))
    wanted = (
        "PatientName",
        "PatientID 2",
        "preamble",
        "behind the end",
        "private 0009",
        "SourceApplicationEntityTitle",
    )
    assert [where for where in wanted if where not in found] == []
    assert "zTXt" in " ".join(one.words for one in marks.found_in_file(archive["png"]))
    assert "NIfTI extension 4" in " ".join(one.words for one in marks.found_in_file(archive["packed nifti"]))


# The search itself


def zipped(text: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("x", text)
    return stream.getvalue()


@pytest.mark.parametrize("word", ["ascii", LATIN, JAPANESE, GREEK])
@pytest.mark.parametrize(
    "hide",
    [
        pytest.param(lambda word: f"x{word}y".encode(), id="utf-8"),
        pytest.param(lambda word: (word.lower() if word.isascii() else word).encode(), id="small"),
        pytest.param(lambda word: f"x{word}y".encode("utf-16-le"), id="utf-16-le"),
        pytest.param(lambda word: f"x{word}y".encode("utf-16-be"), id="utf-16-be"),
        pytest.param(lambda word: f"{word}y".encode().hex().encode(), id="hex"),
        pytest.param(lambda word: f"{word}y".encode().hex().upper().encode(), id="HEX"),
        pytest.param(lambda word: base64.b64encode(f"{word}y".encode()), id="base64"),
        pytest.param(lambda word: base64.b64encode(f"x{word}y".encode()), id="base64, one byte on"),
        pytest.param(lambda word: base64.urlsafe_b64encode(f"xx{word}y".encode()), id="base64, two bytes on"),
        pytest.param(lambda word: json.dumps(word).encode(), id="JSON"),
        pytest.param(lambda word: urllib.parse.quote(word).encode(), id="address"),
        pytest.param(lambda word: word.encode("ascii", "xmlcharrefreplace"), id="HTML"),
        pytest.param(lambda word: b"..." + zlib.compress(word.encode()) + b"...", id="zlib"),
        pytest.param(lambda word: gzip.compress(word.encode()), id="gzip"),
        pytest.param(zipped, id="zip"),
        pytest.param(lambda word: b"src='data:;base64," + base64.b64encode(zipped(word)) + b"'", id="zip in HTML"),
    ],
)
def test_a_mark_is_found_in_whatever_form(marks: Marks, word: str, hide: Callable[[str], bytes]) -> None:
    assert of_kind(marks.found_in(hide(marks.text("somewhere") if word == "ascii" else word)), "content", "name")


@pytest.mark.parametrize(
    "hide",
    [
        lambda mark: mark["day"],
        lambda mark: f"{mark['day'][:4]}-{mark['day'][4:6]}-{mark['day'][6:]}",
        lambda mark: f"{mark['day'][6:]}.{mark['day'][4:6]}.{mark['day'][:4]}",
        lambda mark: f"{mark['day'][4:6]}/{mark['day'][6:]}/{mark['day'][:4]}",
        lambda mark: mark["moment"],
        lambda mark: mark["time"],
        lambda mark: f"{mark['time'][:2]}:{mark['time'][2:4]}:{mark['time'][4:]}",
        lambda mark: json.dumps([1.5, float(mark["number"])]),
        lambda mark: json.dumps([int(mark["whole number"])]),
        lambda mark: mark["UID"],
        lambda _: AGE,
    ],
)
def test_dates_times_and_numbers_are_found(marks: Marks, hide: Callable[[dict[str, str]], str]) -> None:
    vrs = {"day": "DA", "moment": "DT", "time": "TM", "number": "DS", "whole number": "IS", "UID": "UI"}
    one_each = {what: marks.of(vr, f"some {what}") for what, vr in vrs.items()}
    assert of_kind(marks.found_in(f"a {hide(one_each)} b".encode()), "content")
    assert of_kind(marks.found_in(f"a {hide(one_each)} b".encode("utf-16-le")), "content")


def test_plain_hashes_names_secrets_and_rows_of_databases_are_found(marks: Marks, tmp_path: Path) -> None:
    mark = marks.text("hashed")
    for name in ("md5", "sha1", "sha256"):
        assert of_kind(marks.found_in(hashlib.new(name, mark.encode()).hexdigest().encode()), "content")
    assert of_kind(marks.found_in(base64.b64encode(marks.secret("KEY").encode())), "secret")
    with sqlite3.connect(tmp_path / marks.name("base")) as base:
        base.execute("CREATE TABLE kept (word TEXT, packed BLOB)")
        base.execute("INSERT INTO kept VALUES ('x', ?)", (mark.encode("utf-16-le"),))
    base.close()
    (found,) = marks.found_below(tmp_path).values()
    assert of_kind(found, "content")
    assert of_kind(found, "name")


def test_what_cannot_be_read_is_not_taken_for_a_file_without_marks(
    marks: Marks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kept"
    with file.open("wb") as stream:
        stream.seek(1 << 20)  # behind a hole
        stream.write(marks.text("somewhere").encode())
    assert of_kind(marks.found_in_file(file), "content")
    monkeypatch.setattr(os, "lseek", lambda *_: (_ for _ in ()).throw(OSError(errno.EINVAL, "no holes are known here")))
    with pytest.raises(OSError, match="no holes"):
        marks.found_in_file(file)


def test_what_holds_no_mark_has_none(marks: Marks) -> None:
    harmless = json.dumps({"year": STUDY_YEAR, "age": 90, "when": "2026-01-02T03:04:05.678901", "n": 1987300000})
    assert marks.found_in(harmless.encode()) == set()


def test_no_logger_set_to_debug_writes_the_password_of_prefect_s_server(caplog: pytest.LogCaptureFixture) -> None:
    import flows  # noqa: F401 -- for what importing it does

    with caplog.at_level(logging.DEBUG):
        assert not logging.getLogger("websockets.client").isEnabledFor(logging.DEBUG)


# What is read


def test_no_kind_of_file_lets_a_mark_into_a_payload(
    archive: dict[str, Path], marks: Marks, pseudonymizer: Pseudonymizer
) -> None:
    for kind, path in archive.items():
        kept = payloads(path, pseudonymizer)
        assert kept, kind
        assert marks.found_in(json.dumps(kept).encode()) == set(), kind


def test_of_marks_alone_the_capped_age_and_the_year_are_all_that_leaves(
    archive: dict[str, Path], pseudonymizer: Pseudonymizer
) -> None:
    (kept,) = payloads(archive["all marks"], pseudonymizer)
    ours = {"patient", "study", "series", "instance", "content", "described", "frame", "frames", "rows", "columns"}
    assert {name: value for name, value in kept.items() if name not in ours} == {"age": 90, "year": STUDY_YEAR}


def test_beside_marks_the_known_words_leave(archive: dict[str, Path], pseudonymizer: Pseudonymizer) -> None:
    (kept,) = payloads(archive["ct"], pseudonymizer)
    wanted = {"modality": "CT", "region": "chest", "sex": "F", "manufacturer": "Siemens", "age": 90}
    assert {name: kept[name] for name in wanted} == wanted


def test_identifiers_of_a_manifest_become_pseudonyms(
    marks: Marks, tmp_path: Path, pseudonymizer: Pseudonymizer
) -> None:
    rows = list(read_rows(write_listed(marks, tmp_path), pseudonymizer.pseudonym, dataset=None, split=None))
    assert len(rows) == 15
    assert marks.found_in(json.dumps([[asdict(row.facts), row.reason] for row in rows]).encode()) == set()


def test_what_is_burned_in_beside_the_regions_of_ultrasound_is_not_in_the_picture(
    archive: dict[str, Path], pseudonymizer: Pseudonymizer
) -> None:
    """The hook for what is burned into other pictures: text in pixels cannot be searched for, a pattern can."""
    (image,) = read(archive["ultrasound"], pseudonymizer)
    assert image.pixels[:STRIP].max() == 255
    assert render(image).shape[:2] == (SIDE, SIDE)
    assert render(image).max() < 128


# The attack can succeed: with one mistake in the allow-list each, a mark gets out and is found


def mistaken_manufacturer(text: str) -> str:
    return text


def mistaken_extra(keyword: str) -> Callable[[Dataset, Pseudonymizer], facts.Facts]:
    right = facts.read_facts

    def read_facts(header: Dataset, pseudonymizer: Pseudonymizer) -> facts.Facts:
        return replace(right(header, pseudonymizer), extra={"institution": str(header.get(keyword, ""))})

    return read_facts


def mistaken_term(header: Dataset, keyword: str, _allowed: frozenset[str]) -> str:
    return str(header.get(keyword, ""))


@pytest.mark.parametrize(
    ("name", "mistake", "where"),
    [
        ("manufacturer_word", mistaken_manufacturer, "Manufacturer beside a known word"),
        ("_term", mistaken_term, "ImageLaterality"),
        ("_patient", lambda header, _: header.PatientID, "PatientID 2"),
        ("_pseudonym", lambda header, keyword, *_: str(header[keyword].value), "StudyInstanceUID 2"),
        ("_year", lambda header: header.StudyDate, "StudyDate"),
        ("_body_part", lambda header, _: header.AnatomicRegionSequence[0].CodeMeaning, "AnatomicRegionSequence"),
    ],
)  # fmt: skip
def test_one_mistake_in_the_allow_list_is_found(  # noqa: PLR0913, PLR0917 -- three say the mistake, three are fixtures
    name: str,
    mistake: Callable[..., object],
    where: str,
    archive: dict[str, Path],
    marks: Marks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(facts, name, mistake)
    found = marks.found_in(json.dumps(payloads(archive["ct"], Pseudonymizer(b"x" * 40))).encode())
    assert where in " ".join(of_kind(found, "content"))


@pytest.mark.parametrize("keyword", ["InstitutionName", "StudyDescription", "PatientName", "AccessionNumber"])
def test_one_element_too_many_in_extra_is_found(
    keyword: str, archive: dict[str, Path], marks: Marks, monkeypatch: pytest.MonkeyPatch, pseudonymizer: Pseudonymizer
) -> None:
    monkeypatch.setattr(dicom, "read_facts", mistaken_extra(keyword))
    monkeypatch.setattr(dicom, "_ALL_TAGS", (*dicom._ALL_TAGS, keyword))
    found = marks.found_in(json.dumps(payloads(archive["ct"], pseudonymizer)).encode())
    assert keyword in " ".join(of_kind(found, "content"))


def test_a_picture_that_keeps_its_burned_in_strip_is_found_out(marks: Marks, tmp_path: Path) -> None:
    dataset = ultrasound(marks, 71)
    del dataset.SequenceOfUltrasoundRegions
    (image,) = read(write(dataset, tmp_path / "x", marks), Pseudonymizer(b"x" * 40))
    assert render(image).max() == 255
