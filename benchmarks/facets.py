"""How long are counts by value under a filter, as the engine's fast count gives them and as its exact one does?

    .venv/bin/python benchmarks/facets.py --points 1600000

Vectors have four numbers, as counting does not look at them. Both counts are compared, but for the patients, of whom
only the 1,000 with most images are given: the two break ties otherwise.
"""

import argparse
import importlib.metadata
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import qdrant_edge as edge

from radsearch.index import IndexedImage
from radsearch.index.embedded import EmbeddedIndex, _filter, open_embedded_index
from radsearch.index.schema import conditions_of
from radsearch.settings import Settings
from radsearch.study import Fingerprint, SearchFilter

_MODEL = Fingerprint("counted", "none", 4, "none", "float32", 1)
_BATCH = 5000
_MODALITIES = ("CT", "MR", "CR", "US")
_FILTERS = {
    "no filter": SearchFilter(),
    "a quarter": SearchFilter(modality=("CT",)),
    "three quarters": SearchFilter(modality=("CT", "MR", "CR")),
    "a common finding": SearchFilter(pathology=("p3",)),
    "a rare finding": SearchFilter(pathology=("p700",)),
}
_FIELDS = ("modality", "region", "pathology", "patient")


def main() -> None:
    """Make the index where it is not there, count, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--index", type=Path, help="folder to make and keep, or to count in (default: a passing one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        settings = Settings(index=str(options.index or Path(passing, "index")))
        with open_embedded_index(settings, create_for=[_MODEL], sole_writer=True) as index:
            if not index.count():
                index.admit([_MODEL], "check")
                for images in _batches(options.points):
                    index.write(images)
                index.finish()
            report(index, options.repeats)


def _batches(points: int) -> Iterator[list[IndexedImage]]:
    random = np.random.default_rng(0)
    findings = random.zipf(1.3, points) % 1000
    for start in range(0, points, _BATCH):
        vectors = random.normal(size=(_BATCH, 4)).astype(np.float32)
        modalities = random.integers(0, len(_MODALITIES), _BATCH)
        yield [
            IndexedImage(
                f"00000000-0000-4000-8000-{number:012d}",
                {_MODEL.model: vectors[number - start]},
                {
                    "content": str(number),
                    "modality": _MODALITIES[modalities[number - start]],
                    "region": f"r{number % 10}",
                    "pathology": [f"p{findings[number]}", f"q{findings[number] // 7}"],
                    "patient": f"n{number // 4}",
                    "year": 2000 + number % 20,
                    "models": [_MODEL.model],
                },
            )
            for number in range(start, min(points, start + _BATCH))
        ]


def report(index: EmbeddedIndex, repeats: int) -> None:
    """Print the milliseconds of each field under each filter: ours / the engine's exact count."""
    print(f"{date.today()}; qdrant-edge-py {importlib.metadata.version('qdrant-edge-py')}; {index.count():,} points\n")  # noqa: DTZ011
    print(f"| ms: ours / exact | {' | '.join(_FIELDS)} |\n{'| --- ' * (1 + len(_FIELDS))}|")
    for name, where in _FILTERS.items():
        cells = []
        for field in _FIELDS:
            ours, exact = [], []
            for _ in range(repeats):
                begun = perf_counter()
                counts = index.facets(field, where)
                ours.append(perf_counter() - begun)
                begun = perf_counter()
                truth = exact_facets(index, field, where)
                exact.append(perf_counter() - begun)
                if field != "patient" and counts != truth:
                    raise SystemExit(f"{field} under {name}: the counts differ")
            cells.append(f"{1000 * median(ours):.1f} / {1000 * median(exact):.1f}")
        print(f"| {name}: {index.count(where):,} images | {' | '.join(cells)} |", flush=True)


def exact_facets(index: EmbeddedIndex, field: str, where: SearchFilter) -> dict[str | int, int]:
    """As `Index.facets`, by counting anew for each value."""
    request = edge.FacetRequest(field, limit=1000, exact=True, filter=_filter(conditions_of(where)))
    with index._held.using() as shard:  # noqa: SLF001 -- past the interface on purpose
        return {hit.value: hit.count for hit in shard.facet(request).hits if hit.count}


if __name__ == "__main__":
    main()
