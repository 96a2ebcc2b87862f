"""The filter that a state means, and how many images each further choice would leave."""

from collections.abc import Mapping
from dataclasses import dataclass

from radsearch.index import Index, IndexCard
from radsearch.study import SearchFilter
from ui.state import State

WORD_FACETS = ("modality", "region", "pathology", "dataset", "view", "sex")
NUMBER_FACETS = ("age", "year")
TITLES = {"dataset": "data set", "pathology": "finding"}
Counts = Mapping[str | int, int]


@dataclass(frozen=True, slots=True)
class Overview:
    """What an index holds: its card, how many images in all, how many pass the filter, and these by facet.

    by_facet: for each facet how many images its values have, under the rest of the filter; of the findings to be shown
        all together, under all of it (`pathology_all`).
    """

    card: IndexCard
    total: int
    passing: int
    by_facet: Mapping[str, Counts]


def where_of(state: State) -> SearchFilter:
    """The filter as the index knows it."""
    named = {name: getattr(state, name) for name in ("view", "sex")}
    return SearchFilter(
        modality=state.modality,
        region=state.region,
        pathology=state.pathology,
        pathology_all=state.pathology_all,
        pathology_none=state.pathology_none,
        dataset=state.dataset,
        any_of={name: values for name, values in named.items() if values},
        age=state.age,
        year=state.year,
    )


def overview_of(index: Index, state: State) -> Overview:
    """Ask the index for all that the filter's widgets show."""
    where = where_of(state)
    blank = State()
    by_facet = {
        name: index.facets(name, where_of(state.having(**{name: getattr(blank, name)})))
        for name in (*WORD_FACETS, *NUMBER_FACETS)
    }
    by_facet["pathology_all"] = index.facets("pathology", where)
    return Overview(index.card, index.count(), index.count(where), by_facet)


def options_of(counts: Counts, chosen: tuple[str, ...]) -> list[str]:
    """The values to choose from, most frequent first; what is chosen stays, also where it would leave nothing."""
    values = [str(value) for value in counts]
    return [*values, *(value for value in chosen if value not in values)]


def with_count(value: str, counts: Counts) -> str:
    """`CT (1,204)`."""
    return f"{value} ({counts.get(value, 0):,})"
