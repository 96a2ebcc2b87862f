"""The table of models: every row of ours is whole, and whoever adds one of their own is told what is wrong with it."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from radsearch.__main__ import main
from radsearch.errors import RadSearchError, SettingsError, UnknownNameError
from radsearch.models import ModelSpec, Preprocessing, built_in_models, find_model, models_of, weights_are_here
from radsearch.models.table import LIBRARIES, NORMALISATIONS
from radsearch.models.weights import find_weights

ROOT = Path(__file__).parents[1]
OURS = built_in_models()
HEAVY = ("torch", "torchvision", "transformers", "open_clip", "timm", "qdrant_client", "streamlit")

# Name -> the length of its vector and the side of its input, as the papers and the libraries state them.
OF_THE_PAPER = {
    "biomedclip": (512, 224),
    "clip-vit-l14": (768, 224),
    "medclip": (512, 224),
    "dinov2-vitb14": (768, 224),
    "mae-vitb16": (768, 224),
    "vit-b16": (768, 224),
    "resnet50": (2048, 224),
    "sam-vitb": (256, 1024),
    "medsam-vitb": (256, 1024),
}
# What was wrong in the paper, and nothing else: the key, as it should be, as it was.
HANDICAPS = {
    "mae-vitb16": {"config": ((("mask_ratio", 0.0),), (("mask_ratio", 0.75),))},
    "resnet50": {"pooling": ("pooled", "logits"), "dimension": (2048, 1000)},
    "sam-vitb": {"pooling": ("mean of the last feature map without padding", "mean of the last feature map")},
    "medclip": {"resize": ("square", "squash")},
    "medsam-vitb": {
        "resize": ("squash", "longest"),
        "interpolation": ("bicubic", "bilinear"),
        "scale": ("min-max", "byte"),
        "mean": ((0.0, 0.0, 0.0), (0.485, 0.456, 0.406)),
        "std": ((1.0, 1.0, 1.0), (0.229, 0.224, 0.225)),
    },
}

WHOLE = """
[mine]
path = "weights"
library = "timm"
size = 192
normalise = "imagenet"
pooling = "class token"
dimension = 10
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a user's `models.toml`; returns the settings folder."""

    def write(text: str) -> Path:
        folder = tmp_path / "settings"
        folder.mkdir(exist_ok=True)
        (folder / "models.toml").write_text(text, encoding="utf-8")
        return folder

    return write


def all_of(spec: ModelSpec) -> dict[str, object]:
    """All that a row says, flat, but for what it is called and told."""
    said = asdict(spec)
    return {**said.pop("preprocessing"), **{k: v for k, v in said.items() if k not in {"name", "notes", "shares"}}}


# --- ours


def test_there_are_at_least_22_models_and_the_nine_of_the_paper_among_them() -> None:
    assert len(OURS) >= 22
    assert {name: (OURS[name].dimension, OURS[name].preprocessing.size) for name in OF_THE_PAPER} == OF_THE_PAPER


@pytest.mark.parametrize("name", OURS)
def test_a_row_of_ours_is_whole(name: str) -> None:
    spec = OURS[name]
    assert spec.name == name
    assert spec.library in LIBRARIES or (spec.library == "joined" and len(spec.joins) > 1)
    assert sum(spec.parts) == spec.dimension
    assert spec.family in {"supervised", "self-supervised", "weakly supervised", "segmentation"}
    assert spec.licence != "unknown"
    assert spec.trained_on
    assert spec.source.startswith("https://")
    assert spec.pooling
    assert "float32" in spec.precisions  # the one that runs everywhere
    assert spec.text == bool(spec.context)
    assert spec.gated == (spec.licence in {"HAI-DEF terms", "DINOv3 licence"})
    assert not spec.text_tower or re.fullmatch(r"[\w-]+/[\w.-]+@[0-9a-f]{40}", spec.text_tower)


