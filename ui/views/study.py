"""Study: one image large, what is known of it, and the others of its series and study."""

import uuid

import streamlit as st

from radsearch.index import Index, Stored
from radsearch.study import SearchFilter
from ui import session
from ui.cards import Shown, card_of, table_of
from ui.gallery import add_button, go, open_button, show_grid
from ui.keeping import choose_collection
from ui.shared import around
from ui.study_facts import in_order, rows_of
from ui.telling import sentences

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
        with around().lease.index() as index:
            point, beside = _read(index, named)
        if point is None:
            st.error("No image of that id is in the index. It may have been taken out since the link was made.")
            return
        _show(point)
        _show_beside(beside)


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


def _show(point: Stored) -> None:
    image = Shown.of_point(point)
    grid = st.grid(2, min_column_width=330, gap="medium")
    with grid.cell():
        st.html(card_of(image, kind="large"))
    with grid.cell():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Find similar images", on_click=_similar, args=(point.id,), key="similar-large", type="primary")
            add_button(image)
        st.html(table_of(rows_of(point)))
        st.caption(
            "The index keeps no path and no identifier of the original, only pseudonyms: "
            "the file itself and its place in the PACS cannot be opened from here."
        )


def _show_beside(beside: dict[str, list[Stored]]) -> None:
    for name, points in beside.items():
        if not points:
            continue
        some = points[:_MOST_NEIGHBOURS]
        left = f", the first {len(some)}" if len(points) > len(some) else ""
        words = "Others of its series" if name == "series" else "Other series of its study"
        st.subheader(f"{words} ({len(points):,}{left})", anchor=False)
        show_grid([Shown.of_point(one) for one in some], open_button, key=f"beside-{name}", width=130)
    if not any(beside.values()):
        st.caption("No other image of its series or study is in the index.")


def _similar(point: str) -> None:
    session.set_uploads([])
    session.change(session.current().similar_to(point))
    go("search")


draw()
