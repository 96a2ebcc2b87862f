"""Fetching weights: what comes, where to, and that nothing half-made or foreign is ever taken for a model."""

import hashlib
import io
import json
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import replace
from pathlib import Path

import pytest
from fake_hub import REVISION, TOKEN, FakeHub, serve

from radsearch.__main__ import main
from radsearch.errors import ModelUnavailableError
from radsearch.models import ModelSpec, built_in_models, fetching, weights_are_here
from radsearch.models.fetching import fetch_weights
from radsearch.models.weights import being_fetched, find_weights

WEIGHTS = b"the numbers, " * 10_000
pytestmark = pytest.mark.slow

OTHER_REVISION = "f" * 40


def row(name: str) -> ModelSpec:
    """A row of ours, at a commit that the hub of the tests has."""
    spec = built_in_models()[name]
    tower = f"{spec.text_tower.partition('@')[0]}@{REVISION}" if spec.text_tower else ""
    return replace(spec, revision=REVISION if spec.scheme == "hub" else spec.revision, text_tower=tower)


DINO, CLIP, GATED = row("dinov2-vitb14"), row("biomedclip"), row("medsiglip")
CLIP_FILE = "open_clip_pytorch_model.bin"
TOWER = CLIP.text_tower.partition("@")[0]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that the client of the real one talks to, as a user without a token and with an empty cache."""
    from huggingface_hub import constants

    with serve(FakeHub(tmp_path / "hub")) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr("time.sleep", lambda _seconds: None)  # the client waits before it tries again
        hub.add(
            DINO.repository, {"config.json": b"{}", "preprocessor_config.json": b"{}", "model.safetensors": WEIGHTS}
        )
        hub.add(DINO.repository, {"model.safetensors": b"newer", "config.json": b"{}"}, OTHER_REVISION)
        hub.add(DINO.repository, dict.fromkeys(("README.md", "tf_model.h5", "flax_model.msgpack", "onnx/m.onnx"), b"x"))
        hub.add(CLIP.repository, {CLIP_FILE: WEIGHTS, "open_clip_config.json": b"{}", "pytorch_model.bin": b"another"})
        hub.add(TOWER, {"config.json": b"{}", "vocab.txt": b"lung", "pytorch_model.bin": WEIGHTS})
        hub.add(GATED.repository, {"config.json": b"{}", "model.safetensors": WEIGHTS})
        hub.gated.add(GATED.repository)
        yield hub


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def fetched(folder: Path) -> dict[str, bytes]:
    """The files in a folder by name, but for the notes that the hub's client keeps."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and ".cache" not in file.parts
    }


def refused(spec: ModelSpec, models: Path | None) -> str:
    with pytest.raises(ModelUnavailableError) as caught:
        fetch_weights(spec, models)
    assert "\n" not in str(caught.value)
    assert not weights_are_here(spec, models)
    return str(caught.value)


