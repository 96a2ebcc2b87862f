"""A picture to look at closely, in the browser: zoom, window by dragging, a part drawn on it.

The wheel or + and - zoom, 0 or a double click shows all of it, arrows or dragging with Shift move it. What is dragged
goes back to the page when the button is let go.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components import v2

_FOLDER = Path(__file__).parent
_HTML, _CSS, _JS = ((_FOLDER / f"viewer.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))


Window = tuple[float, float]
Part = tuple[int, int, int, int]
WHOLE: Part = (0, 0, 1000, 1000)


@dataclass(frozen=True, slots=True)
class View:
    """A picture and what is drawn on it.

    address: of the picture, as `pictures.address_of` gives it. words: what it shows, for those who do not see it.
    window: (centre, width) that it is drawn with, where dragging may change them. inverted: whether low values are
    white. part: (left, top, right, bottom) in thousandths of the picture that is framed. height: in CSS.
    """

    address: str
    words: str
    window: Window | None = None
    inverted: bool = False
    part: Part | None = None
    height: str = "min(72vh, 760px)"


def show_picture(
    view: View,
    *,
    key: str,
    on_window: Callable[[Window], None] | None = None,
    on_part: Callable[[Part], None] | None = None,
) -> None:
    """Show it.

    Args:
        view: what is shown.
        key: of the widget.
        on_window: is called with another window.
        on_part: is called with a part that was drawn; dragging draws one then.
    """

    def take(name: str, read: Callable[[Any], Any], told: Callable[[Any], None] | None) -> Callable[[], None]:
        def act() -> None:
            value = read(st.session_state[key].get(name))
            if told is not None and value is not None:
                told(value)

        return act

    mount = v2.component("radsearch_viewer", html=_HTML, css=_CSS, js=_JS)  # the same one again is no second one
    mount(
        key=key,
        data={**asdict(view), "mode": "part" if on_part else "look"},
        on_window_change=take("window", window_in, on_window),
        on_part_change=take("part", part_in, on_part),
    )


def window_in(value: object) -> Window | None:
    """A window that a browser has sent; None where it is none."""
    match value:
        case [int() | float() as centre, int() | float() as width] if width > 0:
            window = float(centre), float(width)
            return window if all(map(math.isfinite, window)) else None
    return None


def part_in(value: object) -> Part | None:
    """A part that a browser has sent; None where it is none."""
    match value:
        case [int() as left, int() as top, int() as right, int() as bottom]:
            inside = 0 <= left < right <= WHOLE[2] and 0 <= top < bottom <= WHOLE[3]
            return (left, top, right, bottom) if inside else None
    return None
