"""How fast and how truly are the ten nearest of many points found, under filters, by radsearch and by its peers?

    .venv/bin/python benchmarks/search_scale.py                                         # 200,000 points, all sides
    .venv/bin/python benchmarks/search_scale.py --points 1600000 --sides radsearch
    .venv/bin/python benchmarks/search_scale.py --sides radsearch,radsearch-int8,radsearch-whole,radsearch-float16
    .venv/bin/pip install faiss-cpu==1.15.1 hnswlib==0.8.0 lancedb==0.40.0              # what the peers want

Every side builds in one process and searches in another, so that its memory is its own. In each row a peer gets the
first value of its effort parameter that reaches a recall of 0.99 on queries of their own, else the best one; then
follow the timed queries one at a time, and two threads that ask for two seconds.
"""

import argparse
import importlib.metadata
import importlib.util
import itertools
import shlex
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from scale_data import ROWS, Points, Queries, make, real_vectors, recall, space_of
from scale_peers import SIDES
from scale_sides import THREADS, Clock, Side
from surroundings import memory_mb, surroundings, tell

_USUAL = [name for name in SIDES if not name.startswith("radsearch-")]  # without our own other ways to keep vectors
_TUNING = 100  # queries before the timed ones
_WANTED = 0.99
_ASKING_SECONDS = 2
_NOTES = """
A filter keeps a region of the space: the one that the query lies in, or the one half a tour of the real images away.
radsearch hands out hits with facts, the peers numbers. p50, p99: one query at a time; queries/s: {threads} threads.
FAISS's and hnswlib's graphs are built while points are inserted. Peak: of the building process; resident: of the
searching one after all rows. The time for a row's tuning, and for its timed queries, was {seconds:g} s."""
_CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus"


@dataclass(frozen=True, slots=True)
class Built:
    """Seconds and megabytes of a build; the peak is above what the process held before it."""

    insert_seconds: float
    index_seconds: float
    peak_mb: float
    disk_mb: float


@dataclass(frozen=True, slots=True)
class Answered:
    """How a side did in a row.

    asked: timed queries; cut_short: not all of them, as the time was up; capped: the time for the tuning was up.
    """

    recall: float
    p50_ms: float
    p99_ms: float
    per_second: float
    effort: str
    asked: int
    cut_short: bool
    capped: bool


@dataclass(frozen=True, slots=True)
class Searched:
    """All rows, then the process's memory above what it held before: resident, and the part that is mapped files."""

    rows: tuple[Answered, ...]
    resident_mb: float
    mapped_mb: float


@dataclass(slots=True)
class Result:
    """All of one side, as far as it came."""

    name: str
    built: Built | None = None
    searched: Searched | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=200, help="timed ones")
    parser.add_argument("--corpus", type=Path, default=_CORPUS, help="folder with images/ (default: ../shared/corpus)")
    parser.add_argument(
        "--sides", type=sides_of, default=_USUAL, help=f"of {','.join(SIDES)} (default: {','.join(_USUAL)})"
    )
    parser.add_argument("--row-seconds", type=float, default=20, help="most for a row's tuning, and for its queries")
    parser.add_argument("--work", type=Path, help="folder on whose disk the indexes are built, for a while")
    options = parser.parse_args()
    if options.points < max(row.parts for row in ROWS) or options.queries < 1:
        parser.error("there is a filter that keeps 0.1 %: take 1,000 points or more, and a query at least")
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        compare(Path(folder), options)


def sides_of(names: str) -> list[str]:
    """Names with commas between them -> a list; refuses unknown ones."""
    for name in names.split(","):
        if name not in SIDES:
            raise argparse.ArgumentTypeError(f"there is no side {name!r}; there are {', '.join(SIDES)}")
    return names.split(",")


def compare(folder: Path, options: argparse.Namespace) -> None:
    for name in options.sides:
        if importlib.util.find_spec(SIDES[name].module) is None:
            raise SystemExit(f"{SIDES[name].package} is not installed: install it, or leave {name} out of --sides")
    tell("embedding the corpus, drawing the points, finding the exact answers")
    space = space_of(real_vectors(options.corpus), options.dimension)
    points, queries = make(space, folder / "points.npy", options.points, _TUNING + options.queries)
    results: list[Result] = []
    try:
        for name in options.sides:
            results.append(Result(name))
            measure(results[-1], folder, points, queries, options.row_seconds)
    finally:  # an hour's figures are not to be lost to an error in the last of them
        report(results, options)


