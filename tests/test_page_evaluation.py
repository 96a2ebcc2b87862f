"""The page's Evaluation: runs as evaluation itself writes them, damaged ones among them, and the queries that fail."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from gallery_driver import ask, cards
from streamlit.testing.v1 import AppTest

from evaluation.history import accept
from evaluation.running import Asked, make_run, read_index
from radsearch.errors import SettingsError
from radsearch.index import IndexedImage, open_index
from radsearch.privacy import Pseudonymizer
from radsearch.settings import Settings
from radsearch.study import Fingerprint
from ui import failing, holdings, miss_files, run_files
from ui.jobs import Told
from ui.miss_files import MOST_MISSES, read_misses
from ui.run_charts import by_class, over_time, side_by_side
from ui.run_files import read_report, read_runs, report_to_take
from ui.run_report import framed
from ui.run_tables import class_rows, figure_rows, latest_of_each, names_of

pytestmark = pytest.mark.slow  # whole pages, each on an index of its own

APP = Path(__file__).parents[1] / "ui" / "app.py"
MODEL = Fingerprint("efficientnet-lite0", "sha256:0", 4, "none", "float32", 1)
NASTY = "<b>Tumor</b> **x** :smile:"


@pytest.fixture
def filled(settings: Settings, pseudonymizer: Pseudonymizer) -> Settings:
    """Six images of six patients: two pairs that find each other, and a pair of unlike classes that do not."""
    findings = ["Edema", "Edema", "Mass", "Mass", NASTY, "Mass"]
    near = [(0, 0.1), (0, 0.2), (1, 0.1), (1, 0.2), (2, 0.1), (2, 0.2)]
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], pseudonymizer.check)
        images = []
        for number, (finding, (place, off)) in enumerate(zip(findings, near, strict=True)):
            vector = np.zeros(4, np.float32)
            vector[place], vector[3] = 1, off
            payload = {
                "modality": "CT", "region": "chest", "pathology": [finding], "label_path": [f"CT/chest/{finding}"],
                "patient": str(number), "models": [MODEL.model], "instance": str(number), "frame": 1,
            }  # fmt: skip
            point = pseudonymizer.point_id("instance", number)
            images.append(IndexedImage(point, {MODEL.model: vector / np.linalg.norm(vector)}, payload))
        index.write(images)
    return settings


@pytest.fixture
def run(filled: Settings, tmp_path: Path) -> Path:
    """One of five queries fails: the mass whose nearest is the tumour. The tumour itself has nothing to be found."""
    folder = tmp_path / "runs" / "20261126-140000-leave-patient-out-efficientnet-lite0"
    make_run(*read_index(filled, MODEL.model), Asked(folder), filled, lambda _words: None)
    return folder


@pytest.fixture
def page(run: Path, filled: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[], AppTest]:
    st.cache_data.clear()
    monkeypatch.setattr(holdings, "_made", [])
    monkeypatch.setattr(holdings, "_last", {})
    monkeypatch.setenv("RADSEARCH_INDEX", filled.index)
    monkeypatch.setenv("RADSEARCH_BUSY_WAIT_SECONDS", "3")
    monkeypatch.setenv("RADSEARCH_RUNS", str(run.parent))

    def opened() -> AppTest:
        test = AppTest.from_file(str(APP), default_timeout=30).run()
        return test.switch_page("views/evaluation.py").run()

    return opened


def another(run: Path, name: str, **changes: object) -> Path:
    """A copy of a run under another name, with other words in its figures."""
    folder = run.parent / name
    folder.mkdir(parents=True)
    told = json.loads((run / "metrics.json").read_text()) | changes
    (folder / "metrics.json").write_text(json.dumps(told))
    (folder / "queries.csv").write_bytes((run / "queries.csv").read_bytes())
    return folder


def drawn(chart: Any) -> list[dict[str, Any]]:
    (rows,) = chart.to_dict()["datasets"].values()
    return rows


def test_a_run_of_evaluation_is_read_with_its_figures(run: Path) -> None:
    (one,) = read_runs(run.parent).runs
    assert (one.model, one.protocol, one.queries, one.micro["P@1"]) == (MODEL.model, "leave-patient-out", 5, 0.8)
    assert one.by["label"]["CT/chest/Mass"] == (3, pytest.approx(0.666667))
    assert one.by["modality"] == {"CT": (5, 0.8)}
    assert not one.accepted
    accept(run, "a test")
    (one,) = read_runs(run.parent).runs
    assert one.accepted


def test_of_the_accepted_runs_of_a_series_the_last_one_has_the_ring(run: Path) -> None:
    first, foreign, second = (another(run, name) for name in ("first", "foreign", "second"))
    for folder in (first, second):
        accept(folder, "a test")
    marker = json.loads((second / "accepted").read_text()) | {"when": "2999-01-01T00:00:00Z"}
    (foreign / "accepted").write_text(json.dumps(marker | {"model": "other"}))
    (run / "accepted").write_text("{}")
    assert [one.folder for one in read_runs(run.parent).runs if one.accepted] == [second]


def test_runs_of_several_folders_are_several_series_whose_names_may_be_hidden(run: Path) -> None:
    another(run, "Erika/older")
    plain, named = f"{MODEL.model}, leave-patient-out", read_runs(run.parent, names=True)
    assert {one.series for one in read_runs(run.parent).runs} == {plain, f"{plain}, folder 1"}
    assert {one.series for one in named.runs} == {plain, f"{plain}, Erika"}


def test_what_cannot_be_looked_at_or_is_a_pipe_is_counted_and_the_others_stay(run: Path) -> None:
    (run.parent / "loop").symlink_to("loop")
    (run.parent / "gone").symlink_to("nowhere")
    (run.parent / "pipe").mkdir()
    os.mkfifo(run.parent / "pipe" / "metrics.json")
    read = read_runs(run.parent)
    assert ([one.folder for one in read.runs], read.damaged) == ([run], 2)


def test_a_run_that_could_not_be_read_once_is_read_when_it_can_be(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_path: str) -> bytes:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(run_files, "read_plain", busy)
        assert read_runs(run.parent).damaged == 1
    assert len(read_runs(run.parent).runs) == 1


def test_queries_that_are_too_many_or_a_pipe_are_a_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "queries.csv")
    with pytest.raises(SettingsError, match="no plain file"):
        read_misses(tmp_path)
    monkeypatch.setattr(miss_files, "_LARGEST", 10)
    with pytest.raises(SettingsError, match="is larger than"):
        read_misses(run)


def test_a_report_that_is_gone_is_taken_as_a_sentence(run: Path) -> None:
    assert report_to_take(run) == (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert b"cannot be read (No such file" in report_to_take(run)


def test_runs_of_folders_within_the_folder_are_read_newest_first_and_hidden_ones_are_not(run: Path) -> None:
    another(run, "of-an-index/older", made="2020-01-01T00:00:00+00:00")
    another(run, "newer", made="2999-01-01T00:00:00+02:00")
    another(run, ".removed")
    read = read_runs(run.parent)
    assert [one.folder.name for one in read.runs] == ["newer", run.name, "older"]
    assert [one.made for one in read.runs][::2] == ["2998-12-31T22:00:00+00:00", "2020-01-01T00:00:00+00:00"]
    assert read.damaged == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        b'{"protocol": "x"}',
        *(
            json.dumps({"change": change}).encode()
            for change in (
                {"made": "yesterday"}, {"made": "2026-01-01T00:00:00"}, {"queries": -1}, {"micro": {"P@1": 2}},
                {"micro": {"P@1": 0.5}}, {"interval": {"P@1": [0.1]}}, {"by": {"label": {"x": 3}}}, {"model": "x"},
                {"model": {"model": "\ud800"}}, {"chance": {"P@1": float("nan")}},
            )
        ),
    ],
)  # fmt: skip
def test_a_damaged_run_is_counted_and_never_stops_the_others(run: Path, content: bytes) -> None:
    damaged = another(run, "damaged") / "metrics.json"
    if b'"change"' in content:
        content = json.dumps(json.loads((run / "metrics.json").read_text()) | json.loads(content)["change"]).encode()
    damaged.write_bytes(content)
    read = read_runs(run.parent)
    assert ([one.folder for one in read.runs], read.damaged) == ([run], 1)


def test_a_run_that_was_written_again_is_read_again(run: Path) -> None:
    folder = another(run, "second", model={"model": "one"})
    assert {one.model for one in read_runs(run.parent).runs} == {MODEL.model, "one"}
    told = json.loads((folder / "metrics.json").read_text()) | {"model": {"model": "other"}}
    (folder / "metrics.json").write_text(json.dumps(told))
    os.utime(folder / "metrics.json", ns=(1, 1))
    assert {one.model for one in read_runs(run.parent).runs} == {MODEL.model, "other"}


def test_a_folder_that_is_not_there_has_no_runs_and_a_file_is_a_sentence(tmp_path: Path) -> None:
    assert read_runs(tmp_path / "none").runs == ()
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="RADSEARCH_RUNS cannot be read"):
        read_runs(tmp_path / "file")


def test_the_queries_that_fail_say_what_they_were_and_what_was_nearest(run: Path) -> None:
    read = read_misses(run)
    assert [(one.classes, one.found) for one in read.misses] == [(("CT/chest/Mass",), (f"CT/chest/{NASTY}",))]
    assert read.number == 1


def test_the_worst_queries_come_first_and_only_so_many_are_kept(tmp_path: Path) -> None:
    rows = ["id,classes,nearest,nearest_classes,P@1,mAP@10"]
    rows += [f'{number},"[""a""]",[],[],0,{(number * 7 % 1000) / 1000}' for number in range(1000)]
    rows += ['right,"[""a""]",[],[],1,0']
    (tmp_path / "queries.csv").write_text("\n".join(rows))
    read = read_misses(tmp_path)
    assert (read.number, len(read.misses)) == (1000, MOST_MISSES)
    assert [one.average_precision for one in read.misses[:3]] == [0.0, 0.001, 0.002]
    assert read.misses[0].nearest == ""


@pytest.mark.parametrize(
    "content",
    [
        "id,P@1\n1,0\n",
        "id,classes,nearest,nearest_classes,P@1,mAP@10\n1,x,[],[],0,0\n",
        "id,classes,nearest,nearest_classes,P@1,mAP@10\n1,[3],[],[],0,0\n",
        'id,classes,nearest,nearest_classes,P@1,mAP@10\n1,"[""\\ud800""]",[],[],0,0\n',
        "id,classes,nearest,nearest_classes,P@1,mAP@10\n1,[],[],[],zero,0\n",
        "id,classes,nearest,nearest_classes,P@1,mAP@10\n1\n",
        "\0",
    ],
)
def test_damaged_queries_are_a_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "queries.csv").write_text(content)
    if content == "\0":
        assert read_misses(tmp_path).number == 0
        return
    with pytest.raises(SettingsError, match="is damaged"):
        read_misses(tmp_path)


def test_queries_that_are_gone_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_misses(tmp_path)
    with pytest.raises(SettingsError, match="no report"):
        read_report(tmp_path)


def test_a_report_is_framed_so_that_it_runs_nothing_and_asks_nobody() -> None:
    document = framed('<script>alert("x")</script>')
    assert 'sandbox=""' in document
    assert "default-src &#x27;none&#x27;" in document
    assert "<script" not in document


def test_runs_are_named_so_that_each_is_another(run: Path) -> None:
    for number in range(2):
        another(run, f"deep-{number}/same")
    runs = read_runs(run.parent).runs
    names = names_of(runs)
    assert len(set(names)) == 3
    assert all(name.startswith(MODEL.model) for name in names)


def test_tables_and_charts_hold_the_figures_of_the_runs(run: Path) -> None:
    another(run, "other", model={"model": "other"}, interval={}, contaminated=["nih14"], by={"label": {}})
    runs = read_runs(run.parent).runs
    assert {one.model for one in latest_of_each(runs, 12)} == {MODEL.model, "other"}
    rows = {row["model"]: row for row in figure_rows(runs)}
    assert rows["other"]["95 %"] == ""
    assert rows["other"]["note"] == "model was trained on these images"
    assert rows[MODEL.model]["P@1"] == 0.8
    names = names_of(runs)
    classes = class_rows(runs, names, "label")
    assert [row["class"] for row in classes] == ["CT/chest/Mass", "CT/chest/Edema"]
    own = next(name for name in names if name.startswith(MODEL.model))
    assert [classes[1][name] for name in names if name != own] == [None]
    assert [row["p1"] for row in drawn(over_time(runs))] == [0.8, 0.8]
    assert all(layer["encoding"]["x"]["scale"] == {"type": "utc"} for layer in over_time(runs).to_dict()["layer"])
    assert len(drawn(side_by_side(runs, names))) == 2
    assert len(drawn(by_class(classes, names))) == 2


def test_the_page_says_which_setting_it_wants(page: Callable[[], AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RADSEARCH_RUNS")
    shown = page()
    assert not shown.exception
    assert "RADSEARCH_RUNS" in shown.info[0].value


def test_the_page_says_that_there_is_no_run_yet(
    page: Callable[[], AppTest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RADSEARCH_RUNS", str(tmp_path / "none"))
    shown = page()
    assert not shown.exception
    assert shown.info[0].value.startswith("There is no run yet")


def test_the_page_shows_figures_classes_and_the_query_that_fails(page: Callable[[], AppTest], run: Path) -> None:
    another(run, "damaged").joinpath("metrics.json").write_text("{")
    shown = page()
    assert not shown.exception
    assert not shown.error
    assert list(shown.dataframe[0].value["P@1"]) == [0.8]
    assert list(shown.dataframe[1].value["class"]) == ["CT/chest/Mass", "CT/chest/Edema"]
    assert any(one.value.startswith("1 folders hold a run that is damaged") for one in shown.caption)
    (card,) = cards(shown, among="similar")
    assert card["rest"].startswith("was ")


def test_similar_from_a_query_that_fails_searches_by_it(
    page: Callable[[], AppTest], pseudonymizer: Pseudonymizer
) -> None:
    shown = page()
    point = pseudonymizer.point_id("instance", 5)
    ask(shown, "similar", point)
    assert not shown.exception
    assert shown.query_params["id"] in (point, [point])


def test_images_that_left_the_index_are_passed_over_and_counted(
    page: Callable[[], AppTest], filled: Settings, pseudonymizer: Pseudonymizer
) -> None:
    with open_index(filled) as index:
        index.delete([pseudonymizer.point_id("instance", 5)])
    shown = page()
    assert not shown.exception
    assert any("1 are not in this index" in one.value for one in shown.caption)


@pytest.mark.parametrize(("code", "words"), [(0, "P@1 0.800"), (1, "failed after 1 s: no room"), (-11, "failed")])
def test_an_evaluation_is_done_with_code_0_only(
    page: Callable[[], AppTest], run: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    told = Told("evaluation", run, 0.0, 1.0, code, None, "no room" if code else None, stopping=False)
    monkeypatch.setattr(holdings.Jobs, "told", lambda _self, kind: told if kind == "evaluation" else None)
    shown = page()
    (said,) = shown.error if code else shown.success
    assert words in said.value.replace("\\", "").replace("\u2060", "")


def test_what_others_change_in_the_index_is_seen_among_the_queries_that_fail(
    page: Callable[[], AppTest], filled: Settings, pseudonymizer: Pseudonymizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failing, "_FRESH_SECONDS", 0.001)
    shown = page()
    assert len(cards(shown, among="similar")) == 1
    with open_index(replace(filled, busy_wait_seconds=10)) as index:
        index.delete([pseudonymizer.point_id("instance", 5)])
    shown.run()
    assert any("1 are not in this index" in one.value for one in shown.caption)


def test_the_report_is_shown_on_demand(page: Callable[[], AppTest], run: Path) -> None:
    shown = page()
    assert run.name not in str(shown.get("download_button")[0].proto)
    assert not shown.get("iframe")
    shown.toggle(key="show-report").set_value(True).run()
    assert not shown.exception
    assert 'sandbox=""' in shown.get("iframe")[0].proto.srcdoc
    assert run.name not in str(shown.get("iframe")[0].proto)


def test_a_busy_index_leaves_the_figures_on_the_page(
    page: Callable[[], AppTest], filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADSEARCH_BUSY_WAIT_SECONDS", "0.1")
    with open_index(filled):
        shown = page()
    assert not shown.exception
    assert shown.warning[0].value.startswith("The index is in use by another program")
    assert list(shown.dataframe[0].value["P@1"]) == [0.8]
