"""Settings: read once from the environment, told apart from misspelt ones, silent about secrets."""

import dataclasses
import os
import re
from pathlib import Path

import pytest

from radsearch.errors import SettingsError
from radsearch.settings import QUIET, VARIABLES, Settings, load_settings, silence_telemetry, usable_cores

README = Path(__file__).resolve().parents[1] / "README.md"


def test_an_empty_environment_gives_the_defaults():
    assert load_settings({}) == Settings()


def test_an_empty_variable_counts_as_unset():
    assert load_settings({"RADSEARCH_WORKERS": "", "RADSEARCH_INDEX": ""}) == Settings()


def test_every_setting_is_read_with_its_own_type():
    read = load_settings(
        {
            "RADSEARCH_INDEX": "http://localhost:6333",
            "RADSEARCH_COLLECTION": "chest",
            "RADSEARCH_QDRANT_API_KEY": "key",
            "RADSEARCH_MODEL": "biomedclip",
            "RADSEARCH_MODELS": "/models",
            "RADSEARCH_DEVICE": "cpu",
            "RADSEARCH_BATCH_SIZE": "16",
            "RADSEARCH_WORKERS": "3",
            "RADSEARCH_SECRET": "s" * 32,
            "RADSEARCH_SECRET_FILE": "/run/secret",
            "RADSEARCH_BUSY_WAIT_SECONDS": "1.5",
        }
    )
    assert read == Settings(
        index="http://localhost:6333",
        collection="chest",
        qdrant_api_key="key",
        model="biomedclip",
        models_folder=Path("/models"),
        device="cpu",
        batch_size=16,
        workers=3,
        secret="s" * 32,
        secret_file=Path("/run/secret"),
        busy_wait_seconds=1.5,
    )


def test_every_field_has_one_variable():
    fields = [field.name for field in dataclasses.fields(Settings)]
    assert sorted(name for name, _ in VARIABLES.values()) == sorted(fields)


@pytest.fixture
def tesseract(tmp_path):
    """A program of that name; nobody runs it."""
    program = tmp_path / "tesseract"
    program.touch(mode=0o755)
    return program


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_variable_changes_its_field(variable, tesseract):
    name, _ = VARIABLES[variable]
    others = {"RADSEARCH_VIEWER": "https://pacs/{study}", "RADSEARCH_BURNED_IN": "allow", "RADSEARCH_BLANK_TEXT": "1"}
    text = others.get(variable, "777")
    changed = load_settings({variable: text, "PATH": str(tesseract.parent)})
    assert str(getattr(changed, name)) in {text, "777.0", "('777',)"}
    assert getattr(changed, name) != getattr(Settings(), name)


def test_without_an_argument_the_process_environment_is_read(monkeypatch):
    monkeypatch.setenv("RADSEARCH_COLLECTION", "knees")
    assert load_settings().collection == "knees"


@pytest.mark.parametrize(
    ("variable", "text", "wanted"),
    [
        ("RADSEARCH_CINE_FRAMES", "all", "a whole number is wanted"),
        ("RADSEARCH_CINE_FRAMES", "1.5", "a whole number is wanted"),
        ("RADSEARCH_CINE_FRAMES", "-1", "is 0 or more"),
        ("RADSEARCH_FILE_SECONDS", "soon", "a number is wanted"),
        ("RADSEARCH_FILE_SECONDS", "inf", "is 0 or more"),
        ("RADSEARCH_FILE_MEMORY_MB", "255", "is 256 or more, or 0 for no limit"),
    ],
)
def test_a_value_that_cannot_be_used_says_which_can(variable, text, wanted):
    with pytest.raises(SettingsError) as refused:
        load_settings({variable: text})
    assert variable in str(refused.value)
    assert wanted in str(refused.value)


def test_no_memory_limit_is_a_limit_of_zero():
    assert load_settings({"RADSEARCH_FILE_MEMORY_MB": "0"}).file_memory_mb == 0


def test_a_home_folder_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings({"RADSEARCH_SECRET_FILE": "~/secret"}).secret_file == tmp_path / "secret"


def test_a_home_folder_of_nobody_is_a_settings_error():
    with pytest.raises(SettingsError, match="RADSEARCH_SECRET_FILE"):
        load_settings({"RADSEARCH_SECRET_FILE": "~no-such-user-anywhere/secret"})


