"""What does a judgement help? Simulated readers like and dislike what a first search shows, and search again.

    .venv/bin/python -m ingest ../shared/corpus --manifest ../shared/corpus/manifest.csv --index INDEX
    .venv/bin/python benchmarks/feedback.py --index INDEX

A reader looks at the ten nearest images of other patients and judges some of them by whether they share a finding with
the query. Then come ten new ones: the share of these that share a finding is compared with the next ten of the first
search. The query is mean(query and liked) - weight x mean(disliked); `radsearch.search.rocchio` has the weight 0.5.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from surroundings import surroundings, tell

from radsearch.index import open_index
from radsearch.settings import load_settings
from radsearch.study import Vectors

_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75)
_JUDGED = ((0, 1), (1, 0), (1, 1), (0, 3), (2, 3), (3, 1))  # liked, disliked
_SEEN = 10


class Archive:
    """Images with findings: vectors (images, dimension), and which share a finding or a patient."""

    def __init__(self, vectors: Vectors, findings: Sequence[frozenset[str]], patients: Sequence[str]) -> None:
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        self.shares = np.array([[bool(one & other) for other in findings] for one in findings])
        self.others = np.array(patients)[:, None] != np.array(patients)[None, :]

    def nearest(self, query: Vectors, image: int, without: Iterable[int] = ()) -> NDArray[np.int64]:
        """The ten nearest images of other patients than the image's, but for some."""
        scores = self.vectors @ query
        scores[~self.others[image]] = -np.inf
        scores[list(without)] = -np.inf
        return np.argsort(-scores, kind="stable")[:_SEEN]

    def gain(self, image: int, liked: int, disliked: int, weight: float) -> tuple[float, float] | None:
        """Precision of the ten new ones without and with the judgements; None where there is not so much to judge."""
        query = self.vectors[image]
        first = self.nearest(query, image)
        good, bad = first[self.shares[image, first]][:liked], first[~self.shares[image, first]][:disliked]
        if len(good) < liked or len(bad) < disliked:
            return None
        mean = np.vstack([query[None], self.vectors[good]]).mean(axis=0)
        if disliked:
            mean -= weight * self.vectors[bad].mean(axis=0)
        before, after = (self.nearest(one, image, first) for one in (query, mean / np.linalg.norm(mean)))
        return float(self.shares[image, before].mean()), float(self.shares[image, after].mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", required=True)
    options = parser.parse_args()
    archive = _read(options.index)
    tell(surroundings(["numpy"]))
    print("| liked, disliked | readers | next ten | " + " | ".join(f"weight {weight:g}" for weight in _WEIGHTS) + " |")
    print("| --- |" + " ---: |" * (2 + len(_WEIGHTS)))
    for liked, disliked in _JUDGED:
        columns = [
            [gain for image in range(len(archive.vectors)) if (gain := archive.gain(image, liked, disliked, weight))]
            for weight in (_WEIGHTS if disliked else _WEIGHTS[:1])
        ]
        before = float(np.mean([one for one, _ in columns[0]]))
        after = [float(np.mean([one for _, one in gains])) for gains in columns]
        cells = [f"{value:.3f}" for value in after] + [""] * (len(_WEIGHTS) - len(after))
        print(f"| {liked}, {disliked} | {len(columns[0])} | {before:.3f} | {' | '.join(cells)} |")


def _read(location: str) -> Archive:
    with open_index(replace(load_settings(), index=location)) as index:
        (model,) = index.card.models
        points = [point for page in index.pages(vectors_of=[model]) for point in page if "pathology" in point.payload]
    points.sort(key=lambda point: point.id)
    findings = [frozenset(map(str, point.payload["pathology"])) for point in points]
    return Archive(
        np.stack([point.vectors[model] for point in points]),
        findings,
        [point.payload.get("patient", point.id) for point in points],
    )


if __name__ == "__main__":
    main()
