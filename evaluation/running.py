"""One run from end to end: what `python -m evaluation run` and the Prefect flow share."""

import itertools
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluation.asking import trial_rows
from evaluation.collection import Collection, from_index
from evaluation.contamination import require_same_secret, seen_in_training, without_known
from evaluation.figures import measure
from evaluation.protocols import PROTOCOLS
from evaluation.report import write_report
from evaluation.runs import Surroundings, add_study, write_run
from evaluation.settings import SearchSettings
from evaluation.stored import METRICS, QUERIES, REPORT, SUMMARY
from evaluation.studies import STUDIES
from evaluation.telling import summary_lines, without_ids
from radsearch.errors import NothingToSearchError, RadSearchError, SettingsError
from radsearch.index import open_index
from radsearch.index.verify import recall_of
from radsearch.settings import Settings

_LONGEST_NAME = 80  # of a model, in a folder's name
_RECALL_SAMPLES = 100  # searches that say what the index itself finds of the ten nearest


@dataclass(frozen=True, slots=True)
class Asked:
    """What a run is to do.

    folder: of the run. pictures: where the images' ids are files, for the report. memory_mb: of the search.
    """

    folder: Path
    protocol: str = "leave-patient-out"
    single_label: bool = False
    studies: Sequence[str] = ()
    pictures: Path | None = None
    memory_mb: int = 512

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """What would be refused at the end is refused before hours of work; no empty folder stays behind.

        Raises:
            SettingsError: the run could not be written, or there is no such folder of pictures.
        """
        if self.memory_mb < 1:
            raise SettingsError("--memory is 1 or more")
        check_pictures(self.pictures)
        made: list[Path] = []
        try:
            taken = self._made(made)
            if taken:
                raise SettingsError(f"the run cannot be written to {self.folder}: its {taken[0]} is a folder")
            yield
        finally:
            for path in made:
                with suppress(OSError):
                    path.rmdir()

    def _made(self, made: list[Path]) -> list[str]:
        """Files of a run that are folders. Adds the folders that it makes to `made`, the inmost first."""
        try:
            made += [path for path in (self.folder, *self.folder.parents) if not path.exists()]
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it may name files, and show pictures
            with tempfile.TemporaryFile(dir=self.folder):
                pass
            return [name for name in (METRICS, QUERIES, SUMMARY, REPORT) if (self.folder / name).is_dir()]
        except OSError as error:
            raise SettingsError(f"the run cannot be written to {self.folder} ({error.strerror})") from error


@dataclass(frozen=True, slots=True)
class Made:
    """What became of a run: its `metrics.json`, and the studies that could not be made, with their reasons."""

    metrics: Mapping[str, Any]
    undone: Mapping[str, str]


def folder_of(runs: Path, protocol: str, model: str) -> Path:
    """Where a run of now goes among others: `TIME-PROTOCOL-MODEL`, with a number where that is taken."""
    name = re.sub(r"[^\w.-]", "_", model).strip(".")[:_LONGEST_NAME]
    folder = runs / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{protocol}-{name}"
    numbered = (folder.with_name(f"{folder.name}.{number}") for number in itertools.count(2))
    return next(one for one in itertools.chain([folder], numbered) if not os.path.lexists(one))


def check_pictures(pictures: Path | None) -> None:
    """Raises SettingsError where the folder of pictures is none."""
    try:
        there = pictures is None or pictures.is_dir()
    except OSError:  # a name that is too long, a folder that may not be entered
        there = False
    if not there:
        raise SettingsError(f"--pictures {pictures} is no folder")


def read_index(settings: Settings, model: str) -> tuple[Collection, float]:
    """A model's images in an index, and the recall of that; the index is held no longer, as another may wait to write.

    Raises:
        UnknownNameError: the index does not hold the model.
        NothingToSearchError: no image has a vector of it.
        SettingsError: it was learned from patients who cannot be told from those of this index.
    """
    with open_index(settings) as index:
        require_same_secret(model, index.card.secret_check, settings.settings_folder)
        collection = from_index(index, model)
        if not collection.images:
            raise NothingToSearchError(f"no image of the index has a vector of {model}")
        return collection, recall_of(index, model, _RECALL_SAMPLES)


def make_run(
    collection: Collection, recall: float | None, asked: Asked, settings: Settings, say: Callable[[str], None]
) -> Made:
    """Measure, write the run, make the studies, draw the report.

    Args:
        collection: the images.
        recall: of the index that they are from.
        asked: what is to be done; it was checked.
        settings: of the device, and of the user's own models.
        say: is told the figures and each study in lines of text, as soon as they are there.

    Raises:
        RadSearchError: the protocol finds nothing to ask, or the run cannot be written.
    """
    trial = PROTOCOLS[asked.protocol](collection, single_label=asked.single_label)
    trial = without_known(trial, collection, settings.settings_folder)
    figures = measure(collection, trial, device=settings.device, memory_mb=asked.memory_mb)
    training = seen_in_training(collection, trial_rows(trial).tolist(), settings.settings_folder)
    told = write_run(asked.folder, collection, trial, figures, Surroundings(training, recall))
    say("\n".join(summary_lines(told)))
    undone = {}
    for name in dict.fromkeys(asked.studies):
        try:
            found = STUDIES[name](collection, trial, SearchSettings(settings.device, asked.memory_mb))
        except RadSearchError as error:
            undone[name] = str(error)
        else:
            add_study(asked.folder, name, found)
            say(f"{name}: {json.dumps(without_ids(found))}")
    write_report(asked.folder, asked.pictures)
    return Made(told, undone)
