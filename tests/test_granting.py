"""What the file of data sets by group says, and where the page may be reached without a login."""

from pathlib import Path

import pytest
import streamlit as st

from radsearch.errors import SettingsError
from ui.granting import Access, groups_in, read_access
from ui.opening import require_safe


def test_groups_of_a_claim() -> None:
    assert groups_in(["a", 1, "b", ["c"]]) == ("a", "b")
    assert groups_in("a") == ("a",)
    assert groups_in(None) == groups_in(3) == groups_in({"a": 1}) == ()


def test_data_sets_of_several_groups_come_together_and_a_star_is_everything() -> None:
    access = Access(groups={"a": ["x", "y"], "b": ["y", "z"], "c": "*", "d": ["*"]})
    assert access.datasets_of(["a", "b", "unknown"]) == ("x", "y", "z")
    assert access.datasets_of(["a", "c"]) is access.datasets_of(["d"]) is None
    assert access.datasets_of([]) == ()


def test_the_file_may_name_other_claims(tmp_path: Path) -> None:
    file = tmp_path / "access.toml"
    file.write_text('groups_claim = "roles"\nname_claim = "preferred_username"\nhours = 2\n')
    access = read_access(file)
    assert (access.groups_claim, access.name_claim, access.hours) == ("roles", "preferred_username", 2)


EVERYWHERE = "0.0.0.0"  # noqa: S104 -- nothing is bound to it


@pytest.mark.parametrize("address", [EVERYWHERE, "::", "192.168.1.5", "pacs.example", "", None])
def test_without_a_login_the_page_is_for_this_machine_only(address: str | None) -> None:
    with pytest.raises(SettingsError, match="configure a login"):
        require_safe(address)


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "::1"])
def test_this_machines_own_addresses_need_no_login(address: str) -> None:
    require_safe(address)


def test_secrets_that_cannot_be_read_are_not_taken_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit itself says that there are none."""
    from streamlit.runtime.secrets import Secrets

    broken = tmp_path / "secrets.toml"
    broken.write_text("[auth\nclient_id = 1")
    monkeypatch.setattr(st, "secrets", Secrets())
    options = {"secrets.files": [str(broken)]}
    monkeypatch.setattr("streamlit.config.get_option", options.get)
    monkeypatch.setattr(st, "get_option", options.get)
    with pytest.raises(SettingsError, match=r"secrets\.toml cannot be read"):
        require_safe("localhost")