def unplug(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nobody listens where the hub was."""
    from huggingface_hub import constants

    nobody = "http://127.0.0.1:1"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(hub.address, nobody)
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


# --- from the hub


def test_weights_and_descriptions_come_at_the_pinned_commit_and_nothing_else(hub: FakeHub, models: Path) -> None:
    assert fetch_weights(DINO, models) == models / "dinov2-vitb14"
    assert fetched(models) == {
        "dinov2-vitb14/config.json": b"{}",
        "dinov2-vitb14/preprocessor_config.json": b"{}",
        "dinov2-vitb14/model.safetensors": WEIGHTS,
    }
    assert sorted(hub.downloads) == [
        f"facebook/dinov2-base@{REVISION}/{name}"
        for name in ("config.json", "model.safetensors", "preprocessor_config.json")
    ]
    assert find_weights(DINO, models).files == (models / "dinov2-vitb14" / "model.safetensors",)


@pytest.mark.usefixtures("hub")
def test_another_commit_is_another_model(models: Path) -> None:
    fetch_weights(replace(DINO, revision=OTHER_REVISION), models)
    assert fetched(models)["dinov2-vitb14/model.safetensors"] == b"newer"


@pytest.mark.usefixtures("hub")
def test_of_several_weights_only_those_come_that_the_row_names(models: Path) -> None:
    fetch_weights(CLIP, models)
    assert fetched(models) == {
        f"biomedclip/{CLIP_FILE}": WEIGHTS,
        "biomedclip/open_clip_config.json": b"{}",
        "biomedclip/text/config.json": b"{}",
        "biomedclip/text/vocab.txt": b"lung",
    }
    weights = find_weights(CLIP, models)
    assert weights.files == (models / "biomedclip" / CLIP_FILE,)
    assert weights.text == models / "biomedclip" / "text"


@pytest.mark.usefixtures("hub")
def test_weights_in_the_older_format_come_too(hub: FakeHub, models: Path) -> None:
    spec = row("mae-vitb16")
    hub.add(spec.repository, {"config.json": b"{}", "pytorch_model.bin": WEIGHTS, "rust_model.ot": b"x"})
    fetch_weights(spec, models)
    assert fetched(models) == {"mae-vitb16/config.json": b"{}", "mae-vitb16/pytorch_model.bin": WEIGHTS}


def test_of_weights_in_both_formats_only_those_come_that_are_read(hub: FakeHub, models: Path) -> None:
    hub.add(DINO.repository, {"pytorch_model.bin": WEIGHTS})
    fetch_weights(DINO, models)
    assert "pytorch_model.bin" not in fetched(models / "dinov2-vitb14")


def test_weights_in_several_files_come_whole(hub: FakeHub, models: Path) -> None:
    spec = row("dinov2-vitl14")
    parts = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = json.dumps({"weight_map": dict(zip("ab", parts, strict=True))}).encode()
    files = {**dict.fromkeys(parts, WEIGHTS), "model.safetensors.index.json": index, "config.json": b"{}"}
    hub.add(spec.repository, files)
    fetch_weights(spec, models)
    assert fetched(models / "dinov2-vitl14").keys() == files.keys()
    assert [file.name for file in find_weights(spec, models).files] == parts


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (["open_clip_pytorch_model.bin", "training_args.bin"], "open_clip_pytorch_model.bin"),
        (["pytorch_model.bin", "open_clip_pytorch_model.bin"], "pytorch_model.bin"),
        (["model.pth"], "model.pth"),
        (["model.pt", "model.onnx"], "model.pt"),
    ],
)
def test_weights_of_another_name_are_found(hub: FakeHub, models: Path, names: list[str], read: str) -> None:
    spec = row("dinov2-vitl14")
    hub.add(spec.repository, {**dict.fromkeys(names, WEIGHTS), "config.json": b"{}"})
    fetch_weights(spec, models)
    assert [file.name for file in find_weights(spec, models).files] == [read]


def test_a_repository_without_weights_is_said_to_have_none(hub: FakeHub, models: Path) -> None:
    spec = row("dinov2-vitl14")
    hub.add(spec.repository, {"README.md": b"soon", "config.json": b"{}"})
    assert refused(spec, models) == f"the hub's {spec.repository} holds no weights at commit {REVISION}"


@pytest.mark.parametrize("spec", [DINO, CLIP], ids=lambda spec: spec.name)
def test_what_is_here_is_not_fetched_again(hub: FakeHub, models: Path, spec: ModelSpec) -> None:
    fetch_weights(spec, models)
    hub.downloads.clear()
    assert fetch_weights(spec, models) == models / spec.name
    assert hub.downloads == []


def test_without_a_folder_the_hubs_own_cache_has_it(hub: FakeHub, tmp_path: Path) -> None:
    place = fetch_weights(CLIP, None)
    assert place.is_relative_to(tmp_path / "cache")
    assert (place / CLIP_FILE).read_bytes() == WEIGHTS
    weights = find_weights(CLIP, None)
    assert weights.files == (place / CLIP_FILE,)
    assert weights.text is not None
    assert sorted(file.name for file in weights.text.iterdir()) == ["config.json", "vocab.txt"]
    hub.downloads.clear()
    assert fetch_weights(CLIP, None) == place
    assert hub.downloads == []


@pytest.mark.usefixtures("hub")
def test_a_model_that_is_missing_is_fetched_when_it_is_looked_for(models: Path) -> None:
    assert not weights_are_here(DINO, models)
    assert find_weights(DINO, models).place == models / "dinov2-vitb14"
    assert weights_are_here(DINO, models)


def test_rows_that_share_weights_share_their_folder(hub: FakeHub, models: Path) -> None:
    spec, published = row("resnet50"), row("resnet50-as-published")
    hub.add(spec.repository, {"config.json": b"{}", "model.safetensors": WEIGHTS})
    assert fetch_weights(published, models) == models / "resnet50"
    hub.downloads.clear()
    assert fetch_weights(spec, models) == models / "resnet50"
    assert hub.downloads == []


def test_a_fetched_folder_does_without_the_hub_where_it_is_copied_to(
    hub: FakeHub, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_weights(CLIP, models)
    unplug(hub, monkeypatch)
    elsewhere = models.rename(tmp_path / "elsewhere")
    assert fetch_weights(CLIP, elsewhere) == elsewhere / "biomedclip"
    assert find_weights(CLIP, elsewhere).text == elsewhere / "biomedclip" / "text"


# --- what the hub refuses


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("with_folder", [True, False])
def test_a_gated_model_is_answered_with_its_page_and_the_token(models: Path, *, with_folder: bool) -> None:
    message = refused(GATED, models if with_folder else None)
    assert message == (
        "medsiglip is gated: accept its terms at https://huggingface.co/google/medsiglip-448, make a token there, "
        "and run: HF_TOKEN=... python -m radsearch models fetch medsiglip --to DIR"
    )


@pytest.mark.usefixtures("hub")
def test_a_token_opens_a_gated_model(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(GATED, models)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    fetch_weights(GATED, models)
    assert fetched(models / "medsiglip")["model.safetensors"] == WEIGHTS


@pytest.mark.usefixtures("hub")
def test_a_token_of_somebody_who_has_not_agreed_does_not(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    message = refused(GATED, models)
    assert message.startswith("medsiglip is gated: accept its terms at https://huggingface.co/google/medsiglip-448")
    assert "hf_of_somebody_else" not in message


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"weights": "hub:nobody/nothing"}, "RepositoryNotFoundError"),
        ({"revision": "e" * 40}, f"the hub has no facebook/dinov2-base at commit {'e' * 40}"),
    ],
    ids=["repository", "commit"],
)
def test_a_repository_or_commit_that_is_not_there_is_an_error(models: Path, change: dict[str, str], kind: str) -> None:
    assert kind in refused(replace(DINO, **change), models)


@pytest.mark.usefixtures("hub")
def test_a_repository_without_the_file_that_the_row_names_is_an_error(models: Path) -> None:
    assert "the weights of dinov2-vitb14 are not here" in refused(replace(DINO, files=("model.pt",)), models)


@pytest.mark.usefixtures("hub")
def test_a_text_tower_that_is_not_there_is_an_error(models: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="RepositoryNotFoundError"):
        fetch_weights(replace(CLIP, text_tower=f"nobody/nothing@{REVISION}"), models)


@pytest.mark.parametrize("spec", [DINO, CLIP, GATED], ids=lambda spec: spec.name)
@pytest.mark.parametrize("with_folder", [True, False])
def test_a_hub_out_of_reach_is_answered_with_what_to_run_on_a_connected_host(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch, spec: ModelSpec, *, with_folder: bool
) -> None:
    unplug(hub, monkeypatch)
    message = refused(spec, models if with_folder else None)
    assert "the hub could not be reached" in message
    assert f"on a connected host run: python -m radsearch models fetch {spec.name} --to DIR, " in message
    gated = f" (it is gated: accept its terms at https://huggingface.co/{spec.repository} first)" if spec.gated else ""
    assert message.endswith(f"copy DIR here and set RADSEARCH_MODELS to it{gated}")


# --- what breaks off


@pytest.mark.parametrize("with_folder", [True, False])
def test_a_fetch_that_breaks_off_is_no_success_and_goes_on_later(
    hub: FakeHub, models: Path, *, with_folder: bool
) -> None:
    folder = models if with_folder else None
    hub.cut["model.safetensors"] = len(WEIGHTS) // 2
    assert "the weights of dinov2-vitb14 are not here" in refused(DINO, folder)
    hub.cut.clear()
    assert (fetch_weights(DINO, folder) / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("with_notes", [True, False], ids=["with the client's notes", "without"])
@pytest.mark.parametrize("with_folder", [True, False])
def test_what_has_broken_off_is_no_success_without_the_hub_either(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch, *, with_folder: bool, with_notes: bool
) -> None:
    """The hub's client takes a folder that it can say nothing of for whole."""
    folder = models if with_folder else None
    hub.cut["model.safetensors"] = 1000
    refused(DINO, folder)
    unplug(hub, monkeypatch)
    if not with_notes:
        shutil.rmtree(models / "dinov2-vitb14" / ".cache", ignore_errors=True)
        for notes in (models.parent / "cache").glob("*/trees"):
            shutil.rmtree(notes)
    assert "could not be reached" in refused(DINO, folder)


def test_a_text_tower_that_broke_off_is_not_here(hub: FakeHub, models: Path) -> None:
    hub.cut.update({"vocab.txt": 1, "config.json": 1})
    refused(CLIP, models)


def test_weights_in_several_files_of_which_one_broke_off_are_not_here(hub: FakeHub, models: Path) -> None:
    spec = row("dinov2-vitl14")
    parts = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = json.dumps({"weight_map": dict(zip("ab", parts, strict=True))}).encode()
    hub.add(spec.repository, {**dict.fromkeys(parts, WEIGHTS), "model.safetensors.index.json": index})
    hub.cut[parts[1]] = 1000
    refused(spec, models)


@pytest.mark.parametrize("index", [b"{}", b"no JSON", b"[]", b'{"weight_map": 3}', None])
def test_weights_in_several_files_are_not_here_while_one_is_missing(models: Path, index: bytes | None) -> None:
    """Whatever the list of them says, and without one."""
    folder = models / DINO.name
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "model-00001-of-00002.safetensors").write_bytes(WEIGHTS)
    assert not weights_are_here(DINO, models)
    (folder / "model-00002-of-00002.safetensors").write_bytes(WEIGHTS)
    assert weights_are_here(DINO, models)
    if index is not None:
        (folder / "model.safetensors.index.json").write_bytes(index)
        assert not weights_are_here(DINO, models)


