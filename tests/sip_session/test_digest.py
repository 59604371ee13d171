"""Digest authentication against RFC 7616's own examples, and against forgers."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cti.sip.authentication.digest import (
    AuthResult,
    Credentials,
    DigestServer,
    authorization,
    digest_response,
    ha1,
    parse_digest,
)
from cti.sip.messages.syntax import quote

USER, PASSWORD, REALM = "1001", "Dianli-95598", "95598.example"
STORED = {each: ha1(each, USER, REALM, PASSWORD) for each in ("MD5", "SHA-256")}


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_examples_of_rfc_7616_section_3_9_1(algorithm: str, expected: str) -> None:
    response = digest_response(
        algorithm,
        ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life"),
        nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        count="00000001",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        qop="auth",
        method="GET",
        uri="/dir/index.html",
    )
    assert response == expected


def judge(
    server: DigestServer, values: list[str], now: float = 10.0, **options: object
) -> AuthResult:
    arguments: dict[str, object] = {"method": "REGISTER", "user": USER, "stored": STORED} | options
    return server.judge(values, now=now, **arguments)  # type: ignore[arg-type]


def credentials(server: DigestServer, now: float = 10.0, password: str = PASSWORD) -> str:
    value = authorization(
        server.challenges(now),
        method="REGISTER",
        uri="sip:95598.example",
        credentials=Credentials(USER, password),
    )
    assert value is not None
    return value


@pytest.mark.parametrize("algorithms", [("MD5",), ("SHA-256",), ("SHA-256", "MD5")])
def test_right_password(algorithms: tuple[str, ...]) -> None:
    server = DigestServer(REALM, algorithms=algorithms)
    value = credentials(server)
    assert f"algorithm={algorithms[0]}" in value
    assert judge(server, ["Basic x", value]) is AuthResult.ACCEPTED


def test_wrong_password_and_unknown_user_look_the_same() -> None:
    server = DigestServer(REALM)
    assert judge(server, [credentials(server, password="x")]) is AuthResult.WRONG
    assert judge(server, [credentials(server)], stored=None) is AuthResult.WRONG
    assert not len(server.nonces)


def test_credentials_are_good_for_their_method_and_user_only() -> None:
    server = DigestServer(REALM)
    assert judge(server, [credentials(server)], method="INVITE") is AuthResult.WRONG
    assert judge(server, [credentials(server)], user="1002") is AuthResult.WRONG


def test_none_or_those_of_another_realm_are_missing() -> None:
    server = DigestServer(REALM)
    assert judge(server, []) is AuthResult.MISSING
    assert judge(server, [credentials(DigestServer("elsewhere"))]) is AuthResult.MISSING


def test_a_replay_is_stale() -> None:
    server = DigestServer(REALM)
    value = credentials(server)
    assert judge(server, [value]) is AuthResult.ACCEPTED
    assert judge(server, [value]) is AuthResult.STALE


def numbered(nonce: str, count: int, stored: str = STORED["MD5"]) -> str:
    """Credentials of the `count`th request with a nonce."""
    response = digest_response(
        "MD5", stored, nonce=nonce, count=f"{count:08x}", cnonce="c", qop="auth",
        method="REGISTER", uri="sip:x",
    )  # fmt: skip
    return (
        f'Digest username="{USER}", realm="{REALM}", nonce="{nonce}", uri="sip:x", '
        f'response="{response}", qop=auth, nc={count:08x}, cnonce="c"'
    )


def nonce_of(server: DigestServer, now: float = 10.0) -> str:
    return (parse_digest(server.challenges(now)[0]) or {})["nonce"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 50) | st.integers(1, 2**32 - 1), max_size=40))
def test_each_count_of_a_nonce_is_taken_once(counts: list[int]) -> None:
    server = DigestServer(REALM)
    nonce = nonce_of(server)
    taken: set[int] = set()
    for count in counts:
        # Datagrams overtake one another, though not by more than the window.
        is_good = count > 0 and count not in taken and count > max(taken, default=0) - 32
        outcome = judge(server, [numbered(nonce, count)])
        assert outcome is (AuthResult.ACCEPTED if is_good else AuthResult.STALE)
        if is_good:
            taken.add(count)


def test_a_count_far_behind_the_highest_takes_no_memory() -> None:
    server = DigestServer(REALM)
    nonce = nonce_of(server)
    assert judge(server, [numbered(nonce, 2**32 - 1)]) is AuthResult.ACCEPTED
    tracemalloc.start()
    try:
        assert judge(server, [numbered(nonce, 1)]) is AuthResult.STALE
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_an_old_or_foreign_nonce_is_stale() -> None:
    server = DigestServer(REALM, nonce_lifetime_s=30)
    value = credentials(server)
    assert judge(server, [value], now=41.0) is AuthResult.STALE
    assert judge(server, [value], now=4.0) is AuthResult.STALE
    foreign = credentials(DigestServer(REALM))
    assert judge(server, [foreign]) is AuthResult.STALE
    assert "stale=true" in server.challenges(41.0, stale=True)[0]


def test_a_challenge_of_one_node_is_met_at_another_once_and_at_once() -> None:
    one, two = (DigestServer(REALM, secret_of=lambda _day: b"s" * 32) for _ in range(2))
    value = credentials(one)
    assert judge(two, [value]) is AuthResult.ACCEPTED
    assert judge(two, [value]) is AuthResult.STALE
    # Counts are known where the nonce was made; elsewhere they would let replays in.
    assert judge(two, [numbered(nonce_of(one), 2)]) is AuthResult.STALE
    assert judge(two, [numbered(nonce_of(one), 1)], now=100.0) is AuthResult.STALE
    assert judge(one, [numbered(nonce_of(one), 1)], now=100.0) is AuthResult.ACCEPTED


def test_the_secret_changes_with_the_day() -> None:
    secrets = {0: b"a" * 32, 1: b"b" * 32}
    server = DigestServer(REALM, secret_of=secrets.__getitem__)
    evening = 86_400.0 - 10
    value = credentials(server, now=evening)
    secrets[0] = b"stolen later, of no use"
    assert judge(server, [value], now=evening + 5) is AuthResult.STALE
    value = credentials(server, now=evening + 20)
    assert judge(server, [value], now=evening + 21) is AuthResult.ACCEPTED


def test_memory_is_bounded_and_forgetting_lets_no_replay_in() -> None:
    server = DigestServer(REALM, max_nonces=3)
    values = [credentials(server, now=10.0 + each) for each in range(5)]
    for each, value in enumerate(values):
        assert judge(server, [value], now=10.0 + each) is AuthResult.ACCEPTED
    assert len(server.nonces) == 3
    assert all(judge(server, [each], now=15.0) is AuthResult.STALE for each in values)


def test_nonces_that_are_too_old_are_forgotten_without_harm_to_others() -> None:
    server = DigestServer(REALM, nonce_lifetime_s=30, max_nonces=3)
    unused = numbered(nonce_of(server, now=39.0), 1)
    for each in range(3):
        judge(server, [credentials(server, now=10.0 + each)], now=10.0 + each)
    assert judge(server, [unused], now=60.0) is AuthResult.ACCEPTED
    assert len(server.nonces) == 1


def test_qop_is_required() -> None:
    server = DigestServer(REALM)
    nonce = (parse_digest(server.challenges(10.0)[0]) or {})["nonce"]
    response = digest_response(
        "MD5", STORED["MD5"], nonce=nonce, count="", cnonce="", qop="", method="REGISTER", uri="u"
    )
    value = (
        f'Digest username="{USER}", realm="{REALM}", nonce="{nonce}", uri="u", '
        f'response="{response}"'
    )
    assert judge(server, [value]) is AuthResult.WRONG


@pytest.mark.parametrize(
    ("challenge", "expected"),
    [
        ('Digest realm="r", nonce="n", algorithm=SHA-512-256, qop="auth"', None),
        ('Digest realm="r", nonce="n", qop="auth-int"', None),
        ('Digest realm="r"', None),
        ('Basic realm="r"', None),
        ('Digest realm="r", nonce="n"', "algorithm=MD5"),
        ('Digest realm="r", nonce="n", algorithm=md5, qop="auth,auth-int"', "qop=auth, nc=0000000"),
        ('Digest realm="a \\"b\\"", nonce="n", opaque="o\\\\p"', 'opaque="o\\\\p"'),
    ],
)
def test_challenges_of_others(challenge: str, expected: str | None) -> None:
    value = authorization(
        [challenge], method="INVITE", uri="sip:x", credentials=Credentials("u", "p")
    )
    if expected is None:
        assert value is None
    else:
        assert value is not None
        assert expected in value


def test_a_password_shows_in_no_repr() -> None:
    assert "geheim" not in repr(Credentials("u", "geheim"))


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ('Digest a="1,2" , B=3,,c="x\\"y"', {"a": "1,2", "b": "3", "c": 'x"y'}),
        ("digest a=", {"a": ""}),
        ("Digest", {}),
        ("Basic a=1", None),
        ('Digest a="1', None),
        ('Digest a="1"2', None),
        ("Digest a=1, a=2", None),
        ("Digest =1", None),
        ("Digest a", None),
        ("Digest a=" + "1" * 5000, None),
    ],
)
def test_parameters(text: str, parameters: dict[str, str] | None) -> None:
    assert parse_digest(text) == parameters


_PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), max_size=30)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), _PRINTABLE, max_size=6))
def test_what_is_quoted_is_read_back(parameters: dict[str, str]) -> None:
    text = "Digest " + ", ".join(f"{name}={quote(value)}" for name, value in parameters.items())
    assert parse_digest(text) == parameters


@given(st.text(max_size=200) | st.lists(st.sampled_from(['"', "\\", ",", "=", "a", " ", "<"])))
def test_no_header_raises(text: str | list[str]) -> None:
    value = "Digest " + "".join(text)
    parse_digest(value)
    server = DigestServer(REALM)
    realm = f'realm="{REALM}", '
    for each in (value, f"Digest {realm}{''.join(text)}"):
        assert judge(server, [each]) in {AuthResult.MISSING, AuthResult.STALE}
        authorization([each], method="X", uri="sip:x", credentials=Credentials("a", "b"))
