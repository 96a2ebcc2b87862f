"""Words from files, manifests and people, so that a page shows them as they are and does nothing else with them."""

import html
import re

_JOINER = "\u2060"  # takes no room, and keeps a word from being read as a link, an emoji or a directive
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def is_text(words: str) -> bool:
    """Whether it can be written down: half of a surrogate pair cannot."""
    try:
        words.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(words: str) -> str:
    """With what cannot be written down, such as a name of a file in no encoding, spelt out."""
    return words.encode("utf-8", "backslashreplace").decode("utf-8")


def as_html(text: str) -> str:
    """For text and for attributes in quotes."""
    return html.escape(text, quote=True)


def as_markdown(text: str) -> str:
    """For a label, a message or a caption: Streamlit reads all of them as Markdown with links, emoji and formulas."""
    one_line = " ".join(text.split())
    quoted = _PUNCTUATION.sub(r"\\\1", one_line)
    # A backslash is not enough for what is looked for in the finished text: addresses, :emoji: and arrows.
    quoted = re.sub(r"(?i)\bwww", f"ww{_JOINER}w", quoted)
    return quoted.replace("\\:", f"\\:{_JOINER}").replace("\\@", f"\\@{_JOINER}").replace("\\>", f"{_JOINER}\\>")