def measure(result: Result, folder: Path, points: Points, queries: Queries, row_seconds: float) -> None:
    """Build and search in two processes; a side that the system kills for its memory keeps empty cells."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as own,
        ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes,
    ):
        try:
            result.built = processes.submit(build, result.name, Path(own), points).result()
            tell(f"{result.name}: {result.built}")
            result.searched = processes.submit(
                search, result.name, Path(own), points, queries, row_seconds=row_seconds
            ).result()
        except BrokenProcessPool:
            tell(f"{result.name}: its process was killed, most likely for its memory")


def build(name: str, folder: Path, points: Points) -> Built:
    before, clock = memory_mb("VmRSS"), Clock()
    SIDES[name](folder, points).build(clock)
    disk = sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file()) / 1e6
    return Built(clock.seconds["insert"], clock.seconds["index"], memory_mb("VmHWM") - before, disk)


def search(name: str, folder: Path, points: Points, queries: Queries, *, row_seconds: float) -> Searched:
    before, mapped_before = memory_mb("VmRSS"), memory_mb("RssFile")
    side = SIDES[name](folder, points)
    side.open()
    rows = []
    for number, row in enumerate(ROWS):
        rows.append(Answering(side, number, queries, row_seconds).answered())
        tell(f"{name}, {row.name}: {cell_of(rows[-1])}")
    resident, mapped = memory_mb("VmRSS") - before, memory_mb("RssFile") - mapped_before
    side.close()
    return Searched(tuple(rows), resident, mapped)


class Answering:
    """One side's way through one row."""

    def __init__(self, side: Side, number: int, queries: Queries, row_seconds: float) -> None:
        self._side = side
        self._row_seconds = row_seconds
        self._vectors = queries.vectors
        self._truth = queries.truth[number]
        blocks = queries.wanted[number].tolist()
        filters = {block: side.where(ROWS[number].parts, block) for block in set(blocks)}
        self._filters = [filters[block] for block in blocks]

    def answered(self) -> Answered:
        effort, capped = self._tune()
        timed = range(_TUNING, len(self._vectors))
        reached, seconds = self._ask_in_turn(timed, effort, perf_counter() + self._row_seconds)
        p50, p99 = np.percentile(seconds, (50, 99)) * 1000
        return Answered(
            reached,
            float(p50),
            float(p99),
            self._rate(timed, effort),
            self._side.effort_words.format(effort),
            asked=len(seconds),
            cut_short=len(seconds) < len(timed),
            capped=capped,
        )

    def _tune(self) -> tuple[Any, bool]:
        """The first effort with the wanted recall, else the best; and whether the time was up before that was clear."""
        deadline = perf_counter() + self._row_seconds
        best: tuple[float, Any] = (-1.0, None)
        for effort in self._side.efforts:
            reached, seconds = self._ask_in_turn(range(_TUNING), effort, deadline)
            if reached > best[0]:
                best = (reached, effort)
            if reached >= _WANTED and len(seconds) == _TUNING:
                break
            if perf_counter() >= deadline:
                return best[1], len(self._side.efforts) > 1
        return best[1], False

    def _ask_in_turn(self, some: range, effort: Any, deadline: float) -> tuple[float, list[float]]:
        """Recall and seconds of one query after the other, until all are done or the time is up."""
        found, seconds = [], []
        for number in some:
            begun = perf_counter()
            found.append(self._ask(number, effort))
            seconds.append(perf_counter() - begun)
            if perf_counter() >= deadline:
                break
        return recall(found, self._truth[some.start : some.stop]), seconds

    def _rate(self, some: range, effort: Any) -> float:
        """Answers a second of two threads that ask for two seconds."""
        todo = itertools.cycle(some)
        begun = perf_counter()

        def ask_until_the_end(_: int) -> int:
            done = 0
            while perf_counter() < begun + _ASKING_SECONDS:
                self._ask(next(todo), effort)
                done += 1
            return done

        with ThreadPoolExecutor(THREADS) as threads:
            done = sum(threads.map(ask_until_the_end, range(THREADS)))
        return done / (perf_counter() - begun)

    def _ask(self, number: int, effort: Any) -> Sequence[int]:
        return self._side.search(self._vectors[number], self._filters[number], effort)


def report(results: Sequence[Result], options: argparse.Namespace) -> None:
    print(f"{date.today()}; {surroundings(['numpy', *(SIDES[name].package for name in options.sides)])}.")  # noqa: DTZ011 -- the day where the machine stands
    print(f"{options.points:,} points of {options.dimension} numbers; {options.queries} timed queries a row.\n")
    print(f"    .venv/bin/python {shlex.join(sys.argv)}\n")
    print(
        "| side | insert, s | index, s | inserted points/s | peak, MB | resident, MB | of it mapped files | disk, MB |"
    )
    print("| --- " * 8 + "|")
    for result in results:
        print(f"| {result.name} | {' | '.join(costs_of(result, options.points))} |")
    print("\n| recall / p50 ms / p99 ms / queries/s |", " | ".join(result.name for result in results), "|")
    print("| --- " * (1 + len(results)) + "|")
    for number, row in enumerate(ROWS):
        cells = [cell_of(result.searched.rows[number]) if result.searched else "not finished" for result in results]
        print(f"| {row.name} | {' | '.join(cells)} |")
    print(_NOTES.format(threads=THREADS, seconds=options.row_seconds))


def costs_of(result: Result, points: int) -> list[str]:
    built, searched = result.built, result.searched
    if built is None:
        return ["not finished"] * 7
    seconds = [f"{built.insert_seconds:.1f}", f"{built.index_seconds:.1f}", f"{points / built.insert_seconds:,.0f}"]
    memory = [f"{searched.resident_mb:,.0f}", f"{searched.mapped_mb:,.0f}"] if searched else ["not finished"] * 2
    return [*seconds, f"{built.peak_mb:,.0f}", *memory, f"{built.disk_mb:,.0f}"]


def cell_of(answered: Answered) -> str:
    figures = f"{answered.recall:.3f} / {answered.p50_ms:.2f} / {answered.p99_ms:.2f} / {answered.per_second:,.0f}"
    remarks = [answered.effort] if answered.effort else []
    if answered.capped:
        remarks.append("tuning ran out of time")
    if answered.cut_short:
        remarks.append(f"{answered.asked} queries")
    return f"{figures} ({', '.join(remarks)})" if remarks else figures


if __name__ == "__main__":
    main()
