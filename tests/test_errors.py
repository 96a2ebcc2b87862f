"""Errors: one clean line for the person who can act, and both facts of a refusal kept across processes."""

import pickle

import pytest

from radsearch.errors import RadSearchError, SettingsError, UnknownNameError, UnreadableImageError, exit_code


def raising(error: BaseException):
    def command() -> int:
        raise error

    return command


def every_error_class() -> list[type[RadSearchError]]:
    return [RadSearchError, *RadSearchError.__subclasses__()]


def test_a_refusal_keeps_reason_and_outcome_when_it_crosses_from_a_worker():
    carried = pickle.loads(pickle.dumps(UnreadableImageError("no pixel data", skipped=True)))  # noqa: S301 -- our own bytes
    assert (carried.reason, carried.skipped, str(carried)) == ("no pixel data", True, "no pixel data")


def test_a_refusal_counts_as_a_failure_unless_it_says_skipped():
    assert UnreadableImageError("truncated file").skipped is False


def test_an_unknown_name_keeps_its_message_when_it_crosses_from_a_worker():
    error = UnknownNameError("model", "biomedclp", ["biomedclip"])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 -- our own bytes


def test_an_unknown_name_suggests_the_nearest_and_lists_all_in_order():
    error = UnknownNameError("model", "BioMedClp", ["efficientnet-lite0", "biomedclip"])
    assert str(error) == (
        "unknown model 'BioMedClp' (did you mean 'biomedclip'?); known are: biomedclip, efficientnet-lite0"
    )


def test_the_suggestion_is_written_as_the_name_is_known():
    assert "did you mean 'MG'?" in str(UnknownNameError("modality", "mg", ["MG", "CT"]))


def test_a_name_near_to_none_gets_no_suggestion():
    assert "did you mean" not in str(UnknownNameError("model", "zzzzzz", ["biomedclip"]))


def test_an_unknown_name_among_none_says_so():
    assert str(UnknownNameError("region", "knee", [], where="the index holds")).endswith("; the index holds: none")


def test_a_name_with_a_line_break_still_gives_one_line():
    assert "\n" not in str(UnknownNameError("model", "a\nb", ["c"]))


@pytest.mark.parametrize("error_class", every_error_class(), ids=lambda error_class: error_class.__name__)
def test_every_error_of_ours_is_one_that_a_command_catches(error_class):
    assert issubclass(error_class, RadSearchError)
    assert error_class.__doc__


def test_an_error_for_people_is_one_line_on_stderr_and_exit_code_2(capsys):
    assert exit_code(raising(SettingsError("RADSEARCH_WORKERS must be a number"))) == 2
    assert capsys.readouterr() == ("", "radsearch: RADSEARCH_WORKERS must be a number\n")


def test_a_bug_keeps_its_traceback():
    with pytest.raises(KeyError, match="a bug"):
        exit_code(raising(KeyError("a bug")))


def test_control_c_gives_130(capsys):
    assert exit_code(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "radsearch: stopped\n"


def test_a_closed_pipe_is_no_failure(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)  # put back after the test: the command sets it
    assert exit_code(raising(BrokenPipeError())) == 0


def test_the_code_of_a_command_that_ends_well_is_passed_on():
    assert exit_code(lambda: 3) == 3
