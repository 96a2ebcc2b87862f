"""The study `relink`: does an image find its own patient in another study? Vectors are personal data as far as it does.

Source: Packhäuser et al., Deep learning-based patient re-identification is able to exploit the biometric nature of
medical chest X-ray data, Sci Rep 12, 2022: verification by pairs, and retrieval.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.asking import neighbours_among
from evaluation.checks import Flags, Rows, Values
from evaluation.collection import Collection
from evaluation.intervals import Interval, intervals_of
from evaluation.metrics import average_precision, reciprocal_rank
from evaluation.settings import SearchSettings
from evaluation.studies.gallery import Gallery, by_chance, everyone_of, known_images, of_one_site
from evaluation.studies.verification import Verification, verify
from radsearch.errors import RadSearchError

RANKS = (1, 5, 10)
ASKED = 20_000  # queries of a setting, at most: of 1.6 million images each takes as many products
FEWEST = 20  # queries of a modality or a region that is told by itself
_DEPTH = max(RANKS)


@dataclass(frozen=True, slots=True)
class Part:
    """Queries of one modality or region. rank_1: part of them whose nearest is their patient's; chance: by lot."""

    queries: int
    patients: int
    rank_1: float
    chance: float


@dataclass(frozen=True, slots=True)
class Found:
    """One setting: who is looked for among whom.

    queries, of: images that ask, and how many could; where they are fewer, those are drawn with the seed. patients: of
    those that ask. rates: `rank-1`, `rank-5`, `rank-10`: part of the queries with an image of their patient among the
    first so many; `MRR`, `mAP@10` as the protocols have them. chance: the same rates of a gallery in an order by lot.
    interval: 95 %, patients drawn with replacement. by: modality and region -> value -> part, of 20 queries or more.
    verification: by pairs of the setting's images; None where no pair is of two patients.
    """

    queries: int
    of: int
    patients: int
    rates: Mapping[str, float]
    chance: Mapping[str, float]
    interval: Mapping[str, Interval]
    by: Mapping[str, Mapping[str, Part]]
    verification: Verification | None


@dataclass(frozen=True, slots=True)
class Relink:
    """The study.

    images, patients: with a known patient and study. linkable: patients of two studies or more. dropped: reason ->
    images that are in nothing. seed: of the draws. all: the gallery is every image but those of the query's own study.
    same_site: only those of its modality and region, as another body part is easily told apart; None where no patient
    has two studies of one.
    """

    images: int
    patients: int
    linkable: int
    dropped: Mapping[str, int]
    seed: int
    all: Found
    same_site: Found | None


def study_relink(collection: Collection, settings: SearchSettings) -> Relink:
    """Ask with every image whose patient has another study, whatever its findings are: no protocol plays a part.

    Raises:
        RadSearchError: no patient has images of two studies.
    """
    dropped: Counter[str] = Counter()
    everyone = everyone_of(collection, known_images(collection, dropped))
    if not everyone.wanted.any():
        raise RadSearchError(
            f"{collection.source} has no patient with images of two studies: the study 'relink' needs both known "
            "(an ingest reads them from DICOM; a manifest has the columns patient and study)"
        )
    linked = len(np.unique(everyone.patients[everyone.wanted > 0]))
    sites = of_one_site(collection, everyone)
    return Relink(
        images=len(everyone.rows),
        patients=len(np.unique(everyone.patients)),
        linkable=linked,
        dropped=dict(dropped),
        seed=settings.seed,
        all=_found(collection, everyone, settings),
        same_site=_found(collection, sites, settings) if sites.wanted.any() else None,
    )


def _found(collection: Collection, gallery: Gallery, settings: SearchSettings) -> Found:
    able = np.flatnonzero(gallery.wanted)
    asked = np.sort(np.random.default_rng(settings.seed).permutation(able)[:ASKED])
    wanted, met = gallery.wanted[asked], gallery.met[asked]
    hits = _hits(collection, gallery, asked, settings)
    values = {f"rank-{k}": hits[:, :k].any(axis=1).astype(float) for k in RANKS}
    values |= {"MRR": reciprocal_rank(hits), f"mAP@{_DEPTH}": average_precision(hits, wanted, k=_DEPTH)}
    by_lot = {f"rank-{k}": by_chance(wanted, met, k) for k in RANKS}
    people = [collection.images[row].patient for row in gallery.rows[asked].tolist()]
    return Found(
        queries=len(asked),
        of=len(able),
        patients=len(set(people)),
        rates=_means(values),
        chance=_means(by_lot),
        interval=intervals_of(values, people, seed=settings.seed),
        by=_parts(collection, gallery.rows[asked], people, values["rank-1"], by_lot["rank-1"]),
        verification=verify(
            collection.vectors,
            gallery.rows,
            sites=gallery.sites,
            patients=gallery.patients,
            studies=gallery.studies,
            seed=settings.seed,
        ),
    )


def _hits(collection: Collection, gallery: Gallery, asked: Rows, settings: SearchSettings) -> Flags:
    """(asked, 10) whether the neighbour is of the query's patient; sites are searched one by one."""
    hits = np.zeros((len(asked), _DEPTH), bool)
    studies, patients = (np.full(len(collection.images), -1, np.int64) for _ in range(2))
    studies[gallery.rows], patients[gallery.rows] = gallery.studies, gallery.patients
    for site in np.unique(gallery.sites[asked]):
        places = np.flatnonzero(gallery.sites[asked] == site)
        queries, among = gallery.rows[asked[places]], gallery.rows[gallery.sites == site]
        start = 0
        for rows, near in neighbours_among(collection.vectors, queries, among, studies, _DEPTH, settings):
            block = places[start : start + len(rows)]
            hits[block] = (near >= 0) & (patients[near] == patients[rows][:, None])
            start += len(rows)
    return hits


def _means(values: Mapping[str, Values]) -> dict[str, float]:
    return {name: float(of_query.mean()) for name, of_query in values.items()}


def _parts(
    collection: Collection, rows: Rows, people: Sequence[str], first: Values, chance: Values
) -> dict[str, dict[str, Part]]:
    """Of the modalities and regions of enough queries."""
    parts: dict[str, dict[str, Part]] = {}
    for fact in ("modality", "region"):
        named = [collection.images[row].facts.get(fact, "unknown") for row in rows.tolist()]
        places = {value: np.flatnonzero([one == value for one in named]) for value in sorted(set(named))}
        parts[fact] = {
            value: Part(
                len(some),
                len({people[place] for place in some.tolist()}),
                float(first[some].mean()),
                float(chance[some].mean()),
            )
            for value, some in places.items()
            if len(some) >= FEWEST
        }
    return parts
