"""How many images have each value of a facet, as bars; a click on one takes its value into the filter."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components import v2

from ui import session
from ui.filters import TITLES, WORD_FACETS, Counts, Overview
from ui.gallery import ask_from

_MOST_BARS = 8
_JS = Path(__file__).with_name("bars.js").read_text(encoding="utf-8")


def show_charts(overview: Overview) -> None:
    """One chart for each facet that is known of any image."""
    facets = {name: overview.by_facet[name] for name in WORD_FACETS if overview.by_facet[name]}
    with st.expander("What the index holds", expanded=True, key="charts"):
        show_bars(facets, key="facets", clickable=True)


def show_bars(facets: Mapping[str, Counts], *, key: str, clickable: bool = False) -> None:
    """Draw them.

    Args:
        facets: by name, the number of images by value.
        key: of the widget.
        clickable: whether a click takes a value into the filter, or out of it. Not in a fragment then.
    """
    mount = v2.component("radsearch_bars", html='<div class="rs-facets"></div>', js=_JS, isolate_styles=False)
    with st.container(key=key):
        mount(
            key=f"bars-{key}",
            data={"facets": [_facet(name, counts) for name, counts in facets.items()], "clickable": clickable},
            on_act_change=lambda: ask_from(f"bars-{key}"),
        )


def _facet(name: str, counts: Counts) -> dict[str, Any]:
    more = len(counts) - _MOST_BARS
    chosen: Sequence[str] = getattr(session.current(), name, ())  # not every facet can be filtered by
    return {
        "name": name,
        "title": TITLES.get(name, name) + (f", the {_MOST_BARS} most frequent of {len(counts):,}" if more > 0 else ""),
        "bars": [
            {"value": str(value), "images": images, "chosen": str(value) in chosen}
            for value, images in list(counts.items())[:_MOST_BARS]
        ],
    }