@pytest.mark.parametrize("name", OURS)
def test_the_weights_of_a_row_of_ours_are_pinned(name: str) -> None:
    spec = OURS[name]
    if spec.scheme == "hub":
        assert re.fullmatch(r"[\w-]+/[\w.-]+", spec.repository)
        assert re.fullmatch("[0-9a-f]{40}", spec.revision)
    elif spec.scheme == "url":
        assert spec.repository.startswith("https://")
        assert re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", spec.revision)
        assert spec.files  # what of it is kept, under which name
    else:
        assert spec.scheme == "package"
        assert re.fullmatch(r"[a-z0-9_]+", spec.repository)
        assert re.fullmatch(r"\d+\.\d+\.\d+", spec.revision)


@pytest.mark.parametrize("name", OURS)
def test_the_preprocessing_of_a_row_of_ours_makes_sense(name: str) -> None:
    how = OURS[name].preprocessing
    assert 224 <= how.size <= how.shortest_side <= 1024
    assert how.resize == "shortest" or how.shortest_side == how.size
    assert how.crop == ("floor" if OURS[name].library == "transformers" else "round")
    assert all(0 <= mean < 1 for mean in how.mean)
    assert all(0 < deviation <= 1 for deviation in how.std)


def test_no_two_rows_of_ours_say_the_same() -> None:
    said = [str(sorted(all_of(spec).items())) for spec in OURS.values()]
    assert len(set(said)) == len(OURS)


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_has_its_loader(library: str) -> None:
    assert importlib.util.find_spec(f"radsearch.models.loaders.{library}") is not None


def test_the_five_handicapped_models_of_the_paper_come_both_ways_and_no_other_does() -> None:
    assert {name for name in OURS if name.endswith("-as-published")} == {f"{name}-as-published" for name in HANDICAPS}


@pytest.mark.parametrize("name", HANDICAPS)
def test_as_published_differs_in_the_handicap_only(name: str) -> None:
    corrected, published = OURS[name], OURS[f"{name}-as-published"]
    before, after = all_of(corrected), all_of(published)
    assert {key: (before[key], after[key]) for key in before if before[key] != after[key]} == HANDICAPS[name]
    assert published.shares == published.folder_name == name
    assert corrected.notes.startswith("Corrected: ")
    assert published.notes.startswith("As in Denner et al.: ")


# --- a row of one's own


def test_a_row_with_a_path_is_a_model(written: Callable[[str], Path]) -> None:
    folder = written(WHOLE)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert models_of(folder) == {
        **OURS,
        "mine": ModelSpec(
            name="mine",
            family="own",
            library="timm",
            weights=f"path:{folder / 'weights'}",
            revision="",
            preprocessing=Preprocessing(192, "squash", 192, "bicubic", mean, std, "round", "byte"),
            pooling="class token",
            dimension=10,
        ),
    }


def test_every_key_is_taken_over(written: Callable[[str], Path]) -> None:
    folder = written("""
        [mine]
        family = "supervised"
        library = "transformers"
        weights = "hub:my/model"
        revision = "0123456789abcdef0123456789abcdef01234567"
        files = ["a.safetensors", "b.safetensors"]
        text_tower = "my/text@0123456789abcdef0123456789abcdef01234567"
        size = 100
        resize = "shortest"
        shortest_side = 120
        interpolation = "bilinear"
        crop = "round"
        scale = "min-max"
        mean = [0, 0.25, 0.5]
        std = [1, 2, 0.5]
        pooling = "logits"
        dimension = 3
        text = true
        context = 5
        precisions = ["float16", "float32"]
        licence = "mine"
        gated = true
        trained_on = ["all of it"]
        source = "https://example.org"
        own_preprocessing = false
        config = { layers = 3, bias = false, act = "relu", eps = 0.5 }
        notes = "Good."
    """)
    assert models_of(folder)["mine"] == ModelSpec(
        name="mine",
        family="supervised",
        library="transformers",
        weights="hub:my/model",
        revision="0123456789abcdef0123456789abcdef01234567",
        preprocessing=Preprocessing(
            100, "shortest", 120, "bilinear", (0, 0.25, 0.5), (1, 2, 0.5), crop="round", scale="min-max"
        ),
        pooling="logits",
        dimension=3,
        text=True,
        context=5,
        text_tower="my/text@0123456789abcdef0123456789abcdef01234567",
        files=("a.safetensors", "b.safetensors"),
        precisions=("float16", "float32"),
        licence="mine",
        gated=True,
        trained_on=("all of it",),
        source="https://example.org",
        own_preprocessing=False,
        config=(("act", "relu"), ("bias", False), ("eps", 0.5), ("layers", 3)),
        notes="Good.",
    )


