"""Which vectors a model will give here: the fingerprint that goes into an index, before any model is loaded."""

from radsearch.models.spec import ModelSpec, Precision
from radsearch.models.weights import Weights, fingerprint_of
from radsearch.settings import Settings
from radsearch.study import Fingerprint


def fingerprint_for(
    spec: ModelSpec, weights: Weights, settings: Settings, held: Fingerprint | None = None
) -> Fingerprint:
    """The fingerprint of a model under these settings.

    Args:
        spec: its row.
        weights: where they lie.
        settings: device and precision, and whether text is blanked.
        held: the fingerprint that the index has of it already: where the settings leave the precision open, it stays.

    Raises:
        SettingsError: the row does not allow the precision that is asked for; there is no such device.
    """
    precision = _precision(spec, settings, held)
    return fingerprint_of(spec, weights, precision, text_blanked=bool(settings.blank_text))


def _precision(spec: ModelSpec, settings: Settings, held: Fingerprint | None) -> Precision:
    if settings.precision == "auto":
        kept = [precision for precision in spec.precisions if held is not None and precision == held.precision]
        if kept or len(spec.precisions) == 1:
            return (kept or spec.precisions)[0]
    from radsearch.models.devices import devices_of
    from radsearch.models.precision import choose_precision  # imports torch

    return choose_precision(spec, settings.precision, devices_of(settings.device)[0])
