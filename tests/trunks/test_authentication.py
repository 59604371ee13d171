"""Trunks known by a password, at several nodes that share the secret of their nonces."""

from __future__ import annotations

from cti.admission import Admission, Admitted, Refused
from cti.settings import AccessCodeSettings, TrunkSettings
from cti.sip.authentication.digest import Credentials, DigestServer, authorization, ha1
from cti.sip.authentication.nonce import SecretOf
from cti.trunks.authentication import TrunkAuthenticator
from cti.trunks.tenant_access import TenantAccess
from domain.ids import TenantId
from tests.fakes.session import make_invite

CODES = [AccessCodeSettings(code="95598", flow="main")]
ROAMING = TrunkSettings.model_validate(
    {"name": "roaming", "authentication": "digest", "user": "carrier1"}
)
STORED = {"MD5": ha1("MD5", "carrier1", "cti95598", "secret")}


def node(secret_of: SecretOf | None) -> Admission:
    admission = Admission([TenantAccess(TenantId("demo"), [ROAMING], CODES)])
    digest = DigestServer("cti95598", secret_of=secret_of)
    admission.authenticator = TrunkAuthenticator(
        digest, lambda tenant, user: STORED, unix_clock=lambda: 1e9
    )
    return admission


def answered(at: Admission, challenge: Admitted | Refused) -> Admitted | Refused:
    assert isinstance(challenge, Refused)
    value = authorization(
        [value for _, value in challenge.headers],
        method="INVITE",
        uri="sip:95598@127.0.0.1:5060",
        credentials=Credentials("carrier1", "secret"),
    )
    assert value is not None
    request = make_invite(headers=[("Authorization", value)])
    return at.admit_invite(request, "198.51.100.7", 1.0)


def challenge(at: Admission) -> Admitted | Refused:
    return at.admit_invite(make_invite(), "198.51.100.7", 1.0)


def test_the_challenge_of_one_node_is_met_at_another() -> None:
    def secret_of(day: int) -> bytes:
        return f"shared{day}".encode()

    one, two = node(secret_of), node(secret_of)
    asked = challenge(one)
    assert isinstance(answered(two, asked), Admitted)
    # Counts are each node's own: what was used here is not taken again, and there once only.
    again = answered(two, asked)
    assert isinstance(again, Refused)
    assert again.is_challenge
    assert isinstance(answered(one, again), Admitted)


def test_nodes_that_share_nothing_ask_again() -> None:
    one, two = node(None), node(None)
    asked = answered(two, challenge(one))
    assert isinstance(asked, Refused)
    assert asked.is_challenge
    assert isinstance(answered(two, asked), Admitted)
