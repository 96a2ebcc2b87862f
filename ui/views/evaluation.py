"""Evaluation: how well a model finds images like the query, over time, side by side, by class, and where it fails."""

import os
from functools import partial
from pathlib import Path

import streamlit as st

from radsearch.errors import RadSearchError
from radsearch.settings import Settings, load_settings
from ui import session
from ui.exporting import noted
from ui.failing import show_misses
from ui.filters import TITLES
from ui.holdings import holdings, jobs
from ui.jobs import Told
from ui.run_charts import by_class, over_time, side_by_side
from ui.run_files import FACETS, METRICS, REPORT, RunFigures, Runs, read_report, read_runs, report_to_take, run_of
from ui.run_report import framed
from ui.run_tables import class_rows, figure_rows, latest_of_each, names_of
from ui.shared import around
from ui.telling import say, sentences
from ui.visitor import still_present
from ui.work import PROTOCOLS, show_job, start_evaluation

_MOST_CHOSEN = 12
_REPORT_PIXELS = 900


def draw() -> None:
    """What needs the index comes last: the figures are in files."""
    session.visit("evaluation")
    with sentences():
        settings = load_settings()
        show_job("evaluation", settings, _came_to)
        if settings.runs_folder is None:
            st.info("To see runs and to start them, start the page with RADSEARCH_RUNS set to the folder of the runs.")
            return
        form, shown = st.container(), st.container()
        with shown:
            _show(read_runs(settings.runs_folder, names=bool(settings.show_file_names)))
        with form:
            _offer(settings, settings.runs_folder)


def _came_to(told: Told) -> str | None:
    """What an evaluation that ended has measured, from its run; None where it failed."""
    file = told.made / METRICS
    try:
        stat = file.stat()
        run = run_of(str(file), stat.st_mtime_ns, stat.st_size)
    except OSError:
        return None
    if run is None or told.code != 0:
        return None
    p1, chance = run.micro["P@1"], run.chance
    return f"{run.model}, {run.queries:,} queries: P@1 {p1:.3f}, macro {run.macro['P@1']:.3f}, chance {chance:.3f}"


