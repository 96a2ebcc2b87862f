"""What a score is worth: how probable it is that a hit shares the query's finding, and below which nothing is alike.

`python -m evaluation calibrate` makes a record an index and model from the index's own labels; a file each in the
settings folder keeps them. It counts for that index and for that model's very fingerprint only.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np

from radsearch.errors import SettingsError
from radsearch.index import Index
from radsearch.plain_files import open_plain
from radsearch.settings import Settings
from radsearch.study import Fingerprint, Hit, grouped_modality

CALIBRATIONS = "calibration"
OVERALL = ""  # the modality that stands for all of them
MOST_KNOTS = 50
_FORMAT = 1
_MOST_BYTES = 1_000_000
_MOST_MODALITIES = 100
_LONGEST_WORD = 64
_HASH_LETTERS = 12  # of the index's place, in the file's name
_DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Curve:
    """A rising line from scores to probabilities. knots: (score, probability); straight between, flat outside."""

    knots: tuple[tuple[float, float], ...]

    def at(self, score: float) -> float:
        """The probability, from 0 to 1."""
        scores, probabilities = zip(*self.knots, strict=True)
        return float(np.interp(score, scores, probabilities))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of one model in one index.

    model: whose scores the curves are of. space: the frozen model in which strangers are told, itself or its base: a
    learned space tells labels apart, and is no place to tell what it has never seen. curves, least: by modality
    (projection radiography as `XR`), `""` for all others. least: the cosine in `space` to the nearest image of another
    patient, by that image's modality, below which nothing is similar enough. made: of what, when, and how good:
    `queries`, `patients`, `date`, `ece` (expected calibration error on other patients) and more.
    """

    model: Fingerprint
    space: Fingerprint
    curves: Mapping[str, Curve]
    least: Mapping[str, float]
    made: Mapping[str, Any] = field(default_factory=dict)

    def probability(self, score: float, modality: str | None) -> float:
        """That a hit with this score shares a label path with the query.

        Args:
            score: the cosine similarity of the two.
            modality: of the hit: that of a query is often not known.
        """
        return self.curves.get(grouped_modality(modality or OVERALL), self.curves[OVERALL]).at(score)

    def least_of(self, modality: str | None) -> float:
        """The least similarity of a nearest image of that modality."""
        return self.least.get(grouped_modality(modality or OVERALL), self.least[OVERALL])


def place_of(location: str, collection: str) -> str:
    """An index's place, as it is told from others: a folder, or a server's address and the collection's name."""
    return f"{location}\n{collection}" if "://" in location else location


def file_of(settings_folder: Path, place: str, model: str) -> Path:
    """Where the record of a model in the index at that place (`place_of`) is kept."""
    return settings_folder.expanduser() / CALIBRATIONS / f"{_hash_of(place)[:_HASH_LETTERS]}-{model}.json"


def keep(settings_folder: Path, place: str, calibration: Calibration) -> Path:
    """Write it, whole or not at all; gives its file.

    Raises:
        SettingsError: it contradicts itself, or the folder cannot be written.
    """
    file = file_of(settings_folder, place, calibration.model.model)
    told = {
        "format": _FORMAT,
        "index": _hash_of(place),
        "model": asdict(calibration.model),
        "space": asdict(calibration.space),
        "curves": {name: curve.knots for name, curve in calibration.curves.items()},
        "least": dict(calibration.least),
        "made": dict(calibration.made),
    }
    half = file.with_name(f".{secrets.token_hex(4)}.json")
    try:
        text = json.dumps(told, indent=1, allow_nan=False)
        _calibration_of(json.loads(text))
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        half.write_text(text, encoding="utf-8")
        os.replace(half, file)  # noqa: PTH105 -- Path.replace says the same
    except OSError as error:
        raise SettingsError(f"the calibration cannot be kept in {file.parent} ({error.strerror})") from error
    except (ValueError, LookupError, TypeError) as error:
        raise SettingsError(f"the calibration of {calibration.model.model} contradicts itself: {error}") from error
    return file


def read(settings_folder: Path, place: str, model: str) -> Calibration | None:
    """The record of a model in the index at that place; None where there is none.

    Raises:
        SettingsError: it is damaged, or another index's; the file is named.
    """
    file = file_of(settings_folder, place, model)
    if not os.path.lexists(file):
        return None
    try:
        with open_plain(file) as stream:
            content = stream.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES} bytes")
        told = json.loads(content, parse_constant=_refuse_constant)
        calibration = _calibration_of(told)
        ours = told["index"] == _hash_of(place) and calibration.model.model == model
    except _DAMAGED as error:
        raise SettingsError(f"{file} is damaged ({error}); remove it, and calibrate again") from error
    if not ours:
        raise SettingsError(f"{file} is of another index or model; remove it, and calibrate again")
    return calibration


