"""Measure the models of an index, and fail loudly where one finds less than its accepted run did."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Completed, Failed

from evaluation.history import ACCEPTED_BY_ITSELF, Figure, Verdict, accept, accepted, judge
from evaluation.protocols import PROTOCOLS
from evaluation.report import write_comparison
from evaluation.running import Asked, folder_of, make_run, read_index
from evaluation.stored import REPORT, read_run
from evaluation.studies import STUDIES
from flows.shared import failed, folder_named, key_of, retry_if_transient, settings_for
from radsearch.errors import NobodyNewError, NothingToSearchError, RadSearchError, SettingsError, UnknownNameError
from radsearch.index import open_index
from radsearch.settings import Settings, without_credentials

QUALITY_FELL = "radsearch.quality.fell"  # the event that an automation may listen to
_COMPARISON = "comparison.html"  # beside the report of the run
_RETRY_DELAYS_SECONDS = [10.0, 60.0, 300.0]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is done with each model."""

    settings: Settings
    runs: Path
    protocol: str
    single_label: bool
    studies: Sequence[str]
    memory_mb: int

    def asked(self, model: str) -> Asked:
        folder = folder_of(self.runs, self.protocol, model)
        return Asked(folder, self.protocol, self.single_label, self.studies, memory_mb=self.memory_mb)

    def check(self) -> None:
        """Raises a RadSearchError for what could not be done with any model."""
        if self.protocol not in PROTOCOLS:
            raise UnknownNameError("protocol", self.protocol, PROTOCOLS)
        for study in self.studies:
            if study not in STUDIES:
                raise UnknownNameError("study", study, STUDIES)
        if self.memory_mb < 1:
            raise SettingsError("memory_mb is 1 or more")
        with self.asked("any").prepared():
            pass

    def key(self, what: str) -> str:
        return key_of(("evaluation", what, Path(without_credentials(self.settings.index)).name, self.protocol))


@dataclass(frozen=True, slots=True)
class _Measured:
    """What became of one model.

    undone: of each study that could not be made, which and why. comparison: the page beside the report; None where
        there is nothing to compare with.
    """

    verdict: Verdict
    folder: Path
    queries: int
    macro: float
    undone: Sequence[str]
    comparison: Path | None


@dataclass(slots=True)
class _Outcomes:
    """By model, what was measured and why others were not.

    unasked: models that were learned from everybody here, as it is until new patients come; that is no failure.
    bugs: what nobody can act on but by a traceback.
    """

    measured: dict[str, _Measured] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unasked: dict[str, str] = field(default_factory=dict)
    bugs: list[BaseException] = field(default_factory=list)

    def add(self, model: str, state: State[Any]) -> None:
        found = state.result(raise_on_failure=False)
        if isinstance(found, _Measured):
            self.measured[model] = found
        elif isinstance(found, NobodyNewError):
            self.unasked[model] = str(found)
        elif isinstance(found, RadSearchError):
            self.refused[model] = str(found)
        elif isinstance(found, OSError):
            self.refused[model] = found.strerror or type(found).__name__  # not the file: its name may say too much
        else:
            self.refused[model] = f"a bug ({type(found).__name__}), see the log"
            self.bugs += [found] if isinstance(found, BaseException) else []

    def state(self) -> State[Any]:
        bad = [str(one.verdict) for one in self.measured.values() if one.verdict.is_bad]
        bad += [f"{model} was not measured: {reason}" for model, reason in self.refused.items()]
        good = [*(str(one.verdict) for one in self.measured.values()), *self.unasked.values()]
        undone = [f"{model}: {words}" for model, one in self.measured.items() for words in one.undone]
        return Failed(message="\n".join(bad + undone)) if bad else Completed(message="\n".join(good + undone))


