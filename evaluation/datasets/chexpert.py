"""CheXpert v1.0, small or full size: train.csv, of which train and val are drawn, and valid.csv, the test split."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from evaluation.datasets.records import UNCERTAIN, DatasetError, Image, LeftOut, Outcome, Reading
from evaluation.datasets.splits import draw_train_and_val
from evaluation.datasets.tables import age_of, find_file, rows_of, sex_of
from radsearch.reading.vocabulary import view_of_words

NAME = "chexpert"
SOURCE = "https://stanfordmlgroup.github.io/competitions/chexpert/"
FOLDERS = (".", "CheXpert-v1.0-small", "CheXpert-v1.0")
# The table's findings without "Support Devices", which the paper drops: it is no finding.
FINDINGS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
)  # fmt: skip
COLUMNS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS)
NO_PATIENT = "path that names no patient and study"
_NUMBERS = {"": 0, "0.0": 0, "0": 0, "1.0": 1, "1": 1, "-1.0": -1, "-1": -1}
_PARTS = 5  # CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg


def read(reading: Reading) -> Iterator[Outcome]:
    """One outcome for each row of both tables.

    The paper's code first keeps the rows whose labels (1, 0, -1 for uncertain) sum up to 1, draws train and val among
    their patients, and then keeps those with exactly one 1 after each -1 was set to 0. As any -1 in a sum of 1 needs a
    second 1, these are the rows with one 1 and no -1: 55,781 of 223,414, 50,194 in train and 5,587 in val. With
    `all_labels` rows with several labels stay and rows with an uncertain one still go; whoever is in the paper's draw
    stays in its split, the other patients are drawn by themselves.

    Raises:
        DatasetError: a table or a column is missing, or a label is none of its numbers.
    """
    folders = [reading.root / folder for folder in FOLDERS]
    train, valid = (find_file(folders, [name], SOURCE) for name in ("train.csv", "valid.csv"))
    splits = _drawn(train)
    for row in rows_of(train, COLUMNS, SOURCE):
        patient = _patient(row["Path"])
        if patient is None:
            yield LeftOut(NO_PATIENT)
        elif -1 in labels_of(row).values():
            yield LeftOut(UNCERTAIN)
        else:
            yield reading.judge(_image(row, _picture(reading.root, train, row["Path"]), splits[patient]))
    for row in rows_of(valid, COLUMNS, SOURCE):
        if _patient(row["Path"]) is None:
            yield LeftOut(NO_PATIENT)
        else:
            yield reading.judge(_image(row, _picture(reading.root, valid, row["Path"]), "test"))


def labels_of(row: Mapping[str, str]) -> dict[str, int]:
    """The number of each finding: 1 it is there, 0 it is not or is not mentioned, -1 uncertain.

    Raises:
        DatasetError: a cell is none of these numbers.
    """
    try:
        return {name: _NUMBERS[row[name]] for name in FINDINGS}
    except KeyError as error:
        raise DatasetError(f"a label is {error}, none of 1, 0 and -1; get the official table") from error


def positives(numbers: Mapping[str, int]) -> tuple[str, ...]:
    """The findings that are there."""
    return tuple(name for name, number in numbers.items() if number == 1)


def _drawn(train: Path) -> dict[str, str]:
    """The split of each patient of the table."""
    in_paper: dict[str, None] = {}  # in the order of the table, on which the draw depends: no set
    everybody: dict[str, None] = {}
    for row in rows_of(train, COLUMNS, SOURCE):
        patient = _patient(row["Path"])
        if patient is not None:
            everybody[patient] = None
            if sum(labels_of(row).values()) == 1:
                in_paper[patient] = None
    return draw_train_and_val(name for name in everybody if name not in in_paper) | draw_train_and_val(in_paper)


def _patient(path: str) -> str | None:
    parts = PurePosixPath(path).parts
    return parts[2] if len(parts) == _PARTS else None


def _picture(root: Path, table: Path, path: str) -> Path:
    """A path of the table starts with the folder of the table itself, which may have been renamed."""
    stated = root / path
    return stated if stated.is_file() else table.parent.joinpath(*PurePosixPath(path).parts[1:])


def _image(row: Mapping[str, str], picture: Path, split: str) -> Image:
    _, _, patient, study, _ = PurePosixPath(row["Path"]).parts
    return Image(
        filepath=picture,
        dataset=NAME,
        modality="XR",
        region="chest",
        labels=positives(labels_of(row)),
        patient=patient,
        study=f"{patient}/{study}",
        split=split,
        view=view_of_words(row["AP/PA"]) or view_of_words(row["Frontal/Lateral"]) or "",
        sex=sex_of(row["Sex"]),
        age=age_of(row["Age"]),
    )
