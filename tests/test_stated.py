"""What the files of a model state of its preprocessing: read as its library reads it, and held against the row."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from loader_cases import write_json
from PIL import Image

from radsearch.errors import ModelUnavailableError
from radsearch.models import built_in_models
from radsearch.models.preprocessing import prepare
from radsearch.models.stated import refuse_disagreement, stated_preprocessing
from radsearch.models.table import NORMALISATIONS

PROCESSOR, OPEN_CLIP, CONFIG = "preprocessor_config.json", "open_clip_config.json", "config.json"
pytestmark = pytest.mark.slow

WHOLE = {"size", "resize", "interpolation", "mean", "std"}
NEW = {"do_normalize": True, "do_rescale": True, "do_resize": True, "rescale_factor": 0.00392156862745098}
OLD = {"do_normalize": True, "do_resize": True, "size": 224}


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def means(name: str) -> dict[str, list[float]]:
    mean, std = NORMALISATIONS[name]
    return {"image_mean": list(mean), "image_std": list(std)}


def of_processor(kind: str, **says: Any) -> dict[str, Any]:
    """As a hub's file has it: a processor's name, or that of the feature extractor that it was once."""
    key = "feature_extractor_type" if says.pop("old", False) else "image_processor_type"
    return {PROCESSOR: {key: kind, **says}}


def of_open_clip(side: int, **preprocess_cfg: Any) -> dict[str, Any]:
    config = {"embed_dim": 512, "vision_cfg": {"image_size": side}, "text_cfg": {}}
    return {OPEN_CLIP: {"model_cfg": config, "preprocess_cfg": preprocess_cfg}}


def of_timm(**pretrained_cfg: Any) -> dict[str, Any]:
    return {CONFIG: {"architecture": "test_vit", "pretrained_cfg": pretrained_cfg}}


MEAN, STD = NORMALISATIONS["clip"]
CLIP_MEANS = {"mean": MEAN, "std": STD}
CLIP = of_processor(
    "CLIPFeatureExtractor", old=True, **OLD, crop_size=224, do_center_crop=True, resample=3, **means("clip")
)
OPENAI = of_open_clip(224, **CLIP_MEANS)
SIGLIP2 = of_open_clip(384, mean=[0.5] * 3, std=[0.5] * 3, interpolation="bicubic", resize_mode="squash")
MEDSIGLIP = of_processor(
    "SiglipImageProcessor", **{**NEW, "rescale_factor": 0.00392156862}, size=square(448), resample=3, **means("half")
)
BIT = {**NEW, "do_center_crop": True, "do_convert_rgb": True, "resample": 3}
DINOV2 = of_processor(
    "BitImageProcessor", **BIT, size={"shortest_edge": 256}, crop_size=square(224), **means("imagenet")
)
RAD_DINO = of_processor(
    "BitImageProcessor", **BIT, size={"shortest_edge": 518}, crop_size=square(518),
    image_mean=[0.5307] * 3, image_std=[0.2583] * 3,
)  # fmt: skip
DINOV3 = of_processor(
    "DINOv3ViTImageProcessorFast", **NEW, size=square(224), crop_size=None, default_to_square=True, do_center_crop=None,
    resample=2, **means("imagenet"),
)  # fmt: skip
MAE = of_processor("ViTFeatureExtractor", old=True, **OLD, resample=2, **means("imagenet"))
VIT = of_processor("ViTFeatureExtractor", **NEW, size=square(224), resample=2, **means("half"))
RESNET = of_processor("ConvNextFeatureExtractor", old=True, **OLD, crop_pct=0.875, resample=3, **means("imagenet"))
SAM = of_processor(
    "SamImageProcessor", **NEW, do_pad=True, size={"longest_edge": 1024}, pad_size=square(1024), resample=2,
    **means("imagenet"),
)  # fmt: skip
# Row -> the files of its repository that state a preprocessing, as far as they were seen in public.
HUB: dict[str, dict[str, Any]] = {
    "biomedclip": OPENAI,
    "clip-vit-l14": OPENAI | of_timm(input_size=[3, 224, 224], crop_pct=1.0, interpolation="bicubic", **CLIP_MEANS),
    "clip-vit-b32": OPENAI,
    "openclip-vit-h14": OPENAI | CLIP,
    "siglip2-so400m": SIGLIP2,
    "pubmedclip": CLIP,
    "medsiglip": MEDSIGLIP,
    "rad-dino": RAD_DINO,
    "dinov2-vits14": DINOV2,
    "dinov2-vitb14": DINOV2,
    "dinov2-vitl14": DINOV2,
    "dinov3-vitb16": DINOV3,
    "dinov3-vitl16": DINOV3,
    "mae-vitb16": MAE,
    "mae-vitb16-as-published": MAE,
    "vit-b16": VIT,
    "resnet50": RESNET,
    "resnet50-as-published": RESNET,
    "sam-vitb": SAM,
    "sam-vitb-as-published": SAM,
}


def snapshot(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        write_json(folder / name, content)
    return folder


@pytest.fixture
def stated(tmp_path: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Writes the files and gives what they state."""
    return lambda files: stated_preprocessing(snapshot(tmp_path, files))


