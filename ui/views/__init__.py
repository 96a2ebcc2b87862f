"""One file a page; each is a script that Streamlit runs anew after every click."""
