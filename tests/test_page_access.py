"""Two groups with a data set each, and every door of the page: nothing of the one is ever sent to the other."""

import base64
import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from gallery_driver import ask, cards, hits
from PIL import Image
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.local_script_runner import LocalScriptRunner

from radsearch.errors import NotAllowedError
from radsearch.index import IndexedImage, open_index
from radsearch.maps import make_map, maps_of
from radsearch.privacy import Pseudonymizer
from radsearch.settings import Settings
from radsearch.study import Fingerprint
from radsearch.thumbnails import FOLDER, Thumbnails, thumbnail_of
from ui import holdings
from ui.jobs import Jobs
from ui.saved import Collections
from ui.visitor import account_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("filled")]  # whole pages, each on an index of its own

APP = Path(__file__).parents[1] / "ui" / "app.py"
MODEL = Fingerprint("efficientnet-lite0", "sha256:0", 4, "none", "float32", 1)
LOGIN = {"auth": {"client_id": "radsearch"}}
ACCESS = '[groups]\nour-group = ["ours-set"]\ntheir-group = ["theirs-set"]\nall-of-it = "*"\n'
SIDES = ("ours", "theirs")
EACH = 4


def number_of(side: str, place: int) -> int:
    return 10 * SIDES.index(side) + place


@pytest.fixture
def ids(pseudonymizer: Pseudonymizer) -> dict[str, list[str]]:
    return {
        side: [pseudonymizer.point_id("instance", number_of(side, place)) for place in range(EACH)] for side in SIDES
    }


@pytest.fixture
def pictures() -> dict[str, bytes]:
    """A thumbnail of its own for each side."""
    return {side: thumbnail_of(np.full((8, 8), 60 + 90 * at, np.uint8)) for at, side in enumerate(SIDES)}


@pytest.fixture
def filled(stored: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """The environment of a page on it, with a file of what each group may see."""
    (tmp_path / "access.toml").write_text(ACCESS)
    for name, value in {
        "INDEX": stored.index, "BUSY_WAIT_SECONDS": "3", "ACCESS": str(tmp_path / "access.toml"),
        "AUDIT": str(tmp_path / "audit.jsonl"), "RUNS": str(tmp_path), "REPORTS": str(tmp_path),
    }.items():  # fmt: skip
        monkeypatch.setenv(f"RADSEARCH_{name}", value)
    return stored


@pytest.fixture
def stored(
    settings: Settings, pseudonymizer: Pseudonymizer, ids: dict[str, list[str]], pictures: dict[str, bytes]
) -> Settings:
    """Images of both sides with words of their own, in one study and of one series; a map of all of them."""
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], pseudonymizer.check)
        thumbnails = Thumbnails(settings.index_folder / FOLDER)
        kept = {side: thumbnails.write(pictures[side]) for side in SIDES}
        index.write([
            IndexedImage(
                point,
                {MODEL.model: _unit(number_of(side, place))},
                {
                    "modality": "CT", "dataset": f"{side}-set", "region": f"{side}-region", "study": "one study",
                    "pathology": [f"{side}-finding"], "patient": f"{side}-patient-{place}", "series": "one series",
                    "view": f"{side}-view", "age": 40 + number_of(side, place), "thumbnail": kept[side],
                    "extra": {"note": f"{side}-extra"}, "models": [MODEL.model], "frame": 1,
                },
            )
            for side in SIDES
            for place, point in enumerate(ids[side])
        ])  # fmt: skip
    maps = maps_of(settings)
    assert maps is not None
    maps.write(make_map(lambda: open_index(settings), MODEL.model))
    return settings


def _unit(number: int) -> "np.ndarray":
    vector = np.array([1.0, number % 10 / 10, number / 40, 0.1], np.float32)
    return vector / np.linalg.norm(vector)


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setattr(holdings, "_made", [])
    monkeypatch.setattr(holdings, "_last", {})
    return


def claims(*groups: str, **others: object) -> dict[str, Any]:
    return {"is_logged_in": True, "sub": f"user of {groups}", "iat": int(time.time()), "groups": list(groups), **others}


def session(user: dict[str, Any], **query: str | list[str]) -> AppTest:
    """A new tab of that visitor's, at that address; not run yet."""
    page = AppTest.from_file(str(APP), default_timeout=30)
    page.secrets, page.user = dict(LOGIN), user
    for name, value in query.items():
        page.query_params[name] = value
    return page


def sent(page: AppTest) -> bytes:
    """All that the browser is sent for this page."""
    assert not page.exception
    return b"\n".join(_protos(page._tree))


