"""Keep an index in order: make it fast, see whether it finds what it holds, save it, remove what is old."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.pruning import prune_runs, prune_snapshots, snapshot_in
from flows.shared import failed, folder_named, key_of, settings_for
from radsearch.errors import DamagedIndexError, RadSearchError, SettingsError
from radsearch.index import open_index
from radsearch.index.snapshots import snapshot
from radsearch.index.verify import Verdict, verify
from radsearch.settings import Settings, without_credentials


@flow(name="maintain", persist_result=False, validate_parameters=True)
def maintain(  # noqa: PLR0913, PLR0917 -- a flow's parameters are what a deployment sets
    index: str | None = None,
    snapshots: Path | None = None,
    keep_snapshots: int = 7,
    runs: Path | None = None,
    keep_runs: int = 52,
    samples: int = 100,
) -> State[Any]:
    """Optimize, verify, snapshot, prune, in this order; what fails ends it, so that nothing is removed then.

    Args:
        index: a folder or the address of a Qdrant server (default: RADSEARCH_INDEX).
        snapshots: a folder for snapshots of this index alone; none are made without it.
        keep_snapshots: how many stay there, of those made here.
        runs: the folder of the evaluation's runs; none are removed without it.
        keep_runs: how many stay there of each model and protocol, beside accepted ones.
        samples: images that each model's search is tried by.
    """
    steps = _Steps()
    try:
        settings = settings_for(index)
        for name, number in (("keep_snapshots", keep_snapshots), ("keep_runs", keep_runs), ("samples", samples)):
            if number < 1:
                raise SettingsError(f"{name} is 1 or more")
        steps.take("optimize", lambda: _optimize(settings))
        steps.take("verify", lambda: _verify(settings, samples))
        if snapshots is not None:
            _save(steps, settings, folder_named(snapshots), keep_snapshots)
        if runs is not None:
            folder = folder_named(runs)
            steps.take("remove old runs", lambda: f"{prune_runs(folder, keep_runs)} removed")
    except RadSearchError as error:
        return failed(error)
    finally:
        if steps.rows:
            create_table_artifact(steps.rows, key=key_of(["maintain", Path(without_credentials(settings.index)).name]))
    return Completed(message="; ".join(f"{row['step']}: {row['outcome']}" for row in steps.rows))


@dataclass(frozen=True, slots=True)
class _Steps:
    rows: list[dict[str, str | float]] = field(default_factory=list)

    def take(self, name: str, step: Callable[[], str]) -> None:
        """Do a step, and note what it came to and how long it took, also where it fails."""
        begun = time.monotonic()
        outcome = "failed"
        try:
            outcome = step()
        except RadSearchError as error:
            outcome = f"failed: {error}"
            raise
        finally:
            self.rows.append({"step": name, "outcome": outcome, "seconds": round(time.monotonic() - begun, 1)})


def _optimize(settings: Settings) -> str:
    with open_index(settings, sole_writer=True) as index:
        index.finish()
        return f"{index.count()} images"


def _verify(settings: Settings, samples: int) -> str:
    """Raises DamagedIndexError where a model's search misses too much."""
    with open_index(settings) as index:
        verdicts = [verify(index, model, samples) for model in index.card.models]
    unsound = [_words(verdict) for verdict in verdicts if not verdict.sound]
    if unsound:
        raise DamagedIndexError(
            f"searches in the index {index.location} miss too much, nothing was saved or removed; {'; '.join(unsound)}"
        )
    return "; ".join(map(_words, verdicts))


def _words(verdict: Verdict) -> str:
    worst = min(verdict.recalls, key=lambda one: one.recall)
    words = (
        f"{verdict.model}: {verdict.found_themselves} of {verdict.sampled} sampled images find themselves, "
        f"recall@10 {worst.recall:.4f} ({worst.where})"
    )
    return f"{words}, {verdict.misshapen} damaged vectors" if verdict.misshapen else words


def _save(steps: _Steps, settings: Settings, folder: Path, keep: int) -> None:
    file = snapshot_in(folder, settings)

    def write() -> str:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"snapshots cannot be written to {folder} ({error.strerror})") from error
        return f"{snapshot(settings, file)} images, {file.stat().st_size >> 20} MB"

    steps.take("snapshot", write)
    steps.take("remove old snapshots", lambda: f"{prune_snapshots(file, keep)} removed")
