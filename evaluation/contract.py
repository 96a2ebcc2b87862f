"""The form of `metrics.json`: what other programs read, and what a run is held against before it is read back."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_NAME = re.compile(r"P@[1-9][0-9]*")
Count = Annotated[int, Field(ge=0)]
Part = Annotated[float, Field(ge=0, le=1)]
Bounds = Annotated[list[Part], Field(min_length=2, max_length=2)]


class _Form(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Whole(_Form):
    """Of which a report goes through all there is."""

    model_config = ConfigDict(extra="forbid")


class _First(_Form):
    p1: Part = Field(alias="P@1")


class _Group(_First):
    queries: Count
    macro: Part = Field(alias="macro P@1")


class _Class(_First):
    queries: Count
    same_finding: Part = Field(alias="same finding")


class _By(_Whole):
    modality: dict[str, _Group]
    region: dict[str, _Group]
    dataset: dict[str, _Group]
    finding: dict[str, _Group]
    label: dict[str, _Class]


class _Means(_Form):
    micro: Part
    macro: Part


class _Levels(_Whole):
    modality: dict[str, _Means]
    region: dict[str, _Means]
    label: dict[str, _Means]


class _Recall(_Form):
    at_10: Part | None = Field(alias="recall@10")


class _Metrics(_Form):
    protocol: str
    single_label: bool
    model: dict[str, Any]
    queries: Annotated[int, Field(ge=1)]
    index: Annotated[int, Field(ge=1)]
    index_state: str
    dropped: dict[str, Count]
    lost_classes: dict[str, Count]
    classes: Annotated[int, Field(ge=1)]
    shared_patients: Count
    micro: dict[str, Part]
    micro_sd: dict[str, float | None]
    macro: dict[str, Part]
    macro_sd: dict[str, float | None]
    chance: _First
    interval: dict[str, Bounds]
    levels: _Levels
    leak: dict[str, Part] | None
    r_precision_depth: Count
    by: _By
    contaminated: list[str] | None
    training_unknown: Count
    index_recall: _Recall
    studies: dict[str, Any]
    source: str
    version: str
    made: str


def check_metrics(told: Any, needed: frozenset[str]) -> None:
    """Whether an object has the form of `metrics.json`.

    Args:
        told: as it was read.
        needed: metrics that it has to have the means of.

    Raises:
        ValueError: it has another form, or other metrics here than there.
    """
    try:
        form = _Metrics.model_validate(told)
    except ValidationError as error:
        raise ValueError(f"{error.error_count()} fields have another form") from None
    if not all(_NAME.fullmatch(name) for name in form.micro if name.startswith("P@")):
        raise ValueError("a precision at no number")
    of_levels = (form.levels.modality, form.levels.region, form.levels.label)
    if not needed <= set(form.micro) or any("P@1" not in one or set(one) != set(of_levels[-1]) for one in of_levels):
        raise ValueError("a metric is missing")
    others = (form.micro_sd, form.macro, form.macro_sd)
    if any(set(one) != set(form.micro) for one in others) or not {*form.interval, *(form.leak or ())} <= set(
        form.micro
    ):
        raise ValueError("other metrics here than there")
