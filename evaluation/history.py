"""The runs of one index over time: the accepted one, that later ones are held to, and whether a new one falls below it.

The guard raises itself and never lowers itself. Where each run that does not fall became the next one's measure,
quality could creep down by a little every night, unseen; so an accepted run stays until a person accepts another
(`python -m evaluation accept`), with two exceptions. The first run of a model has nothing to be held to and is accepted
by itself. So is a run whose P@1 lies above the accepted run's interval: an index that has grown and become better is
not held to what it could do when it was small. A run within the interval changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from evaluation.comparison import COMPARED, Comparison, compare
from evaluation.intervals import Difference, Interval
from evaluation.stored import Run, read_run
from radsearch.errors import NothingToSearchError, SettingsError

ACCEPTED = "accepted"  # the file in a run's folder; whoever prunes runs keeps those that have it
ACCEPTED_BY_ITSELF = "by itself"
_METRIC = COMPARED[0]

Outcome = Literal["first", "held", "rose", "fell", "unheld"]


@dataclass(frozen=True, slots=True)
class Past:
    """What a new run is held to.

    accepted: the last accepted run; None where there is none that can be read. damaged: accepted runs that cannot be
    read, and may have been later ones.
    """

    accepted: Run | None
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A run's P@1 (micro) and its 95 % interval, None where all queries are one patient's. name: of its folder."""

    name: str
    p1: float
    interval: Interval | None

    def __str__(self) -> str:
        bounds = f" [{self.interval.low:.3f}, {self.interval.high:.3f}]" if self.interval else ""
        return f"{self.p1:.3f}{bounds}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A new run against the accepted one.

    outcome: "fell" below the accepted run's interval of P@1, "rose" above it or "held" within; "first" where there was
        none, "unheld" where all there were are damaged.
    comparisons: paired, of the queries that both runs have; empty where that cannot be.
    notes: what a reader has to know, in sentences.
    """

    model: str
    outcome: Outcome
    new: Figure
    accepted: Figure | None
    comparisons: Sequence[Comparison]
    notes: Sequence[str]

    @property
    def is_bad(self) -> bool:
        """Whether a person has to look: quality fell, or nothing watches over it."""
        return self.outcome in {"fell", "unheld"}

    @property
    def accepts(self) -> bool:
        """Whether the new run is to be accepted by itself."""
        return self.outcome in {"first", "rose"}

    @property
    def difference(self) -> Difference | None:
        """Of P@1, query by query: new less accepted."""
        return self.comparisons[0].difference if self.comparisons else None

    def __str__(self) -> str:
        words = f"{self.model}: P@1 {self.new.p1:.3f}"
        if self.accepted is None:
            return f"{words} {'is the first, and accepted' if self.accepts else 'is held to nothing: accept a run'}"
        verb = {"fell": "fell below", "rose": "rose above"}.get(self.outcome, "holds against")
        return f"{words} {verb} {self.accepted} of {self.accepted.name}{', and is accepted' if self.accepts else ''}"


class _Marker(BaseModel):
    """What the file `accepted` holds: since when, by whom or what, and for which later runs."""

    model_config = ConfigDict(strict=True)

    when: AwareDatetime
    by: str
    protocol: str
    model: str
    single_label: bool

    @property
    def key(self) -> tuple[str, str, bool]:
        return self.protocol, self.model, self.single_label


def accept(folder: Path, by: str) -> Run:
    """Hold later runs of the same model, protocol and choice of images to this one.

    Args:
        folder: of the run.
        by: whom or what.

    Raises:
        SettingsError: there is no such run, it is damaged, or its folder cannot be written.
    """
    run = read_run(folder)
    protocol, model, single_label = _key_of(run)
    marker = _Marker(when=datetime.now(UTC), by=by, protocol=protocol, model=model, single_label=single_label)
    unfinished = folder / f".{ACCEPTED}.unfinished"
    try:
        unfinished.write_text(marker.model_dump_json(indent=1) + "\n", encoding="utf-8")
        unfinished.replace(folder / ACCEPTED)
    except OSError as error:
        raise SettingsError(f"the run {folder} cannot be marked as accepted ({error.strerror})") from error
    return run


def accepted(runs: Path, new: Run) -> Past:
    """The last accepted run that a new one is held to; only that one is read, of others the marker at most.

    Args:
        runs: the folder of the runs' folders, of one index.
        new: says of which model, protocol and choice of images. It is not the accepted one unless it was accepted.
    """
    damaged = 0
    candidates = []
    for file in runs.glob(f"*/{ACCEPTED}"):
        try:
            marker = _Marker.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            damaged += 1
        else:
            candidates.append((marker.when, file.parent, marker.key))
    for _, folder, key in sorted(candidates, reverse=True):
        if key != _key_of(new):
            continue
        try:
            run = read_run(folder)
        except SettingsError:
            damaged += 1
            continue
        if _key_of(run) == key:
            return Past(run, damaged)
        damaged += 1  # another run was written over it
    return Past(None, damaged)


def judge(new: Run, past: Past) -> Verdict:
    """Hold a new run to the accepted one: it falls where its P@1 lies below the lower end of that run's interval.

    Without an interval the figure itself is the bound. The paired difference says more, where both have asked the same
    queries, but decides nothing: the index may have grown.

    Raises:
        SettingsError: the two are of other protocols.
    """
    model, figure = _key_of(new)[1], _figure(new)
    notes = [f"{past.damaged} accepted runs are damaged and were passed over"] if past.damaged else []
    if past.accepted is None:
        return Verdict(model, "unheld" if past.damaged else "first", figure, None, (), notes)
    comparisons: Sequence[Comparison] = ()
    try:
        comparisons = compare([past.accepted, new])
        notes.append(_paired(comparisons[0]))
    except NothingToSearchError as error:
        notes.append(f"not compared query by query: {error}")
    if new.metrics["index_state"] != past.accepted.metrics["index_state"]:
        notes.append("the two searched other images, or other classes: the difference is not of the model alone")
    if changed := _changed(past.accepted, new):
        notes.append(f"the model's {', '.join(changed)} changed since")
    before = _figure(past.accepted)
    return Verdict(model, _outcome(figure.p1, before), figure, before, comparisons, notes)


def _outcome(p1: float, before: Figure) -> Outcome:
    """A figure may lie outside of its own interval: the same run again neither falls nor rises."""
    low, high = (before.interval.low, before.interval.high) if before.interval else (before.p1, before.p1)
    if p1 < min(low, before.p1):
        return "fell"
    return "rose" if p1 > max(high, before.p1) else "held"


def _paired(comparison: Comparison) -> str:
    one = comparison.difference
    interval = f"[{one.interval.low:+.4f}, {one.interval.high:+.4f}]"
    of_one = f", without {comparison.only:,} that only one of the two has" if comparison.only else ""
    return f"query by query {one.mean:+.4f} {interval}, p = {one.p:.4f}, {comparison.common:,} queries{of_one}"


def _figure(run: Run) -> Figure:
    bounds = run.metrics["interval"].get(_METRIC)
    return Figure(run.folder.name, run.metrics["micro"][_METRIC], Interval(*bounds) if bounds else None)


def _changed(before: Run, after: Run) -> list[str]:
    """What of a model's fingerprint is another one."""
    first, second = before.metrics["model"], after.metrics["model"]
    return [name for name in {**first, **second} if first.get(name) != second.get(name)]


def _key_of(run: Run) -> tuple[str, str, bool]:
    return run.metrics["protocol"], str(run.metrics["model"].get("model")), run.metrics["single_label"]
