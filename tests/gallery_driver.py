"""What a page's grids of images show, and asking for something below an image, where no browser is there to do it."""

import json
from typing import Any

from streamlit.testing.v1 import AppTest


def cards(page: AppTest, *, among: str = "") -> list[dict[str, Any]]:
    """All cards of all grids; `among`: of those whose cards have a button of that name."""
    grids = [json.loads(one.proto.json) for one in page.get("bidi_component") if "gallery" in one.proto.component_name]
    return [
        card
        for grid in grids
        for card in grid["cards"]
        if not among or among in [action["name"] for action in grid["actions"]]
    ]


def hits(page: AppTest) -> list[str]:
    """Ids of what can be judged."""
    return [card["id"] for card in cards(page, among="like")]


def ask(page: AppTest, name: str, point: str, text: str | None = None) -> AppTest:
    """Press the button of that name below an image; it has to be there."""
    offered = [card["id"] for card in cards(page, among=name)] if name != "note" else [point]
    assert point in offered, f"there is no button {name} below {point}"
    page.session_state["asked"] = (name, point, text)
    return page.run()