@pytest.mark.parametrize("variable", ["RADSEARCH_BATCH_SIZE", "RADSEARCH_WORKERS", "RADSEARCH_BUSY_WAIT_SECONDS"])
@pytest.mark.parametrize("text", ["many", "1,5", "-1"])
def test_a_number_that_is_none_or_negative_names_its_variable(variable, text):
    with pytest.raises(SettingsError, match=variable):
        load_settings({variable: text})


def test_not_a_number_is_no_waiting_time():
    with pytest.raises(SettingsError, match="RADSEARCH_BUSY_WAIT_SECONDS"):
        load_settings({"RADSEARCH_BUSY_WAIT_SECONDS": "nan"})


def test_a_misspelt_setting_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(SettingsError) as refused:
        load_settings({"RADSEARCH_WORKER": "2"})
    assert "unknown setting RADSEARCH_WORKER;" in str(refused.value)
    assert all(variable in str(refused.value) for variable in VARIABLES)


def test_a_misspelt_secret_is_not_repeated():
    with pytest.raises(SettingsError) as refused:
        load_settings({"RADSEARCH_SECRETS": "the-secret-itself"})
    assert "the-secret-itself" not in str(refused.value)


def test_other_programs_variables_and_those_of_tests_are_left_alone():
    assert load_settings({"QDRANT_URL": "x", "RADSEARCH_TEST_SERVER": "x", "radsearch_index": "x"}) == Settings()


def test_the_settings_say_nothing_secret_of_themselves():
    shown = repr(Settings(**dict.fromkeys(("secret", "qdrant_api_key"), "it-itself")))
    assert "itself" not in shown
    assert "itself" not in repr(Settings(index="https://doctor:itself@host:6333"))


@pytest.mark.parametrize("address", ["qdrant://doctor:itself@host", "ftp://doctor:itself@host"])
def test_an_address_of_another_kind_is_not_repeated(address):
    with pytest.raises(SettingsError) as caught:
        _ = Settings(index=address).on_server
    assert "neither a folder nor an http(s) URL" in str(caught.value)
    assert "itself" not in str(caught.value)


def test_an_index_is_on_a_server_or_in_a_folder():
    assert Settings(index="HTTPS://host:6333").on_server
    assert not Settings(index="http-archive/index").on_server


def test_a_server_is_waited_for_a_second_at_least():
    with pytest.raises(SettingsError, match="RADSEARCH_QDRANT_SECONDS is 1 or more"):
        load_settings({"RADSEARCH_QDRANT_SECONDS": "0"})


def test_telemetry_is_switched_off_unless_the_user_chose_otherwise(monkeypatch):
    for name in QUIET:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    silence_telemetry()
    assert {name: os.environ[name] for name in QUIET} == {**QUIET, "DO_NOT_TRACK": "0"}


def test_the_usable_cores_are_those_this_process_may_use():
    assert usable_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_setting_is_mentioned_in_the_readme(variable):
    assert re.search(rf"\b{variable}\b", README.read_text(encoding="utf-8"))


@pytest.mark.parametrize("address", ["javascript:alert(1)//{study}", "https://pacs/viewer", "{study}"])
def test_a_viewer_is_an_address_with_a_place_for_the_study(address: str) -> None:
    with pytest.raises(SettingsError, match="RADSEARCH_VIEWER"):
        load_settings({"RADSEARCH_VIEWER": address})
    assert load_settings({"RADSEARCH_VIEWER": "https://pacs/v?s={study}"}).viewer == "https://pacs/v?s={study}"


def test_an_unknown_policy_for_burned_in_text_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="RADSEARCH_BURNED_IN is one of refuse, crop, allow, not 'cut'"):
        load_settings({"RADSEARCH_BURNED_IN": "cut"})


def test_text_is_blanked_or_not_and_nothing_between(tesseract: Path) -> None:
    with pytest.raises(SettingsError, match="RADSEARCH_BLANK_TEXT is 0 or 1"):
        load_settings({"RADSEARCH_BLANK_TEXT": "2", "PATH": str(tesseract.parent)})


def test_without_tesseract_blanking_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="needs the program tesseract, which is not here: install it"):
        load_settings({"RADSEARCH_BLANK_TEXT": "1", "PATH": str(tmp_path)})
