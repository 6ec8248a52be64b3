"""The table of error codes, and the errors that carry them."""

import enum

import pytest

from headgate.core.wire import errors
from headgate.core.wire.errors import CODES, HeadgateError, IllegalTransition, Refusal


class Light(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize("code", CODES)
def test_a_refusal_has_the_status_of_its_code(code: str) -> None:
    refusal = Refusal(code, "why", retry_after_ms=5, first_seq=7)
    assert (refusal.status, refusal.retryable) == CODES[code][:2]
    assert (refusal.detail, refusal.retry_after_ms, refusal.extra) == ("why", 5, {"first_seq": 7})
    assert str(refusal) == f"{code}: why"


@pytest.mark.parametrize(("code", "error"), CODES.items())
def test_every_server_error_may_be_sent_again_and_no_fault_of_the_client(code: str, error: errors.ErrorCode) -> None:
    assert 400 <= error.status < 600
    assert error.retryable == (error.status >= 500 or error.status in (408, 429)), code
    assert error.title[0].isupper()


def test_our_errors_are_one_tree() -> None:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(found) >= 6
    assert all(issubclass(error, HeadgateError) for error in found)


def test_an_illegal_transition_names_state_and_step() -> None:
    error = IllegalTransition(Light.RED, Light.RED)
    assert (error.state, error.step) == (Light.RED, Light.RED)
    assert "Light red" in str(error) and "no such step" in str(error)
    assert "too early" in str(IllegalTransition(Light.RED, Light.RED, "too early"))