def _offer(settings: Settings, runs: Path) -> None:
    """The form that starts a run of a model of the index."""
    if jobs().running("evaluation"):
        return
    with st.expander("Measure a model of the index", icon=":material/play_arrow:", key="measure"), sentences():
        held = holdings(around())
        if held is None:
            st.caption("An ingest is at work: an evaluation can begin when it is done.")
            return
        if not held.card.models:
            st.caption("The index has no model yet.")
            return
        with st.form("measure-form", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
            models = list(held.card.models)
            usual = models.index(settings.model) if settings.model in models else 0
            model = st.selectbox("model", models, usual, key="measured-model", width=260)
            protocol = st.selectbox("protocol", PROTOCOLS, key="measured-protocol", width=220)
            single = st.checkbox("only images of one finding", key="measured-single")
            if st.form_submit_button("Measure", type="primary", key="start-evaluation"):
                around().audit.note("evaluate", models=[model])
                start_evaluation(runs, model, protocol, single_label=single)
                st.rerun()


def _show(read: Runs) -> None:
    if read.damaged:
        st.caption(f"{read.damaged:,} folders hold a run that is damaged, or cannot be read; they are left out.")
    if not read.runs:
        st.info("There is no run yet. Measure a model here, or with: python -m evaluation run")
        return
    names = dict(zip((str(run.folder) for run in read.runs), names_of(read.runs), strict=True))
    runs = {str(run.folder): run for run in read.runs}
    charts = st.grid(2, min_column_width=440, gap="medium")
    with charts.cell():
        st.subheader("P@1 over time", anchor=False)
        st.altair_chart(over_time(read.runs), key="over-time", alt="P@1 of all runs by date, with 95 % intervals")
        st.caption("With the 95 % interval over patients. A ring: the accepted run, that later ones are held to.")
    with charts.cell():
        st.subheader("Side by side", anchor=False)
        chosen = _choose(read.runs, names)
        if chosen:
            several = [runs[one] for one in chosen]
            st.altair_chart(
                side_by_side(several, names_of(several)), key="side-by-side",
                alt="P@1 of the chosen runs with 95 % intervals, and chance",
            )  # fmt: skip
            st.caption("With the 95 % interval. The tick: what a random neighbour reaches.")
    if chosen:
        _tables([runs[one] for one in chosen])
    _one_run(runs, names, chosen)


def _choose(runs: tuple[RunFigures, ...], names: dict[str, str]) -> list[str]:
    usual = [str(run.folder) for run in latest_of_each(runs, _MOST_CHOSEN)]
    kept = st.session_state.get("chosen-runs")
    if kept is not None:
        st.session_state["chosen-runs"] = [one for one in kept if one in names]
    else:
        st.session_state["chosen-runs"] = usual
    return st.multiselect(
        "runs", list(names), key="chosen-runs", format_func=names.__getitem__, max_selections=_MOST_CHOSEN,
        placeholder="choose runs to compare", label_visibility="collapsed",
    )  # fmt: skip


def _tables(runs: list[RunFigures]) -> None:
    names = names_of(runs)
    three = st.column_config.NumberColumn(format="%.3f")
    whole = st.column_config.NumberColumn(format="localized")
    figures = dict.fromkeys(("P@1", "P@5", "P@10", "mAP@10", "macro P@1", "chance"), three)
    st.dataframe(
        figure_rows(runs), hide_index=True, key="figures", alt="Figures of the chosen runs",
        column_config={**figures, "queries": whole, "classes": whole},
    )  # fmt: skip
    facet = st.segmented_control(
        "P@1 by", FACETS, default=FACETS[0], key="facet", required=True,
        format_func=lambda one: "class" if one == "label" else TITLES.get(one, one),
    )  # fmt: skip
    rows = class_rows(runs, names, facet or FACETS[0])
    if not rows:
        st.caption("Of none of these queries is it known.")
        return
    grid = st.grid(2, min_column_width=440, gap="medium")
    with grid.cell():
        st.dataframe(
            rows, hide_index=True, key="classes", alt="P@1 of each value in each of the chosen runs",
            column_config={"queries": whole, **dict.fromkeys(names, three)},
        )  # fmt: skip
    with grid.cell():
        st.altair_chart(by_class(rows, names), key="by-class", alt="P@1 of the values with the most queries")


def _one_run(runs: dict[str, RunFigures], names: dict[str, str], chosen: list[str]) -> None:
    """One run closely: its report, and the queries that fail."""
    usual = list(names).index(chosen[0]) if chosen else 0
    line = st.container(horizontal=True, vertical_alignment="bottom")
    line.subheader("One run", anchor=False, width="content")
    one = line.selectbox(
        "run", list(names), usual, format_func=names.__getitem__, key="one-run", label_visibility="collapsed", width=520
    )
    run = runs[one]
    take = noted(partial(report_to_take, run.folder), around().audit, still_present(), what="report", ids=())
    line.download_button(
        "Report", take, "report.html", "text/html", key="take-report", on_click="ignore", icon=":material/download:",
        disabled=not _has_report(run),
    )  # fmt: skip
    if line.toggle("show the report here", key="show-report", disabled=not _has_report(run)):
        try:
            st.iframe(framed(read_report(run.folder)), height=_REPORT_PIXELS, alt=f"Report of {names[one]}")
        except RadSearchError as error:
            say(str(error))
    st.markdown("**Queries that fail**: the nearest image has none of their classes.")
    with sentences():
        show_misses(run.folder, around())


def _has_report(run: RunFigures) -> bool:
    return os.path.isfile(run.folder / REPORT)  # noqa: PTH113 -- Path.is_file may raise


draw()
