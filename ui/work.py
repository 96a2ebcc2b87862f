"""A job on a page: its live progress, how it ended, and the commands that are started. The rest of the page stays."""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import streamlit as st

from radsearch.errors import RadSearchError
from radsearch.settings import Settings
from ui.door import stay
from ui.escaping import as_markdown
from ui.hiding import may_show
from ui.holdings import jobs
from ui.jobs import Advance, Kind, Told
from ui.telling import noticed
from ui.visitor import require_everything
from ui.wording import duration, moment

PROTOCOLS = ("leave-patient-out", "denner2024")
_EVERY_SECONDS = 1.0
_LONGEST_NAME = 80  # of a model, in a folder's name
_STOPPED = (130, -2, -9)  # by Ctrl-C, heard or not, and by a kill
_GOES_ON = {
    "ingest": "What it did stays done; started again, it goes on.",
    "evaluation": "It has measured nothing; started again, it begins anew.",
}


def show_job(kind: Kind, settings: Settings, summary: Callable[[Told], str | None]) -> None:
    """The job of that kind, if there was any; while it is at work this part alone is drawn anew each second.

    Args:
        kind: of the job.
        settings: say whether names of files may be shown.
        summary: what a job has made, in words; None of one that has failed.
    """
    told = jobs().told(kind)
    if told is None:
        return
    if told.running:
        st.fragment(_show_running, run_every=_EVERY_SECONDS)(kind)
    else:
        _show_ended(told, settings, summary(told))


def _show_running(kind: Kind) -> None:
    stay()
    told = jobs().told(kind)
    if told is None or not told.running:
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center", key=f"job-{kind}"):
        st.progress(told.advance.part if told.advance else 0.0, _words_of(told))
        st.button(
            "Stop",
            icon=":material/stop:",
            key=f"stop-{kind}",
            on_click=_stop,
            args=(kind,),
            disabled=told.stopping,
            help=_GOES_ON[kind],
        )


def _stop(kind: Kind) -> None:
    with noticed():
        require_everything()
        jobs().stop(kind)


def _words_of(told: Told) -> str:
    if told.stopping:
        return "Stopping"
    running = f"{told.kind.capitalize()} at work for {duration(told.seconds)}"
    return f"{running}: {_words_of_advance(told.advance)}" if told.advance is not None else running


def _words_of_advance(advance: Advance) -> str:
    of_all = f" of {advance.total:,}" if advance.total is not None else ""
    left = f", {duration(advance.seconds_left)} left" if advance.seconds_left is not None else ""
    return f"{advance.done:,}{of_all} files, {advance.files_per_second:,.1f} files a second{left}"


def _show_ended(told: Told, settings: Settings, made: str | None) -> None:
    name, took = f"{told.kind} of {moment(told.began)} UTC", duration(told.seconds)
    if told.stopping and (told.code in _STOPPED or told.sentence == "stopped"):
        st.info(f"The {name} was stopped after {took}. {_GOES_ON[told.kind]}")
    elif made is not None:
        st.success(f"The {name} is done after {took}: {as_markdown(made)}")
    else:
        why = may_show(told.sentence, settings) if told.sentence else _unsaid(told)
        st.error(f"The {name} failed after {took}: {as_markdown(why)}")


def _unsaid(told: Told) -> str:
    if told.kind == "ingest" and told.code == 2 and told.made.is_file():  # noqa: PLR2004 -- of ingest.report
        return "nothing could be taken in; the last report says why"
    return f"exit code {told.code}; the server's log may say why"


def start_evaluation(runs: Path, model: str, protocol: str, *, single_label: bool) -> None:
    """Measure a model of the index that the environment names. The run goes where `python -m evaluation` puts it.

    Raises:
        RadSearchError: one is at work already, or it cannot be started.
    """
    if protocol not in PROTOCOLS:
        raise RadSearchError("there is no such protocol")
    name = re.sub(r"[^\w.-]", "_", model).strip(".")[:_LONGEST_NAME]
    folder = _new(runs.absolute() / f"{now_in_words()}-{protocol}-{name}")
    options = [f"--model={model}", f"--protocol={protocol}", f"--out={folder}"]
    options += ["--single-label"] if single_label else []
    jobs().start("evaluation", ["evaluation", "run", *options], folder)


def start_ingest(settings: Settings, models: list[str]) -> None:
    """Take in the folder that the settings name, and no other.

    Raises:
        RadSearchError: none is named, one is at work already, or it cannot be started.
    """
    if settings.archive_folder is None or settings.reports_folder is None:
        raise RadSearchError("an ingest from here needs RADSEARCH_ARCHIVE and RADSEARCH_REPORTS")
    report = _new(settings.reports_folder.absolute() / f"{now_in_words()}.json", ".json")
    options = [f"--report={report}", "--progress-json", *(f"--model={model}" for model in models)]
    options += [f"--manifest={settings.manifest.absolute()}"] if settings.manifest else []
    options += [f"--dataset={settings.dataset}"] if settings.dataset else []
    jobs().start("ingest", ["ingest", str(settings.archive_folder.absolute()), *options], report)


def _new(path: Path, ending: str = "") -> Path:
    """The path, with a number where something is there already: it would be taken for what the job has made."""
    plain, number = path.name.removesuffix(ending), 1
    while os.path.lexists(path):
        number += 1
        path = path.with_name(f"{plain}-{number}{ending}")
    return path


def now_in_words() -> str:
    """The time in UTC as names of runs and reports begin."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
