"""Sources that flood, scan or guess are shut out for a while; others never notice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cti.sip.defence.offences import BAN_POINTS, Ban, Defence, DefenceLimits, Offence, Rate
from cti.sip.messages.message import Request

ROUNDING_S = 1e-6
GOOD, BAD, CARRIER = "127.0.0.2", "127.0.0.66", "127.0.0.9"
LIMITS = DefenceLimits(
    register=Rate(10, 20), invite=Rate(5, 10), other=Rate(10, 10), ban_s=60, longest_ban_s=200
)


def request(method: str = "INVITE", agent: str = "") -> Request:
    headers = [("User-Agent", agent)] if agent else []
    return Request(method, "sip:95598@127.0.0.1", headers)


def defence(told: list[Ban] | None = None, limits: DefenceLimits = LIMITS) -> Defence:
    told = [] if told is None else told
    return Defence(limits, is_trusted=lambda source: source == CARRIER, on_ban=told.append)


def flood(guard: Defence, source: str, count: int, now_s: float, method: str = "INVITE") -> int:
    """Send so many at once; return how many were served."""
    return sum(guard.judge(request(method), source, now_s) is None for _ in range(count))


def test_a_burst_is_served_and_what_is_above_the_rate_is_not() -> None:
    guard = defence()
    assert flood(guard, BAD, 50, 0.0) == 10
    assert not guard.is_banned(BAD)
    assert flood(guard, BAD, 50, 1.0) == 5


def test_a_flood_ends_in_a_ban_that_expires_and_grows_with_each_repetition() -> None:
    told: list[Ban] = []
    guard = defence(told)
    lasts = []
    now_s = 0.0
    for _ in range(4):
        flood(guard, BAD, 200, now_s)
        assert guard.is_banned(BAD)
        assert guard.judge(request(), BAD, now_s) is Offence.FLOOD
        (ban,) = guard.bans(now_s)
        lasts.append(ban.until_s - ban.since_s)
        guard.expire(ban.until_s - 0.1)
        assert guard.is_banned(BAD)
        now_s = ban.until_s
        guard.expire(now_s)
        assert not guard.is_banned(BAD)
    assert lasts == [60, 120, 200, 200]
    assert [ban.offence for ban in told] == [Offence.FLOOD] * 4


def test_others_do_not_notice_a_flood() -> None:
    guard = defence()
    flood(guard, BAD, 10_000, 0.0)
    assert flood(guard, GOOD, 5, 0.0) == 5
    assert not guard.is_banned(GOOD)


def test_carriers_have_limits_of_their_own_and_are_never_banned() -> None:
    guard = defence()
    assert flood(guard, CARRIER, 1000, 0.0) == 1000
    for offence in Offence:
        for _ in range(50):
            guard.strike(CARRIER, offence, 0.0)
    assert guard.judge(request(agent="friendly-scanner"), CARRIER, 0.0) is Offence.SCANNER
    assert not guard.is_banned(CARRIER)


def test_a_scanner_is_banned_by_its_first_word() -> None:
    guard = defence()
    assert guard.judge(request("OPTIONS", "Friendly-Scanner 1.2"), BAD, 0.0) is Offence.SCANNER
    assert guard.is_banned(BAD)
    assert guard.judge(request("OPTIONS", "baresip v1.0"), GOOD, 0.0) is None


def test_a_phone_with_an_old_password_is_left_alone_and_guessing_is_not() -> None:
    guard = defence()
    for attempt in range(100):
        guard.strike(GOOD, Offence.GUESSING, attempt * 30.0)
    assert not guard.is_banned(GOOD)
    for attempt in range(20):
        guard.strike(BAD, Offence.GUESSING, attempt * 1.0)
    assert guard.is_banned(BAD)


def test_an_operator_lifts_a_ban() -> None:
    guard = defence()
    flood(guard, BAD, 1000, 0.0)
    assert guard.lift(BAD)
    assert not guard.lift(BAD)
    assert flood(guard, BAD, 1, 0.0) == 1


def test_many_forged_sources_take_bounded_memory() -> None:
    limits = DefenceLimits(max_sources=100)
    guard = defence(limits=limits)
    for number in range(1000):
        guard.judge(request(agent="sipvicious"), f"10.0.{number // 256}.{number % 256}", 0.0)
    assert len(guard.bans(0.0)) == 100


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([GOOD, BAD, CARRIER]),
            st.sampled_from(list(Offence)),
            st.floats(0, 100, allow_nan=False),
        ),
        max_size=200,
    )
)
def test_only_sources_whose_points_add_up_are_banned_and_every_ban_ends(
    steps: list[tuple[str, Offence, float]],
) -> None:
    told: list[Ban] = []
    guard = defence(told)
    now_s = 0.0
    for source, offence, passes_s in steps:
        now_s += passes_s
        guard.expire(now_s)
        guard.strike(source, offence, now_s)
        for ban in guard.bans(now_s):
            assert ban.since_s <= now_s < ban.until_s
            assert ban.until_s - ban.since_s <= LIMITS.longest_ban_s + ROUNDING_S
    assert all(ban.source != CARRIER for ban in told)
    assert BAN_POINTS > 0
    guard.expire(now_s + LIMITS.longest_ban_s)
    assert guard.bans(now_s + LIMITS.longest_ban_s) == []


def test_an_address_that_a_password_was_proved_from_is_a_phones_for_two_hours() -> None:
    guard = defence()
    assert not guard.is_vouched(GOOD)
    guard.vouch(GOOD, 10.0)
    guard.expire(7209.0)
    assert guard.is_vouched(GOOD)
    assert not guard.is_vouched(BAD)
    guard.expire(7211.0)
    assert not guard.is_vouched(GOOD)
