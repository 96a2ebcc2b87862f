"""How fast does the evaluation's exact search compare many queries with many vectors, beside faiss's flat index?

    .venv/bin/python benchmarks/exact_knn.py                                        # 20,000 queries, 200,000 vectors
    .venv/bin/python benchmarks/exact_knn.py --queries 2000 --vectors 100000        # half a minute
    .venv/bin/pip install faiss-cpu==1.15.1                                         # what the peer wants

In each round the sides search in turn, in one process. Half of a vector is the centre of its cluster, the other half
noise, so that there are near rows and far ones. faiss copies the vectors into its index first: that is in its memory
and not in its seconds. Ours checks the vectors and sorts by scores in float64: that is in its seconds.
"""

import argparse
import importlib.metadata
import importlib.util
import shlex
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from surroundings import memory_mb, surroundings, tell

from evaluation.neighbours import nearest
from radsearch.settings import usable_cores

Vectors: TypeAlias = NDArray[np.float32]
Positions: TypeAlias = NDArray[np.int64]
_CLUSTERS = 1000
_IMAGES_OF_A_PATIENT = 10
_PIECE = 20_000  # vectors drawn at once
_OURS, _LEAVING_OUT, _PEER = "radsearch", "radsearch, own patient left out", "faiss.IndexFlatIP"


@dataclass(slots=True)
class Measured:
    """Of one side: seconds and megabytes above the start of each round, and what was found in the last."""

    seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    positions: Positions = field(default_factory=lambda: np.empty((0, 0), np.int64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--vectors", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--memory-mb", type=int, default=512, help="bound of our search")
    options = parser.parse_args()
    if min(options.queries, options.vectors, options.dimension, options.depth, options.rounds) < 1:
        parser.error("every number is 1 or more")
    there = importlib.util.find_spec("faiss") is not None
    if not there:
        tell("faiss is not installed, so we search alone; to compare: .venv/bin/pip install faiss-cpu==1.15.1")
    report(measure(options, with_peer=there), options)


def measure(options: argparse.Namespace, *, with_peer: bool) -> dict[str, Measured]:
    random = np.random.default_rng(0)
    centres = random.standard_normal((_CLUSTERS, options.dimension), np.float32)
    index, queries = (draw(random, centres, count) for count in (options.vectors, options.queries))
    patients = random.permutation(options.vectors) // _IMAGES_OF_A_PATIENT
    own = {"query_groups": random.choice(patients, options.queries), "index_groups": patients}

    def ours(groups: dict[str, Any]) -> tuple[float, Positions]:
        begun = perf_counter()
        found = nearest(queries, index, options.depth, device="cpu", memory_mb=options.memory_mb, **groups)
        return perf_counter() - begun, found.positions

    sides: dict[str, Callable[[], tuple[float, Positions]]] = {_OURS: lambda: ours({}), _LEAVING_OUT: lambda: ours(own)}
    if with_peer:
        sides[_PEER] = lambda: by_faiss(queries, index, options.depth)
    measured = {name: Measured() for name in sides}
    for number in range(options.rounds):
        for name, search in sides.items():
            run(search, measured[name])
            tell(f"round {number + 1}, {name}: {measured[name].seconds[-1]:.1f} s")
    return measured


def draw(random: np.random.Generator, centres: Vectors, count: int) -> Vectors:
    """(count, dimension) unit vectors."""
    vectors = np.empty((count, centres.shape[1]), np.float32)
    for start in range(0, count, _PIECE):
        part = vectors[start : start + _PIECE]
        part[:] = random.standard_normal(part.shape, np.float32)
        part += centres[random.integers(0, len(centres), len(part))]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def by_faiss(queries: Vectors, index: Vectors, depth: int) -> tuple[float, Positions]:
    import faiss

    faiss.omp_set_num_threads(usable_cores())
    flat = faiss.IndexFlatIP(index.shape[1])
    flat.add(index)
    begun = perf_counter()
    positions: Positions = flat.search(queries, depth)[1]
    return perf_counter() - begun, positions


def run(search: Callable[[], tuple[float, Positions]], measured: Measured) -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew: proc(5)
    before = memory_mb("VmRSS")
    seconds, measured.positions = search()
    measured.seconds.append(seconds)
    measured.peak_mb.append(memory_mb("VmHWM") - before)


def report(measured: dict[str, Measured], options: argparse.Namespace) -> None:
    print(f"{date.today()}; {surroundings(['numpy', 'torch', *(['faiss-cpu'] if _PEER in measured else [])])}.")  # noqa: DTZ011 -- the day where the machine stands
    print(
        f"{options.queries:,} queries, {options.vectors:,} vectors of {options.dimension} numbers, the {options.depth} "
        f"nearest; {options.rounds} rounds in turn.\n"
    )
    print(f"    .venv/bin/python {shlex.join(sys.argv)}\n")
    print("| side | seconds (median) | lowest, highest | queries/s | speed beside faiss | peak above the start, MB |")
    print("| --- " * 6 + "|")
    for name, side in measured.items():
        seconds = statistics.median(side.seconds)
        print(
            f"| {name} | {seconds:.1f} | {min(side.seconds):.1f}, {max(side.seconds):.1f} | "
            f"{options.queries / seconds:,.0f} | {beside(side, measured.get(_PEER))} | {max(side.peak_mb):,.0f} |"
        )
    if _PEER in measured:
        agreement(measured[_OURS].positions, measured[_PEER].positions)


def beside(side: Measured, peer: Measured | None) -> str:
    """The median over the rounds; above 1 is faster than the peer."""
    if peer is None:
        return "not measured"
    ratios = [theirs / mine for mine, theirs in zip(side.seconds, peer.seconds, strict=True)]
    return f"{statistics.median(ratios):.2f}"


def agreement(ours: Positions, theirs: Positions) -> None:
    sets = (np.sort(ours, axis=1) == np.sort(theirs, axis=1)).all(axis=1).mean()
    orders, first = (ours == theirs).all(axis=1).mean(), (ours[:, 0] == theirs[:, 0]).mean()
    print(f"\nQueries with the same nearest {ours.shape[1]} as faiss: {sets:.5f}; in the same order: {orders:.5f}; ")
    print(f"with the same nearest one: {first:.5f}. faiss orders by products in float32.")


if __name__ == "__main__":
    main()
