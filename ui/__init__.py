"""People: the Streamlit page."""
