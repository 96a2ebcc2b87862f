"""The parts of the page, by the names that the code has for them."""

import streamlit as st
from streamlit.navigation.page import Page

_OF_THE_WHOLE = ("evaluation", "archive")


def pages(*, whole: bool) -> dict[str, Page]:
    """To be made anew in every run; a part that is not among them has no address.

    Args:
        whole: whether those are among them that concern the whole index, whatever data sets it holds.
    """
    parts = {
        "search": st.Page("views/search.py", title="Search", icon=":material/image_search:", default=True),
        "browse": st.Page("views/browse.py", title="Browse", icon=":material/grid_view:", url_path="browse"),
        "map": st.Page("views/map.py", title="Map", icon=":material/scatter_plot:", url_path="map"),
        "study": st.Page("views/study.py", title="Study", icon=":material/radiology:", url_path="study"),
        "collections": st.Page(
            "views/collections.py", title="Collections", icon=":material/bookmarks:", url_path="collections"
        ),
        "evaluation": st.Page(
            "views/evaluation.py", title="Evaluation", icon=":material/monitoring:", url_path="evaluation"
        ),
        "archive": st.Page("views/archive.py", title="Archive", icon=":material/database:", url_path="archive"),
    }
    return {name: part for name, part in parts.items() if whole or name not in _OF_THE_WHOLE}
