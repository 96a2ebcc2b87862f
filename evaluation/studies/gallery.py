"""Of the study `relink`: the images that a patient may be looked for among, and what luck would find."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from evaluation.checks import Rows, Values
from evaluation.collection import Collection, codes_of


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """Columns of images that may meet where they are of one site. rows: of the collection, rising; codes of each."""

    rows: Rows
    sites: Rows
    patients: Rows
    studies: Rows

    @property
    def wanted(self) -> Rows:
        """(images,) how many images of its patient and site are of another study."""
        return _alike(self.sites, self.patients) - _alike(self.sites, self.studies)

    @property
    def met(self) -> Rows:
        """(images,) how many images of its site are of another study."""
        return _alike(self.sites) - _alike(self.sites, self.studies)


def known_images(collection: Collection, dropped: Counter[str]) -> Rows:
    """(images,) rows whose patient and study are known."""
    rows = []
    for row, image in enumerate(collection.images):
        if not image.patient_known:
            dropped["no patient stated"] += 1
        elif image.study is None:
            dropped["no study stated"] += 1
        else:
            rows.append(row)
    return np.array(rows, np.int64)


def everyone_of(collection: Collection, rows: Rows) -> Gallery:
    """All of one site. A study is its patient's: numbers such as "1" recur among the patients of a manifest."""
    images = [collection.images[row] for row in rows.tolist()]
    patients = codes_of([image.patient for image in images])
    named = zip(images, patients.tolist(), strict=True)
    studies = codes_of([f"{patient} {image.study}" for image, patient in named])
    return Gallery(rows, np.zeros(len(rows), np.int64), patients, studies)


def of_one_site(collection: Collection, everyone: Gallery) -> Gallery:
    """The images that state modality and region, with them as their site."""
    facts = [collection.images[row].facts for row in everyone.rows.tolist()]
    stated = np.array(["modality" in one and "region" in one for one in facts])
    names = [f"{one['modality']}/{one['region']}" for one, there in zip(facts, stated, strict=True) if there]
    return Gallery(everyone.rows[stated], codes_of(names), everyone.patients[stated], everyone.studies[stated])


def by_chance(wanted: Rows, met: Rows, k: int) -> Values:
    """(queries,) how likely one of `wanted` is among the first k of `met` images in an order by lot."""
    missed = np.ones(len(wanted))
    for drawn in range(k):
        missed *= np.maximum(met - wanted - drawn, 0) / np.maximum(met - drawn, 1)
    return 1 - missed


def _alike(codes: Rows, others: Rows | None = None) -> Rows:
    """(images,) how many images have the same code, and the same of the others too, itself among them."""
    both = codes if others is None else codes * (others.max(initial=0) + 1) + others
    _, places, counts = np.unique(both, return_inverse=True, return_counts=True)
    alike: Rows = counts[places]
    return alike
