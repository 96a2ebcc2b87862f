"""Pseudonyms: HMAC-SHA-256 under a secret that is made once, kept private and never shown."""

import hashlib
import hmac
import os
import stat
import uuid

import pytest

from radsearch.errors import SettingsError
from radsearch.privacy import Pseudonymizer, load_pseudonymizer

SECRET = b"an-own-secret-of-more-than-32-characters"


def hmac_hex(message: bytes) -> str:
    return hmac.new(SECRET, message, hashlib.sha256).hexdigest()


def test_a_pseudonym_is_the_first_128_bits_of_the_keyed_hash():
    expected = hmac_hex(b"patient\0hospital\0MRN-1")[:32]
    assert Pseudonymizer(SECRET).pseudonym("patient", "hospital", "MRN-1") == expected


def test_a_pseudonym_does_not_show_the_identifier():
    assert "12345678" not in Pseudonymizer(SECRET).pseudonym("patient", "", "12345678")


@pytest.mark.parametrize(
    "other",
    [("study", "a", "b"), ("patient", "b", "a"), ("patient", "ab", ""), ("patient", "", "ab"), ("patient", "a")],
)
def test_kind_order_and_borders_of_the_parts_all_count(other):
    pseudonymizer = Pseudonymizer(SECRET)
    assert pseudonymizer.pseudonym("patient", "a", "b") != pseudonymizer.pseudonym(*other)


def test_another_secret_gives_other_pseudonyms_and_another_check():
    mine, other = Pseudonymizer(SECRET), Pseudonymizer(SECRET + b"!")
    assert mine.pseudonym("patient", "1") != other.pseudonym("patient", "1")
    assert mine.check != other.check


def test_the_check_does_not_show_the_secret():
    assert Pseudonymizer(SECRET).check == hmac_hex(b"check\0radsearch")[:32]


def test_names_that_are_no_unicode_have_pseudonyms_too():
    name = os.fsdecode(b"\xff.png")
    assert Pseudonymizer(SECRET).pseudonym("instance", name) == hmac_hex(b"instance\0\xff.png")[:32]


def test_a_point_id_is_a_uuid_of_its_own_for_each_frame():
    ids = [Pseudonymizer(SECRET).point_id("abc", frame) for frame in (1, 2)]
    assert ids == [str(uuid.UUID(hmac_hex(b"point\0abc\0%d" % frame)[:32])) for frame in (1, 2)]


def test_the_content_hash_is_keyed_and_covers_more_than_one_chunk(tmp_path):
    big = tmp_path / "big"
    big.write_bytes(bytes(1 << 20) + b"tail")
    plain = hashlib.sha256(bytes(1 << 20) + b"tail").hexdigest()
    assert Pseudonymizer(SECRET).content(big) == hmac_hex(b"content\0" + plain.encode())[:32]


def test_a_pseudonymizer_does_not_show_its_secret():
    assert "secret-of" not in repr(Pseudonymizer(SECRET)) + str(Pseudonymizer(SECRET))


def test_a_stated_secret_is_used_and_no_file_is_made(tmp_path):
    pseudonymizer = load_pseudonymizer(secret=SECRET.decode(), secret_file=tmp_path / "secret")
    assert pseudonymizer == Pseudonymizer(SECRET)
    assert list(tmp_path.iterdir()) == []


def test_a_secret_of_32_characters_is_long_enough(tmp_path):
    assert load_pseudonymizer(secret="s" * 32, secret_file=tmp_path / "secret").secret == b"s" * 32


@pytest.mark.parametrize("secret", ["", "q" * 31])
def test_a_short_secret_is_refused_without_being_repeated(tmp_path, secret):
    with pytest.raises(SettingsError, match="RADSEARCH_SECRET holds a secret of fewer than 32") as refused:
        load_pseudonymizer(secret=secret, secret_file=tmp_path / "secret")
    assert "qqq" not in str(refused.value)


def test_a_missing_secret_is_made_once_for_its_owner_alone(tmp_path):
    secret_file = tmp_path / "config" / "radsearch" / "secret"
    first = load_pseudonymizer(secret=None, secret_file=secret_file)
    second = load_pseudonymizer(secret=None, secret_file=secret_file)
    assert first == second
    assert len(first.secret) == 64
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret_file.parent.stat().st_mode) == 0o700
    assert [path.name for path in secret_file.parent.iterdir()] == ["secret"]


def test_two_installations_make_different_secrets(tmp_path):
    made = [load_pseudonymizer(secret=None, secret_file=tmp_path / name).secret for name in ("a", "b")]
    assert made[0] != made[1]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_secret_open_to_others_is_refused_with_the_remedy(tmp_path, mode):
    secret_file = tmp_path / "secret"
    secret_file.write_bytes(SECRET)
    secret_file.chmod(mode)
    with pytest.raises(SettingsError, match=f"chmod 600 {secret_file}"):
        load_pseudonymizer(secret=None, secret_file=secret_file)


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xe9" * 40], ids=["empty", "short", "no-ascii"])
def test_an_unusable_secret_file_is_named_but_not_quoted(tmp_path, content):
    secret_file = tmp_path / "secret"
    secret_file.write_bytes(content)
    secret_file.chmod(0o600)
    with pytest.raises(SettingsError, match=str(secret_file)) as refused:
        load_pseudonymizer(secret=None, secret_file=secret_file)
    assert "short" not in str(refused.value)


def test_a_folder_in_the_secrets_place_is_a_settings_error(tmp_path):
    with pytest.raises(SettingsError):
        load_pseudonymizer(secret=None, secret_file=tmp_path)


def test_a_place_where_no_secret_can_be_made_is_a_settings_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SettingsError, match="cannot be used"):
        load_pseudonymizer(secret=None, secret_file=tmp_path / "file" / "secret")


def test_white_space_around_a_secret_in_its_file_does_not_count(tmp_path):
    secret_file = tmp_path / "secret"
    secret_file.write_bytes(b" " + SECRET + b"\r\n")
    secret_file.chmod(0o600)
    assert load_pseudonymizer(secret=None, secret_file=secret_file).secret == SECRET
