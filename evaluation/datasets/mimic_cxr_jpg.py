"""MIMIC-CXR-JPG 2.0.0: its tables of labels (by study), metadata and splits (by image)."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from evaluation.datasets.chexpert import FINDINGS, labels_of, positives
from evaluation.datasets.records import Image, LeftOut, Outcome, Reading
from evaluation.datasets.tables import find_file, rows_of
from radsearch.reading.vocabulary import view_of_words

NAME = "mimic-cxr-jpg"
SOURCE = "https://physionet.org/content/mimic-cxr-jpg/2.0.0/"
SPLITS = {"train": "train", "validate": "val", "test": "test"}
NO_STUDY = "study without a row of labels"
OTHER_SPLIT = "in none of the official splits"


def read(reading: Reading) -> Iterator[Outcome]:
    """One outcome for each row of the table of splits.

    An image has the labels of its study; an uncertain one (-1) counts as absent, as in the paper's code. None of these
    tables states sex or age.

    Raises:
        DatasetError: a table or a column is missing, or a label is none of its numbers.
    """
    labels = {
        (row["subject_id"], row["study_id"]): positives(labels_of(row))
        for row in _rows(reading.root, "chexpert", ("subject_id", "study_id", *FINDINGS))
    }
    views = {
        row["dicom_id"]: view_of_words(row["ViewPosition"]) or ""
        for row in _rows(reading.root, "metadata", ("dicom_id", "ViewPosition"))
    }
    for row in _rows(reading.root, "split", ("dicom_id", "subject_id", "study_id", "split")):
        study = (row["subject_id"], row["study_id"])
        if study not in labels:
            yield LeftOut(NO_STUDY)
        elif row["split"] not in SPLITS:
            yield LeftOut(OTHER_SPLIT)
        else:
            yield reading.judge(_image(reading.root, row, labels[study], views.get(row["dicom_id"], "")))


def _rows(root: Path, kind: str, columns: tuple[str, ...]) -> Iterator[Mapping[str, str]]:
    return rows_of(find_file([root], [f"mimic-cxr-2.0.0-{kind}.csv"], SOURCE), columns, SOURCE)


def _image(root: Path, row: Mapping[str, str], labels: tuple[str, ...], view: str) -> Image:
    patient, study = f"p{row['subject_id']}", f"s{row['study_id']}"
    return Image(
        filepath=root / "files" / patient[:3] / patient / study / f"{row['dicom_id']}.jpg",
        dataset=NAME,
        modality="XR",
        region="chest",
        labels=labels,
        patient=patient,
        study=study,
        split=SPLITS[row["split"]],
        view=view,
    )
