"""Where the page may be reached: from this machine only, unless a login is configured."""

import ipaddress
import os

import streamlit as st

from radsearch.errors import SettingsError

_published: list[str] = []  # the address that a container's engine publishes the page at


def login_is_configured() -> bool:
    """Whether Streamlit's secrets have a section `auth`.

    Raises:
        SettingsError: there are secrets, and they cannot be read: what they ask for is not known.
    """
    if st.secrets.load_if_toml_exists():
        return bool(st.secrets.get("auth"))
    if any(os.path.lexists(file) for file in st.get_option("secrets.files")):
        raise SettingsError("the page's secrets.toml cannot be read, so that nobody can be let in")
    return False


def require_safe(address: str | None, *, published: str | None = None) -> None:
    """Refuse to be reached from elsewhere by people who were not asked who they are.

    Args:
        address: that the server listens at; None for Streamlit's default, which is every one.
        published: that a container's engine publishes it at, where that is what counts.

    Raises:
        SettingsError: it is not this machine's own, and there is no login.
    """
    if published is not None:
        _published[:] = [published]
    reached = _published[0] if _published else address
    if not login_is_configured() and not _is_own(reached):
        raise SettingsError(
            f"the page would be open to all who reach {reached or 'any address of this machine'}: configure a login "
            "(SECURITY.md), or start it with python -m ui, which is reached from this machine only"
        )


def _is_own(address: str | None) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
