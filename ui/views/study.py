"""Study: one image large, what is known of it, and the others of its series and study."""

import uuid
from contextlib import suppress

import streamlit as st

from radsearch.errors import RadSearchError
from radsearch.index import Index, Stored
from radsearch.search.series import in_order
from radsearch.study import SearchFilter
from ui import session
from ui.cards import Shown, table_of
from ui.escaping import as_text
from ui.gallery import OPEN, add_to_collection, go, search_similar, show_grid
from ui.keeping import choose_collection
from ui.looking import look_at
from ui.shared import around
from ui.study_facts import rows_of
from ui.telling import say, sentences

_MOST_NEIGHBOURS = 60
_LARGEST_SERIES = 2000


def draw() -> None:
    """The image that the address names."""
    session.visit("study")
    named = st.query_params.get("image", "")
    if not named:
        st.info("Open an image from a search, from Browse or from a collection, and it is shown here.")
        return
    with sentences():
        choose_collection()
        with around().index() as index:
            point, beside = _read(index, named)
        if point is None:
            st.error("No image of that id is in the index. It may have been taken out since the link was made.")
            return
        _note(point)
        _show(point, beside.get("series", []))
        _show_beside(beside)


def _note(point: Stored) -> None:
    """Into the audit, once while it stays open."""
    if st.session_state.get("opened") != point.id:
        around().audit.note("open", ids=[point.id])
        st.session_state["opened"] = point.id


def _read(index: Index, named: str) -> tuple[Stored | None, dict[str, list[Stored]]]:
    """The image, and the others by what they share with it."""
    try:
        found = index.retrieve([str(uuid.UUID(named))])
    except ValueError:
        return None, {}
    if not found:
        return None, {}
    beside: dict[str, list[Stored]] = {}
    seen = {found[0].id}
    for name in ("series", "study"):
        value = found[0].payload.get(name)
        if value and index.about(SearchFilter(any_of={name: (value,)})) <= _LARGEST_SERIES:
            points = [point for point in index.having(name, [value]) if point.id not in seen]
            beside[name] = in_order(points)
            seen |= {point.id for point in points}
    return found[0], beside


def _show(point: Stored, series: list[Stored]) -> None:
    with st.container(key="study"):
        columns = st.columns([3, 2], gap="medium")
    with columns[0]:
        look_at(point)
    with columns[1]:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                "Find similar images", on_click=search_similar, args=(point.id,), key="similar-large", type="primary"
            )
            st.button(
                "", icon=":material/bookmark_add:", help="Add to the collection", key="add-large",
                on_click=add_to_collection, args=(point.id,),
            )  # fmt: skip
            _step(point, series)
        _link(point)
        st.html(table_of({**rows_of(point), **_file_of(point)}))


def _file_of(point: Stored) -> dict[str, str]:
    """Of a data set without patients only. Where the catalogue cannot be read is said by the picture."""
    with suppress(RadSearchError):
        path = around().originals.open_file(point)
        return {} if path is None else {"file": as_text(path.as_posix())}
    return {}


def _step(point: Stored, series: list[Stored]) -> None:
    """To the image before and after it in its series."""
    if not series:
        return
    ordered = in_order([*series, point])
    place = next(number for number, one in enumerate(ordered) if one.id == point.id)
    for name, icon, words, other in (
        ("before", "chevron_left", "The one before in its series", place - 1),
        ("after", "chevron_right", "The next one in its series", place + 1),
    ):
        inside = 0 <= other < len(ordered)
        st.button(
            "", icon=f":material/{icon}:", help=words, key=f"step-{name}", disabled=not inside,
            on_click=_open, args=(ordered[other].id if inside else "",),
        )  # fmt: skip
    st.caption(f"{place + 1} of {len(ordered):,} in its series")


def _link(point: Stored) -> None:
    """To the study in the PACS viewer, where the settings name one and the original is known."""
    try:
        originals = around().originals
        address = originals.viewer_of(point) if originals.are_known(point) else None
    except RadSearchError as error:
        say(str(error))
        return
    if address is not None:
        st.link_button("Open its study in the PACS viewer", address, icon=":material/open_in_new:")


def _show_beside(beside: dict[str, list[Stored]]) -> None:
    for name, points in beside.items():
        if not points:
            continue
        some = points[:_MOST_NEIGHBOURS]
        left = f", the first {len(some)}" if len(points) > len(some) else ""
        words = "Others of its series" if name == "series" else "Other series of its study"
        session.note_shown(around().audit, name, [one.id for one in some])
        st.subheader(f"{words} ({len(points):,}{left})", anchor=False)
        show_grid([Shown.of_point(one) for one in some], (OPEN,), key=f"beside-{name}", width=130)
    if not any(beside.values()):
        st.caption("No other image of its series or study is in the index.")


def _open(point: str) -> None:
    kept = {name: st.query_params[name] for name in ("window",) if name in st.query_params}
    go("study", image=point, **kept)


draw()
