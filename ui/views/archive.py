"""Archive: what the index holds, what the last ingests came to, and an ingest of the folder that the settings name."""

from pathlib import Path

import streamlit as st

from radsearch.errors import IndexMissingError, RadSearchError
from radsearch.settings import Settings, load_settings, without_credentials
from ui import session
from ui.cards import table_of
from ui.charts import show_bars
from ui.escaping import as_markdown
from ui.holdings import Holdings, holdings, jobs
from ui.jobs import Told
from ui.report_files import MOST_NAMES, Report, Reports, read_reports, refused_files, report_of
from ui.shared import around
from ui.telling import noticed, say, sentences
from ui.visitor import require_everything
from ui.wording import duration, moment, told_apart
from ui.work import show_job, start_ingest

_SHORT_HASH = 19  # `sha256:` and twelve digits
_MEGABYTE = 1e6


def draw() -> None:
    """The job first, as it needs no index: while it works the rest may have to wait."""
    session.visit("archive")
    with sentences():
        settings = load_settings()
        show_job("ingest", settings, _came_to)
        start, held_part = st.container(), st.container()
        _show_reports(settings)
        with held_part:
            models = _show_index()
        with start:
            _offer(settings, models)


def _came_to(told: Told) -> str | None:
    """What an ingest that ended has done, from its report; None where it failed."""
    try:
        stat = told.made.stat()
        report = report_of(str(told.made), stat.st_mtime_ns, stat.st_size)
    except OSError:
        return None
    if report is None or not (told.code == 0 or (told.code == 1 and report.refused)):
        return None
    return (
        f"{report.found:,} files: {report.indexed:,} indexed, {report.unchanged:,} unchanged, "
        f"{sum(report.skipped.values()):,} skipped, {sum(report.refused.values()):,} refused"
    )


def _offer(settings: Settings, models: list[str]) -> None:
    """The button that starts an ingest; which folder is the settings' to say, never a visitor's."""
    missing = [
        name
        for name, value in (
            ("RADSEARCH_ARCHIVE", settings.archive_folder),
            ("RADSEARCH_REPORTS", settings.reports_folder),
        )
        if value is None
    ]
    if missing:
        st.caption(f"To start an ingest from here, start the page with {' and '.join(missing)} set to a folder.")
    elif models and not jobs().running("ingest"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Ingest the archive", icon=":material/play_arrow:", key="start-ingest", type="primary",
                      on_click=_start, args=(settings, models))  # fmt: skip
            folder = f"{settings.archive_folder} " if settings.show_file_names else "The folder of the settings, "
            st.caption(as_markdown(f"{folder}with {', '.join(models)}. What is indexed already is left as it is."))


def _start(settings: Settings, models: list[str]) -> None:
    with noticed():
        require_everything()
        around().audit.note("ingest", models=models)
        start_ingest(settings, models)


def _show_index() -> list[str]:
    """Draw what the index holds; the models that an ingest would embed with, none where that is not known."""
    shared = around()
    usual, models = [shared.settings.model], []
    with sentences():
        try:
            held = holdings(shared)
        except IndexMissingError:
            st.info("There is no index yet: the first ingest makes it.")
            return usual
        if held is None:
            st.caption("What the index holds is shown when the ingest is done.")
        else:
            _show_holdings(held, shared.settings)
            models = list(held.card.models) or usual
    return models


def _show_holdings(held: Holdings, settings: Settings) -> None:
    grid = st.grid(2, min_column_width=420, gap="medium")
    with grid.cell():
        st.subheader("Index", anchor=False)
        st.html(table_of(_facts(held, settings)))
    with grid.cell():
        st.subheader("Models", anchor=False)
        st.dataframe(
            [
                {
                    "model": name,
                    "images": held.by_model[name],
                    "dimension": one.dimension,
                    "precision": one.precision,
                    "weights": one.weights[:_SHORT_HASH],
                }
                for name, one in held.card.models.items()
            ],
            hide_index=True,
            column_config={"images": st.column_config.NumberColumn(format="localized")},
            key="models",
            alt="Models of the index, with the number of images that have a vector of each",
        )
    known = {name: counts for name, counts in held.by_facet.items() if counts}
    show_bars(known, key="held")


