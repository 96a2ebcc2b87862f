"""The manifest: which rows are used, what they say, and why others are not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from radsearch.errors import ManifestError
from radsearch.privacy import Pseudonymizer
from radsearch.reading.manifest import ManifestRow, read_rows
from radsearch.study import Facts, Labels

COLUMNS = "filepath,patient,modality,region,labels"
Reader = Callable[..., list[ManifestRow]]


@pytest.fixture
def read_text(tmp_path: Path, pseudonymizer: Pseudonymizer) -> Reader:
    def read(text: "str | bytes", dataset: str | None = None, split: str | None = None) -> list[ManifestRow]:
        manifest = tmp_path / "manifest.csv"
        manifest.write_bytes(text if isinstance(text, bytes) else text.encode())
        return list(read_rows(manifest, pseudonymizer.pseudonym, dataset=dataset, split=split))

    return read


def test_a_full_row_becomes_facts(read_text: Reader, pseudonymizer: Pseudonymizer) -> None:
    columns = COLUMNS + ",study,series,dataset,split,view,sex,age,slice"
    (row,) = read_text(
        f"{columns}\nimages/a.png,P7,ct,Chest, nodule ; effusion;nodule,S1,R1,scans,val,AP,female,045Y,12\n"
    )
    assert row.filepath == "images/a.png"
    assert row.reason is None
    assert row.facts == Facts(
        labels=Labels("CT", "chest", ("nodule", "effusion")),
        patient=pseudonymizer.pseudonym("patient", "scans", "P7"),
        study=pseudonymizer.pseudonym("study", "scans", "S1"),
        series=pseudonymizer.pseudonym("series", "scans", "R1"),
        dataset="scans",
        split="val",
        view="AP",
        sex="F",
        age=45,
        extra={"slice": "12"},
    )


def test_what_a_row_leaves_empty_is_unknown(read_text: Reader) -> None:
    (row,) = read_text(f"{COLUMNS},age,slice\na.png,,,,,,\n")
    assert row == ManifestRow("a.png", Facts())


def test_the_options_fill_in_what_a_row_does_not_say(read_text: Reader) -> None:
    rows = read_text(f"{COLUMNS},dataset,split\na.png,,,,,,\nb.png,,,,,own,train\n", dataset="scans", split="test")
    assert [(row.facts.dataset, row.facts.split) for row in rows] == [("scans", "test"), ("own", "train")]


def test_the_same_patient_number_in_two_data_sets_is_two_patients(read_text: Reader) -> None:
    first, second, third = read_text(f"{COLUMNS},dataset\na,1,,,,one\nb,1,,,,two\nc,1,,,,one\n")
    assert first.facts.patient == third.facts.patient
    assert first.facts.patient != second.facts.patient


def test_a_patients_number_does_not_show_in_the_facts(read_text: Reader) -> None:
    (row,) = read_text(f"{COLUMNS},study,series\na.png,MRN-4711,,,,ST-4712,SE-4713\n")
    assert "471" not in str(row.facts).replace(str(row.facts.patient), "")


def test_a_byte_order_mark_and_quoted_cells_are_read(read_text: Reader) -> None:
    (row,) = read_text(b"\xef\xbb\xbf" + f'{COLUMNS}\r\n"a, b.png",7,MR,"head","line\none"\r\n'.encode())
    assert row.filepath == "a, b.png"
    assert row.facts.labels == Labels("MR", "head", ("line\none",))


@pytest.mark.parametrize(
    ("line", "reason", "column"),
    [
        ("a.png,7,CT,chest,nodule,one,more", "manifest row has another number of cells than the header", None),
        ("a.png,7,CT", "manifest row has another number of cells than the header", None),
        ("a.png,7,XYZ,chest,nodule", "manifest row has an unknown modality", "modality"),
        (",7,CT,chest,nodule", "manifest row names no file", "filepath"),
        ("  ,7,CT,chest,nodule", "manifest row names no file", "filepath"),
        ("a\0.png,7,CT,chest,nodule", "manifest row names no file", "filepath"),
    ],
)
def test_a_row_that_cannot_be_used_says_why_and_the_others_are_used(
    read_text: Reader, line: str, reason: str, column: str | None
) -> None:
    before, unusable, after = read_text(f"{COLUMNS}\nx.png,7,CT,chest,\n{line}\ny.png,7,XR,chest,\n")
    assert (unusable.reason, unusable.column) == (reason, column)
    assert unusable.facts == Facts()
    assert (before.reason, after.reason) == (None, None)
    assert after.facts.labels.modality == "XR"


@pytest.mark.parametrize("age", ["", "old", "-3", "1000"])
def test_an_age_that_is_none_is_left_out(read_text: Reader, age: str) -> None:
    (row,) = read_text(f"{COLUMNS},age\na.png,,,,,{age}\n")
    assert row.facts.age is None


def test_ages_of_ninety_and_more_become_ninety(read_text: Reader) -> None:
    (row,) = read_text(f"{COLUMNS},age\na.png,,,,,97\n")
    assert row.facts.age == 90


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("filepath,patient,modality,labels\n", "lacks the column region;"),
        ("filepath,modality,labels\n", "lacks the columns patient, region;"),
        ("", "lacks the columns filepath, patient"),
        (b"\xff\xfe\x00\x01", "is no UTF-8 CSV"),
        (f"{COLUMNS}\n{'x' * (2 << 20)},,,,\n", "is no UTF-8 CSV"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_said_in_one_line(read_text: Reader, text: "str | bytes", words: str) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        read_text(text)
    assert "\n" not in str(caught.value)
    assert "manifest.csv" in str(caught.value)


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_manifest_that_is_missing_or_a_folder_is_said_to_be_unreadable(
    tmp_path: Path, pseudonymizer: Pseudonymizer, name: str
) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        list(read_rows(tmp_path / name, pseudonymizer.pseudonym, dataset=None, split=None))


def test_a_region_with_a_slash_is_refused(tmp_path: Path, pseudonymizer: Pseudonymizer) -> None:
    """A label path with it would have another region and another finding."""
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("filepath,patient,modality,region,labels\na.png,p,CT,head/neck,cyst\n")
    (row,) = read_rows(manifest, pseudonymizer.pseudonym, dataset=None, split=None)
    assert (row.reason, row.column) == ("manifest row has a region with a slash", "region")
