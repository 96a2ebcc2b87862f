"""Where the page may be reached: from this machine only, unless a login is configured."""

import ipaddress
import os
from urllib.parse import urlsplit

import streamlit as st

from radsearch.errors import SettingsError

_published: list[str] = []  # the address that a container's engine publishes the page at
_demanded: list[bool] = []  # whether the page was started with a login


def login_is_configured() -> bool:
    """Whether Streamlit's secrets have a section `auth`.

    Raises:
        SettingsError: there are secrets, and they cannot be read: what they ask for is not known. Or there is no login
            any more, as while its file is being replaced.
    """
    try:
        loaded = st.secrets.load_if_toml_exists()
    except (OSError, UnicodeDecodeError):
        loaded = False
    there = [file for file in st.get_option("secrets.files") if os.path.lexists(file)]
    if any(not os.path.exists(file) for file in there) or (there and not loaded):  # noqa: PTH110 -- names, as Streamlit has them
        raise SettingsError("the page's secrets.toml cannot be read, so that nobody can be let in")
    configured = loaded and bool(st.secrets.get("auth"))
    if not configured and True in _demanded:
        raise SettingsError("the login that the page was started with is gone; without one it is to be started anew")
    return configured


def keep_login() -> None:
    """Call it when the page starts: where a login is configured now, nothing is shown without one from now on."""
    _demanded[:] = [login_is_configured()]


def require_safe(address: str | None, *, published: str | None = None, host: str | None = None) -> None:
    """Refuse to be reached from elsewhere by people who were not asked who they are.

    Args:
        address: that the server listens at; None for Streamlit's default, which is every one.
        published: that a container's engine publishes it at, where that is what counts.
        host: that the browser believes to speak to (`Host` of its request). Another name than this machine's own is a
            proxy's, or one of a foreign page's that was made to lead here (DNS rebinding).

    Raises:
        SettingsError: it is not this machine's own, and there is no login.
    """
    if published is not None:
        _published[:] = [published]
    reached = _published[0] if _published else address
    if login_is_configured():
        return
    if not _is_own(reached):
        raise SettingsError(
            f"the page would be open to all who reach {reached or 'any address of this machine'}: configure a login "
            "(SECURITY.md), or start it with python -m ui, which is reached from this machine only"
        )
    if host is not None and not _is_own(_name_in(host)):
        raise SettingsError(
            "without a login the page is reached as localhost only, not by another name: configure one (SECURITY.md)"
        )


def _name_in(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_own(address: str | None) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address or "").is_loopback
    except ValueError:
        return False
