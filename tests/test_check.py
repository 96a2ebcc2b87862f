"""`models check`: a test card that is the same everywhere, what is remembered of a model, and what is found amiss."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import DIMENSION, HOW, SIZE, add_tiny_model, expected_vector, half

from radsearch.__main__ import main
from radsearch.errors import ModelUnavailableError
from radsearch.models import ModelSpec, built_in_models, weights_are_here
from radsearch.models.card import card_picture, record, recorded, remember
from radsearch.models.checking import LEAST_COSINE, Finding, check_model
from radsearch.models.preprocessing import prepare
from radsearch.models.weights import find_weights, fingerprint_of
from radsearch.settings import Settings

MEANT = "(where that is meant: models check tiny --record)"
NONE_YET = "recorded now: the next check compares with it"
PACKAGED = [name for name, spec in built_in_models().items() if spec.scheme == "package"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelSpec:
    return add_tiny_model(monkeypatch, tmp_path, "tiny", seed=5)


@pytest.fixture
def check(tmp_path: Path) -> Callable[[ModelSpec], dict[str, Finding]]:
    """Checks a model on the CPU; returns the findings by what was checked, in order."""

    def findings(spec: ModelSpec) -> dict[str, Finding]:
        found = list(check_model(spec, Settings(models_folder=tmp_path, device="cpu")))
        assert len({finding.what for finding in found}) == len(found)
        return {finding.what: finding for finding in found}

    return findings


def unit(seed: int, dimension: int) -> "np.ndarray":
    vector = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    return vector / np.linalg.norm(vector)


def hash_of_tiny(models_folder: Path) -> str:
    """As in the fingerprint: the hash over the hashes of the files, of which there is one."""
    file = hashlib.sha256((models_folder / "tiny" / "weights.pth").read_bytes())
    return f"sha256:{hashlib.sha256(file.digest()).hexdigest()[:16]}"


def store(folder: Path, weight: torch.Tensor) -> None:
    torch.save({"weight": weight}, folder / "tiny" / "weights.pth")


def bad(findings: dict[str, Finding]) -> list[str]:
    return [what for what, finding in findings.items() if not finding.good]


# --- the card


def test_the_card_is_the_same_everywhere() -> None:
    card = card_picture()
    assert card.shape == (480, 640)
    assert card.dtype == np.uint8
    digest = hashlib.sha256(card.tobytes()).hexdigest()
    assert digest == "eda26e047d9fe2a4d5667a0b5750bfab2ff158ea0a506926f9f0e88f937e29b6"


@pytest.mark.parametrize(
    ("row", "column", "grey"),
    [
        (0, 0, 0),
        (0, 639, 639 * 64 // 640),  # 63, at the right end of one ramp
        (479, 0, 479 * 96 // 480),  # 95, at the lower end of the other
        (200, 220, 40 + 22 + 70),  # the centre of the first disc
        (200, 320, 40 + 32 + 70 + 55),  # 100 from the first disc's centre, 110 from the second's: in both
        (330, 330, 66 + 33 - 60),  # the centre of the dark one
        (472, 600, 94 + 60 + 80),  # a line of the grid: 472 = 59 * 8
        (473, 600, 94 + 60 + 80),  # two rows thick
        (474, 600, 94 + 60),
        (479, 639, 95 + 63),
    ],
)
def test_the_card_has_ramps_discs_and_a_grid(row: int, column: int, grey: int) -> None:
    assert card_picture()[row, column] == grey


# --- what is remembered


@pytest.mark.parametrize("dimension", [6, 512, 2048])
def test_a_record_comes_back_as_it_was(tiny: ModelSpec, tmp_path: Path, dimension: int) -> None:
    weights, card = find_weights(tiny, tmp_path), unit(1, dimension)
    assert recorded(tiny, weights) is None
    remember(tiny, weights, card)
    known = recorded(tiny, weights)
    assert known is not None
    fingerprint = fingerprint_of(tiny, weights)
    assert (known.weights, known.preprocessing) == (fingerprint.weights, fingerprint.preprocessing)
    assert known.card.dtype == np.float32
    assert known.card.shape == (dimension,)
    assert known.card @ card / np.linalg.norm(known.card) > 0.9999


def test_a_record_says_nothing_but_the_hashes_and_two_bytes_a_number(tiny: ModelSpec, tmp_path: Path) -> None:
    stored = record(tiny, find_weights(tiny, tmp_path), np.array([1.0, 0, 0, 0, 0, -0.5], np.float32))
    assert stored == {
        "weights": hash_of_tiny(tmp_path),
        "preprocessing": "8 px, squash 8, bilinear; mean 0/0/0, std 1/1/1; mean of the last feature map",
        "card": "ADwAAAAAAAAAAAC4",  # 0x3c00 is 1 and 0xb800 is -0.5, the lower byte first
    }


def test_records_of_rows_that_share_a_folder_lie_side_by_side(tiny: ModelSpec, tmp_path: Path) -> None:
    weights, other = find_weights(tiny, tmp_path), replace(tiny, name="tiny-as-published")
    remember(tiny, weights, unit(1, 6))
    remember(other, weights, unit(2, 6))
    remember(tiny, weights, unit(3, 6))
    for spec, seed in ((tiny, 3), (other, 2)):
        known = recorded(spec, weights)
        assert known is not None
        np.testing.assert_allclose(known.card, unit(seed, 6), atol=0.0005)
    assert sorted(file.name for file in weights.place.iterdir()) == ["radsearch.json", "weights.pth"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "",
        '{"tiny": {}}',
        '{"tiny": "gone"}',
        '{"tiny": 3}',
        '{"tiny": {"weights": "sha256:0", "preprocessing": "", "card": "AAA"}}',  # no whole groups of four
        '{"tiny": {"weights": "sha256:0", "preprocessing": "", "card": "AAAA"}}',  # three bytes: one and a half numbers
        '{"tiny": {"weights": "sha256:0", "preprocessing": "", "card": 4}}',
        '{"tiny": {"weights": "sha256:0", "card": "AAA="}}',
        "[]",
    ],
)
def test_a_damaged_record_is_named(tiny: ModelSpec, tmp_path: Path, text: str) -> None:
    (tmp_path / "tiny" / "radsearch.json").write_text(text)
    with pytest.raises(ModelUnavailableError) as caught:
        recorded(tiny, find_weights(tiny, tmp_path))
    assert str(caught.value) == f"{tmp_path / 'tiny' / 'radsearch.json'} is damaged; delete it and check again"


def test_a_record_of_bytes_that_are_no_text_is_damaged(tiny: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "tiny" / "radsearch.json").write_bytes(b"\xff\xff")
    with pytest.raises(ModelUnavailableError, match=r"radsearch\.json is damaged"):
        recorded(tiny, find_weights(tiny, tmp_path))


# --- what is found


def test_the_first_check_records_and_the_next_compares(
    tiny: ModelSpec, check: Callable[[ModelSpec], dict[str, Finding]], tmp_path: Path
) -> None:
    first = check(tiny)
    assert list(first) == ["weights", "loads", "preprocessing", "recorded card"]
    assert first["weights"].outcome == f"{hash_of_tiny(tmp_path)}, 1 file(s) in {tmp_path / 'tiny'}"
    assert first["loads"].outcome.endswith(" s; the card gives 6 numbers")
    assert first["recorded card"] == Finding("recorded card", NONE_YET)
    known = recorded(tiny, find_weights(tiny, tmp_path))
    assert known is not None
    np.testing.assert_allclose(known.card, expected_vector(tmp_path, "tiny", prepare(card_picture(), HOW)), atol=0.0005)
    second = check(tiny)
    assert list(second) == ["weights", "loads", "preprocessing", "recorded card"]
    assert second["recorded card"] == Finding("recorded card", "cosine 1.00000")
    assert bad(first) == bad(second) == []


def test_changed_weights_are_found_and_the_record_stays(
    tiny: ModelSpec, check: Callable[[ModelSpec], dict[str, Finding]], tmp_path: Path
) -> None:
    was = check(tiny)["weights"].outcome.partition(",")[0]
    old = expected_vector(tmp_path, "tiny", prepare(card_picture(), HOW))
    store(tmp_path, torch.randn(DIMENSION, 3 * SIZE * SIZE, generator=torch.Generator().manual_seed(6)))
    new = expected_vector(tmp_path, "tiny", prepare(card_picture(), HOW))
    assert old @ new < LEAST_COSINE
    for _ in range(2):  # the second check is no better than the first
        findings = check(tiny)
        now = findings["weights"].outcome.partition(",")[0]
        assert was != now
        assert bad(findings) == ["recorded weights", "recorded card"]
        assert findings["recorded weights"].outcome == f"{was} -> {now} {MEANT}"
        assert float(findings["recorded card"].outcome.removeprefix("cosine ")) == pytest.approx(old @ new, abs=0.001)


def test_changed_weights_that_give_the_same_vector_are_found_by_their_hash(
    tiny: ModelSpec, check: Callable[[ModelSpec], dict[str, Finding]], tmp_path: Path
) -> None:
    check(tiny)
    weight = torch.load(tmp_path / "tiny" / "weights.pth", weights_only=True)["weight"]
    store(tmp_path, weight * 2)  # another length, the same direction
    findings = check(tiny)
    assert bad(findings) == ["recorded weights"]
    assert findings["recorded card"].outcome == "cosine 1.00000"


def test_a_changed_row_is_found(tiny: ModelSpec, check: Callable[[ModelSpec], dict[str, Finding]]) -> None:
    check(tiny)
    findings = check(replace(tiny, preprocessing=replace(HOW, mean=(0.5, 0.5, 0.5))))
    assert bad(findings) == ["recorded preprocessing", "recorded card"]
    assert findings["recorded preprocessing"].outcome == (
        "8 px, squash 8, bilinear; mean 0/0/0, std 1/1/1; mean of the last feature map -> "
        "8 px, squash 8, bilinear; mean 0.5/0.5/0.5, std 1/1/1; mean of the last feature map " + MEANT
    )


@pytest.mark.parametrize("card", [unit(1, 7), np.full(6, np.nan, np.float32)], ids=["of another length", "no number"])
def test_a_record_that_cannot_be_compared_is_no_agreement(
    tiny: ModelSpec, check: Callable[[ModelSpec], dict[str, Finding]], tmp_path: Path, card: "np.ndarray"
) -> None:
    remember(tiny, find_weights(tiny, tmp_path), card)
    assert bad(check(tiny)) == ["recorded card"]


def test_a_folder_that_cannot_be_written_is_said_and_no_fault_of_the_model(
    tiny: ModelSpec, check: Callable[[ModelSpec], dict[str, Finding]], tmp_path: Path
) -> None:
    (tmp_path / "tiny" / ".radsearch.json").mkdir()  # where the record is first written to
    assert check(tiny)["recorded card"] == Finding(
        "recorded card", f"none, and none can be written to {tmp_path / 'tiny'} (Is a directory)"
    )


def test_weights_that_do_not_load_are_an_error(
    tiny: ModelSpec, check: Callable[[ModelSpec], dict[str, Finding]], tmp_path: Path
) -> None:
    store(tmp_path, torch.zeros(1, 1))
    with pytest.raises(ModelUnavailableError, match=r"the weights of tiny in .* cannot be loaded"):
        check(tiny)


def test_every_precision_that_the_row_allows_is_held_against_float32(
    tiny: ModelSpec, check: Callable[[ModelSpec], dict[str, Finding]]
) -> None:
    findings = check(replace(tiny, precisions=("bfloat16", "float32")))
    assert list(findings) == ["weights", "loads", "preprocessing", "recorded card", "bfloat16"]
    assert bad(findings) == []
    assert 0.999 < float(findings["bfloat16"].outcome.removeprefix("cosine to float32 ")) <= 1


def almost_nothing(of: "np.ndarray") -> torch.Tensor:
    """Weights whose products with an input cancel out but for a thousandth, which the eight bits of bfloat16 lose."""
    seen = torch.from_numpy(of.astype(np.float32)).flatten()
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(DIMENSION, len(seen), generator=generator)
    weight -= torch.outer(weight @ seen, seen) / (seen @ seen)
    left = torch.randn(DIMENSION, generator=generator) * 0.001
    return weight + torch.outer(left, seen) / seen.norm()


def test_a_precision_that_turns_the_vectors_is_found(
    tiny: ModelSpec, check: Callable[[ModelSpec], dict[str, Finding]], tmp_path: Path
) -> None:
    store(tmp_path, almost_nothing(np.repeat(prepare(card_picture(), HOW)[None], 3, axis=0) / 255))
    spec = replace(tiny, precisions=("bfloat16", "float32"))
    for _ in range(2):
        findings = check(spec)
        assert bad(findings) == ["bfloat16"]
        assert float(findings["bfloat16"].outcome.removeprefix("cosine to float32 ")) < LEAST_COSINE


def test_a_model_that_reads_says_how_near_the_words_are_to_the_card(
    check: Callable[[ModelSpec], dict[str, Finding]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = add_tiny_model(monkeypatch, tmp_path, "speaking", text=True)
    findings = check(spec)
    assert list(findings) == ["weights", "loads", "preprocessing", "recorded card", "text"]
    said = expected_vector(tmp_path, "speaking", (half("a chest X-ray") * 255).astype(np.uint8))
    card = expected_vector(tmp_path, "speaking", prepare(card_picture(), HOW))
    begin, _, cosine = findings["text"].outcome.rpartition(" ")
    assert re.fullmatch(r"cosine of two texts -?0\.\d+, of one to the card", begin)
    assert float(cosine) == pytest.approx(float(said @ card), abs=0.001)


# --- the models that come in a package


def test_the_records_that_come_with_radsearch_are_those_of_the_packaged_models() -> None:
    ours = json.loads((resources.files("radsearch.models") / "recorded.json").read_text(encoding="utf-8"))
    assert sorted(ours) == sorted(PACKAGED)
    assert {"efficientnet-lite0", "efficientnet-lite1-layers", "efficientnet-lite-joined"} <= set(PACKAGED)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_packaged_model_is_what_it_was_when_it_was_recorded(
    check: Callable[[ModelSpec], dict[str, Finding]], name: str
) -> None:
    spec = built_in_models()[name]
    if name != "efficientnet-lite0" and not weights_are_here(spec, None):
        pytest.skip(f"needs the package {spec.repository}")
    place = find_weights(spec, None).place
    before = sorted(place.iterdir())
    assert recorded(spec, find_weights(spec, None)) is not None
    findings = check(spec)
    assert list(findings) == ["weights", "loads", "preprocessing", "recorded card"]
    assert bad(findings) == []
    assert sorted(place.iterdir()) == before  # nothing is written into a package


def test_a_packaged_model_of_ones_own_is_not_promised_what_is_not_kept(
    tiny: ModelSpec, check: Callable[[ModelSpec], dict[str, Finding]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = (tmp_path / "tiny").rename(tmp_path / "package_for_tests")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = replace(tiny, weights="package:package_for_tests")
    if check(spec)["recorded card"].outcome == NONE_YET:
        assert check(spec)["recorded card"].outcome == "cosine 1.00000"


# --- the command


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs `models check` on the CPU; returns its exit code, the lines that it prints and what it says on stderr."""
    monkeypatch.setenv("RADSEARCH_MODELS", str(tmp_path))
    monkeypatch.setenv("RADSEARCH_DEVICE", "cpu")

    def run(*names: str) -> tuple[int, list[str], str]:
        code = main(["models", "check", *names])
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err

    return run


