"""The published label tables of NIH and CheXpert give the figures that the protocol states.

They come in a package of PyPI, without images: `pip install --no-deps torchxrayvision==1.5.7`, or its folder
`torchxrayvision/data` named by RADSEARCH_TEST_LABEL_TABLES.
"""

import csv
import gzip
import importlib.util
import os
from collections import Counter
from pathlib import Path

import pytest

from evaluation.datasets import chexpert, nih14
from evaluation.datasets.records import NO_LABEL, SEVERAL_LABELS, UNCERTAIN, Image, Outcome, Reading

pytestmark = pytest.mark.slow  # a third of a million rows


@pytest.fixture(scope="module")
def tables() -> Path:
    """The folder of the published tables."""
    named = os.environ.get("RADSEARCH_TEST_LABEL_TABLES")
    if named:
        return Path(named)
    package = importlib.util.find_spec("torchxrayvision")
    if package is None or not package.origin:
        pytest.skip("needs RADSEARCH_TEST_LABEL_TABLES or `pip install --no-deps torchxrayvision==1.5.7`")
    return Path(package.origin).parent / "data"


def counted(outcomes: list[Outcome]) -> Counter[str]:
    return Counter(outcome.split if isinstance(outcome, Image) else outcome.reason for outcome in outcomes)


@pytest.fixture
def nih(tables: Path, tmp_path: Path) -> Path:
    """The table with lists of our own, as the package lacks the official ones: all is train or val."""
    name = "Data_Entry_2017_v2020.csv.gz"
    (tmp_path / name).symlink_to(tables / name)
    with gzip.open(tables / name, "rt") as stream:
        names = [row["Image Index"] for row in csv.DictReader(stream)]
    (tmp_path / "train_val_list.txt").write_text("\n".join(names))
    (tmp_path / "test_list.txt").touch()
    return tmp_path


def test_nih_has_91324_images_with_one_label(nih: Path) -> None:
    outcomes = list(nih14.read(Reading(nih, tables_only=True)))
    # The splits are those of scikit-learn 1.9.1 over the whole table.
    assert counted(outcomes) == {"train": 82_362, "val": 8_962, SEVERAL_LABELS: 20_796}
    labels = Counter(label for one in outcomes if isinstance(one, Image) for label in one.labels)
    assert len(labels) == 15
    assert labels["No Finding"] == 60_361
    assert (labels["Pleural Effusion"], labels["Pleural Thickening"], labels["Hernia"]) == (3_955, 1_126, 110)


def test_all_112120_images_of_nih_stay_with_all_their_labels(nih: Path) -> None:
    outcomes = list(nih14.read(Reading(nih, all_labels=True, tables_only=True)))
    assert counted(outcomes).total() == 112_120
    labels = Counter(label for one in outcomes if isinstance(one, Image) for label in one.labels)
    assert (labels["Infiltration"], labels["Pleural Effusion"]) == (19_894, 13_317)
    assert sum(one.view == "PA" for one in outcomes if isinstance(one, Image)) == 67_310


@pytest.fixture
def chexpert_tables(tables: Path, tmp_path: Path) -> Path:
    """The training table; the package lacks the validation table, so that one has no row."""
    (tmp_path / "train.csv.gz").symlink_to(tables / "chexpert_train.csv.gz")
    (tmp_path / "valid.csv").write_text(",".join(chexpert.COLUMNS))
    return tmp_path


def test_chexpert_has_the_papers_50194_images_in_train_and_5587_in_val(chexpert_tables: Path) -> None:
    outcomes = list(chexpert.read(Reading(chexpert_tables, tables_only=True)))
    expected = {"train": 50_194, "val": 5_587, UNCERTAIN: 84_416, SEVERAL_LABELS: 77_118, NO_LABEL: 6_099}
    assert counted(outcomes) == expected
    assert counted(outcomes).total() == 223_414
    patients = {
        split: {one.patient for one in outcomes if isinstance(one, Image) and one.split == split}
        for split in ("train", "val")
    }
    assert not patients["train"] & patients["val"]
