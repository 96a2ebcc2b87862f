"""What a search may return, and what of it the query's own images and patients are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from radsearch.search.ranking import Ranking
from radsearch.study import Facts, SearchFilter


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a search may return: how many, from where, by which models (fused where there are several)."""

    limit: int = 10
    where: SearchFilter = field(default_factory=SearchFilter)
    models: tuple[str, ...] = ()
    allow_same_patient: bool = False
    ranking: Ranking = field(default_factory=Ranking)


def without_images(where: SearchFilter, ids: Sequence[str]) -> SearchFilter:
    """The same filter without these images."""
    return replace(where, without_ids=(*where.without_ids, *ids))


def without_patients(where: SearchFilter, known: Sequence[Facts]) -> SearchFilter:
    """The same filter without the patients and the studies of what this is known of."""
    return replace(
        where,
        without_patients=(*where.without_patients, *stated(known, lambda facts: facts.patient)),
        without_studies=(*where.without_studies, *stated(known, lambda facts: facts.study)),
    )


def without_series(where: SearchFilter, known: Sequence[Facts]) -> SearchFilter:
    """The same filter without the series of what this is known of."""
    own = stated(known, lambda facts: facts.series)
    return replace(where, none_of={**where.none_of, "series": (*where.none_of.get("series", ()), *own)})


def stated(known: Sequence[Facts], read_fact: Callable[[Facts], str | None]) -> tuple[str, ...]:
    """The values of a fact, each once, where it is known."""
    return tuple(dict.fromkeys(fact for facts in known if (fact := read_fact(facts)) is not None))