@pytest.mark.parametrize("with_folder", [True, False])
def test_what_is_being_fetched_is_not_here_for_anybody_else(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch, *, with_folder: bool
) -> None:
    """Of two files of weights one may have come, and would be taken for all."""
    folder = models if with_folder else None
    hub.add(DINO.repository, {"second.safetensors": WEIGHTS})
    seen: list[bool] = []
    tower = fetching._text_tower

    def look(spec: ModelSpec, target: Path | None) -> None:  # the weights are there by now
        tower(spec, target)
        seen.append(weights_are_here(spec, folder))

    monkeypatch.setattr(fetching, "_text_tower", look)
    place = fetch_weights(DINO, folder)
    assert seen == [False]
    assert weights_are_here(DINO, folder)
    assert [file.name for file in place.parent.iterdir()] == [place.name]


@pytest.mark.usefixtures("hub")
def test_a_fetch_that_was_killed_is_taken_up_again(models: Path) -> None:
    fetch_weights(DINO, models)
    being_fetched(models / DINO.name).touch()  # as a killed process leaves it
    (models / DINO.name / "config.json").unlink()
    assert not weights_are_here(DINO, models)
    assert find_weights(DINO, models).place == models / DINO.name
    assert weights_are_here(DINO, models)


def test_a_whole_copy_beside_what_a_killed_fetch_left_is_told_how_to_be_used(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_weights(DINO, models)
    marker = being_fetched(models / DINO.name)
    marker.touch()
    unplug(hub, monkeypatch)
    assert refused(DINO, models).endswith(f"; where they were copied here as a whole, remove {marker}")
    marker.unlink()
    assert fetch_weights(DINO, models) == models / DINO.name


def test_a_fetch_that_failed_is_no_hindrance_to_a_copy_by_hand(
    hub: FakeHub, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_weights(DINO, tmp_path / "connected")
    unplug(hub, monkeypatch)
    refused(DINO, models)
    shutil.copytree(tmp_path / "connected", models, dirs_exist_ok=True)
    assert fetch_weights(DINO, models) == models / DINO.name


def test_a_fetch_to_a_folder_of_what_the_cache_has_leaves_no_marker_when_it_fails(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_weights(DINO, None)
    unplug(hub, monkeypatch)
    with pytest.raises(ModelUnavailableError, match="could not be reached"):
        fetch_weights(DINO, models)
    assert not being_fetched(models / DINO.name).exists()


def test_of_two_fetches_at_once_the_second_waits_for_the_first(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    tower = fetching._text_tower

    def wait(spec: ModelSpec, target: Path | None) -> None:
        begun.set()
        go_on.wait(60)
        tower(spec, target)

    monkeypatch.setattr(fetching, "_text_tower", wait)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(fetch_weights, DINO, models)
        assert begun.wait(60)
        asked = len(hub.downloads)
        second = threads.submit(fetch_weights, DINO, models)
        assert not wait_for([second], timeout=0.3).done
        go_on.set()
        assert first.result() == second.result() == models / DINO.name
    assert len(hub.downloads) == asked
    assert not being_fetched(models / DINO.name).exists()


# --- from an address


MEDSAM, MEDCLIP = row("medsam-vitb"), row("medclip")
OLD = b"what lay there before"


class Answer(io.BytesIO):
    """What `urlopen` gives. A negative `breaks_after` never breaks."""

    def __init__(self, content: bytes, breaks_after: int = -1) -> None:
        super().__init__(content)
        self.headers = {"Content-Length": str(len(content))}
        self._breaks_after = breaks_after

    def read(self, size: int | None = -1, /) -> bytes:
        if self._breaks_after >= 0 and self.tell() >= self._breaks_after:
            raise ConnectionResetError(104, "Connection reset by peer")
        return super().read(self._breaks_after if self._breaks_after >= 0 else size)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], list[str]]:
    """Has every address give that answer; returns the addresses that are asked for, as they come."""

    def answer(with_: Answer) -> list[str]:
        asked: list[str] = []

        def urlopen(address: str, *, timeout: float) -> Answer:
            assert timeout > 0
            asked.append(address)
            with_.seek(0)
            return with_

        monkeypatch.setattr("radsearch.models.fetching.urllib.request.urlopen", urlopen)
        with_.close = lambda: None  # type: ignore[method-assign]  # it may be asked for again
        return asked

    return answer


def pinned(spec: ModelSpec, content: bytes, algorithm: str = "sha256") -> ModelSpec:
    return replace(spec, revision=f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")


def zipped(members: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return whole.getvalue()


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_file_of_the_pinned_hash_is_stored(
    answers: Callable[[Answer], list[str]], models: Path, algorithm: str
) -> None:
    asked = answers(Answer(WEIGHTS))
    spec = pinned(MEDSAM, WEIGHTS, algorithm)
    assert fetch_weights(spec, models) == models / "medsam-vitb"
    assert asked == ["https://zenodo.org/records/10689643/files/medsam_vit_b.pth"]
    assert fetched(models) == {"medsam-vitb/medsam_vit_b.pth": WEIGHTS}
    assert find_weights(spec, models).files == (models / "medsam-vitb" / "medsam_vit_b.pth",)


def test_a_file_of_more_than_one_block_is_hashed_whole(answers: Callable[[Answer], list[str]], models: Path) -> None:
    large = bytes(range(256)) * 10_000  # 2.4 blocks of 1 MiB
    answers(Answer(large))
    fetch_weights(pinned(MEDSAM, large), models)
    assert fetched(models) == {"medsam-vitb/medsam_vit_b.pth": large}


def test_an_address_that_does_not_tell_the_length_will_do(answers: Callable[[Answer], list[str]], models: Path) -> None:
    answer = Answer(WEIGHTS)
    answer.headers = {}
    answers(answer)
    fetch_weights(pinned(MEDSAM, WEIGHTS), models)
    assert fetched(models) == {"medsam-vitb/medsam_vit_b.pth": WEIGHTS}


def test_a_file_that_is_here_is_not_asked_for_again(answers: Callable[[Answer], list[str]], models: Path) -> None:
    asked = answers(Answer(WEIGHTS))
    spec = pinned(MEDSAM, WEIGHTS)
    fetch_weights(spec, models)
    assert fetch_weights(spec, models) == models / "medsam-vitb"
    assert len(asked) == 1


def test_rows_that_share_a_file_share_its_folder(answers: Callable[[Answer], list[str]], models: Path) -> None:
    asked = answers(Answer(WEIGHTS))
    published = pinned(row("medsam-vitb-as-published"), WEIGHTS)
    assert fetch_weights(published, models) == models / "medsam-vitb"
    fetch_weights(pinned(MEDSAM, WEIGHTS), models)
    assert len(asked) == 1


@pytest.mark.parametrize("content", [b"something else", b"", WEIGHTS + b"!", WEIGHTS[:-1]])
def test_another_file_than_the_pinned_one_is_thrown_away_and_both_hashes_are_said(
    answers: Callable[[Answer], list[str]], models: Path, content: bytes
) -> None:
    answers(Answer(content))
    wanted, given = hashlib.sha256(WEIGHTS).hexdigest(), hashlib.sha256(content).hexdigest()
    assert refused(pinned(MEDSAM, WEIGHTS), models) == (
        "what https://zenodo.org/records/10689643/files/medsam_vit_b.pth gave is not the pinned file of medsam-vitb: "
        f"its sha256 is {given}, not {wanted}; it was thrown away"
    )
    assert fetched(models) == {}


@pytest.mark.parametrize("breaks_after", [0, 1000])
def test_an_address_that_breaks_off_leaves_nothing(
    answers: Callable[[Answer], list[str]], models: Path, breaks_after: int
) -> None:
    answers(Answer(WEIGHTS, breaks_after))
    message = refused(pinned(MEDSAM, WEIGHTS), models)
    assert "https://zenodo.org/records/10689643/files/medsam_vit_b.pth could not be reached" in message
    assert "python -m radsearch models fetch medsam-vitb --to DIR" in message
    assert fetched(models) == {}


def test_a_file_may_lie_in_a_folder_of_the_weights(answers: Callable[[Answer], list[str]], models: Path) -> None:
    answers(Answer(WEIGHTS))
    fetch_weights(replace(pinned(MEDSAM, WEIGHTS), files=("deep/down/model.pth",)), models)
    assert fetched(models) == {"medsam-vitb/deep/down/model.pth": WEIGHTS}


def test_members_of_an_archive_are_told_apart_by_their_folders(
    answers: Callable[[Answer], list[str]], models: Path
) -> None:
    archive = zipped({"a/model.bin": b"a", "top/b/model.bin": b"b", "b/model.bin.txt": b"no"})
    answers(Answer(archive))
    spec = replace(pinned(MEDCLIP, archive), text_tower="", weights=MEDCLIP.weights + "?download=1")
    assert "holds 2 of the name model.bin" in refused(replace(spec, files=("model.bin",)), models)
    assert "holds no c/model.bin" in refused(replace(spec, files=("c/model.bin",)), models)
    fetch_weights(replace(spec, files=("b/model.bin",)), models)
    assert fetched(models) == {"medclip/b/model.bin": b"b"}


@pytest.mark.usefixtures("hub")
def test_of_an_archive_only_what_the_row_names_is_unpacked(
    answers: Callable[[Answer], list[str]], models: Path
) -> None:
    archive = zipped({"config.json": b"{}", "folder/": b"", "folder/pytorch_model.bin": WEIGHTS, "evil.py": b"x"})
    answers(Answer(archive))
    assert fetch_weights(replace(pinned(MEDCLIP, archive), text_tower=""), models) == models / "medclip"
    assert fetched(models) == {"medclip/pytorch_model.bin": WEIGHTS}


def test_the_text_tower_of_an_archive_comes_from_the_hub(
    hub: FakeHub, answers: Callable[[Answer], list[str]], models: Path
) -> None:
    archive = zipped({"pytorch_model.bin": WEIGHTS})
    answers(Answer(archive))
    hub.add(MEDCLIP.text_tower.partition("@")[0], {"config.json": b"{}", "vocab.txt": b"x", "pytorch_model.bin": b"y"})
    spec = pinned(MEDCLIP, archive)
    fetch_weights(spec, models)
    assert fetched(models / "medclip") == {
        "pytorch_model.bin": WEIGHTS,
        "text/config.json": b"{}",
        "text/vocab.txt": b"x",
    }
    assert find_weights(spec, models).text == models / "medclip" / "text"


def test_a_text_tower_out_of_reach_is_said_to_be_what_is_missing(
    hub: FakeHub, answers: Callable[[Answer], list[str]], models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zipped({"pytorch_model.bin": WEIGHTS})
    answers(Answer(archive))
    unplug(hub, monkeypatch)
    assert "the hub could not be reached" in refused(pinned(MEDCLIP, archive), models)


@pytest.mark.parametrize("name", ["../../evil/pytorch_model.bin", "/pytorch_model.bin", "a/../../pytorch_model.bin"])
def test_no_path_of_an_archive_is_followed(
    answers: Callable[[Answer], list[str]], models: Path, tmp_path: Path, name: str
) -> None:
    archive = zipped({name: WEIGHTS})
    answers(Answer(archive))
    fetch_weights(replace(pinned(MEDCLIP, archive), text_tower=""), models)
    assert fetched(tmp_path) == {"models/medclip/pytorch_model.bin": WEIGHTS}


def test_an_archive_without_the_file_is_an_error(answers: Callable[[Answer], list[str]], models: Path) -> None:
    archive = zipped({"model.bin": WEIGHTS, "pytorch_model.bin/": b""})
    answers(Answer(archive))
    spec = replace(pinned(MEDCLIP, archive), text_tower="")
    assert refused(spec, models) == "the archive of medclip holds no pytorch_model.bin"
    assert fetched(models) == {}


def test_of_an_archive_that_is_none_nothing_stays(answers: Callable[[Answer], list[str]], models: Path) -> None:
    answers(Answer(WEIGHTS))
    assert "BadZipFile" in refused(replace(pinned(MEDCLIP, WEIGHTS), text_tower=""), models)
    assert fetched(models) == {}


def test_an_archive_whose_member_is_damaged_leaves_nothing(
    answers: Callable[[Answer], list[str]], models: Path
) -> None:
    whole = zipped({"pytorch_model.bin": WEIGHTS})
    archive = bytearray(whole)
    archive[len("pytorch_model.bin") + 30 + 40] ^= 0xFF  # behind the member's header of 30 bytes and its name
    answers(Answer(bytes(archive)))
    refused(replace(pinned(MEDCLIP, bytes(archive)), text_tower=""), models)
    assert fetched(models) == {}


@pytest.mark.parametrize("address", ["http://example.org/m.pth", "ftp://example.org/m.pth", "file:///etc/passwd"])
def test_only_https_is_asked(answers: Callable[[Answer], list[str]], models: Path, address: str) -> None:
    asked = answers(Answer(WEIGHTS))
    spec = replace(pinned(MEDSAM, WEIGHTS), weights=f"url:{address}")
    assert refused(spec, models) == f"the address of medsam-vitb is not https: {address}"
    assert asked == []


@pytest.mark.parametrize("spec", [MEDSAM, MEDCLIP], ids=lambda spec: spec.name)
def test_an_address_needs_a_folder(answers: Callable[[Answer], list[str]], spec: ModelSpec) -> None:
    asked = answers(Answer(WEIGHTS))
    assert refused(spec, None) == (
        f"the weights of {spec.name} are not here and need a folder; run: "
        f"python -m radsearch models fetch {spec.name} --to DIR, and set RADSEARCH_MODELS to DIR"
    )
    assert asked == []


# --- what needs no fetching


def test_a_package_is_here_already(tmp_path: Path) -> None:
    spec = built_in_models()["efficientnet-lite0"]
    assert fetch_weights(spec, tmp_path) == find_weights(spec, None).place
    assert fetched(tmp_path) == {}


def test_a_model_of_ones_own_lies_where_it_lies(tmp_path: Path) -> None:
    spec = replace(DINO, name="mine", weights=f"path:{tmp_path / 'mine'}")
    assert refused(spec, tmp_path / "models") == f"the folder of mine, {tmp_path / 'mine'}, does not exist"
    (tmp_path / "mine").mkdir()
    message = refused(spec, tmp_path / "models")
    assert message.startswith(f"the folder of mine, {tmp_path / 'mine'}, holds no weights (*.safetensors, ")
    (tmp_path / "mine" / "model.safetensors").write_bytes(OLD)
    assert refused(spec, tmp_path / "models") == f"the folder of mine, {tmp_path / 'mine'}, holds no config.json"
    (tmp_path / "mine" / "config.json").write_bytes(b"{}")
    assert fetch_weights(spec, tmp_path / "models") == tmp_path / "mine"
    assert fetched(tmp_path) == {"mine/model.safetensors": OLD, "mine/config.json": b"{}"}


def test_a_model_of_ones_own_whose_text_tower_is_missing_is_told_so(tmp_path: Path) -> None:
    (tmp_path / CLIP_FILE).write_bytes(OLD)
    (tmp_path / "open_clip_config.json").write_bytes(b"{}")
    assert str(tmp_path / "text") in refused(replace(CLIP, name="mine", weights=f"path:{tmp_path}"), None)


# --- the command


@pytest.mark.usefixtures("hub")
def test_models_fetch_says_where_the_model_is(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(built_in_models(), "dinov2-vitb14", DINO)
    assert main(["models", "fetch", "dinov2-vitb14", "--to", str(models)]) == 0
    assert capsys.readouterr().out == f"{models / 'dinov2-vitb14'}\n"
    assert weights_are_here(DINO, models)


@pytest.mark.usefixtures("hub")
def test_models_fetch_goes_to_the_models_folder_where_there_is_one(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(built_in_models(), "dinov2-vitb14", DINO)
    monkeypatch.setenv("RADSEARCH_MODELS", str(models))
    assert main(["models", "fetch", "dinov2-vitb14"]) == 0
    assert weights_are_here(DINO, models)


@pytest.mark.usefixtures("hub")
def test_models_fetch_says_what_went_wrong_in_one_line(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(built_in_models(), "medsiglip", GATED)
    assert main(["models", "fetch", "medsiglip", "--to", str(models)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    last = said.err.splitlines()[-1]
    assert last.startswith("radsearch: medsiglip is gated: accept its terms at ")


def test_models_fetch_needs_a_folder_for_an_address(
    capsys: pytest.CaptureFixture[str], answers: Callable[[Answer], list[str]]
) -> None:
    answers(Answer(WEIGHTS))
    assert main(["models", "fetch", "medsam-vitb"]) == 2
    assert "--to DIR" in capsys.readouterr().err