@pytest.mark.parametrize(
    ("stated", "meant"),
    [
        ("weights", "{settings}/weights"),
        ("../weights", "{above}/weights"),
        ("/somewhere/weights", "/somewhere/weights"),
        ("~/weights", "{home}/weights"),
    ],
)
def test_a_path_is_relative_to_the_table(
    written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stated: str, meant: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir("/")
    folder = written(WHOLE.replace('"weights"', f'"{stated}"'))
    expected = Path(meant.format(settings=folder, above=tmp_path, home=tmp_path / "home"))
    assert models_of(folder)["mine"].folder == expected


def test_a_model_of_ones_own_is_found_in_its_folder(written: Callable[[str], Path]) -> None:
    folder = written(WHOLE)
    spec = models_of(folder)["mine"]
    assert not weights_are_here(spec, None)
    (folder / "weights").mkdir()
    (folder / "weights" / "model.safetensors").write_bytes(b"x")
    assert not weights_are_here(spec, None)  # without its description no architecture can be built
    (folder / "weights" / "config.json").write_bytes(b"{}")
    assert weights_are_here(spec, None)
    assert find_weights(spec, folder / "nothing").files == (folder / "weights" / "model.safetensors",)


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_normalise_stands_for_mean_and_std(written: Callable[[str], Path], name: str) -> None:
    how = models_of(written(WHOLE.replace("imagenet", name)))["mine"].preprocessing
    assert (how.mean, how.std) == NORMALISATIONS[name]


@pytest.mark.parametrize(("library", "crop"), [("transformers", "floor"), ("open_clip", "round"), ("timm", "round")])
def test_the_crop_is_the_librarys_own_where_none_is_stated(
    written: Callable[[str], Path], library: str, crop: str
) -> None:
    assert models_of(written(WHOLE.replace("timm", library)))["mine"].preprocessing.crop == crop


def test_a_row_like_another_takes_over_all_that_it_does_not_state(written: Callable[[str], Path]) -> None:
    spec = models_of(written('[mine]\nlike = "dinov2-vitb14"\npooling = "mean of the patches"\nlicence = "other"'))[
        "mine"
    ]
    before, after = all_of(OURS["dinov2-vitb14"]), all_of(spec)
    assert {key: after[key] for key in before if before[key] != after[key]} == {
        "pooling": "mean of the patches",
        "licence": "other",
    }


def test_a_row_like_another_shares_its_weights(written: Callable[[str], Path], tmp_path: Path) -> None:
    rows = models_of(written('[mine]\nlike = "dinov2-vitb14"\n[also]\nlike = "mine"\nsize = 256'))
    fetched = tmp_path / "models" / "dinov2-vitb14" / "model.safetensors"
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(b"x")
    fetched.with_name("config.json").write_bytes(b"{}")
    for name in ("mine", "also"):
        assert rows[name].shares == "dinov2-vitb14"
        assert find_weights(rows[name], tmp_path / "models").files == (fetched,)


@pytest.mark.parametrize(("key", "value"), [("weights", "hub:my/model"), ("path", "/weights")], ids=["weights", "path"])
def test_a_row_like_another_with_weights_of_its_own_shares_none(
    written: Callable[[str], Path], key: str, value: str
) -> None:
    revision = 'revision = "0123456789abcdef0123456789abcdef01234567"'
    rows = models_of(written(f'[mine]\nlike = "dinov2-vitb14"\n{key} = "{value}"\n{revision}\n[also]\nlike = "mine"'))
    assert (rows["mine"].shares, rows["mine"].folder_name) == ("", "mine")
    assert (rows["also"].shares, rows["also"].folder_name) == ("mine", "mine")


@pytest.mark.parametrize(
    ("base", "stated", "size", "shortest_side"),
    [
        ("biomedclip", "size = 448", 448, 448),  # 224 and 224: they belong together
        ("dinov2-vitb14", "size = 112", 112, 256),  # 224 and 256: they do not
        ("dinov2-vitb14", "size = 448\nshortest_side = 512", 448, 512),
        ("biomedclip", "shortest_side = 256", 224, 256),
    ],
)
def test_the_shortest_side_follows_the_size_where_they_were_one(
    written: Callable[[str], Path], base: str, stated: str, size: int, shortest_side: int
) -> None:
    how = models_of(written(f'[mine]\nlike = "{base}"\n{stated}'))["mine"].preprocessing
    assert (how.size, how.shortest_side) == (size, shortest_side)


def test_config_adds_to_that_of_the_row_it_is_like(written: Callable[[str], Path]) -> None:
    spec = models_of(written('[mine]\nlike = "mae-vitb16"\nconfig = { hidden_act = "relu" }'))["mine"]
    assert spec.config == (("hidden_act", "relu"), ("mask_ratio", 0.0))


# --- and what is wrong with it


def refused(folder: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        models_of(folder)
    message = str(caught.value)
    assert message.startswith(str(folder / "models.toml"))
    assert "\n" not in message
    return message


@pytest.mark.parametrize("text", ["[mine\n", "[mine]\nsize = \n", "[mine]\nsize = 1\nsize = 2\n"])
def test_a_file_that_is_no_toml_is_named(written: Callable[[str], Path], text: str) -> None:
    assert "cannot be read: " in refused(written(text))


def test_a_file_that_is_no_text_is_named(written: Callable[[str], Path]) -> None:
    folder = written("")
    (folder / "models.toml").write_bytes(b"\xff\xfe[mine]")
    assert "cannot be read: " in refused(folder)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("dimensions = 4", "unknown key 'dimensions' (did you mean 'dimension'?)"),
        ("colour = 4", "unknown key 'colour'"),
        ('shares = "x"', "unknown key 'shares'"),
        ('name = "x"', "unknown key 'name'"),
        ('size = "224"', "size has to be a whole number"),
        ("size = 224.0", "size has to be a whole number"),
        ("size = true", "size has to be a whole number"),
        ("dimension = true", "dimension has to be a whole number"),
        ("context = false", "context has to be a whole number"),
        ("text = 1", "text has to be true or false"),
        ('gated = "no"', "gated has to be true or false"),
        ("licence = 3", "licence has to be a text"),
        ("path = 3", "path has to be a text"),
        ('mean = "imagenet"', "mean has to be a list"),
        ('precisions = "float32"', "precisions has to be a list"),
        ("files = [1]", "files is a list of texts"),
        ("trained_on = [[]]", "trained_on is a list of texts"),
        ('config = "mask_ratio"', "config has to be a table"),
        ('library = "keras"', "library is one of efficientnet_lite, "),
        ('library = "Timm"', "library is one of efficientnet_lite, "),
        ('resize = "crop"', "resize is one of squash, shortest, square, longest, not 'crop'"),
        ('interpolation = "nearest"', "interpolation is one of bilinear, bicubic, not 'nearest'"),
        ('crop = "centre"', "crop is one of round, floor, not 'centre'"),
        ('scale = "bytes"', "scale is one of byte, min-max, not 'bytes'"),
        ('normalise = "imagenet1k"', "normalise is one of clip, imagenet, half, none, not 'imagenet1k'"),
        ("mean = [0.5, 0.5]", "mean is three numbers"),
        ("mean = [0.5, 0.5, 0.5, 0.5]", "mean is three numbers"),
        ('mean = [0.5, "0.5", 0.5]', "mean is three numbers"),
        ("std = [0.5, true, 0.5]", "std is three numbers"),
        ("std = [0.5, 0, 0.5]", "std has to be above 0"),
        ("std = [0.5, -0.5, 0.5]", "std has to be above 0"),
        ("std = [0.5, nan, 0.5]", "std has to be above 0"),
        ("shortest_side = 100", "shortest_side has to be 224 (size) or more, not 100"),
        ("size = 0", "size and dimension have to be 1 or more"),
        ("dimension = -1", "size and dimension have to be 1 or more"),
        ('precisions = ["float8"]', "precisions are some of float32, bfloat16, float16"),
        ("precisions = []", "precisions are some of float32, bfloat16, float16"),
        ('weights = "s3:bucket"', "weights begin with one of package:, hub:, url:, path:"),
        ('weights = "my/model"', "weights begin with one of package:, hub:, url:, path:"),
        ('weights = "hub:"', "weights begin with one of package:, hub:, url:, path:"),
        ("text = true\ncontext = 0", "context is 1 or more tokens, for a model with text"),
    ],
)
def test_a_value_that_is_no_use_is_named_with_its_key(written: Callable[[str], Path], stated: str, said: str) -> None:
    folder = written(f'[good]\nlike = "resnet50"\n[bad]\nlike = "resnet50"\n{stated}')
    assert f"models.toml, model 'bad': {said}" in refused(folder)


