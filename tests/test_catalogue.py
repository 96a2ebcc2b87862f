"""The private catalogue, and what an ingest and an inbox write into it."""

import sqlite3
from pathlib import Path

import pytest

from radsearch.catalogue import Catalogue
from radsearch.errors import RadSearchError


def test_a_later_place_replaces_an_earlier_one(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "deep" / "catalogue.sqlite")
    assert catalogue.path_of("one") is None
    catalogue.record([("one", Path("/a/1")), ("two", Path("/a/2"))])
    catalogue.record([("one", Path("/b/1"))])
    assert [catalogue.path_of(name) for name in ("one", "two", "three")] == [Path("/b/1"), Path("/a/2"), None]


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    Catalogue(tmp_path / "catalogue.sqlite").record([("one", Path("/a"))])
    assert (tmp_path / "catalogue.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_name_that_is_no_text_comes_back(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    catalogue.record([("one", tmp_path / "caf\udce9.dcm")])
    assert catalogue.path_of("one") == tmp_path / "caf\udce9.dcm"


def test_a_file_that_was_moved_is_followed(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    catalogue.moved({Path("/a"): Path("/b")})
    assert not (tmp_path / "catalogue.sqlite").exists()
    catalogue.record([("one", Path("/a"))])
    catalogue.moved({Path("/a"): Path("/b"), Path("/c"): Path("/d")})
    assert catalogue.path_of("one") == Path("/b")


def test_a_file_that_is_no_catalogue_is_said_without_a_path_of_an_original(tmp_path: Path) -> None:
    (tmp_path / "catalogue.sqlite").write_bytes(b"something else, and long enough to be looked at" * 99)
    with pytest.raises(RadSearchError, match="cannot be used"):
        Catalogue(tmp_path / "catalogue.sqlite").record([("one", Path("/MRN-7"))])


def test_two_may_write_at_once(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    catalogue.record([("one", Path("/a"))])
    other = sqlite3.connect(tmp_path / "catalogue.sqlite")
    other.execute("BEGIN")
    assert catalogue.path_of("one") == Path("/a")
    other.close()
