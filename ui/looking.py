"""One indexed image, large: its frames, its window, how it was rendered. Only this part is drawn anew meanwhile."""

import math

import streamlit as st

from radsearch.errors import RadSearchError
from radsearch.index import Stored
from radsearch.rendering.windowing import GreyRange, grey_range, windowed
from radsearch.study import StudyImage
from ui.cards import Shown, spoken
from ui.door import stay
from ui.pictures import address_of, picture_of, webp_of
from ui.shared import around
from ui.telling import say
from ui.viewer import View, show_picture
from ui.windows import CT_WINDOWS, Window, text_of, window_of

_LONGEST_SIDE = 1600  # pixels of a picture that goes to the browser
_AS_RENDERED = "as rendered"
_HINT = "Wheel or + and -: zoom. Drag: window. Shift and drag, or arrows: move. Double click or 0: all of it."
_COLOUR_HINT = "Wheel or + and -: zoom. Drag or arrows: move. Double click or 0: all of it."


@st.fragment
def look_at(point: Stored) -> None:
    """The original where the catalogue leads to it, else the thumbnail."""
    stay()
    originals = around().originals
    known = True
    try:
        known = originals.are_known(point)
        frame = _frame(point) if known else 1
        image = originals.frame(point, frame) if known else None
    except RadSearchError as error:
        say(str(error))
        image = None
    if image is None:
        _thumbnail(point, why=not known)
        return
    grey, window = grey_range(image), _window()
    chosen = image if window is None or grey is None else windowed(image, *window)
    try:
        rendered = originals.render(chosen)
    except RadSearchError as error:  # text cannot be looked for in it
        say(f"The original is not shown: {error}.")
        return
    address = address_of(webp_of(rendered.picture, _LONGEST_SIDE))
    shown = window or ((grey.centre, grey.width) if grey else None)
    inverted = image.greyscale is not None and image.greyscale.inverted
    view = View(address or "", spoken(Shown.of_point(point).facts), shown if grey else None, inverted)
    show_picture(view, key=f"viewer-{point.id}", on_window=_choose)
    st.caption(_HINT if grey else _COLOUR_HINT)
    if grey is not None and shown is not None:
        _windows(image, grey, shown)
    with st.expander("How it was rendered"):
        st.text("\n".join(rendered.steps))


def _thumbnail(point: Stored, *, why: bool) -> None:
    picture = picture_of(point.payload.get("thumbnail"))
    address = None if picture is None else address_of(picture)
    if address is not None:
        show_picture(View(address, spoken(Shown.of_point(point).facts), height="384px"), key=f"thumbnail-{point.id}")
    if why:
        st.caption(
            "This is the thumbnail. The index keeps no path to the original: set RADSEARCH_CATALOGUE for the ingest "
            "and for this page, ingest once more, and it is shown here with its grey values."
        )


def _frame(point: Stored) -> int:
    """The number of the frame to show, from 1; a slider where the file has several."""
    frames = point.payload.get("frames") or 1
    named = st.query_params.get("frame", "")
    own = point.payload.get("frame") or 1
    number = int(named) if named.isdecimal() and len(named) < 7 and 1 <= int(named) <= frames else own  # noqa: PLR2004
    if frames == 1:
        return 1
    key = f"frame-{point.id}"
    st.session_state[key] = number
    chosen: int = st.slider(
        "frame", 1, frames, key=key, on_change=lambda: st.query_params.update(frame=str(st.session_state[key]))
    )
    return chosen


def _windows(image: StudyImage, grey: GreyRange, shown: Window) -> None:
    """Presets and sliders; what is not dragged is chosen here, by key too."""
    is_ct = image.greyscale is not None and image.greyscale.modality == "CT"
    names = [_AS_RENDERED, *(CT_WINDOWS if is_ct else ())]
    chosen = _window()
    named = _AS_RENDERED if chosen is None else next((n for n in names if CT_WINDOWS.get(n) == chosen), None)
    st.session_state["window-name"] = named
    st.pills("window", names, key="window-name", on_change=_choose_named, label_visibility="collapsed")
    columns = st.columns(2)
    span = grey.high - grey.low or 1.0
    whole = span > 20  # noqa: PLR2004 -- below it fractions are worth choosing
    step = 1.0 if whole else span / 200
    edges = {
        "centre": (min(grey.low, shown[0]), max(grey.high, shown[0])),
        "width": (min(step, shown[1]), max(span, shown[1])),
    }
    for column, (name, (low, high)), value in zip(columns, edges.items(), shown, strict=True):
        key = f"window-{name}"
        st.session_state[key] = float(round(value)) if whole else value
        first, last = (float(math.floor(low)), float(math.ceil(high))) if whole else (low, high)
        column.slider(
            f"{name} in HU" if is_ct else name, first, max(last, first + step), step=step, key=key,
            format="%d" if whole else "%.3g", on_change=_choose_slid,
        )  # fmt: skip


def _window() -> Window | None:
    return window_of(st.query_params.get("window", ""))


def _choose(window: Window | None) -> None:
    if window is None:
        st.query_params.pop("window", None)
    else:
        st.query_params["window"] = text_of(window)


def _choose_named() -> None:
    _choose(CT_WINDOWS.get(st.session_state["window-name"] or _AS_RENDERED))


def _choose_slid() -> None:
    _choose((float(st.session_state["window-centre"]), max(float(st.session_state["window-width"]), 1e-6)))