@pytest.mark.parametrize(
    ("key", "stated"),
    [
        ("revision", 'weights = "hub:my/model"\nrevision = ""'),
        ("files", 'path = "weights"\nfiles = ["../../secret.bin"]'),
        ("files", 'path = "weights"\nfiles = ["/etc/passwd"]'),
        ("revision", 'weights = "hub:my/model"\nrevision = "main"'),
        ("revision", 'weights = "url:https://example.org/m.pth"\nfiles = ["m.pth"]\nrevision = ""'),
        ("revision", 'weights = "url:https://example.org/m.pth"\nfiles = ["m.pth"]\nrevision = "0123"'),
        ("files", f'weights = "url:https://example.org/m.pth"\nrevision = "md5:{"0" * 32}"'),
        ("text_tower", 'text_tower = "my/text"'),
        ("mean", "mean = [0.5, nan, 0.5]"),
        ("std", "std = [0.5, inf, 0.5]"),
        ("context", "context = -1"),
        ("config", "config = { layers = [1, 2] }"),
    ],
)
def test_a_value_that_would_fail_later_is_refused_at_once(
    written: Callable[[str], Path], key: str, stated: str
) -> None:
    message = refused(written(f'[bad]\nlike = "resnet50"\n{stated}'))
    assert key in message.partition("model 'bad': ")[2]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("library", "library is missing"),
        ("path", "path (or weights) is missing"),
        ("size", "size is missing"),
        ("pooling", "pooling is missing"),
        ("dimension", "dimension is missing"),
        ("normalise", "normalise is missing: one of clip, imagenet, half, none, or mean and std"),
    ],
)
def test_a_key_that_is_missing_is_named(written: Callable[[str], Path], key: str, said: str) -> None:
    lines = [line for line in WHOLE.splitlines() if not line.startswith(key)]
    assert refused(written("\n".join(lines))).endswith(f"model 'mine': {said}")


