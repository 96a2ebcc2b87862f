"""Loader for the vision models of transformers, from a folder in the hub's own format."""

import torch
from transformers import AutoModel

from radsearch.errors import ModelUnavailableError
from radsearch.models.base import Network
from radsearch.models.table import ModelSpec
from radsearch.models.weights import Weights


def load(spec: ModelSpec, weights: Weights) -> Network:
    """Take the class token of the last layer. No code of the hub's is run: `trust_remote_code` stays off.

    Raises:
        ModelUnavailableError: weights are missing or have another shape than the architecture asks for.
    """
    model, report = AutoModel.from_pretrained(
        weights.place,
        local_files_only=True,
        trust_remote_code=False,
        weights_only=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    absent = sorted({*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])})
    if absent:
        raise ModelUnavailableError(
            f"the weights of {spec.name} do not fit: {len(absent)} missing or misshapen, the first is {absent[0]}"
        )
    return Network(model, lambda batch: model(pixel_values=batch).last_hidden_state[:, 0])
