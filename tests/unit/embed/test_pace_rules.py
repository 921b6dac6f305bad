"""What a refusal says of a provider's limit."""

import pytest
from sage_embed.adapters.pace import PacePolicy, PaceState, after_refusal

POLICY = PacePolicy(window_s=60.0, first_rest_s=2.0, max_rest_s=60.0, min_rest_s=1.0)


def state(
    *, allowance: int | None = None, holds: int = 0, sent_since_hold: int = 0, resting: bool = False, sent: int = 61
) -> PaceState:
    """Return what is known when the 61st request of a window was refused."""
    return PaceState(allowance=allowance, holds=holds, sent_since_hold=sent_since_hold, resting=resting, sent=sent)


def test_first_refusal_teaches_the_limit_and_stays_below_it():
    """60 requests went through: 54 are allowed from now on."""
    known, rest_s = after_refusal(state(), POLICY, retry_after_s=None)
    assert (known.allowance, rest_s) == (54, 2.0)


def test_what_was_refused_on_its_way_was_not_let_through():
    """Each refusal during the rest takes one off the allowance, and none makes the rest longer."""
    known, rest_s = after_refusal(state(allowance=54, holds=1, resting=True), POLICY, retry_after_s=None)
    assert (known.allowance, known.holds, rest_s) == (53, 1, 0.0)


def test_rests_that_do_not_help_double_up_to_the_longest():
    """A provider that says nothing and refuses the first request after every rest gets ever longer ones."""
    known, rests = state(), []
    for _ in range(7):
        known, rest_s = after_refusal(known, POLICY, retry_after_s=None)
        rests.append(rest_s)
    assert rests == [2, 4, 8, 16, 32, 60, 60]
    assert known.allowance == 54


def test_refusal_long_after_a_rest_teaches_anew_and_always_less():
    """A limit that became smaller is learned; the next rest is short again."""
    known, rest_s = after_refusal(
        state(allowance=54, holds=3, sent_since_hold=200, sent=31), POLICY, retry_after_s=None
    )
    assert (known.allowance, known.holds, rest_s) == (27, 1, 2.0)


def test_refusal_at_the_allowance_lowers_it():
    """What was allowed and refused all the same was too much."""
    known, _ = after_refusal(state(allowance=40, holds=1, sent_since_hold=50, sent=41), POLICY, retry_after_s=5.0)
    assert known.allowance == 36


@pytest.mark.parametrize(("said_s", "rest_s"), [(30.0, 30.0), (0.0, 1.0), (11382.0, 11382.0)])
def test_provider_that_says_when_to_come_back_is_believed(said_s, rest_s):
    """Whatever it says holds, though never less than a second."""
    assert after_refusal(state(), POLICY, retry_after_s=said_s)[1] == rest_s


def test_limit_of_hours_says_nothing_of_a_window():
    """After a rest of hours the pace is as before."""
    assert after_refusal(state(), POLICY, retry_after_s=11382.0)[0].allowance is None


def test_few_requests_are_not_what_a_limit_was_reached_with():
    """Where others use up the limit, a handful of requests is allowed all the same."""
    assert after_refusal(state(sent=2), POLICY, retry_after_s=None)[0].allowance == 5