@pytest.mark.parametrize("stated", ["mean = [0, 0, 0]", "std = [1, 1, 1]"])
def test_a_mean_without_its_deviation_is_half_a_normalisation(written: Callable[[str], Path], stated: str) -> None:
    assert "normalise is missing" in refused(written(WHOLE.replace('normalise = "imagenet"', stated)))


def test_a_row_like_one_that_is_not_there_is_told_the_nearest(written: Callable[[str], Path]) -> None:
    message = refused(written('[mine]\nlike = "dinov2-vitb-14"'))
    assert "model 'mine': " in message
    assert "unknown model 'dinov2-vitb-14' (did you mean 'dinov2-vitb14'?); known are: biomedclip, " in message


def test_a_row_is_like_one_further_up_only(written: Callable[[str], Path]) -> None:
    assert "unknown model 'below'" in refused(written('[mine]\nlike = "below"\n[below]\nlike = "resnet50"'))
    assert "unknown model 'mine'" in refused(written('[mine]\nlike = "mine"'))


def test_a_row_is_like_one_other(written: Callable[[str], Path]) -> None:
    message = refused(written('[mine]\nlike = ["biomedclip", "resnet50"]'))
    assert message.endswith("model 'mine': like has to be a text")


def test_what_is_no_row_is_named(written: Callable[[str], Path]) -> None:
    assert refused(written("mine = 3")).endswith("model 'mine': a model is a table: [mine]")


