"""What is learned about a provider's limit from a refusal."""

from dataclasses import replace

import pytest
from sage_embed.config import TwelveLabsSettings
from sage_embed.engines.twelvelabs.pace import PaceOptions, PaceState, after_refusal

OPTIONS = PaceOptions.from_settings(TwelveLabsSettings())


def state(
    *,
    allowance: int | None = None,
    measured: bool = True,
    holds: int = 0,
    sent_since_hold: int = 0,
    resting: bool = False,
    sent: int = 61,
) -> PaceState:
    """Return what is known when the 61st request of a window is refused."""
    return PaceState(
        allowance=allowance,
        base=allowance,
        measured=measured,
        holds=holds,
        sent_since_hold=sent_since_hold,
        resting=resting,
        sent=sent,
    )


@pytest.mark.parametrize("retry_after_s", [0.0, 1.0, 40.0])
def test_a_refusal_that_states_a_rest_sets_the_allowance_below_the_limit(retry_after_s):
    known, rest_s = after_refusal(state(), OPTIONS, retry_after_s=retry_after_s)
    assert (known.allowance, rest_s) == (54, max(1.0, retry_after_s))


@pytest.mark.parametrize("sent", [2, 12, 37, 61])
def test_a_refusal_that_states_no_rest_teaches_nothing_until_the_next_request_is_refused_too(sent):
    """It may come from a proxy, or other users of the account used up the limit for a moment."""
    known, _ = after_refusal(state(sent=sent), OPTIONS, retry_after_s=None)
    assert known.allowance is None
    later = replace(known, sent_since_hold=100)
    assert after_refusal(later, OPTIONS, retry_after_s=None)[0].allowance is None
    again, rest_s = after_refusal(replace(known, sent_since_hold=1), OPTIONS, retry_after_s=None)
    assert (again.allowance, rest_s) == (max(5, int(0.9 * (sent - 1))), 4.0)


def test_refusals_during_a_rest_lower_the_allowance_but_do_not_extend_the_rest():
    known, rest_s = after_refusal(state(allowance=54, holds=1, resting=True), OPTIONS, retry_after_s=None)
    assert (known.allowance, known.holds, rest_s) == (53, 1, 0.0)


def test_unsuccessful_rests_double_up_to_the_longest():
    known, rests = state(), []
    for _ in range(7):
        known, rest_s = after_refusal(known, OPTIONS, retry_after_s=None)
        rests.append(rest_s)
    assert rests == [2, 4, 8, 16, 32, 60, 60]
    assert known.allowance == 54


def test_a_refusal_long_after_a_rest_lowers_the_allowance_again():
    known, rest_s = after_refusal(
        state(allowance=54, holds=3, sent_since_hold=200, sent=31), OPTIONS, retry_after_s=None
    )
    assert (known.allowance, known.holds, rest_s) == (27, 1, 2.0)


def test_a_refusal_within_the_allowance_lowers_it():
    known, _ = after_refusal(state(allowance=40, holds=1, sent_since_hold=50, sent=41), OPTIONS, retry_after_s=5.0)
    assert known.allowance == 36


@pytest.mark.parametrize(("said_s", "rest_s"), [(30.0, 30.0), (0.0, 1.0), (11382.0, 11382.0)])
def test_a_stated_rest_is_respected_but_never_shorter_than_a_second(said_s, rest_s):
    assert after_refusal(state(), OPTIONS, retry_after_s=said_s)[1] == rest_s


def test_a_rest_of_hours_leaves_the_allowance_unknown():
    assert after_refusal(state(), OPTIONS, retry_after_s=11382.0)[0].allowance is None


def test_the_first_allowance_has_a_minimum_and_counts_as_measured_only_after_many_requests():
    def learned(sent: int) -> tuple[int | None, bool]:
        known, _ = after_refusal(state(sent=sent, holds=1, sent_since_hold=1), OPTIONS, retry_after_s=None)
        return known.allowance, known.measured

    assert learned(2) == (5, False)
    assert learned(21) == (18, False)
    assert learned(61) == (54, True)


def test_a_refusal_far_below_the_allowance_halves_it_until_it_is_measured_again():
    known, _ = after_refusal(state(allowance=54, holds=1, sent_since_hold=9, sent=4), OPTIONS, retry_after_s=None)
    assert (known.allowance, known.measured) == (27, False)
    known, _ = after_refusal(state(allowance=54, holds=1, sent_since_hold=60, sent=41), OPTIONS, retry_after_s=None)
    assert (known.allowance, known.measured) == (36, True)


def test_an_allowance_that_grew_while_nothing_was_sent_is_no_evidence():
    grown = replace(state(allowance=54, holds=1, sent_since_hold=61), allowance=10**9)
    known, _ = after_refusal(grown, OPTIONS, retry_after_s=None)
    assert (known.allowance, known.measured) == (54, True)
    assert after_refusal(grown, OPTIONS, retry_after_s=5000.0)[0].allowance == 54
    assert after_refusal(replace(grown, resting=True), OPTIONS, retry_after_s=None)[0].allowance == 53