@task(
    name="models-of-index",
    retries=len(_RETRY_DELAYS_SECONDS),
    retry_delay_seconds=_RETRY_DELAYS_SECONDS,
    retry_condition_fn=retry_if_transient,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def models_of(settings: Settings) -> list[str]:
    """The models of which the index holds vectors."""
    with open_index(settings) as index:
        return sorted(index.card.models)


@task(
    name="evaluate-model",
    retries=len(_RETRY_DELAYS_SECONDS),
    retry_delay_seconds=_RETRY_DELAYS_SECONDS,
    retry_condition_fn=retry_if_transient,
    task_run_name="evaluate-{model}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def evaluate_model(plan: _Plan, model: str) -> _Measured:
    """Measure one model, write its run, hold it to the accepted one."""
    collection, recall = read_index(plan.settings, model)
    asked = plan.asked(model)
    with asked.prepared():
        made = make_run(collection, recall, asked, plan.settings, get_run_logger().info)
    run = read_run(asked.folder)
    past = accepted(plan.runs, run)
    verdict = judge(run, past)
    comparison = None
    if past.accepted is not None and verdict.comparisons:
        comparison = asked.folder / _COMPARISON
        write_comparison(comparison, [past.accepted, run], verdict.comparisons, None)
    if verdict.accepts:
        accept(asked.folder, ACCEPTED_BY_ITSELF)
    undone = [f"the study {name} could not be made: {reason}" for name, reason in made.undone.items()]
    told = made.metrics
    return _Measured(verdict, asked.folder, told["queries"], told["macro"]["P@1"], undone, comparison)


@flow(name="evaluate-models", persist_result=False, validate_parameters=True)
def evaluate_models(  # noqa: PLR0913, PLR0917 -- a flow's parameters are what a deployment sets
    index: str | None = None,
    models: list[str] | None = None,
    protocol: str = "leave-patient-out",
    single_label: bool = False,  # noqa: FBT001, FBT002 -- Prefect passes it by name
    studies: list[str] | None = None,
    runs: str = "evaluation-runs",
    memory_mb: int = 512,
) -> State[Any]:
    """Measure the models of an index one after the other, each against its accepted run; see docs/evaluation.md.

    The flow fails where P@1 falls below the interval of the accepted run, and emits `radsearch.quality.fell`. It fails,
    too, where a model could not be measured, but only after the others.

    Args:
        index: a folder or the address of a Qdrant server (default: RADSEARCH_INDEX).
        models: names; all of the index by default.
        protocol: `leave-patient-out` or `denner2024`.
        single_label: only images of one finding.
        studies: what else is asked of each model, by name.
        runs: the folder of the runs of this index; each run gets a folder of its own in it.
        memory_mb: of the search.
    """
    try:
        plan = _Plan(settings_for(index), folder_named(runs), protocol, single_label, studies or (), memory_mb)
        plan.check()
        names = list(dict.fromkeys(models or models_of(plan.settings)))
        if not names:
            raise NothingToSearchError("the index holds no model")
    except RadSearchError as error:
        return failed(error)
    outcomes = _evaluate(plan, names)
    _write_table(plan, outcomes)
    _write_summary(plan, outcomes)
    for one in outcomes.measured.values():
        if one.verdict.outcome == "fell":
            _tell(plan, one.verdict)
    if outcomes.bugs:
        raise outcomes.bugs[0]
    return outcomes.state()


def _evaluate(plan: _Plan, models: Sequence[str]) -> _Outcomes:
    outcomes = _Outcomes()
    progress = create_progress_artifact(0.0, key=plan.key("progress"), description=f"{len(models)} models")
    assert isinstance(progress, UUID)  # noqa: S101 -- typed for callers in a coroutine too
    for done, model in enumerate(models, 1):
        outcomes.add(model, evaluate_model(plan, model, return_state=True))
        update_progress_artifact(progress, 100.0 * done / len(models))
    return outcomes


def _write_table(plan: _Plan, outcomes: _Outcomes) -> None:
    rows: list[dict[str, Any]] = [
        {
            "model": model,
            "queries": one.queries,
            "P@1": round(one.verdict.new.p1, 4),
            "95 %": _bounds(one.verdict.new),
            "macro P@1": round(one.macro, 4),
            "accepted P@1": round(one.verdict.accepted.p1, 4) if one.verdict.accepted else None,
            "accepted 95 %": _bounds(one.verdict.accepted),
            "verdict": one.verdict.outcome,
        }
        for model, one in outcomes.measured.items()
    ]
    unmeasured = {**outcomes.refused, **outcomes.unasked}
    rows += [{"model": model, "verdict": f"not measured: {reason}"} for model, reason in unmeasured.items()]
    create_table_artifact(rows, key=plan.key("figures"), description=plan.protocol)


def _write_summary(plan: _Plan, outcomes: _Outcomes) -> None:
    images = "images of one finding" if plan.single_label else "all images with a finding"
    lines = [f"## {without_credentials(plan.settings.index)}", "", f"{plan.protocol}, {images}", ""]
    for one in outcomes.measured.values():
        lines += [f"- {one.verdict}", f"    - report: `{(one.folder / REPORT).absolute()}`"]
        lines += [f"    - comparison: `{one.comparison.absolute()}`"] if one.comparison else []
        lines += [f"    - {note}" for note in (*one.verdict.notes, *one.undone)]
    unmeasured = {**outcomes.refused, **outcomes.unasked}
    lines += [f"- {model} was not measured: {reason}" for model, reason in unmeasured.items()]
    create_markdown_artifact("\n".join(lines) + "\n", key=plan.key("summary"))


def _tell(plan: _Plan, verdict: Verdict) -> None:
    """Emit the event, with the figures; where no server takes events, nothing is lost but the event."""
    before, difference = verdict.accepted, verdict.difference
    emit_event(
        event=QUALITY_FELL,
        resource={
            "prefect.resource.id": f"radsearch.evaluation.{key_of([verdict.model])}",
            "prefect.resource.name": verdict.model,
        },
        payload={
            "model": verdict.model,
            "index": without_credentials(plan.settings.index),
            "protocol": plan.protocol,
            "single_label": plan.single_label,
            "run": verdict.new.name,
            "P@1": verdict.new.p1,
            "interval": _pair(verdict.new),
            "accepted_run": before.name if before else None,
            "accepted_P@1": before.p1 if before else None,
            "accepted_interval": _pair(before),
            "difference": difference.mean if difference else None,
            "difference_interval": [difference.interval.low, difference.interval.high] if difference else None,
            "p": difference.p if difference else None,
        },
    )


def _pair(figure: Figure | None) -> list[float] | None:
    return [figure.interval.low, figure.interval.high] if figure and figure.interval else None


def _bounds(figure: Figure | None) -> str:
    pair = _pair(figure)
    return f"[{pair[0]:.3f}, {pair[1]:.3f}]" if pair else ""
