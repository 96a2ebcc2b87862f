"""The page: its frame and the way between its parts."""

from pathlib import Path

import streamlit as st

from ui.cards import STYLE
from ui.door import let_in, log_out
from ui.gallery import perform_asked
from ui.pages import pages
from ui.telling import say

# Of our own: for a symbol or an emoji Streamlit asks a server of Google's.
_ICON = Path(__file__).with_name("icon.svg")


def main() -> None:
    """Draw the part that the address names."""
    st.set_page_config(page_title="radsearch", page_icon=str(_ICON), layout="wide")
    seen = let_in()
    parts = pages(whole=seen.sees_everything)
    part = st.navigation(list(parts.values()), position="top")
    st.html(STYLE)
    perform_asked()
    name, query = st.session_state.pop("go", (None, {}))
    if name and (query or parts[name] is not part):
        st.switch_page(parts[name], query_params=query)
    notice = st.session_state.pop("notice", None)
    if notice:
        say(notice)
    part.run()
    log_out()
    st.caption("For research. Not for diagnosis.", text_alignment="center")


main()