Stated = Callable[[dict[str, Any]], dict[str, Any]]


def test_every_row_whose_files_state_a_preprocessing_is_held_against_them() -> None:
    read = ("transformers", "open_clip", "timm")
    rows = built_in_models().items()
    assert {name for name, spec in rows if spec.library in read and spec.own_preprocessing} == HUB.keys()


@pytest.mark.parametrize("name", HUB)
def test_a_row_states_what_its_repository_states(tmp_path: Path, name: str) -> None:
    spec = built_in_models()[name]
    folder = snapshot(tmp_path, HUB[name])
    assert stated_preprocessing(folder, spec.library).keys() >= WHOLE
    refuse_disagreement(spec, folder)


@pytest.mark.parametrize("files", [CLIP, DINOV2, RAD_DINO, MAE, RESNET, of_processor("ConvNextImageProcessor")])
def test_what_is_stated_is_what_the_processor_does_pixel_by_pixel(tmp_path: Path, files: dict[str, Any]) -> None:
    folder = snapshot(tmp_path, files)
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    says: dict[str, Any] = stated_preprocessing(folder)
    how = replace(built_in_models()["vit-b16"].preprocessing, crop="floor", **{"shortest_side": says["size"], **says})
    picture = np.random.default_rng(0).integers(0, 256, (301, 224, 3), dtype=np.uint8)
    theirs = processor(images=[Image.fromarray(picture)], return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    ours = (prepare(picture, how) / 255 - np.array(how.mean)) / np.array(how.std)
    assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ViTImageProcessor", (224, "squash", "bilinear", 0.5)),
        ("SiglipImageProcessor", (224, "squash", "bicubic", 0.5)),
        ("CLIPImageProcessor", (224, "shortest", "bicubic", MEAN[0])),
        ("BitImageProcessor", (224, "shortest", "bicubic", MEAN[0])),
        ("ConvNextImageProcessor", (384, "squash", "bicubic", 0.5)),
        ("SamImageProcessor", (1024, "longest", "bilinear", 0.485)),
        ("DINOv3ViTImageProcessorFast", (224, "squash", "bilinear", 0.485)),
    ],
)
def test_a_processor_that_says_nothing_means_its_class_s_defaults(
    stated: Stated, kind: str, expected: tuple[object, ...]
) -> None:
    says = stated(of_processor(kind))
    assert (says["size"], says["resize"], says["interpolation"], says["mean"][0]) == expected


def test_a_size_of_one_number_is_a_square_or_the_shorter_side_as_the_class_has_it(stated: Stated) -> None:
    assert stated(of_processor("ViTImageProcessor", size=96)) == stated(
        of_processor("ViTImageProcessor", size=[96, 96])
    )
    says = stated(of_processor("CLIPFeatureExtractor", old=True, size=256, crop_size=240))
    assert (says["resize"], says["shortest_side"], says["size"]) == ("shortest", 256, 240)


def test_convnext_s_share_of_the_crop_makes_the_shorter_side_below_384(stated: Stated) -> None:
    assert stated(of_processor("ConvNextImageProcessor", size=224, crop_pct=0.95))["shortest_side"] == 235
    assert stated(of_processor("ConvNextImageProcessor", size={"shortest_edge": 224}))["shortest_side"] == 256
    assert "shortest_side" not in stated(of_processor("ConvNextImageProcessor", size=384, crop_pct=0.95))


