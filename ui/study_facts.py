"""What may be said of an indexed image, in order; nothing of it tells who the patient is."""

from radsearch.index import Stored
from radsearch.index.schema import facts_of

_TITLES = {
    "body_part": "body part", "view": "view", "laterality": "laterality", "sex": "sex", "age": "age in years",
    "year": "year", "manufacturer": "manufacturer", "dataset": "data set", "split": "split",
    "burned_in": "text burned in",
}  # fmt: skip
_PSEUDONYMS = ("patient", "study", "series")
_SHORT = 12


def rows_of(point: Stored) -> dict[str, str]:
    """Names and values for a table; what is not known is left out."""
    facts, payload = facts_of(point.payload), point.payload
    rows = {
        "modality": facts.labels.modality,
        "region": facts.labels.region,
        "finding": ", ".join(facts.labels.pathology),
        **{title: getattr(facts, name) for name, title in _TITLES.items()},
        "size": _size(payload.get("columns"), payload.get("rows")),
        "frame": _frame(payload.get("frame"), payload.get("frames")),
        **{f"{name} (pseudonym)": (getattr(facts, name) or "")[:_SHORT] for name in _PSEUDONYMS},
        **dict(facts.extra),
        "models": ", ".join(payload.get("models", ())),
        "id": point.id,
    }
    return {name: str(value) for name, value in rows.items() if value not in (None, "")}


def _size(columns: int | None, rows: int | None) -> str | None:
    return f"{columns} x {rows} pixels" if columns and rows else None


def _frame(frame: int | None, frames: int | None) -> str | None:
    return f"{frame} of {frames}" if frame and frames and frames > 1 else None
