"""Thousands of damaged files through the reader, as an ingest reads them: what becomes of each, and of the run.

.venv/bin/python tests/mutation_run.py      rebuilds the table in docs/rendering.md
"""

import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mutants import Mutant, mutants, seeds

from radsearch.privacy import Pseudonymizer
from radsearch.reading import ALL_FRAMES, identify, read
from radsearch.reading.isolation import IsolatedPool, Limits, Pending, Refusal, renew_time_limit
from radsearch.rendering import render

DOCUMENT = Path(__file__).parents[1] / "docs" / "rendering.md"
COUNT = 5000
LIMITS = Limits(seconds=20.0, memory_mb=1024)
_BATCH = 8
_AHEAD = 6


@dataclass(frozen=True, slots=True)
class MutationRun:
    """What became of the mutants: by outcome, and the name of each that was unexpected; `seconds` in all."""

    outcomes: Counter[str]
    unexpected: tuple[str, ...]
    seeds: int
    kinds: int
    seconds: float


def show(pseudonymizer: Pseudonymizer, path: Path) -> str:
    """Runs in a worker: what an ingest does with a file, but for the model."""
    identity = identify(path, pseudonymizer, name=path.name, choice=ALL_FRAMES)
    pictures = 0
    for image in read(path, pseudonymizer, identity.chosen):
        renew_time_limit()
        pictures += render(image).size > 0
    return "read" if pictures else "read, but empty"


def run(count: int, folder: Path, *, workers: int = 2) -> MutationRun:
    """Read so many mutants; each is on disk only while it is read."""
    begun = time.monotonic()
    kept = folder / "seeds"
    kept.mkdir()
    originals = seeds(kept)
    outcomes: Counter[str] = Counter()
    unexpected, kinds = [], set()
    pool = IsolatedPool(Pseudonymizer(bytes(32)), workers, LIMITS)
    try:
        for mutant, answer in _answers(pool, mutants(originals, count), folder):
            kinds.add(mutant.kind)
            outcome = answer.reason if isinstance(answer, Refusal) else answer
            skipped = isinstance(answer, Refusal) and answer.skipped
            outcomes["skipped: no picture" if skipped else outcome] += 1
            if outcome.startswith(("unexpected", "read, but")):
                unexpected.append(f"{mutant.name}: {outcome}")
    finally:
        pool.close()
    return MutationRun(outcomes, tuple(unexpected), len(originals), len(kinds), time.monotonic() - begun)


def _answers(
    pool: IsolatedPool[Pseudonymizer], made: Iterator[Mutant], folder: Path
) -> Iterator[tuple[Mutant, str | Refusal]]:
    under_way: deque[tuple[Sequence[Mutant], Pending[str]]] = deque()
    exhausted = False
    while under_way or not exhausted:
        while not exhausted and len(under_way) < _AHEAD:
            batch = list(islice(made, _BATCH))
            exhausted = not batch
            if batch:
                for mutant in batch:
                    (folder / mutant.name).write_bytes(mutant.content)
                under_way.append((batch, pool.begin(show, [folder / mutant.name for mutant in batch])))
        if under_way:
            batch, pending = under_way.popleft()
            for mutant, answer in zip(batch, pending.results(), strict=True):
                (folder / mutant.name).unlink()
                yield mutant, answer


def table(made: MutationRun) -> str:
    """Markdown, a line an outcome."""
    total = sum(made.outcomes.values())
    setting = f"two workers of {LIMITS.memory_mb} MiB and {LIMITS.seconds:.0f} s a frame"
    lines = [
        f"{total:,} mutants of {made.seeds} seeds, {made.kinds} kinds of damage, {setting}: {made.seconds:.0f} s.",
        "",
        "| outcome | files |",
        "| --- | --- |",
        *(f"| {outcome} | {number:,} |" for outcome, number in made.outcomes.most_common()),
    ]
    return "\n".join(lines)


def main() -> None:
    import mutation_run  # its functions are found by this name, by the workers too

    with tempfile.TemporaryDirectory() as folder:
        made = mutation_run.run(COUNT, Path(folder))
    text = DOCUMENT.read_text(encoding="utf-8")
    begin, end = "<!-- mutants: rebuilt by tests/mutation_run.py -->\n", "\n<!-- end of mutants -->"
    text = text[: text.index(begin) + len(begin)] + table(made) + text[text.index(end) :]
    DOCUMENT.write_text(text, encoding="utf-8")
    sys.stdout.write("\n".join([table(made), *made.unexpected]) + "\n")


if __name__ == "__main__":
    main()
