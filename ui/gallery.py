"""A grid of images, with what can be done with each.

The grid is one element of the page, drawn by `gallery.js`: with a widget for each button a page of 24 images would have
120 of them, and the browser takes half a second for these. What a visitor asks of an image is done at the beginning of
the next run (`perform_asked`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import streamlit as st
from streamlit.components import v2

from radsearch.search import is_id
from ui import session
from ui.cards import Shown, card_of
from ui.escaping import as_markdown, is_text
from ui.filters import WORD_FACETS
from ui.saved import LONGEST_NOTE
from ui.shared import collections
from ui.state import EXAMPLE_FIELDS
from ui.telling import noticed
from ui.viewer import WHOLE

_CARD_PIXELS = 160
_JS = Path(__file__).with_name("gallery.js").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Action:
    """A button below an image. icon: of Material Symbols. words: what it does. label: beside the icon, if any."""

    name: str
    icon: str
    words: str
    label: str = ""


SIMILAR = Action("similar", "image_search", "Find images similar to this one")
LIKE = Action("like", "thumb_up", "More like this")
UNLIKE = Action("unlike", "thumb_down", "Less like this")
ADD = Action("add", "bookmark_add", "Add to a new collection")
OPEN = Action("open", "open_in_full", "Open")
MATCH = Action("match", "compare", "Where do they match?")
TAKE_OUT = Action("take-out", "bookmark_remove", "Take out of the collection")

SEARCH_ACTIONS = (SIMILAR, LIKE, UNLIKE, ADD, OPEN)
IMAGE_SEARCH_ACTIONS = (SIMILAR, LIKE, UNLIKE, ADD, MATCH, OPEN)
BROWSE_ACTIONS = (SIMILAR, ADD, OPEN)
SAVED_ACTIONS = (SIMILAR, OPEN, TAKE_OUT)


def show_grid(images: Sequence[Shown], actions: Sequence[Action], *, key: str, width: int = _CARD_PIXELS) -> None:
    """As many columns as there is room for. Not in a fragment: what is asked for is done by a run of the whole page.

    Args:
        images: in their order.
        actions: that each of them has; of a picture with `OPEN` a click does the same.
        key: of the widget.
        width: of a card at least, in pixels.
    """
    state = session.current()
    kinds = dict.fromkeys(state.liked, "liked") | dict.fromkeys(state.disliked, "disliked")
    cards = [card_of(image if image.kind else replace(image, kind=kinds.get(image.id, ""))) for image in images]
    mount = v2.component("radsearch_gallery", html='<div class="rs-grid"></div>', js=_JS, isolate_styles=False)
    with st.container(key=key):
        mount(
            key=f"grid-{key}",
            data={
                "cards": cards,
                "actions": [_as_told(action) for action in actions],
                "width": width,
                "longest_note": LONGEST_NOTE,
            },
            on_act_change=lambda: ask_from(f"grid-{key}"),
        )


def _as_told(action: Action) -> dict[str, str]:
    chosen = st.session_state.get("collection")
    words = f"Add to {chosen}" if action == ADD and chosen else action.words
    return {"name": action.name, "icon": action.icon, "words": words, "label": action.label}


def ask_from(key: str) -> None:
    """What was asked for in the widget of that key is done by the next run."""
    st.session_state["asked"] = st.session_state[key].get("act")


def perform_asked() -> None:
    """Call it first: do what was asked for since the last run. It comes from a browser: what is none is passed over."""
    match st.session_state.pop("asked", None):
        case [str(name), str(point), None | str() as text] if is_text(point + (text or "")):
            if name in _OF_IMAGES and is_id(point):
                _OF_IMAGES[name](point, text or "")
            elif name in _OTHERS:
                _OTHERS[name](point, text or "")


def go(page: str, **query: str) -> None:
    """Go on with that page."""
    st.session_state["go"] = (page, query)


def search_similar(point: str) -> None:
    """Search by this image, under the filter that there is."""
    session.set_uploads([])
    session.change(session.current().similar_to(point))
    go("search")


def add_to_collection(*points: str) -> None:
    """Into the collection that is chosen, or a new one."""
    with noticed():
        saved = collections()
        name = saved.make(st.session_state.get("collection") or "Collection 1")
        saved.add(name, points)
        st.session_state["collection"] = name
        what = f"{len(points):,} images added" if len(points) > 1 else "Added"
        st.toast(f"{what} to {as_markdown(name)}")


def _judge(point: str, *, liked: bool) -> None:
    session.change(session.current().judged(point, liked=liked))


def _change_collection(act: Callable[[str], None]) -> None:
    with noticed():
        act(st.session_state.get("collection") or "")


def _drop_example(place: str, _: str) -> None:
    """Args: place: `FIELD/ID` of an indexed image, or `file/TOKEN` of an upload."""
    field, _, one = place.partition("/")
    if field == "file":
        session.set_uploads([upload for upload in session.uploads() if upload.token != one])
        session.change(session.current().having(part=None, anyway=False))
    elif field in EXAMPLE_FIELDS:
        session.change(session.current().without_example(field, one))


def _toggle(facet: str, value: str) -> None:
    if facet in WORD_FACETS and value:
        session.change(session.current().toggled(facet, value))


def _begin_match(point: str, _: str) -> None:
    session.close_dialogs()
    st.session_state["matched"] = point


def _begin_part(*_: str) -> None:
    session.close_dialogs()
    st.session_state["part-drawn"] = session.current().part or WHOLE


_OF_IMAGES: dict[str, Callable[[str, str], None]] = {
    "similar": lambda point, _: search_similar(point),
    "like": lambda point, _: _judge(point, liked=True),
    "unlike": lambda point, _: _judge(point, liked=False),
    "add": lambda point, _: add_to_collection(point),
    "open": lambda point, _: go("study", image=point),
    "match": _begin_match,
    "take-out": lambda point, _: _change_collection(lambda name: collections().remove(name, point)),
    "note": lambda point, text: _change_collection(lambda name: collections().note_image(name, point, text)),
}
_OTHERS: dict[str, Callable[[str, str], None]] = {"drop": _drop_example, "bar": _toggle, "part": _begin_part}
