"""What a map of the index shows: its images with their places, and the groups that a field parts them into."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from radsearch.maps import Map, Maps, make_map
from radsearch.study import XR_CODES, Facts, Fingerprint, Span, Vectors
from ui.cards import Shown
from ui.searching import Surroundings
from ui.state import State

_NUMBERS = ("age", "year")
_MOST_GROUPS = 10
_AT_ONCE = 1000
_WIDTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
# Told apart also by who is blind to a colour: chosen by the least distance under Machado's simulations (2009).
_COLOURS = (
    "#55AADD", "#FFDD00", "#EE5533", "#BBFFCC", "#CC22FF", "#FF8811", "#EEEEFF", "#BB7766", "#22BB77", "#FF99CC",
)  # fmt: skip
_SHAPES = ("circle",) * 5 + ("diamond", "square", "triangle-up", "cross", "star")
_RISING = (  # from dark to light
    "#5B7FD0", "#4A8AB5", "#3A92A0", "#2A9C92", "#23A287", "#38B578", "#63C661", "#96D545", "#CBE02E", "#FDE725",
)  # fmt: skip
_OTHERS, _UNKNOWN = "#7A8594", "#4A5462"
_MAKING = threading.Lock()

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """The images of a map that are still indexed. places: (images, 2). made: the day."""

    images: Sequence[Shown]
    places: Vectors
    made: str


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Images of one value. words: the value, which may hold anything. members: their numbers. shape: Plotly's name.

    named: whether it is a value, and not all others or what is unknown.
    """

    words: str
    members: Numbers
    colour: str
    shape: str = "circle"
    named: bool = True


def make(shared: Surroundings, maps: Maps, model: str, method: str) -> None:
    """Make a map and keep it; one at a time, as each takes all cores. Raises as `make_map` and `Maps.write`."""
    with _MAKING:
        maps.write(make_map(shared.index, model, method=method))


def placed(shared: Surroundings, maps: Maps, fingerprint: Fingerprint, method: str, total: int) -> Placed | None:
    """A kept map with what is known of its images, asked for once; None where there is none. Raises as `Maps.read`.

    Args:
        shared: settings and index.
        maps: the index's.
        fingerprint: of the model.
        method: of the map.
        total: images of the index: where it changes, some of the map's may be gone.
    """
    file = maps.file(fingerprint.model, method)
    try:
        stamp = file.stat().st_mtime_ns
    except OSError:
        return None
    return _placed(
        shared,
        maps,
        fingerprint,
        method,
        (str(file), stamp, *shared.place, repr(fingerprint), total),
    )


@st.cache_resource(ttl=600, max_entries=4, show_spinner=False)
def _placed(
    _shared: Surroundings,
    _maps: Maps,
    _fingerprint: Fingerprint,
    _method: str,
    key: tuple[object, ...],  # noqa: ARG001 -- what the cache goes by
) -> Placed | None:
    kept = _maps.read(_fingerprint, _method)
    return None if kept is None else _with_facts(kept, _shared)


def _with_facts(kept: Map, shared: Surroundings) -> Placed:
    found: dict[str, Shown] = {}
    with shared.index() as index:
        for start in range(0, len(kept.ids), _AT_ONCE):
            points = index.retrieve(kept.ids[start : start + _AT_ONCE])
            found |= {point.id: Shown.of_point(point) for point in points}
    there = [number for number, point in enumerate(kept.ids) if point in found]
    return Placed([found[kept.ids[number]] for number in there], kept.places[there], kept.made)


def passing(state: State, images: Sequence[Shown]) -> NDArray[np.bool_]:
    """(images,) whether each passes the filter, as the index would say."""
    return np.array([_passes(state, image.facts) for image in images], bool)


