"""The same picture in several encodings comes out the same."""

import pytest
from siblings import DECODED_ELSEWHERE, LOSSLESS, ORIGINALS, Siblings


@pytest.mark.parametrize(
    "pair", [*LOSSLESS, *DECODED_ELSEWHERE, *ORIGINALS], ids=lambda pair: f"{pair.plain.stem}-{pair.encoded.stem}"
)
def test_siblings_are_shown_alike(pair: Siblings) -> None:
    largest, share = pair.largest_difference()
    if pair.levels is None:
        assert share > 0.75
    else:
        assert largest <= pair.levels
