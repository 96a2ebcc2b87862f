"""NIH ChestX-ray14: Data_Entry_2017.csv or its revision of 2020, and the official lists of files."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from evaluation.datasets.records import Image, LeftOut, Outcome, Reading
from evaluation.datasets.splits import draw_train_and_val
from evaluation.datasets.tables import age_of, find_file, lines_of, rows_of, sex_of
from radsearch.reading.vocabulary import view_of_words

NAME = "nih14"
SOURCE = "https://nihcc.app.box.com/v/ChestXray-NIHCC"
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position")
# The paper's code gives this finding the name that CheXpert and MIMIC have for it, so that they are one class.
PAPER_NAMES = {"Effusion": "Pleural Effusion"}
NOT_LISTED = "in neither train_val_list.txt nor test_list.txt"
_PICTURES = ("images*/images/*.png", "images*/*.png", "*.png")


def read(reading: Reading, *, own_names: bool = False) -> Iterator[Outcome]:
    """One outcome for each row of the table.

    The test list is the test split. The patients of the other list are drawn into train and val before any image is
    left out, so both splits are the same whatever rows are kept.

    Args:
        reading: what to read, by which rules.
        own_names: `Effusion` stays, where the paper writes `Pleural Effusion`. An underscore becomes a space anyhow.

    Raises:
        DatasetError: a file or a column is missing.
    """
    table = find_file([reading.root], TABLES, SOURCE)
    listed = dict.fromkeys(_list(reading.root, "train_val_list.txt"), "")
    listed |= dict.fromkeys(_list(reading.root, "test_list.txt"), "test")
    drawn = draw_train_and_val(
        row["Patient ID"] for row in rows_of(table, COLUMNS, SOURCE) if listed.get(row["Image Index"]) == ""
    )
    pictures = {} if reading.tables_only else _pictures(reading.root)
    renamed = {} if own_names else PAPER_NAMES
    for row in rows_of(table, COLUMNS, SOURCE):
        name = row["Image Index"]
        if name not in listed:
            yield LeftOut(NOT_LISTED)
            continue
        split = listed[name] or drawn[row["Patient ID"]]
        path = pictures.get(name, reading.root / "images" / name)
        yield reading.judge(_image(row, path, split, renamed))


def _image(row: Mapping[str, str], path: Path, split: str, renamed: Mapping[str, str]) -> Image:
    labels = (label.strip() for label in row["Finding Labels"].split("|"))
    return Image(
        filepath=path,
        dataset=NAME,
        modality="XR",
        region="chest",
        labels=tuple(renamed.get(label, label.replace("_", " ")) for label in labels if label),
        patient=row["Patient ID"],
        split=split,
        view=view_of_words(row["View Position"]) or "",
        sex=sex_of(row["Patient Gender"]),
        age=age_of(row["Patient Age"]),
    )


def _list(root: Path, name: str) -> Iterator[str]:
    return lines_of(find_file([root], [name], SOURCE))


def _pictures(root: Path) -> dict[str, Path]:
    """Where each picture lies, by its name: the archives unpack to one folder, or to twelve."""
    found: dict[str, Path] = {}
    for pattern in _PICTURES:
        for path in sorted(root.glob(pattern)):
            found.setdefault(path.name, path)
    return found