def _passes(state: State, facts: Facts) -> bool:
    labels = facts.labels
    modality = (*state.modality, *(XR_CODES if "XR" in state.modality else ()))
    any_of = (
        (modality, (labels.modality,)), (state.region, (labels.region,)), (state.pathology, labels.pathology),
        (state.dataset, (facts.dataset,)), (state.view, (facts.view,)), (state.sex, (facts.sex,)),
    )  # fmt: skip
    return (
        all(not wanted or not set(wanted).isdisjoint(values) for wanted, values in any_of)
        and set(state.pathology_all) <= set(labels.pathology)
        and set(state.pathology_none).isdisjoint(labels.pathology)
        and _within(state.age, facts.age)
        and _within(state.year, facts.year)
    )


def _within(span: Span | None, number: int | None) -> bool:
    if span is None:
        return True
    low, high = span.low, span.high
    return number is not None and (low is None or low <= number) and (high is None or number <= high)


def groups_of(images: Sequence[Shown], shown: NDArray[np.bool_], field: str) -> list[Group]:
    """The images that are shown, by the values of a field; every one is in one group.

    Of words the ten most frequent have groups of their own, most images first; of numbers ten spans, rising. Then come
    all others, and those of which nothing is known.
    """
    values = _values(images, field)
    counts = Counter(value for value, kept in zip(values, shown, strict=True) if kept and value is not None)
    own = _spans(counts) if field in _NUMBERS else [value for value, _ in counts.most_common(_MOST_GROUPS)]
    slots = list(range(len(own))) if field in _NUMBERS else _slots(values, own)
    colours = _spread(len(own)) if field in _NUMBERS else [_COLOURS[slot] for slot in slots]
    shapes = ["circle"] * len(own) if field in _NUMBERS else [_SHAPES[slot] for slot in slots]
    places = {value: place for place, value in enumerate(own)}
    others, unknown = len(own), len(own) + 1
    of_image = np.array([unknown if value is None else places.get(value, others) for value in values], np.int64)
    rows = [(*row, True) for row in zip(own, colours, shapes, strict=True)]
    rows.append((f"others, of {len(counts) - len(own):,} values", _OTHERS, "circle", False))
    rows.append(("unknown", _UNKNOWN, "circle", False))
    groups = [
        Group(words, np.flatnonzero((of_image == number) & shown), colour, shape, named)
        for number, (words, colour, shape, named) in enumerate(rows)
    ]
    return [group for group in groups if group.members.size]


def _slots(values: Sequence[str | None], own: Sequence[str]) -> list[int]:
    """Places in the palette: a value that is frequent in the whole map has the same one under every filter."""
    counts = Counter(value for value in values if value is not None)
    fixed = {value: slot for slot, (value, _) in enumerate(counts.most_common(_MOST_GROUPS)) if value in own}
    free = (slot for slot in range(_MOST_GROUPS) if slot not in fixed.values())
    return [fixed[value] if value in fixed else next(free) for value in own]


def _values(images: Sequence[Shown], field: str) -> list[str | None]:
    if field in _NUMBERS:
        return _banded([getattr(image.facts, field) for image in images])
    if field == "pathology":
        return [next(iter(image.facts.labels.pathology), None) for image in images]
    holders = [image.facts.labels if field in ("modality", "region") else image.facts for image in images]
    return [getattr(holder, field) for holder in holders]


def _banded(numbers: Sequence[int | None]) -> list[str | None]:
    """Numbers as spans that are as narrow as ten allow; a span's name sorts as its first number where widths agree."""
    known = [number for number in numbers if number is not None]
    if not known:
        return [None] * len(numbers)
    fitting = (width for width in _WIDTHS if max(known) // width - min(known) // width < _MOST_GROUPS)
    width = next(fitting, _WIDTHS[-1])
    return [None if number is None else _band(number // width * width, width) for number in numbers]


def _band(first: int, width: int) -> str:
    return str(first) if width == 1 else f"{first} to {first + width - 1}"


def _spans(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda words: int(words.partition(" ")[0]))[:_MOST_GROUPS]


def _spread(count: int) -> list[str]:
    """So many of the rising colours, from end to end."""
    return [_RISING[round(place)] for place in np.linspace(len(_RISING) - 1, 0, count)][::-1]