@pytest.mark.parametrize("name", ["a/b", "../up", ".hidden", "..", "", "a b", "a\\\\b", "a:b", "a@b", "a\\u0000b"])
def test_a_name_that_is_no_folders_name_is_refused(written: Callable[[str], Path], name: str) -> None:
    message = refused(written(f'["{name}"]\nlike = "resnet50"'))
    assert message.endswith(": a name has letters, digits, '-', '_', '+' and '.' only")


@pytest.mark.parametrize(
    ("change", "folder"),
    [("", "resnet50"), (f'revision = "{"f" * 40}"', "mine"), ("pooling = 'logits'", "resnet50")],
)
def test_a_row_at_another_commit_has_a_folder_of_its_own(
    written: Callable[[str], Path], change: str, folder: str
) -> None:
    spec = models_of(written(f'[mine]\nlike = "resnet50"\n{change}'))["mine"]
    assert spec.folder_name == folder
    assert (spec.weights, spec.files) == (OURS["resnet50"].weights, OURS["resnet50"].files)


def test_an_address_that_is_none_is_refused(written: Callable[[str], Path]) -> None:
    row = f'[mine]\nlike = "resnet50"\nweights = "url:https://[x/y.zip"\nrevision = "md5:{"0" * 32}"\nfiles = ["a"]'
    assert ", model 'mine': weights: " in refused(written(row))


@pytest.mark.parametrize("name", ["a" * 201, "ü" * 101])
def test_a_name_too_long_for_a_folder_is_refused(written: Callable[[str], Path], name: str) -> None:
    assert refused(written(f'["{name}"]\nlike = "resnet50"')).endswith(": a name has at most 200 letters")
    assert "a" * 200 in models_of(written(f'["{"a" * 200}"]\nlike = "resnet50"'))


@pytest.mark.parametrize("path", ["~nobody-of-that-name/x", "a\\u0000b"])
def test_a_path_that_is_none_is_refused(written: Callable[[str], Path], path: str) -> None:
    text = f'library = "timm"\nsize = 8\nnormalise = "half"\npooling = "class token"\ndimension = 4\npath = "{path}"'
    assert ", model 'mine': path: " in refused(written(f"[mine]\n{text}"))


@pytest.mark.parametrize("module", [".x", "a..b", "a-b", "a b"])
def test_a_package_that_can_have_no_such_name_is_refused(written: Callable[[str], Path], module: str) -> None:
    message = refused(written(f'[mine]\nlike = "resnet50"\nweights = "package:{module}"'))
    assert message.endswith(": weights from a package are package:MODULE")


@pytest.mark.parametrize("address", ["https://a.org/x.pth", "https://a.org/x.pth?file=x.zip"])
def test_an_address_that_is_no_archive_gives_one_file(written: Callable[[str], Path], address: str) -> None:
    row = f'[mine]\nlike = "resnet50"\nweights = "url:{address}"\nrevision = "md5:{"0" * 32}"\nfiles = '
    assert refused(written(row + '["a", "b"]')).endswith(": an address that is no .zip archive gives one file")
    assert models_of(written(row + '["a"]'))["mine"].files == ("a",)
    archive = row.replace(address, "https://a.org/x.ZIP?download=1")
    assert models_of(written(archive + '["a", "b"]'))["mine"].is_archive


@pytest.mark.parametrize("name", ["resnet50", "efficientnet-lite0", "medclip-as-published"])
def test_a_name_of_ours_is_not_for_taking(written: Callable[[str], Path], name: str) -> None:
    message = refused(written(f'[{name}]\nlike = "biomedclip"'))
    assert message.endswith(f"model '{name}': a model that comes with radsearch has this name; choose another one")


