"""What the file of data sets by group says, and where the page may be reached without a login."""

import shutil
from pathlib import Path

import pytest
import streamlit as st
from streamlit.runtime.secrets import Secrets

from radsearch.errors import SettingsError
from ui.granting import Access, groups_in, read_access
from ui.opening import keep_login, require_safe


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


def test_another_file_of_the_same_size_and_date_is_read_anew(tmp_path: Path) -> None:
    file, other = tmp_path / "access.toml", tmp_path / "other.toml"
    file.write_text('[groups]\na = "*"\n')
    assert read_access(file).datasets_of(["a"]) is None
    other.write_text('[groups]\nb = "*"\n')
    shutil.copystat(file, other)
    other.replace(file)
    assert read_access(file).datasets_of(["a"]) == ()


EVERYWHERE = "0.0.0.0"  # noqa: S104 -- nothing is bound to it


@pytest.mark.parametrize("address", [EVERYWHERE, "::", "192.168.1.5", "pacs.example", "", None])
def test_without_a_login_the_page_is_for_this_machine_only(address: str | None) -> None:
    with pytest.raises(SettingsError, match="configure a login"):
        require_safe(address)


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1", "::1"])
def test_this_machines_own_addresses_need_no_login(address: str) -> None:
    require_safe(address)


@pytest.mark.parametrize(
    "host",
    ["pacs.example", "pacs.example:8501", "localhost.pacs.example", "192.168.1.5:8501", "[::1", "", "localhost@a"],
)
def test_without_a_login_no_other_name_leads_here(host: str) -> None:
    """A foreign page's name may be made to mean 127.0.0.1; a proxy on this machine says its own."""
    with pytest.raises(SettingsError, match="as localhost only"):
        require_safe("localhost", host=host)


@pytest.mark.parametrize("host", ["localhost:8501", "LOCALHOST", "127.0.0.1:8501", "[::1]:8501", None])
def test_without_a_login_this_machines_own_names_lead_here(host: str | None) -> None:
    require_safe("localhost", host=host)


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Streamlit looks for its secrets; there is no file yet. It looks at a second place, too."""
    files = [tmp_path / "secrets.toml", tmp_path / "other.toml"]
    files[1].write_text("some = 1")
    options = {"secrets.files": [str(file) for file in files]}
    monkeypatch.setattr(st, "secrets", Secrets())
    monkeypatch.setattr("streamlit.config.get_option", options.get)
    monkeypatch.setattr(st, "get_option", options.get)
    monkeypatch.setattr("ui.opening._demanded", [])
    return files[0]


@pytest.mark.parametrize("what", ["no TOML", "no text", "a folder", "a link to nothing"])
def test_secrets_that_cannot_be_read_are_not_taken_for_none(secrets: Path, what: str) -> None:
    """Streamlit itself says that there are none, or takes the other place's alone."""
    if what == "a folder":
        secrets.mkdir()
    elif what == "a link to nothing":
        secrets.symlink_to(secrets.with_name("nothing"))
    else:
        secrets.write_bytes(b"[auth\nclient_id = 1" if what == "no TOML" else b"\xff")
    with pytest.raises(SettingsError, match=r"secrets\.toml cannot be read"):
        require_safe("localhost")


def test_a_login_that_goes_away_while_the_page_runs_opens_nothing(
    secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while an editor replaces the file; behind a proxy everybody comes from this machine."""
    secrets.write_text("[auth]\nclient_id = 'a'")
    keep_login()
    require_safe(EVERYWHERE)
    secrets.rename(secrets.with_name("secrets.toml~"))
    monkeypatch.setattr(st, "secrets", Secrets())
    with pytest.raises(SettingsError, match="is gone"):
        require_safe("localhost")
