"""The payload: its fields, which of them are indexed, and the two ways between a record and a payload."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from radsearch.errors import UnknownNameError
from radsearch.study import XR_CODES, Facts, Hit, Labels, SearchFilter, Span, StudyImage

Payload = dict[str, Any]

# Indexed before the first point, so that filters run inside the vector search. `described` and `models` are ours:
# what a manifest said of the image (hashed), and the models whose vectors it has.
INDEXED_FIELDS: dict[str, Literal["keyword", "integer"]] = {
    "modality": "keyword",
    "region": "keyword",
    "body_part": "keyword",
    "pathology": "keyword",
    "label_path": "keyword",
    "patient": "keyword",
    "study": "keyword",
    "series": "keyword",
    "instance": "keyword",
    "dataset": "keyword",
    "split": "keyword",
    "view": "keyword",
    "laterality": "keyword",
    "sex": "keyword",
    "manufacturer": "keyword",
    "burned_in": "keyword",
    "content": "keyword",
    "models": "keyword",
    "age": "integer",
    "year": "integer",
}

WORD_FIELDS = tuple(name for name, kind in INDEXED_FIELDS.items() if kind == "keyword")
NUMBER_FIELDS = tuple(name for name, kind in INDEXED_FIELDS.items() if kind == "integer")
# `thumbnail`: the name of one in the folder of thumbnails; not indexed.
_OTHER_FIELDS = ("frame", "frames", "rows", "columns", "described", "thumbnail", "extra")
FACET_FIELDS = (
    "modality", "region", "pathology", "label_path", "dataset", "split", "view", "laterality", "sex", "manufacturer",
    "burned_in", "models", "age", "year",
)  # fmt: skip

_PLAIN_FACTS = (
    "patient", "study", "series", "instance", "dataset", "split", "body_part", "view", "laterality", "sex", "age",
    "year", "manufacturer", "burned_in",
)  # fmt: skip
_NUMBERS = ("age", "year")


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field has one of the values. The field `id` stands for the point itself."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Within:
    """The field is a number in that span."""

    field: str
    span: Span


@dataclass(frozen=True, slots=True)
class Missing:
    """The field is not there."""

    field: str


Condition = AnyOf | Within | Missing


@dataclass(frozen=True, slots=True)
class Conditions:
    """A search filter in the terms that every back end can say; without any of either all points pass."""

    must: tuple[Condition, ...] = ()
    must_not: tuple[Condition, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.must or self.must_not)


def conditions_of(where: SearchFilter) -> Conditions:
    """Spell a filter out; the modality XR stands for CR, DX and RG too.

    Raises:
        UnknownNameError: a field is none of the payload's, or is not indexed as a word.
    """
    named = [(name, getattr(where, name)) for name in ("modality", "region", "pathology", "dataset")]
    must: list[Condition] = [
        *_words([*named, *where.any_of.items()]),
        *_words(("pathology", (finding,)) for finding in where.pathology_all),
    ]
    must += [Within(name, span) for name, span in (("age", where.age), ("year", where.year)) if span is not None]
    must += [Missing(_known(name, INDEXED_FIELDS)) for name in where.absent]
    must_not: list[Condition] = [
        *_words([("pathology", where.pathology_none), *where.none_of.items()]),
        *_words([("patient", where.without_patients), ("study", where.without_studies)]),
        *([AnyOf("id", where.without_ids)] if where.without_ids else []),
    ]
    must_not += [Missing(_known(name, INDEXED_FIELDS)) for name in where.present]
    return Conditions(tuple(must), tuple(must_not))


def _words(stated: Iterable[tuple[str, tuple[str, ...]]]) -> Iterator[AnyOf]:
    for name, values in stated:
        if not values:
            continue
        group = XR_CODES if name == "modality" and "XR" in values else ()
        yield AnyOf(_known(name, WORD_FIELDS), tuple(dict.fromkeys((*values, *group))))


def _known(name: str, fields: Iterable[str]) -> str:
    if name not in fields:
        raise UnknownNameError("field", name, fields, where="one can filter by")
    return name


def fault_in(payload: Mapping[str, Any]) -> str | None:
    """What is wrong with a payload, if anything: a field whose value has another type than its index."""
    for name, value in payload.items():
        if name in NUMBER_FIELDS:
            fits = isinstance(value, int) and not isinstance(value, bool)
        elif name in WORD_FIELDS:
            fits = isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value))
        else:
            fits = name in _OTHER_FIELDS
        if not fits and name in INDEXED_FIELDS:
            return f"the payload's field {name!r} has no {type(value).__name__}"
        if not fits:
            return f"the payload has no field {name!r}"
    return None


def payload_of(image: StudyImage, *, content: str, described: str, models: Iterable[str]) -> Payload:
    """The payload of one image, but for its `thumbnail`. Fields that are unknown are left out."""
    facts = image.facts
    stated = {name: getattr(facts, name) for name in _PLAIN_FACTS}
    payload: Payload = {
        "modality": facts.labels.modality,
        "region": facts.labels.region,
        "pathology": list(facts.labels.pathology),
        "label_path": list(facts.labels.paths),
        **stated,
        "frame": image.frame,
        "frames": image.frames,
        "rows": int(image.pixels.shape[0]),
        "columns": int(image.pixels.shape[1]),
        "content": content,
        "described": described,
        "models": sorted(models),
        "extra": dict(facts.extra),
    }
    return {name: value for name, value in payload.items() if value not in (None, [], {})}


def facts_of(payload: Mapping[str, Any]) -> Facts:
    """The facts that a payload holds; a value of another type than ours, as a foreign index may have, is unknown."""
    pathology = payload.get("pathology")
    findings = tuple(one for one in pathology if isinstance(one, str)) if isinstance(pathology, list) else ()
    labels = Labels(_of_type(payload, "modality", str), _of_type(payload, "region", str), findings)
    stated = {name: _of_type(payload, name, int if name in _NUMBERS else str) for name in _PLAIN_FACTS}
    return Facts(labels=labels, extra=_of_type(payload, "extra", dict) or {}, **stated)


def _of_type(payload: Mapping[str, Any], name: str, kind: type) -> Any:
    value = payload.get(name)
    return value if isinstance(value, kind) else None


def hit_of(point: str, score: float, rank: int, payload: Mapping[str, Any]) -> Hit:
    """A hit as search hands it on."""
    return Hit(point, score, rank, facts_of(payload), payload.get("frame"), payload.get("thumbnail"))
