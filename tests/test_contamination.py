"""What a model has seen in training: by any of a data set's names, and never taken as clean where nobody knows."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.collection import Collection, Image
from evaluation.contamination import Training, seen_in_training


def of_model(model: str, *datasets: str | None) -> Collection:
    images = [
        Image(str(number), "p", ("x",), {} if name is None else {"dataset": name})
        for number, name in enumerate(datasets)
    ]
    return Collection(images, np.ones((len(images), 1), np.float32), "here", {"model": model})


def test_data_sets_that_a_model_was_trained_on_are_named(tmp_path: Path) -> None:
    held = of_model("radimagenet-resnet50", "radimagenet", "nih14", "RadImageNet")
    assert seen_in_training(held, [0, 1, 2], tmp_path) == Training(["RadImageNet", "radimagenet"], 0)
    assert seen_in_training(held, [1], tmp_path) == Training([], 0)


@pytest.mark.parametrize(
    ("model", "dataset"),
    [
        ("rad-dino", "NIH"),
        ("rad-dino", "nih14"),
        ("rad-dino", "ChestMNIST"),
        ("rad-dino", "chestmnist_224"),
        ("rad-dino", "NIH ChestX-ray"),
        ("rad-dino", "mimic-cxr-jpg-2.0.0"),
        ("radimagenet-resnet50", "RadImageNet_split"),
        ("rad-dino", "MIMIC-CXR-JPG"),
        ("rad-dino", "mimic"),
        ("rad-dino", "CheXpert-v1.0-small"),
        ("radimagenet-resnet50", "radiology_ai"),
    ],
)
def test_a_data_set_is_known_by_each_of_its_names(tmp_path: Path, model: str, dataset: str) -> None:
    assert seen_in_training(of_model(model, dataset), [0], tmp_path) == Training([dataset], 0)


def test_a_model_that_no_table_knows_is_not_clean(tmp_path: Path) -> None:
    assert seen_in_training(of_model("their own", "nih14", "own"), [0, 1], tmp_path) == Training(None, 2)


def test_images_that_state_no_data_set_are_not_clean(tmp_path: Path) -> None:
    held = of_model("radimagenet-resnet50", None, "radimagenet", None, "own")
    assert seen_in_training(held, [0, 1, 2, 3], tmp_path) == Training(["radimagenet"], 2)


def test_a_list_that_does_not_name_all_clears_no_other_data_set(tmp_path: Path) -> None:
    held = of_model("medimageinsight", "nih14", "own", "own")
    (tmp_path / "models.toml").write_text("")
    assert seen_in_training(held, [0, 1, 2], tmp_path) == Training(["nih14"], 2)