class Calibrations:
    """Those of one index, each read when it is first asked for.

    remarks: why some that are there do not count, in sentences.
    """

    def __init__(self, settings: Settings, index: Index) -> None:
        """Nothing is read before `of`."""
        self._folder, self._models = settings.settings_folder, index.card.models
        self._place = place_of(index.location, settings.collection)
        self._read: dict[str, Calibration | None] = {}
        self.remarks: list[str] = []

    def of(self, model: str) -> Calibration | None:
        """The one that counts. Raises SettingsError where its file is damaged."""
        if model not in self._read:
            self._read[model] = self._that_counts(model)
        return self._read[model]

    def _that_counts(self, model: str) -> Calibration | None:
        found = read(self._folder, self._place, model)
        if found is None:
            return None
        for made_for in (found.model, found.space):
            held = self._models.get(made_for.model)
            differences = ["the index does not hold it"] if held is None else made_for.differences(held)
            if differences:
                self.remarks.append(
                    f"the calibration of {model} is left out, as it was made for another {made_for.model} "
                    f"({'; '.join(differences)}): python -m evaluation calibrate --model {model} makes a new one"
                )
                return None
        return found

    def spaces(self, models: Iterable[str]) -> list[str]:
        """The frozen models in which strangers to these models are told, each once."""
        made = [self.of(model) for model in models]
        return list(dict.fromkeys(one.space.model for one in made if one is not None))

    def told(self, hits: Sequence[Hit], model: str) -> list[Hit]:
        """The hits of a search by one image and that model alone, with probabilities where there are any."""
        calibration = self.of(model)
        if calibration is None:
            return list(hits)
        return [replace(hit, probability=calibration.probability(hit.score, hit.facts.labels.modality)) for hit in hits]


def _hash_of(place: str) -> str:
    return hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()


def _refuse_constant(word: str) -> None:
    raise ValueError(f"it holds {word}")


def _calibration_of(told: Any) -> Calibration:
    """What a file says. Raises ValueError, LookupError or TypeError where it says nothing that can be meant."""
    if told["format"] != _FORMAT:
        raise ValueError("it is of another version")
    model, space = (_fingerprint_of(told[name]) for name in ("model", "space"))
    curves = {name: Curve(_knots_of(knots)) for name, knots in _by_modality(told["curves"]).items()}
    least = {name: _number(value, -1, 1) for name, value in _by_modality(told["least"]).items()}
    made = told["made"]
    if not isinstance(made["date"], str) or len(made["date"]) > _LONGEST_WORD:
        raise ValueError("its date is none")
    for name in ("queries", "patients"):
        if type(made[name]) is not int or made[name] < 0:
            raise ValueError(f"its number of {name} is none")
    _number(made["ece"], 0, 1)
    return Calibration(model, space, curves, least, made)


def _fingerprint_of(told: Mapping[str, Any]) -> Fingerprint:
    whole = ("dimension", "rendering")
    if any(type(value) is not (int if name in whole else str) for name, value in told.items()):
        raise ValueError("a fingerprint has odd values")
    return Fingerprint(**told)


def _by_modality(told: Any) -> dict[str, Any]:
    if not isinstance(told, dict) or OVERALL not in told or len(told) > _MOST_MODALITIES:
        raise ValueError(f"it is to have a value for all, and {_MOST_MODALITIES} modalities at most")
    if any(len(name) > _LONGEST_WORD for name in told):
        raise ValueError("a modality's name is too long")
    return cast("dict[str, Any]", told)


def _knots_of(told: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(told, list) or not 1 <= len(told) <= MOST_KNOTS:
        raise ValueError(f"a curve has 1 to {MOST_KNOTS} knots")
    knots = tuple((_number(score, -1, 1), _number(probability, 0, 1)) for score, probability in told)
    if any(left[0] >= right[0] or left[1] > right[1] for left, right in pairwise(knots)):
        raise ValueError("a curve does not rise")
    return knots


def _number(value: Any, least: float, most: float) -> float:
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError(f"a number is not from {least} to {most}")
    return float(value)