def _facts(held: Holdings, settings: Settings) -> dict[str, str]:
    storage = held.card.storage
    shown = settings.on_server or settings.show_file_names
    place = without_credentials(settings.index) if shown else "a folder of this machine"
    rows = {"place": place, "images": f"{held.images:,}"}
    if settings.on_server:
        rows["collection"] = settings.collection
    if held.bytes is not None:
        rows["on the disk"] = f"{held.bytes / _MEGABYTE:,.0f} MB, without thumbnails"
    codes = "whole vectors in memory" if storage.quantization == "none" else f"{storage.quantization} codes in memory"
    rows["vectors"] = f"{storage.datatype}, {codes}"
    rows["as of"] = f"{moment(held.when)} UTC"
    return rows


def _show_reports(settings: Settings) -> None:
    st.subheader("Last ingests", anchor=False)
    if settings.reports_folder is None:
        st.caption("To see them, start the page with RADSEARCH_REPORTS set to the folder that ingests report to.")
        return
    with sentences():
        read = read_reports(settings.reports_folder)
        if read.reports:
            _table(read.reports, settings)
        else:
            st.info("No ingest has left a report yet: python -m ingest FOLDER --report FILE.json")
        _say_left_out(read)
        if read.reports:
            _one_report(read.reports, settings)


def _table(reports: tuple[Report, ...], settings: Settings) -> None:
    rows = [
        {
            "when (UTC)": moment(one.when),
            **({"report": one.file.name} if settings.show_file_names else {}),
            "model": ", ".join(one.models),
            "found": one.found,
            "indexed": one.indexed,
            "unchanged": one.unchanged,
            "skipped": sum(one.skipped.values()),
            "refused": sum(one.refused.values()),
            "images/s": one.images_per_second,
            "seconds": one.seconds,
        }
        for one in reports
    ]
    whole = st.column_config.NumberColumn(format="localized")
    one_digit = st.column_config.NumberColumn(format="%.1f")
    columns = dict.fromkeys(("found", "indexed", "unchanged", "skipped", "refused"), whole)
    st.dataframe(
        rows, hide_index=True, key="reports", alt="The last ingests, newest first",
        column_config={**columns, "images/s": one_digit, "seconds": one_digit},
    )  # fmt: skip


def _say_left_out(read: Reports) -> None:
    words = [f"{read.older:,} older reports are not shown"] * bool(read.older)
    words += [f"{read.foreign:,} files are no report of an ingest, or are damaged"] * bool(read.foreign)
    if words:
        st.caption(f"{'; '.join(words)}.")


def _one_report(reports: tuple[Report, ...], settings: Settings) -> None:
    names = told_apart(f"{moment(one.when)}, {one.found:,} files" for one in reports)
    by_name = dict(zip(names, reports, strict=True))
    report = by_name[st.selectbox("what was left out by the ingest of", names, key="report", width=420)]
    rows = [
        {"outcome": outcome, "reason": reason, "files": number}
        for outcome, reasons in (("refused", report.refused), ("skipped", report.skipped))
        for reason, number in reasons.items()
    ]
    if not rows:
        st.caption(f"Nothing: all {report.found:,} files are in the index. It took {duration(report.seconds)}.")
        return
    st.dataframe(
        rows, hide_index=True, key="reasons", alt="Files that were refused or skipped, by reason",
        column_config={"files": st.column_config.NumberColumn(format="localized", width="small")},
    )  # fmt: skip
    if report.refused and settings.show_file_names:
        _names(report)
    elif report.refused:
        st.caption("Names of files may tell who a patient is: they are shown with RADSEARCH_SHOW_FILE_NAMES=1 only.")


def _names(report: Report) -> None:
    if not st.toggle("names of the refused files", key="show-names"):
        return
    try:
        names = refused_files(report)
    except RadSearchError as error:
        say(str(error))
        return
    st.dataframe(
        [{"file": Path(name).as_posix(), "reason": reason} for name, reason in names],
        hide_index=True,
        key="names",
        alt="The refused files with their reasons",
    )
    if len(names) == MOST_NAMES:
        st.caption(f"The first {MOST_NAMES}; the report has all of them.")


draw()