@pytest.mark.usefixtures("tiny")
def test_the_command_gives_0_where_all_is_well(
    command: Callable[..., tuple[int, list[str], str]], tmp_path: Path
) -> None:
    code, lines, said = command("tiny")
    assert (code, said) == (0, "")
    assert lines[0] == "tiny"
    assert lines[1] == f"  ok  weights: {hash_of_tiny(tmp_path)}, 1 file(s) in {tmp_path / 'tiny'}"
    assert lines[2].startswith("  ok  loads: in ")
    assert lines[3] == "  ok  preprocessing: the row's; its files say nothing of it"
    assert lines[4:] == [f"  ok  recorded card: {NONE_YET}"]
    code, lines, said = command("tiny")
    assert (code, lines[4:]) == (0, ["  ok  recorded card: cosine 1.00000"])


@pytest.mark.usefixtures("tiny")
def test_a_change_that_is_meant_is_recorded_when_asked_for(
    command: Callable[..., tuple[int, list[str], str]], tmp_path: Path
) -> None:
    command("tiny")
    store(tmp_path, torch.randn(DIMENSION, 3 * SIZE * SIZE, generator=torch.Generator().manual_seed(6)))
    assert command("tiny")[0] == 1
    assert command("tiny", "--record")[1][-1] == f"  ok  recorded card: {NONE_YET}"
    assert command("tiny")[0] == 0


