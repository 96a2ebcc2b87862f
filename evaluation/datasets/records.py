"""What a reader says of each row of a data set's tables: an image for the manifest, or why it is left out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from radsearch.errors import RadSearchError

NO_FILE = "no such file under --root"
NO_LABEL = "no label"
SEVERAL_LABELS = "more than one label"
UNCERTAIN = "uncertain label (-1)"


class DatasetError(RadSearchError):
    """The official files of a data set cannot be used: one is missing, damaged, or lacks a column."""


@dataclass(frozen=True, slots=True)
class Image:
    """One row of the manifest; what the data set does not state is empty.

    filepath: absolute. labels: findings, without modality and region. split: train, val, test or empty.
    study: unique within the data set, also where the data set counts studies by patient. age: years.
    """

    filepath: Path
    dataset: str
    modality: str
    region: str
    labels: tuple[str, ...]
    patient: str = ""
    study: str = ""
    split: str = ""
    view: str = ""
    sex: str = ""
    age: int | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that does not come into the manifest. reason: one of a few fixed phrases, by which rows are counted."""

    reason: str


Outcome: TypeAlias = Image | LeftOut


@dataclass(frozen=True, slots=True)
class Reading:
    """What one run reads, and by which rules.

    root: the folder of the data set, absolute. all_labels: rows with several labels stay. tables_only: nobody looks
    whether the image files are there.
    """

    root: Path
    all_labels: bool = False
    tables_only: bool = False

    def judge(self, image: Image) -> Outcome:
        """The image, unless its labels or its missing file forbid it; the labels are asked first."""
        outcome = self.judge_labels(image)
        if isinstance(outcome, LeftOut) or self._is_there(image.filepath):
            return outcome
        return LeftOut(NO_FILE)

    def judge_labels(self, image: Image) -> Outcome:
        """The image, unless it has no label, or several where the paper wants exactly one."""
        if not image.labels:
            return LeftOut(NO_LABEL)
        if len(image.labels) > 1 and not self.all_labels:
            return LeftOut(SEVERAL_LABELS)
        return image

    def _is_there(self, path: Path) -> bool:
        # A table is somebody else's file: it may not lead out of the folder that the user has named.
        inside = path.is_relative_to(self.root) and ".." not in path.parts
        return inside and (self.tables_only or path.is_file())
