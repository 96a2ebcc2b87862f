"""Logging in, in a real browser at a real provider: each of two people has his own data set, at every address."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import NEEDED, cards, opened
from identity_provider import provider, secrets_file

from demo.serving import served
from radsearch.index import IndexedImage, open_index
from radsearch.privacy import Pseudonymizer
from radsearch.settings import Settings
from radsearch.study import Fingerprint

pytestmark = NEEDED

ROOT = Path(__file__).parents[1]
MODEL = Fingerprint("efficientnet-lite0", "sha256:0", 4, "none", "float32", 1)


@pytest.fixture
def images(settings: Settings, pseudonymizer: Pseudonymizer) -> dict[str, str]:
    """The id of one image of each side, of three."""
    points = {}
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], pseudonymizer.check)
        for number in range(6):
            side = ("ours", "theirs")[number % 2]
            points[side] = pseudonymizer.point_id("instance", number)
            payload = {"modality": "CT", "dataset": side, "region": f"region-of-{side}", "models": [MODEL.model]}
            index.write([IndexedImage(points[side], {MODEL.model: np.eye(4, dtype=np.float32)[number % 4]}, payload)])
    return points


@pytest.fixture
def page(settings: Settings, images: dict[str, str], tmp_path: Path) -> Iterator[str]:
    assert images
    home = tmp_path / "home"
    (home / ".streamlit").mkdir(parents=True)
    access = tmp_path / "access.toml"
    access.write_text('[groups]\nour-group = ["ours"]\ntheir-group = ["theirs"]\n')
    with provider() as issuer:
        (home / ".streamlit" / "secrets.toml").write_text(secrets_file(issuer))
        surroundings = {
            "HOME": str(home), "RADSEARCH_INDEX": settings.index, "RADSEARCH_ACCESS": str(access),
            "RADSEARCH_AUDIT": str(tmp_path / "audit.jsonl"),
        }  # fmt: skip
        with served(**surroundings) as one:
            yield one.address


def test_two_people_log_in_and_each_has_his_own_data_set_at_every_address(
    page: str, images: dict[str, str], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    with opened(f"{page}/study?image={images['theirs']}") as tab:
        expect(tab.get_by_text("This archive is open to those who log in.")).to_be_visible()
        assert "region-of-" not in tab.content()
        tab.locator(".st-key-log-in button").click()
        tab.get_by_role("link", name="anna").click()
        tab.wait_for_url(f"{page}/**")

        tab.goto(f"{page}/browse")
        cards(tab, "images").to_have_count(3)
        assert "region-of-ours" in tab.content()
        assert "theirs" not in tab.content()
        for address in (f"study?image={images['theirs']}", f"?id={images['theirs']}"):
            tab.goto(f"{page}/{address}")
            expect(tab.get_by_test_id("stAlert").first).to_be_visible()
            assert "region-of-theirs" not in tab.content()
        tab.goto(f"{page}/archive")
        expect(tab.get_by_text("Page not found")).to_be_visible()

        tab.goto(f"{page}/browse")
        tab.locator(".st-key-log-out button").click()
        expect(tab.locator(".st-key-log-in button")).to_be_visible()
        tab.locator(".st-key-log-in button").click()
        tab.get_by_role("link", name="bert").click()
        tab.wait_for_url(f"{page}/**")
        tab.goto(f"{page}/browse")
        cards(tab, "images").to_have_count(3)
        assert "region-of-theirs" in tab.content()
        assert "region-of-ours" not in tab.content()
    told = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert {one["who"] for one in told} == {"anna", "bert"}
    assert "login" in {one["action"] for one in told}


def test_a_page_without_a_login_is_not_served_to_others(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ui", "--port", "0", "--address", "0.0.0.0"]  # noqa: S104 -- which is refused
    told = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert told.returncode == 2
    assert told.stderr.startswith("radsearch: the page would be open to all who reach 0.0.0.0: configure a login")