def test_a_tokenizer_that_knows_no_words_is_found(
    check: Callable[[ModelSpec], dict[str, Finding]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = add_tiny_model(monkeypatch, tmp_path, "deaf", text=True)
    monkeypatch.setattr("tiny_models.half", lambda _: np.ones((SIZE, SIZE), np.float32))
    assert bad(check(spec)) == ["text"]


def test_the_command_gives_1_where_something_is_not_even_if_all_that_comes_after_is(
    tiny: ModelSpec,
    command: Callable[..., tuple[int, list[str], str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    add_tiny_model(monkeypatch, tmp_path, "other")
    command("tiny")
    store(tmp_path, torch.ones(DIMENSION, 3 * SIZE * SIZE))
    code, lines, said = command(tiny.name, "other")
    assert (code, said) == (1, "")
    assert [line for line in lines if not line.startswith(" ")] == ["tiny", "other"]
    assert [line.partition(":")[0] for line in lines if line.startswith("  BAD")] == [
        "  BAD recorded weights",
        "  BAD recorded card",
    ]
    assert command("other")[0] == 0


@pytest.mark.usefixtures("tiny")
def test_the_command_gives_2_for_a_name_that_is_unknown(command: Callable[..., tuple[int, list[str], str]]) -> None:
    code, lines, said = command("tiny", "tinny")
    assert (code, lines) == (2, [])  # before anything is loaded
    assert said.startswith("radsearch: unknown model 'tinny' (did you mean 'tiny'?)")


def test_the_command_gives_1_where_a_model_does_not_load_and_goes_on(
    command: Callable[..., tuple[int, list[str], str]], tiny: ModelSpec, tmp_path: Path
) -> None:
    store(tmp_path, torch.zeros(1, 1))
    code, lines, said = command(tiny.name, "efficientnet-lite0")
    assert (code, said) == (1, "")
    assert any(line.startswith("  BAD the weights of tiny in ") for line in lines)
    assert "efficientnet-lite0" in lines


def test_without_names_the_command_checks_all_that_are_here(
    tiny: ModelSpec, command: Callable[..., tuple[int, list[str], str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    other = add_tiny_model(monkeypatch, tmp_path, "other")
    absent = replace(tiny, name="absent", weights="hub:nobody/absent")
    rows = {"absent": absent, "tiny": tiny, "other": other}
    monkeypatch.setattr("radsearch.models.models_of", lambda _folder: rows)
    code, lines, _ = command()
    assert code == 0
    assert [line for line in lines if not line.startswith(" ")] == ["tiny", "other"]
