"""Rebuild the table of docs/models.md: every loader's vectors beside its library's own.

.venv/bin/python tests/loader_table.py
"""

import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from loader_cases import BUILDERS, Case, largest_difference, largest_text_difference
from test_checkpoint_loaders import MAKERS, difference, make
from test_checkpoint_loaders import pictures as checkpoint_pictures

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "models.md"
MARK = "<!-- rebuilt by: .venv/bin/python tests/loader_table.py -->"
AUTHORS = {
    "medsam": ("SAM's image encoder (MedSAM's file)", "segment_anything", "mean of the last feature map"),
    "medclip_vit": ("MedCLIP: Swin and BERT (its file)", "transformers", "image features"),
    "radimagenet_resnet50": ("RadImageNet's ResNet-50 (its file)", "torchvision", "pooled"),
    "medimageinsight_davit": ("MedImageInsight's DaViT (its file)", "timm", "image features"),
}


def main() -> None:
    head = ["| architecture | compared with | pooling | images | texts |", "| --- | --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as folder:
        rows = [*_of_libraries(Path(folder)), *_of_authors(Path(folder))]
    text = DOCUMENT.read_text(encoding="utf-8")
    table = "\n".join([MARK, "", *head, *rows])
    DOCUMENT.write_text(text[: text.index(MARK)] + table + "\n", encoding="utf-8")


def _of_libraries(folder: Path) -> Iterator[str]:
    for builder in BUILDERS:
        case: Case = builder(folder / builder.__name__)
        texts = f"{largest_text_difference(case):.0e}" if case.texts else ""
        yield f"| {case.name} | {case.library} | {case.spec.pooling} | {largest_difference(case):.0e} | {texts} |"


def _of_authors(folder: Path) -> Iterator[str]:
    for maker in MAKERS:
        place = folder / maker.__name__
        place.mkdir()
        checkpoint = make(maker, place)
        pixels = checkpoint_pictures(checkpoint)
        name, library, pooling = AUTHORS[maker.__name__]
        with torch.inference_mode():
            apart = difference(checkpoint.load(place).images(pixels), checkpoint.expected(pixels))
        yield f"| {name} | {library} {version(library)} | {pooling} | {apart:.0e} | |"


if __name__ == "__main__":
    main()