# --- finding a row


def test_without_a_table_of_ones_own_there_are_ours(tmp_path: Path, written: Callable[[str], Path]) -> None:
    assert models_of(None) == models_of(tmp_path / "nowhere") == models_of(written("")) == OURS


def test_the_settings_folder_may_lie_in_the_home_folder(
    written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(written(WHOLE).parent))
    assert "mine" in models_of(Path("~/settings"))


def test_a_model_is_found_by_its_name(written: Callable[[str], Path]) -> None:
    assert find_model("resnet50") == OURS["resnet50"]
    assert find_model("mine", written(WHOLE)).dimension == 10


@pytest.mark.parametrize(
    ("misspelt", "nearest"), [("dinov2-b14", "dinov2-vitb14"), ("ResNet50", "resnet50"), ("biomed-clip", "biomedclip")]
)
def test_a_misspelt_name_is_answered_with_the_nearest(misspelt: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown model '{misspelt}' \\(did you mean '{nearest}'\\?\\)"):
        find_model(misspelt)


def test_a_fault_in_ones_own_table_is_an_error_even_when_another_model_is_asked_for(
    written: Callable[[str], Path],
) -> None:
    with pytest.raises(RadSearchError, match="model 'mine': library is missing"):
        find_model("resnet50", written("[mine]\nsize = 3"))


# --- the commands


@pytest.mark.slow
def test_models_list_shows_a_row_a_model_and_imports_no_heavy_library(written: Callable[[str], Path]) -> None:
    script = (
        "import sys; from radsearch.__main__ import main; code = main(['models', 'list']);"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    folder = written(WHOLE + 'trained_on = ["ours", "theirs"]\nlicence = "secret"')
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "RADSEARCH_SETTINGS": str(folder), "HF_HOME": str(folder / "hub")},
    )
    assert done.stderr == "[]\n"
    heading, *rows = [re.split(" {2,}", line) for line in done.stdout.splitlines()]
    assert heading == ["name", "family", "dimension", "input", "text", "licence", "trained on", "weights"]
    assert [row[0] for row in rows] == [*OURS, "mine"]
    assert all(len(row) == len(heading) for row in rows)
    shown = {row[0]: row[1:] for row in rows}
    assert shown["mine"] == ["own", "10", "192 px", "no", "secret", "ours, theirs", "missing"]
    assert shown["efficientnet-lite0"][-1] == "here"
    assert shown["dinov3-vitb16"][-1] == "gated"
    assert shown["biomedclip"] == ["weakly supervised", "512", "224 px", "yes", "MIT", "PMC-15M", "to be fetched"]


def test_models_show_says_all_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "resnet50"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "name: resnet50",
        "family: supervised",
        "library: transformers",
        "weights: hub:microsoft/resnet-50",
        "revision: 34c2154c194f829b11125337b98c8f5f9965ff19",
        "pooling: pooled",
        "dimension: 2048",
        "text: False",
        "context: 0",
        "precisions: float32",
        "licence: Apache-2.0",
        "gated: False",
        "trained_on: ImageNet-1k",
        "source: https://arxiv.org/abs/1512.03385",
        "own_preprocessing: True",
        "notes: Corrected: the 2,048 pooled features.",
        "size: 224",
        "resize: shortest",
        "shortest_side: 256",
        "interpolation: bicubic",
        "mean: 0.485, 0.456, 0.406",
        "std: 0.229, 0.224, 0.225",
        "crop: floor",
        "scale: byte",
    ]


def test_models_show_knows_a_model_of_ones_own(
    written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(WHOLE)
    monkeypatch.setenv("RADSEARCH_SETTINGS", str(folder))
    assert main(["models", "show", "mine"]) == 0
    assert f"weights: path:{folder / 'weights'}" in capsys.readouterr().out.splitlines()


def test_models_show_says_a_misspelt_name_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "resnet"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("radsearch: unknown model 'resnet' (did you mean 'resnet50'?)")
    assert said.err.count("\n") == 1
