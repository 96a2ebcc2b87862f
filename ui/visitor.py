"""Who looks at the page: by the provider's identity token where a login is configured, else this machine's user."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from radsearch.audit import Audit, audit_of, system_user
from radsearch.errors import NotAllowedError, SettingsError
from radsearch.settings import Settings, load_settings
from ui.escaping import is_text
from ui.granting import ANYBODY, Access, groups_in, read_access
from ui.opening import login_is_configured

_SKEW_SECONDS = 300  # by which the provider's clock may be ahead


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who was let in.

    name: as the audit has it. datasets: that he may see, None for everything. account: that he has logged in with, and
    nobody else can; None where nobody has to.
    """

    name: str
    datasets: tuple[str, ...] | None = None
    account: str | None = None

    @property
    def sees_everything(self) -> bool:
        """Whether what concerns the whole index (its ingests, evaluations, files) may be shown to him."""
        return self.datasets is None


def visitor() -> Visitor | None:
    """Of this session; None where a login is asked for and there is none that still counts.

    Raises:
        SettingsError: the settings say who may see what, and it cannot be known who this is.
    """
    settings = load_settings()
    if not login_is_configured():
        if settings.access is not None:
            raise SettingsError("RADSEARCH_ACCESS gives data sets to groups, which needs a login (SECURITY.md)")
        return Visitor(system_user())
    return _visitor_of(st.user.to_dict(), settings)


def present() -> Visitor:
    """The visitor. Raises NotAllowedError where there is none, and else as `visitor`."""
    known = visitor()
    if known is None:
        raise NotAllowedError("who has not logged in may see nothing")
    return known


def require_everything() -> None:
    """For a callback, which runs before the door. Raises NotAllowedError for who may see some data sets only."""
    if not present().sees_everything:
        raise NotAllowedError("this is for those who may see everything")


def still_present() -> Callable[[], None]:
    """To be called when something is made outside of a run of the page, as a download is.

    It raises NotAllowedError where this visitor has gone, or may see something else by then.
    """
    known, context = present(), get_script_run_ctx()
    claims: Mapping[str, Any] = {} if context is None else context.user_info  # the session's: a logout empties it

    def check() -> None:
        if known.account is not None and _visitor_of(claims, load_settings()) != known:
            raise NotAllowedError("the login does not count any more")

    return check


def audit(settings: Settings) -> Audit:
    """The audit of what this visitor does."""
    known = visitor()
    return audit_of(settings, "nobody" if known is None else known.name)


def _visitor_of(claims: Mapping[str, Any], settings: Settings) -> Visitor | None:
    access = ANYBODY if settings.access is None else read_access(settings.access)
    name, account = claims.get(access.name_claim), account_of(claims)
    if claims.get("is_logged_in") is not True or not isinstance(name, str) or not name or account is None:
        return None
    if not is_text(name):
        return None
    if not _counts(claims.get("iat"), access):
        return None
    datasets = None if settings.access is None else access.datasets_of(groups_in(claims.get(access.groups_claim)))
    return Visitor(name, datasets, account)


def account_of(claims: Mapping[str, Any]) -> str | None:
    """Issuer and subject, which alone are nobody else's ever (OpenID Connect Core, 5.7); None without a subject."""
    subject = claims.get("sub")
    return json.dumps([claims.get("iss"), subject]) if isinstance(subject, str) and subject else None


def _counts(issued: Any, access: Access) -> bool:
    """Whether a login of that time does still."""
    if isinstance(issued, bool) or not isinstance(issued, int | float):
        return False
    now = time.time()
    return now - access.hours * 3600 < issued <= now + _SKEW_SECONDS  # compared, as an integer may be no float