def _protos(node: Any) -> Iterator[bytes]:
    proto = getattr(node, "proto", None)
    if proto is not None:
        yield proto.SerializeToString()
    for child in getattr(node, "children", {}).values():
        yield from _protos(child)


@pytest.fixture
def crossed(ids: dict[str, list[str]], pictures: dict[str, bytes]) -> Callable[..., list[str]]:
    """What of the other side's is in some bytes; `asked`: ids that the visitor had himself."""

    def find(content: bytes, *asked: str, side: str = "theirs") -> list[str]:
        words = [f"{side}-{word}" for word in ("set", "region", "finding", "patient", "view", "extra")]
        words += [one for one in ids[side] if one not in asked]
        words += [base64.b64encode(pictures[side])[:64].decode()]
        return [word for word in words if word.encode() in content]

    return find


def test_what_is_looked_for_is_found_where_it_may_be_seen(crossed: Callable[..., list[str]]) -> None:
    """Else the tests below could not fail."""
    page = session(claims("all-of-it")).run().switch_page("views/browse.py").run()
    assert len(crossed(sent(page))) > EACH + 3
    own = session(claims("our-group")).run().switch_page("views/browse.py").run()
    assert len(crossed(sent(own), side="ours")) > EACH + 3


PLACES = ("search", "browse", "map", "study", "collections")


@pytest.mark.parametrize("place", PLACES)
def test_no_part_of_the_page_sends_the_other_side_also_after_others_were_there(
    filled: Settings, crossed: Callable[..., list[str]], ids: dict[str, list[str]], place: str
) -> None:
    Collections(filled.settings_folder).make("theirs-set and theirs-finding")  # of nobody who logs in
    for who in ("all-of-it", "their-group", "our-group"):
        image = ids["ours" if who == "our-group" else "theirs"][0]
        page = session(claims(who)).run()
        page.query_params["image"] = image
        page = page.switch_page(f"views/{place}.py").run()
    assert crossed(sent(page)) == []
    assert place in ("collections", "study") or b"ours-set" in sent(page)


@pytest.mark.parametrize("place", ["search", "browse", "map"])
@pytest.mark.parametrize(
    "query",
    [
        {"dataset": "theirs-set"},
        {"dataset": ["ours-set", "theirs-set"]},
        {"region": "theirs-region"},
        {"pathology": "theirs-finding"},
        {"all-pathology": "theirs-finding"},
        {"not-pathology": "ours-finding"},
        {"view": "theirs-view"},
        {"age": "50-99"},
    ],
    ids=str,
)
def test_no_filter_in_the_address_reaches_the_other_side(
    crossed: Callable[..., list[str]], ids: dict[str, list[str]], place: str, query: dict[str, Any]
) -> None:
    page = session(claims("our-group"), **query).run()
    if place != "search":
        page = page.switch_page(f"views/{place}.py")
        for name, value in query.items():
            page.query_params[name] = value
        page = page.run()
    stated = json.dumps(query)
    assert [word for word in crossed(sent(page)) if word not in stated] == []
    assert not {card["id"] for card in cards(page)} & set(ids["theirs"])


@pytest.mark.parametrize("name", ["id", "like", "unlike"])
def test_no_id_in_the_address_reaches_the_other_side(
    crossed: Callable[..., list[str]], ids: dict[str, list[str]], name: str
) -> None:
    theirs = ids["theirs"][1]
    query = {"id": ids["ours"][0], name: theirs} if name == "unlike" else {name: theirs}
    page = session(claims("our-group"), **query).run()
    assert crossed(sent(page), theirs) == []
    assert hits(page) == []
    assert "no indexed image" in page.error[0].value.lower().replace("\\", "")


def test_a_search_finds_its_own_side_only(crossed: Callable[..., list[str]], ids: dict[str, list[str]]) -> None:
    page = session(claims("our-group"), id=ids["ours"][0], **{"same-patient": "1"}).run()
    assert crossed(sent(page)) == []
    assert set(hits(page)) == set(ids["ours"][1:])


def test_the_other_sides_study_is_not_there_and_a_shared_one_shows_half(
    crossed: Callable[..., list[str]], ids: dict[str, list[str]]
) -> None:
    theirs, ours = ids["theirs"][0], ids["ours"][0]
    page = session(claims("our-group")).run().switch_page("views/study.py")
    page.query_params["image"] = theirs
    page.run()
    assert page.error[0].value.startswith("No image of that id is in the index.")
    assert crossed(sent(page), theirs) == []
    page.query_params["image"] = ours
    page.run()
    assert {card["id"] for card in cards(page)} == set(ids["ours"][1:])