def test_a_mean_of_one_number_is_meant_for_every_channel(stated: Stated) -> None:
    says = stated(of_processor("ViTImageProcessor", image_mean=0.4, image_std=[0.2]))
    assert (says["mean"], says["std"]) == ((0.4, 0.4, 0.4), (0.2, 0.2, 0.2))


@pytest.mark.parametrize(
    ("steps", "mean", "std"),
    [
        ({"do_normalize": False}, 0.0, 1.0),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3}, 0.5, 0.2),
        ({"do_rescale": False, "do_normalize": False}, 0.0, 1 / 255),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, 0.5, 0.5),
    ],
)
def test_steps_left_out_are_said_as_mean_and_deviation(
    stated: Stated, steps: dict[str, Any], mean: float, std: float
) -> None:
    says = stated(of_processor("ViTImageProcessor", **steps))
    assert says["mean"] == pytest.approx((mean,) * 3)
    assert says["std"] == pytest.approx((std,) * 3)


def test_a_processor_that_does_not_resize_states_no_size(stated: Stated) -> None:
    assert stated(of_processor("ViTImageProcessor", do_resize=False)).keys() == {"mean", "std"}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (of_processor("ViTImageProcessor", size={"height": 96, "width": 64}), "to {'height': 96, 'width': 64}"),
        (of_processor("CLIPImageProcessor", do_center_crop=False), "shortest to 224, not cropped"),
        (of_processor("SamImageProcessor", do_pad=False), "to {'longest_edge': 1024}"),
        (of_open_clip(224, resize_mode="longest"), "longest, centred in a square"),
        (of_timm(crop_mode="squash"), "squash to 256, then cropped to 224"),
        (of_timm(crop_mode="border"), "longest, with a border"),
        (of_timm(input_size=[3, 96, 64]), "to {'height': 96, 'width': 64}"),
    ],
)
def test_a_way_to_resize_that_no_row_can_have_is_said_in_words(
    tmp_path: Path, stated: Stated, files: dict[str, Any], words: str
) -> None:
    assert stated(files)["resize"] == words
    library = "transformers" if PROCESSOR in files else "open_clip" if OPEN_CLIP in files else "timm"
    with pytest.raises(ModelUnavailableError, match=re.escape(f"resize {words} (the row: ")):
        refuse_disagreement(replace(built_in_models()["vit-b16"], library=library), tmp_path)


def test_a_processor_of_a_name_unknown_is_taken_at_its_word(stated: Stated) -> None:
    says = stated(of_processor("NobodyKnows", image_mean=[0.1] * 3, image_std=[0.2] * 3))
    assert says == {"mean": (0.1,) * 3, "std": (0.2,) * 3}
    assert stated(of_processor("NobodyKnows", size=square(96))) == {"size": 96, "resize": "squash"}


def test_a_processor_without_a_name_is_the_one_of_its_model(stated: Stated) -> None:
    says = stated({PROCESSOR: {"size": 256}, CONFIG: {"model_type": "clip"}})
    assert (says["shortest_side"], says["size"], says["mean"]) == (256, 224, pytest.approx(MEAN))


def test_a_processor_inside_another_goes_first_as_in_transformers(stated: Stated) -> None:
    inner = {"image_processor": {"image_processor_type": "ViTImageProcessor", "size": 96}}
    assert stated({"processor_config.json": inner, **CLIP})["size"] == 96


def test_what_open_clip_is_not_told_it_takes_from_its_own_defaults(stated: Stated) -> None:
    expected = {"size": 240, "shortest_side": 240, "resize": "shortest", "interpolation": "bicubic", **CLIP_MEANS}
    assert stated(of_open_clip(240)) == expected
    assert stated(of_open_clip(240, size=336, mean=None)) == expected  # the network's size counts


def test_timm_s_share_of_the_crop_makes_the_shorter_side_rounded_down(stated: Stated) -> None:
    says = stated(of_timm(input_size=[3, 224, 224], crop_pct=0.95, mean=[0.5] * 3, std=[0.5] * 3))
    assert (says["shortest_side"], says["resize"], says["interpolation"]) == (235, "shortest", "bicubic")
    assert says["mean"] == (0.5, 0.5, 0.5)


def test_the_older_form_of_timm_s_file_is_read_and_its_defaults_are_timm_s(stated: Stated) -> None:
    says = stated({CONFIG: {"architecture": "resnet50", "input_size": [3, 96, 96], "interpolation": "bilinear"}})
    assert (says["size"], says["shortest_side"], says["interpolation"]) == (96, 109, "bilinear")
    assert says["mean"] == NORMALISATIONS["imagenet"][0]


