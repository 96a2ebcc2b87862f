"""In which precision and where a model runs, and which vectors it will give; and the words that a finding is put in."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import add_tiny_model

from radsearch.errors import SettingsError
from radsearch.models import ModelSpec, built_in_models
from radsearch.models.devices import devices_of, expected_gpus
from radsearch.models.identity import fingerprint_for
from radsearch.models.precision import _flags, _processor_flags, choose_precision, dtype_of, narrow
from radsearch.models.prompts import prompts_for
from radsearch.models.weights import find_weights, fingerprint_of
from radsearch.settings import Settings

BOTH = ("bfloat16", "float32")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelSpec:
    return replace(add_tiny_model(monkeypatch, tmp_path), precisions=BOTH)


@pytest.fixture(params=["avx512_bf16", "amx_bf16", "bf16"])
def with_units(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that multiplies in bfloat16, of Intel's, AMD's or ARM's."""
    monkeypatch.setattr("radsearch.models.precision._processor_flags", lambda: {"fpu", request.param})


@pytest.fixture
def without_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("radsearch.models.precision._processor_flags", lambda: {"fpu", "avx512f", "avx512_fp16"})


def gpu(monkeypatch: pytest.MonkeyPatch, *, with_bfloat16: bool, number: int = 1) -> None:
    """GPUs of which none is touched; an emulated bfloat16 (CUDA's answer without `including_emulation`) is on all."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: with_bfloat16 or including_emulation
    )


def precision_of(spec: ModelSpec, models_folder: Path, held: str | None = None, **stated: str) -> str:
    """That of the fingerprint, on a CPU unless something else is stated; `held` is what an index has."""
    weights = find_weights(spec, models_folder)
    settings = Settings(**{"device": "cpu", **stated})
    before = fingerprint_of(spec, weights, held) if held else None
    return fingerprint_for(spec, weights, settings, before).precision


# --- which precision


@pytest.mark.usefixtures("with_units")
def test_auto_is_bfloat16_where_the_row_allows_it_and_the_processor_has_units(tiny: ModelSpec, tmp_path: Path) -> None:
    assert choose_precision(tiny, "auto", "cpu") == "bfloat16"
    assert precision_of(tiny, tmp_path) == "bfloat16"


@pytest.mark.usefixtures("without_units")
def test_auto_is_float32_where_the_processor_has_none(tiny: ModelSpec, tmp_path: Path) -> None:
    assert choose_precision(tiny, "auto", "cpu") == "float32"
    assert precision_of(tiny, tmp_path) == "float32"


@pytest.mark.usefixtures("with_units")
def test_auto_is_float32_where_the_row_allows_nothing_else(tiny: ModelSpec, tmp_path: Path) -> None:
    exact = replace(tiny, precisions=("float32",))
    assert choose_precision(exact, "auto", "cpu") == "float32"
    assert precision_of(exact, tmp_path) == "float32"


@pytest.mark.usefixtures("with_units")
def test_auto_takes_the_first_that_the_device_has_units_for(tiny: ModelSpec) -> None:
    assert choose_precision(replace(tiny, precisions=("float32", "bfloat16")), "auto", "cpu") == "float32"
    assert choose_precision(replace(tiny, precisions=("float16", "bfloat16")), "auto", "cpu") == "bfloat16"


@pytest.mark.usefixtures("without_units")
def test_a_row_that_allows_nothing_with_units_runs_in_its_first(tiny: ModelSpec) -> None:
    assert choose_precision(replace(tiny, precisions=("bfloat16", "float16")), "auto", "cpu") == "bfloat16"


@pytest.mark.parametrize(
    ("allowed", "with_bfloat16", "chosen"),
    [
        (BOTH, True, "bfloat16"),
        (BOTH, False, "float32"),  # emulated is slower than float32
        (("bfloat16", "float16", "float32"), False, "float16"),
        (("float16", "float32"), True, "float16"),
    ],
)
def test_a_gpu_has_units_of_its_own(
    tiny: ModelSpec,
    monkeypatch: pytest.MonkeyPatch,
    allowed: tuple[str, ...],
    chosen: str,
    *,
    with_bfloat16: bool,
) -> None:
    gpu(monkeypatch, with_bfloat16=with_bfloat16)
    assert choose_precision(replace(tiny, precisions=allowed), "auto", "cuda:0") == chosen


@pytest.mark.usefixtures("with_units")
@pytest.mark.parametrize("held", BOTH)
def test_what_the_index_holds_stays(tiny: ModelSpec, tmp_path: Path, held: str) -> None:
    assert precision_of(tiny, tmp_path, held) == held


@pytest.mark.usefixtures("without_units")
@pytest.mark.parametrize("held", BOTH)
def test_what_the_index_holds_stays_where_the_processor_has_no_units(
    tiny: ModelSpec, tmp_path: Path, held: str
) -> None:
    assert precision_of(tiny, tmp_path, held) == held


@pytest.mark.usefixtures("with_units")
def test_what_the_index_holds_stays_no_longer_than_the_row_allows_it(tiny: ModelSpec, tmp_path: Path) -> None:
    assert precision_of(tiny, tmp_path, "float16") == "bfloat16"


@pytest.mark.usefixtures("without_units")
@pytest.mark.parametrize("wanted", BOTH)
@pytest.mark.parametrize("held", [*BOTH, None])
def test_one_that_is_asked_for_is_taken_whatever_the_index_and_the_processor_have(
    tiny: ModelSpec, tmp_path: Path, wanted: str, held: str | None
) -> None:
    assert precision_of(tiny, tmp_path, held, precision=wanted) == wanted


@pytest.mark.parametrize(
    ("allowed", "wanted", "said"),
    [
        (("float32",), "bfloat16", "tiny may run in float32 only, not in bfloat16: leave RADSEARCH_PRECISION at auto"),
        (
            BOTH,
            "float16",
            "tiny may run in bfloat16 or float32 only, not in float16: leave RADSEARCH_PRECISION at auto",
        ),
        (BOTH, "half", "RADSEARCH_PRECISION is auto, float32, bfloat16, float16, not 'half'"),
        (BOTH, "AUTO", "RADSEARCH_PRECISION is auto, float32, bfloat16, float16, not 'AUTO'"),
    ],
)
def test_one_that_the_row_does_not_allow_is_refused_and_those_that_it_does_are_named(
    tiny: ModelSpec, tmp_path: Path, allowed: tuple[str, ...], wanted: str, said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        precision_of(replace(tiny, precisions=allowed), tmp_path, precision=wanted)
    assert str(caught.value) == said


def test_the_row_of_a_model_that_bfloat16_turns_allows_float32_only() -> None:
    with pytest.raises(SettingsError, match="efficientnet-lite0 may run in float32 only"):
        choose_precision(built_in_models()["efficientnet-lite0"], "bfloat16", "cpu")


@pytest.mark.usefixtures("with_units")
def test_the_precision_is_all_that_tells_the_fingerprints_apart(tiny: ModelSpec, tmp_path: Path) -> None:
    weights = find_weights(tiny, tmp_path)
    narrow_one, whole = (
        fingerprint_for(tiny, weights, Settings(device="cpu", precision=precision)) for precision in BOTH
    )
    assert narrow_one.differences(whole) == ["precision: bfloat16 -> float32"]


@pytest.mark.parametrize("held", [None, "float32"])
def test_a_model_of_one_precision_has_its_fingerprint_without_asking_for_a_device(
    tiny: ModelSpec, tmp_path: Path, held: str | None
) -> None:
    assert precision_of(replace(tiny, precisions=("float32",)), tmp_path, held, device="cuda:77") == "float32"


def test_a_device_that_is_not_there_is_an_error_where_it_matters(tiny: ModelSpec, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no device 'cuda:77'"):
        precision_of(tiny, tmp_path, device="cuda:77")


# --- what the processor says


def test_the_flags_are_those_of_the_first_core_as_linux_lists_them() -> None:
    intel = ["processor\t: 0", "flags\t\t: fpu vme amx_bf16", "", "processor\t: 1", "flags\t\t: fpu"]
    arm = ["processor\t: 0", "Features\t: fp asimd bf16"]
    assert _flags(intel) == {"fpu", "vme", "amx_bf16"}
    assert _flags(arm) == {"fp", "asimd", "bf16"}
    assert _flags(["vmx flags\t: vnmi", "model name\t: flags of all nations"]) == set()


def test_where_nobody_says_what_the_processor_can_it_is_taken_to_have_no_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda _path: False)
    assert _processor_flags() == set()


def test_narrowing_touches_the_weights_of_the_products_only() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.Linear(2, 2))
    narrow(module, dtype_of("bfloat16"))
    assert [next(part.parameters()).dtype for part in module] == [torch.bfloat16, torch.float32, torch.bfloat16]
    assert [dtype_of(name) for name in ("float32", "float16")] == [torch.float32, torch.float16]


# --- where


@pytest.mark.parametrize(
    ("setting", "gpus"),
    [
        ("cpu", 0),
        ("cuda", 1),
        ("cuda:3", 1),
        ("cuda:0,cuda:1", 2),
        (" cuda:0 , cuda:1 ,cuda:5", 3),
        ("cpu,cuda:0", 1),
        ("mps", 0),
        ("", 0),
    ],
)
def test_the_gpus_that_a_setting_names_are_counted_without_torch(setting: str, gpus: int) -> None:
    assert expected_gpus(setting) == gpus


def test_auto_expects_the_gpus_that_the_system_has(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [Path("/dev/nvidia0"), Path("/dev/nvidia1")]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(
        Path, "glob", lambda path, pattern: nodes if (str(path), pattern[:6]) == ("/dev", "nvidia") else []
    )
    assert expected_gpus("auto") == 2
    nodes.clear()
    assert expected_gpus("auto") == 0


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("0,1", 2), ("1", 1), ("", 0), ("-1", 0), ("GPU-8932f937,GPU-1", 2), ("0,-1,1", 1), ("0,1,2,3,4", 3)],
)
def test_auto_expects_only_the_gpus_that_may_be_seen(monkeypatch: pytest.MonkeyPatch, visible: str, gpus: int) -> None:
    monkeypatch.setattr(Path, "glob", lambda *_: [Path(f"/dev/nvidia{number}") for number in range(3)])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert expected_gpus("auto") == gpus


def test_auto_is_every_gpu_or_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch, with_bfloat16=True, number=3)
    assert devices_of("auto") == ["cuda:0", "cuda:1", "cuda:2"]
    gpu(monkeypatch, with_bfloat16=True, number=0)
    assert devices_of("auto") == ["cpu"]


@pytest.mark.parametrize(
    ("setting", "devices"),
    [("cpu", ["cpu"]), (" cpu ", ["cpu"]), ("cpu,cpu", ["cpu", "cpu"]), ("cpu, cpu:0,", ["cpu", "cpu:0"])],
)
def test_devices_are_named_one_by_one_with_commas(setting: str, devices: list[str]) -> None:
    assert devices_of(setting) == devices


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("gpu", "gpu"),
        ("cpu,gpu", "gpu"),
        ("cuda:77", "cuda:77"),
        ("cpu:x", "cpu:x"),
        (",", ","),
        ("meta", "meta"),
        ("mps", "mps"),
    ],
)
def test_a_device_that_is_not_there_is_named(setting: str, named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        devices_of(setting)
    assert str(caught.value) == (
        f"there is no device '{named}' here; RADSEARCH_DEVICE is auto, cpu, cuda, cuda:N, or several with commas"
    )


# --- in which words


@pytest.mark.parametrize(
    ("modality", "region", "picture"),
    [
        ("XR", "chest", "chest X-ray"),
        ("DX", "CHEST", "chest X-ray"),
        ("cr", None, "X-ray"),
        ("CT", "UPPER_LEG", "upper leg CT scan"),
        ("MR", "head", "head MRI"),
        ("US", None, "ultrasound image"),
        ("MG", None, "mammogram"),
        ("PT", None, "PET scan"),
        ("OT", "knee", "knee radiology image"),
        (None, None, "radiology image"),
        ("", "", "radiology image"),
    ],
)
def test_a_finding_is_put_in_four_ways(modality: str | None, region: str | None, picture: str) -> None:
    assert prompts_for(" pleural effusion ", modality=modality, region=region) == [
        f"a {picture} showing pleural effusion",
        f"pleural effusion on a {picture}",
        f"{picture}: pleural effusion",
        "pleural effusion",
    ]


@pytest.mark.parametrize("text", ["{picture}", "100 % {finding}", "{0}", "{"])
def test_braces_in_a_finding_are_braces(text: str) -> None:
    assert prompts_for(text)[-1] == text