def test_a_bookmark_of_the_other_sides_image_shows_and_exports_nothing_of_it(
    filled: Settings,
    crossed: Callable[..., list[str]],
    ids: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs, user = ids["theirs"][2], claims("our-group")
    page = session(user).run().switch_page("views/browse.py").run()
    ask(page, "add", ids["ours"][0])
    page.session_state["asked"] = ("add", theirs, None)  # as a forged message from a browser
    page.run()
    saved = Collections(filled.settings_folder, owner=account_of(user)).read("Collection 1")
    assert saved is not None
    assert set(saved.notes) == {ids["ours"][0], theirs}
    downloads: list[Callable[[], str | bytes]] = []
    monkeypatch.setattr(st, "download_button", lambda _label, make, *_rest, **_named: downloads.append(make))
    page = session(user).run().switch_page("views/collections.py").run()
    assert crossed(sent(page), theirs) == []
    assert [card["id"] for card in cards(page)] == [ids["ours"][0]]
    for make in downloads[-3:]:
        made = make()
        content = _unpacked(made if isinstance(made, bytes) else made.encode())
        assert ids["ours"][0].encode() in content
        assert crossed(content) == []
    told = [one for one in _audited(tmp_path) if one["action"] == "export"]
    assert [one["what"] for one in told] == ["csv", "manifest.csv", "zip"]
    assert all(one["ids"] == [ids["ours"][0]] for one in told)


def _unpacked(content: bytes) -> bytes:
    if not content.startswith(b"PK"):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return b"\n".join(one.filename.encode() + archive.read(one) for one in archive.infolist())


def test_collections_are_of_who_made_them(ids: dict[str, list[str]]) -> None:
    page = session(claims("our-group")).run().switch_page("views/browse.py").run()
    ask(page, "add", ids["ours"][0])
    other = session(claims("our-group", sub="somebody else")).run().switch_page("views/collections.py").run()
    assert other.info[0].value.startswith("There is no collection yet")
    again = session(claims("our-group")).run().switch_page("views/collections.py").run()
    assert len(cards(again)) == 1


@pytest.mark.parametrize("place", ["evaluation", "archive"])
def test_what_concerns_the_whole_index_is_for_those_who_see_all_of_it(place: str) -> None:
    whole = session(claims("all-of-it")).run().switch_page(f"views/{place}.py").run()
    assert not whole.exception
    with pytest.raises(ValueError, match=place):
        session(claims("our-group")).run().switch_page(f"views/{place}.py")


def test_a_map_may_be_made_anew_by_who_sees_everything_only() -> None:
    keys = [one.key for one in session(claims("our-group")).run().switch_page("views/map.py").run().button]
    assert "make-map" not in keys
    keys = [one.key for one in session(claims("all-of-it")).run().switch_page("views/map.py").run().button]
    assert "make-map" in keys


HOUR = 3600
WITHOUT: dict[str, Callable[[], dict[str, Any]]] = {
    "nobody": dict,
    "not logged in": lambda: {"is_logged_in": False},
    "logged in by a word": lambda: claims("all-of-it", is_logged_in="yes"),
    "logged in thirteen hours ago": lambda: claims("all-of-it", iat=int(time.time()) - 13 * HOUR),
    "logged in an hour from now": lambda: claims("all-of-it", iat=int(time.time()) + HOUR),
    "since a word": lambda: claims("all-of-it", iat="2026"),
    "since True": lambda: claims("all-of-it", iat=True),
    "since no number": lambda: claims("all-of-it", iat=float("nan")),
    "since a number that is no float": lambda: claims("all-of-it", iat=10**400),
    "of a name that is no text": lambda: claims("all-of-it", sub="\udcff"),
    "since nothing": lambda: claims("all-of-it", iat=None),
    "of an empty name": lambda: claims("all-of-it", sub=""),
    "of no name": lambda: claims("all-of-it", sub=None),
    "of a number": lambda: claims("all-of-it", sub=7),
}


@pytest.mark.parametrize("who", WITHOUT)
def test_without_a_login_that_counts_there_is_a_door_and_nothing_else(
    crossed: Callable[..., list[str]], ids: dict[str, list[str]], who: str
) -> None:
    page = session(WITHOUT[who](), id=ids["ours"][0]).run()
    assert [one.key for one in page.button] == ["log-in"]
    assert cards(page) == []
    for side in SIDES:
        assert crossed(sent(page), side=side) == []


@pytest.mark.parametrize("groups", [[], ["unknown"], "unknown", None, 7, {"our-group": 1}, [["our-group"], 3]], ids=str)
def test_who_is_in_no_group_sees_nothing(crossed: Callable[..., list[str]], groups: object, tmp_path: Path) -> None:
    page = session(claims(groups=groups)).run()
    assert page.error[0].value.startswith("Your account may see no data set.")
    for side in SIDES:
        assert crossed(sent(page), side=side) == []
    assert crossed(sent(page.run())) == []
    assert [one["action"] for one in _audited(tmp_path)] == ["denied"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[groups", "no TOML"),
        ("[groups]\nour-group = 3", "has no usable groups"),
        ("[groups]\nour-group = ['']", "has no usable groups"),
        ("hours = -1", "hours"),
        ("grups = 1", "grups"),
        ("\udcff", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_faulty_file_lets_nobody_in(
    crossed: Callable[..., list[str]], tmp_path: Path, content: str | None, words: str
) -> None:
    file = tmp_path / "access.toml"
    file.unlink()
    if content is not None:
        file.write_text(content, errors="surrogateescape")
    page = session(claims("all-of-it")).run()
    assert words in page.error[0].value.replace("\\", "")
    assert cards(page) == []
    assert crossed(sent(page)) == []


def test_data_sets_for_groups_without_a_login_let_nobody_in() -> None:
    page = AppTest.from_file(str(APP), default_timeout=30).run()
    assert "which needs a login" in page.error[0].value
    assert cards(page) == []


def test_a_change_of_the_file_counts_from_the_next_click_on(tmp_path: Path) -> None:
    page = session(claims("our-group")).run()
    assert cards(page)
    (tmp_path / "access.toml").write_text("[groups]\nother-group = '*'\n")
    page.run()
    assert page.error[0].value.startswith("Your account may see no data set.")
    assert cards(page) == []


def test_a_session_that_becomes_another_visitors_keeps_nothing(
    crossed: Callable[..., list[str]], ids: dict[str, list[str]]
) -> None:
    page = session(claims("all-of-it"), id=ids["theirs"][0]).run()
    assert len(crossed(sent(page))) > EACH
    page.user = claims("our-group")
    for name in list(page.query_params):
        del page.query_params[name]
    page.run()
    assert crossed(sent(page)) == []


def _audited(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


def test_the_audit_says_who_searched_opened_and_browsed_which_images_and_no_words(
    ids: dict[str, list[str]], tmp_path: Path
) -> None:
    user, first = claims("our-group"), ids["ours"][0]
    page = session(user, id=first, region="ours-region", **{"same-patient": "1"}).run()
    page.run()
    ask(page, "open", hits(page)[0])
    page.run().switch_page("views/browse.py").run()
    told = _audited(tmp_path)
    assert [one["action"] for one in told] == ["login", "browse", "search", "open", "browse", "browse"]
    assert {one["who"] for one in told} == {user["sub"]}
    assert told[1]["ids"] == [first]
    assert told[2]["query"] == {"ids": [first]}
    assert told[2]["filters"] == {"region": ["ours-region"]}
    assert set(told[2]["hits"]) <= set(ids["ours"])
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_an_image_that_is_opened_again_is_in_the_audit_again(ids: dict[str, list[str]], tmp_path: Path) -> None:
    page = session(claims("our-group")).run()
    for _ in range(2):
        page.switch_page("views/study.py")
        page.query_params["image"] = ids["ours"][0]
        page.run().run()  # twice, and opened once
        page.switch_page("views/browse.py").run()
    assert [one["ids"] for one in _audited(tmp_path) if one["action"] == "open"] == [ids["ours"][:1]] * 2


def test_what_cannot_be_audited_is_not_shown(
    crossed: Callable[..., list[str]], ids: dict[str, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    page = session(claims("our-group"), id=ids["ours"][0]).run()
    assert "audit" in page.error[0].value
    assert cards(page) == []
    assert crossed(sent(page), side="ours") == []


def test_pictures_of_both_sides_differ(pictures: dict[str, bytes]) -> None:
    assert pictures["ours"] != pictures["theirs"]
    assert Image.open(io.BytesIO(pictures["ours"])).size == (8, 8)


def test_no_picture_is_sent_that_the_audit_does_not_name(ids: dict[str, list[str]], tmp_path: Path) -> None:
    first, user = ids["ours"][0], claims("our-group")
    refused = session(user, id=first, region="nowhere").run()  # the query is shown, the search finds a misspelt word
    shown = {card["id"].removeprefix("ids/") for card in cards(refused)}
    shown |= {card["id"] for card in cards(session(user).run())}  # the invitation
    page = session(user).run().switch_page("views/study.py")
    page.query_params["image"] = first
    shown |= {card["id"] for card in cards(page.run())}
    assert shown == set(ids["ours"])
    assert _named(tmp_path) == shown
    ask(session(user).run(), "add", ids["ours"][1])
    (tmp_path / "audit.jsonl").unlink()
    assert cards(session(user).run().switch_page("views/collections.py").run())[0]["id"] in _named(tmp_path)


def _named(folder: Path) -> set[str]:
    return {point for one in _audited(folder) for point in one.get("ids", ())}


NOBODY = "[groups]\nother-group = '*'\n"


def _later(page: AppTest, folder: Path, how: str) -> None:
    """The visitor's groups lose everything, or his login's hours are over."""
    if how == "revoked":
        (folder / "access.toml").write_text(NOBODY)
    else:
        page.user["iat"] = int(time.time()) - 13 * HOUR


def _run_fragments(page: AppTest, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """As a browser asks for it, where the rest of the page is not run."""
    ids = list(page._fragment_storage._fragments)
    assert ids

    def ask_for(runner: LocalScriptRunner, data: Any) -> bool:
        runner._requests._rerun_data = replace(data, fragment_id_queue=ids)
        return True

    with monkeypatch.context() as patch:
        patch.setattr(LocalScriptRunner, "request_rerun", ask_for)
        return page.run()


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_part_of_the_page_that_runs_alone_is_behind_the_door_too(
    crossed: Callable[..., list[str]],
    ids: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    page = session(claims("our-group")).run().switch_page("views/study.py")
    page.query_params["image"] = ids["ours"][0]
    page.run()
    assert crossed(sent(_run_fragments(page, monkeypatch)), side="ours")
    _later(page, tmp_path, how)
    assert crossed(sent(_run_fragments(page, monkeypatch)), side="ours") == []
    assert [one.key for one in page.button] == ["log-out" if how == "revoked" else "log-in"]


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_click_of_who_may_not_any_more_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    started: list[object] = []
    monkeypatch.setattr(Jobs, "start", lambda *told: started.append(told))
    monkeypatch.setenv("RADSEARCH_ARCHIVE", str(tmp_path))
    page = session(claims("all-of-it")).run().switch_page("views/archive.py").run()
    _later(page, tmp_path, how)
    page.button(key="start-ingest").click().run()
    assert started == []
    again = session(claims("other-group" if how == "revoked" else "all-of-it")).run()
    again.switch_page("views/archive.py").run().button(key="start-ingest").click().run()
    assert len(started) == 1


@pytest.mark.parametrize("how", ["revoked", "expired", "logged out"])
def test_a_download_is_made_for_who_may_have_it_still(
    ids: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """It is made when it is asked for, outside of a run of the page."""
    page = session(claims("our-group")).run()
    ask(page, "add", ids["ours"][0])
    downloads: list[tuple[Callable[[], str | bytes], Any]] = []

    def offer(_label: str, make: Callable[[], str | bytes], *_rest: object, **_named: object) -> None:
        context = get_script_run_ctx()
        assert context is not None
        downloads.append((make, context.user_info))

    monkeypatch.setattr(st, "download_button", offer)
    page.switch_page("views/collections.py").run()
    take, user = downloads[-3]
    assert ids["ours"][0] in str(take())
    if how == "revoked":
        _later(page, tmp_path, how)
    elif how == "expired":
        user["iat"] = int(time.time()) - 13 * HOUR
    else:
        user.clear()  # as Streamlit does
    with pytest.raises(NotAllowedError):
        take()


def test_who_bears_anothers_name_has_not_his_collections(ids: dict[str, list[str]], tmp_path: Path) -> None:
    (tmp_path / "access.toml").write_text(f'name_claim = "name"\n{ACCESS}')
    one = session(claims("our-group", sub="1", iss="https://a", name="Anna")).run()
    ask(one, "add", ids["ours"][0])
    for sub, issuer in (("2", "https://a"), ("1", "https://b")):
        other = session(claims("our-group", sub=sub, iss=issuer, name="Anna")).run()
        assert other.switch_page("views/collections.py").run().info[0].value.startswith("There is no collection yet")
    renamed = session(claims("our-group", sub="1", iss="https://a", name="Anna B")).run()
    assert len(cards(renamed.switch_page("views/collections.py").run())) == 1