def test_a_folder_that_states_nothing_is_fine(tmp_path: Path) -> None:
    for name in ("pubmedclip", "clip-vit-b32"):
        refuse_disagreement(built_in_models()[name], tmp_path)
    assert stated_preprocessing(snapshot(tmp_path, {CONFIG: {"model_type": "vit"}})) == {}


def test_a_disagreement_is_refused_field_by_field_with_the_way_out(tmp_path: Path) -> None:
    spec = built_in_models()["pubmedclip"]
    snapshot(tmp_path, CLIP)
    other = {**CLIP[PROCESSOR], "size": 256, "crop_size": 240, "resample": 2, "image_mean": [0.5, *MEAN[1:]]}
    with pytest.raises(ModelUnavailableError) as refused:
        refuse_disagreement(spec, snapshot(tmp_path, {PROCESSOR: other}))
    for words in (
        "size 240 (the row: 224)",
        "shortest_side 256 (the row: 224)",
        "interpolation bilinear (the row: bicubic)",
        "mean 0.5/0.45783/0.40821 (the row: 0.48145/0.45783/0.40821)",
        'in a row of your own with like = "pubmedclip"',
        "own_preprocessing = false",
    ):
        assert words in str(refused.value)
    assert "std" not in str(refused.value)


def test_a_row_may_depart_on_purpose_and_a_user_s_own_row_can_be_mended(tmp_path: Path) -> None:
    spec = built_in_models()["pubmedclip"]
    snapshot(tmp_path, of_processor("CLIPImageProcessor", resample=2))
    refuse_disagreement(replace(spec, own_preprocessing=False), tmp_path)
    with pytest.raises(ModelUnavailableError, match=r"in models\.toml, in its row, give the right values"):
        refuse_disagreement(replace(spec, weights=f"path:{tmp_path}"), tmp_path)


def test_only_the_files_of_the_row_s_own_library_count(tmp_path: Path) -> None:
    spec = built_in_models()["clip-vit-b32"]
    refuse_disagreement(spec, snapshot(tmp_path, of_processor("CLIPImageProcessor", resample=2)))
    snapshot(tmp_path, of_open_clip(96))
    refuse_disagreement(replace(spec, library="medclip"), tmp_path)
    with pytest.raises(ModelUnavailableError, match=r"size 96 \(the row: 224\)"):
        refuse_disagreement(spec, tmp_path)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / PROCESSOR).write_text("{", encoding="utf-8")
    with pytest.raises(ModelUnavailableError, match=r"preprocessor_config\.json is no JSON"):
        stated_preprocessing(tmp_path)


def test_reading_what_is_stated_needs_no_heavy_import() -> None:
    look = "import sys, radsearch.models.stated; print({'torch', 'transformers', 'timm', 'open_clip'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("library", "files"),
    [
        ("transformers", {PROCESSOR: {"do_resize": True, "size": 8, "resample": "bicubic"}}),
        ("transformers", {PROCESSOR: {"do_resize": True, "size": 8, "resample": 77}}),
        (
            "transformers",
            {PROCESSOR: {"do_resize": True, "size": 8, "do_center_crop": True, "crop_size": {"shortest_edge": 8}}},
        ),
        ("transformers", {"processor_config.json": {"image_processor": "X"}}),
        ("open_clip", {OPEN_CLIP: {"model_cfg": {"embed_dim": 4}}}),
        ("open_clip", {OPEN_CLIP: {"model_cfg": 3}}),
        ("open_clip", {OPEN_CLIP: {"model_cfg": {"vision_cfg": {}}, "preprocess_cfg": {"resize_mode": "twist"}}}),
    ],
)
def test_what_is_not_understood_is_an_error_that_says_what_to_do(
    tmp_path: Path, library: str, files: dict[str, Any]
) -> None:
    for name, content in files.items():
        write_json(tmp_path / name, content)
    spec = replace(built_in_models()["rad-dino"], library=library)
    with pytest.raises(ModelUnavailableError) as caught:
        refuse_disagreement(spec, tmp_path)
    assert "rad-dino" in str(caught.value)
    assert "own_preprocessing = false" in str(caught.value)
    assert "\n" not in str(caught.value)
