"""Map: a sample of the index as points in the plane, coloured by a field; what a lasso takes comes as a grid below."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from radsearch.errors import DamagedMapError
from radsearch.maps import LEAST_IMAGES, METHODS, USUAL, Maps, maps_of, methods_here
from radsearch.study import Fingerprint
from ui import session
from ui.cards import Shown
from ui.escaping import as_markdown
from ui.filters import TITLES, Overview
from ui.gallery import BROWSE_ACTIONS, add_to_collection, show_grid
from ui.keeping import choose_collection
from ui.map_chart import CONFIG, chart_of, legend_of, numbers_of, spoken_of
from ui.map_points import Group, Placed, groups_of, make, passing, placed
from ui.saved import MOST_IMAGES
from ui.searching import Surroundings
from ui.shared import around, overview
from ui.sidebar import show_filter
from ui.state import LOT, State
from ui.telling import noticed, say, say_empty, sentences

_FIELDS = ("modality", "region", "pathology", "dataset", "view", "sex", "age", "year", "split")
_METHOD_TITLES = {"pca": "PCA", "umap": "UMAP"}


def draw() -> None:
    """The whole page."""
    state = session.begin("map")
    with sentences():
        shared = around()
        counts = overview(state, shared)
        show_filter(counts)
        choose_collection()
        maps = maps_of(shared.settings)
        if not counts.total:
            say_empty()
        elif counts.total < LEAST_IMAGES:
            st.info(f"A map needs {LEAST_IMAGES} images; the index holds {counts.total}.")
        elif maps is None:
            st.info("Maps of an index on a server are kept beside its thumbnails; RADSEARCH_THUMBNAILS says where.")
        else:
            _map(state, counts, shared, maps)
    session.publish()


def _map(state: State, counts: Overview, shared: Surroundings, maps: Maps) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        fingerprint, method, field = _choices(counts, maps)
        group_place = st.empty()
        make_place = st.empty()
    try:
        kept = placed(shared, maps, fingerprint, method, counts.total)
    except DamagedMapError as error:
        say(str(error))
        kept = None
    words = "Make the map" if kept is None else "Make it anew"
    if shared.datasets is None and make_place.button(
        words, key="make-map", icon=":material/refresh:", type="secondary" if kept else "primary"
    ):
        with st.spinner("Laying out the images", show_time=True):
            make(shared, maps, fingerprint.model, method)
        st.rerun()
    if kept is None:
        st.info(f"There is no map of these vectors yet. It takes {USUAL:,} images at most, by chance, and is kept.")
    elif not kept.images:
        st.info("None of the images of this map is in the index any more. Make it anew.")
    else:
        shown = passing(state, kept.images)
        groups = groups_of(kept.images, shown, field)
        with group_place:
            _choose(kept, groups, TITLES.get(field, field))
        _show(kept, groups, shown, counts, TITLES.get(field, field))


def _choices(counts: Overview, maps: Maps) -> tuple[Fingerprint, str, str]:
    """Model, method and field. A method that is not installed can still have been used elsewhere."""
    models = list(counts.card.models)
    model = st.selectbox("model", models, key="map-model", width=260) if len(models) > 1 else models[0]
    methods = [name for name in METHODS if name in methods_here() or maps.file(model, name).is_file()]
    method = methods[0]
    if len(methods) > 1:
        method = st.selectbox("method", methods, key="map-method", format_func=_METHOD_TITLES.__getitem__, width=120)
    field = st.selectbox("colour by", _FIELDS, key="map-field", format_func=lambda one: TITLES.get(one, one), width=150)
    return counts.card.models[model], method, field


def _show(kept: Placed, groups: Sequence[Group], shown: NDArray[np.bool_], counts: Overview, title: str) -> None:
    left_out = f"; {int((~shown).sum()):,} of them are outside of the filter" if not shown.all() else ""
    st.html(legend_of(groups))
    clicks = st.session_state.setdefault("map-clicks", 0)  # a chart forgets its selection with its key
    key = f"map-chart-{clicks}"

    def take_points() -> None:
        st.session_state[f"map-group-{title}"] = None
        _take(kept, numbers_of(st.session_state[key], len(kept.images)))

    st.plotly_chart(
        chart_of(kept, groups, shown),
        theme=None,
        config=CONFIG,
        key=key,
        on_select=take_points,
        selection_mode=("lasso", "box", "points"),
        alt=spoken_of(groups, title),
    )
    st.caption(
        f"{len(kept.images):,} of {counts.total:,} images, laid out on {as_markdown(kept.made)}{left_out}. "
        "Draw around some, with the lasso or the box, to see them."
    )
    taken: set[str] = st.session_state.get("map-taken", set())
    _show_taken([image for image, kept_in in zip(kept.images, shown, strict=True) if kept_in and image.id in taken])


def _choose(kept: Placed, groups: Sequence[Group], title: str) -> None:
    """What the lasso does, without a mouse: all images of a colour."""
    key = f"map-group-{title}"

    def take_group() -> None:
        chosen: Any = st.session_state[key]  # the browser has sent it
        st.session_state["map-clicks"] = st.session_state.get("map-clicks", 0) + 1
        known = isinstance(chosen, int) and not isinstance(chosen, bool) and 0 <= chosen < len(groups)
        _take(kept, groups[chosen].members.tolist() if known else [])

    st.selectbox(
        f"take all of one {title}",
        range(len(groups)),
        index=None,
        key=key,
        on_change=take_group,
        format_func=lambda number: f"{groups[number].words} ({len(groups[number].members):,})",
        placeholder="none",
        width=220,
    )


def _take(kept: Placed, numbers: Sequence[int]) -> None:
    ids = [kept.images[number].id for number in numbers]
    with noticed():
        if ids:
            around().audit.note("map", ids=ids)
        st.session_state["map-taken"] = set(ids)
        st.session_state.pop("map-page", None)


def _show_taken(images: Sequence[Shown]) -> None:
    if not images:
        return
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.markdown(f"**{len(images):,}** images taken")
        st.button(
            "Add all to the collection",
            key="add-all",
            icon=":material/bookmark_add:",
            on_click=add_to_collection,
            args=[image.id for image in images],
            help=f"A collection holds {MOST_IMAGES:,} images at most.",
        )
    page = st.pagination(-(-len(images) // LOT), key="map-page") if len(images) > LOT else 1
    show_grid(images[LOT * (page - 1) : LOT * page], BROWSE_ACTIONS, key="taken")


draw()
