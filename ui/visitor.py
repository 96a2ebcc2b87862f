"""Who looks at the page: by the provider's identity token where a login is configured, else this machine's user."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from radsearch.audit import Audit, audit_of, system_user
from radsearch.errors import SettingsError
from radsearch.settings import Settings, load_settings
from ui.granting import ANYBODY, Access, groups_in, read_access
from ui.opening import login_is_configured

_SKEW_SECONDS = 300  # by which the provider's clock may be ahead


@dataclass(frozen=True, slots=True)
class Visitor:
    """name: as the audit has it. datasets: that he may see, None for everything. has_account: he has logged in."""

    name: str
    datasets: tuple[str, ...] | None = None
    has_account: bool = False

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
    access = ANYBODY if settings.access is None else read_access(settings.access)
    return _visitor_of(st.user.to_dict(), access, everybody=settings.access is None)


def audit(settings: Settings) -> Audit:
    """The audit of what this visitor does."""
    known = visitor()
    return audit_of(settings, "nobody" if known is None else known.name)


def _visitor_of(claims: Mapping[str, Any], access: Access, *, everybody: bool) -> Visitor | None:
    name, issued = claims.get(access.name_claim), claims.get("iat")
    if claims.get("is_logged_in") is not True or not isinstance(name, str) or not name:
        return None
    if isinstance(issued, bool) or not isinstance(issued, int | float):
        return None
    if not -_SKEW_SECONDS <= time.time() - issued < access.hours * 3600:
        return None
    datasets = None if everybody else access.datasets_of(groups_in(claims.get(access.groups_claim)))
    return Visitor(name, datasets, has_account=True)
