"""The payload: its fields, which of them are indexed, and the two ways between a record and a payload."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from radsearch.study import XR_CODES, Facts, Hit, Labels, SearchFilter, StudyImage

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

FACET_FIELDS = (
    "modality", "region", "pathology", "label_path", "dataset", "split", "view", "laterality", "sex", "manufacturer",
    "burned_in", "models", "age", "year",
)  # fmt: skip

_PLAIN_FACTS = (
    "patient", "study", "series", "instance", "dataset", "split", "body_part", "view", "laterality", "sex", "age",
    "year", "manufacturer", "burned_in",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The field has one of the values. The field `id` stands for the point itself."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conditions:
    """A search filter in the terms that every back end can say."""

    must: tuple[AnyOf, ...]
    must_not: tuple[AnyOf, ...]


def conditions_of(where: SearchFilter) -> Conditions:
    """Spell a filter out; the modality XR stands for CR, DX and RG too."""
    modality = XR_CODES if "XR" in where.modality else ()
    must = (
        AnyOf("modality", tuple(dict.fromkeys((*where.modality, *modality)))),
        AnyOf("region", where.region),
        AnyOf("pathology", where.pathology),
        AnyOf("dataset", where.dataset),
    )
    must_not = (
        AnyOf("pathology", where.pathology_none),
        AnyOf("id", where.without_ids),
        AnyOf("patient", where.without_patients),
        AnyOf("study", where.without_studies),
    )
    return Conditions(_stated(must), _stated(must_not))


def payload_of(image: StudyImage, *, content: str, described: str, models: Iterable[str]) -> Payload:
    """The payload of one image. Fields that are unknown are left out."""
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
    """The facts that a payload holds."""
    labels = Labels(payload.get("modality"), payload.get("region"), tuple(payload.get("pathology", ())))
    stated = {name: payload.get(name) for name in _PLAIN_FACTS}
    return Facts(labels=labels, extra=payload.get("extra", {}), **stated)


def hit_of(point: str, score: float, rank: int, payload: Mapping[str, Any]) -> Hit:
    """A hit as search hands it on."""
    return Hit(point, score, rank, facts_of(payload), payload.get("frame"))


def _stated(conditions: Iterable[AnyOf]) -> tuple[AnyOf, ...]:
    return tuple(condition for condition in conditions if condition.values)
