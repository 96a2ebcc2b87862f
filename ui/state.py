"""What a search is, and the two ways between it and the page's address: a link is a search to send to a colleague."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from radsearch.search import canonical_id
from radsearch.search.ranking import Group
from radsearch.search.reranking import RERANKINGS, Rerank
from radsearch.study import Span

LOT = 24  # hits that come at a time
MOST_SHOWN = 20 * LOT
EXPANSIONS = (0, 1, 3, 5)  # hits that move the query
_MOST_VALUES = 50
_LONGEST_TEXT = 300
_LONGEST_NUMBER = 7

# Field of State -> its name in the address.
_LISTS = {
    "ids": "id", "liked": "like", "disliked": "unlike", "models": "model",
    "modality": "modality", "region": "region", "pathology": "pathology", "pathology_all": "all-pathology",
    "pathology_none": "not-pathology", "dataset": "dataset", "view": "view", "sex": "sex",
}  # fmt: skip
_SPANS = ("age", "year")
EXAMPLE_FIELDS = ("ids", "liked", "disliked")
FILTER_FIELDS = (
    "modality", "region", "pathology", "pathology_all", "pathology_none", "dataset", "view", "sex", "age", "year",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class State:
    """A search, but for uploaded files.

    ids: indexed images to search by; liked, disliked: judgements of hits. text: words to search by where there is no
    image. part: (left, top, right, bottom) of the only image that is searched by, in thousandths of its picture.
    shown: so many hits at most. anyway: also where nothing is similar enough. rerank, expand: as in `Ranking`. A model,
    a filter: as in `Wanted` and `SearchFilter`.
    """

    ids: tuple[str, ...] = ()
    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()
    text: str = ""
    models: tuple[str, ...] = ()
    fusion: Literal["rank", "score"] = "rank"
    modality: tuple[str, ...] = ()
    region: tuple[str, ...] = ()
    pathology: tuple[str, ...] = ()
    pathology_all: tuple[str, ...] = ()
    pathology_none: tuple[str, ...] = ()
    dataset: tuple[str, ...] = ()
    view: tuple[str, ...] = ()
    sex: tuple[str, ...] = ()
    age: Span | None = None
    year: Span | None = None
    part: tuple[int, int, int, int] | None = None
    same_patient: bool = False
    group: Group | None = None
    shown: int = LOT
    rerank: Rerank | None = None
    expand: int = 0
    anyway: bool = False

    def having(self, **fields: Any) -> "State":
        """The same with other values of some fields."""
        return replace(self, **fields)

    def similar_to(self, point: str) -> "State":
        """A new search by one indexed image, under the same filter."""
        return replace(self.unasked(), ids=(point,))

    def judged(self, point: str, *, liked: bool) -> "State":
        """The search with a hit liked or disliked; to judge it so once more takes the judgement back."""
        name, other = ("liked", "disliked") if liked else ("disliked", "liked")
        mine, theirs = getattr(self, name), getattr(self, other)
        mine = without(mine, point) if point in mine else (*mine, point)
        return self.having(**{name: mine, other: without(theirs, point)}, shown=LOT)

    def toggled(self, facet: str, value: str) -> "State":
        """The filter with a value of a facet taken in, or out where it is in."""
        held = getattr(self, facet)
        return self.having(**{facet: without(held, value) if value in held else (*held, value)}, shown=LOT)

    def without_example(self, field: str, point: str) -> "State":
        """Not searched by that image (any more). Args: field: `ids`, `liked` or `disliked`."""
        return self.having(**{field: without(getattr(self, field), point)}, part=None, anyway=False)

    def unasked(self) -> "State":
        """The filter alone, with nothing to search by."""
        return replace(self, ids=(), liked=(), disliked=(), text="", part=None, shown=LOT, anyway=False)

    def unfiltered(self) -> "State":
        """The same search everywhere."""
        blank = State()
        return self.having(**{name: getattr(blank, name) for name in FILTER_FIELDS}, shown=LOT)


def sole_query(state: State, uploads: Sequence[object]) -> bool:
    """Whether one image alone is searched by, so that a part of it can be meant."""
    return len(uploads) + len(state.ids) == 1


def without(values: Sequence[str], value: str) -> tuple[str, ...]:
    """The others."""
    return tuple(one for one in values if one != value)


def query_of(state: State) -> dict[str, list[str]]:
    """A state as the address has it: only what is not as at the start."""
    query = {name: list(getattr(state, field)) for field, name in _LISTS.items()}
    query |= {name: [_span_text(span)] for name in _SPANS if (span := getattr(state, name))}
    if state.text:
        query["text"] = [state.text]
    if state.fusion != "rank":
        query["fusion"] = [state.fusion]
    if state.part:
        query["part"] = ["-".join(map(str, state.part))]
    if state.same_patient:
        query["same-patient"] = ["1"]
    if state.group:
        query["group"] = [state.group]
    if state.rerank:
        query["rerank"] = [state.rerank]
    if state.expand:
        query["expand"] = [str(state.expand)]
    if state.anyway:
        query["anyway"] = ["1"]
    if state.shown != LOT:
        query["shown"] = [str(state.shown)]
    return {name: values for name, values in query.items() if values}


def state_of(query: Mapping[str, Sequence[str]]) -> State:
    """The state that an address means; what is no value of its field is passed over."""
    fields: dict[str, Any] = {
        field: tuple(dict.fromkeys(value for value in query.get(name, ()) if value))[:_MOST_VALUES]
        for field, name in _LISTS.items()
    }
    for name in EXAMPLE_FIELDS:  # an id that is none is kept where the search says so
        known = [canonical_id(value) or (value if name == "ids" else None) for value in fields[name]]
        fields[name] = tuple(dict.fromkeys(point for point in known if point))
    fields |= {name: _span_of(_first(query, name)) for name in _SPANS}
    fusion, group, shown, expand = (_first(query, name) for name in ("fusion", "group", "shown", "expand"))
    return State(
        **fields,
        text=_first(query, "text")[:_LONGEST_TEXT],
        fusion="score" if fusion == "score" else "rank",
        part=_part_of(_first(query, "part")),
        same_patient=_first(query, "same-patient") == "1",
        anyway=_first(query, "anyway") == "1",
        group=cast("Group", group) if group in ("patient", "study", "series") else None,
        shown=min(max(int(shown), LOT), MOST_SHOWN) if shown.isdecimal() and len(shown) < _LONGEST_NUMBER else LOT,
        rerank=next((one for one in RERANKINGS if one == _first(query, "rerank")), None),
        expand=next((one for one in EXPANSIONS if str(one) == expand), 0),
    )


def _first(query: Mapping[str, Sequence[str]], name: str) -> str:
    values = query.get(name, ())
    return values[0] if values else ""


def _part_of(text: str) -> tuple[int, int, int, int] | None:
    edges = [int(edge) for edge in text.split("-") if edge.isdecimal() and len(edge) < 5]  # noqa: PLR2004
    if len(edges) != 4 or not (0 <= edges[0] < edges[2] <= 1000 and 0 <= edges[1] < edges[3] <= 1000):  # noqa: PLR2004
        return None
    left, top, right, bottom = edges
    return left, top, right, bottom


def _span_text(span: Span) -> str:
    return "-".join("" if bound is None else str(bound) for bound in (span.low, span.high))


def _span_of(text: str) -> Span | None:
    low, dash, high = text.partition("-")
    if not dash or not all(bound == "" or (bound.isdecimal() and len(bound) < 5) for bound in (low, high)):  # noqa: PLR2004
        return None
    span = Span(int(low) if low else None, int(high) if high else None)
    return None if span == Span() else span
