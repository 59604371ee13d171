"""Which phones there are, and whose: by domain, and by number where a tenant has no domain."""

from __future__ import annotations

import time

from node.config import TenantSettings
from node.credentials import Credentials, _Secrets
from node.phones import ConfiguredPhones


def tenant(name: str, phones: list[str], domain: str = "") -> TenantSettings:
    return TenantSettings.model_validate(
        {
            "id": name,
            "sip_domain": domain,
            "access_codes": [{"code": "95598", "flow": "hotline"}],
            "trunks": [{"name": "t", "addresses": ["192.0.2.0/24"]}],
            "phones": phones,
        }
    )


def phones_of(*tenants: TenantSettings) -> ConfiguredPhones:
    hashes = {
        each.id: {"phones": {phone: {"MD5": f"{each.id}-{phone}"} for phone in each.phones}}
        for each in tenants
    }
    secrets = _Secrets.model_validate({"realm": "r", "tenants": hashes})
    return ConfiguredPhones(tenants, Credentials(secrets))


def test_the_domain_tells_the_tenant() -> None:
    phones = phones_of(
        tenant("plain", ["1001"]),
        tenant("first", ["1001", "2001"], "First.example"),
        tenant("second", ["1001"], "second.example"),
    )
    for user, domain, expected in [
        ("1001", "FIRST.example", "first"),
        ("1001", "second.example", "second"),
        ("1001", "192.0.2.1", "plain"),  # of no tenant: common to those without a domain
        ("2001", "first.example", "first"),
        ("2001", "second.example", None),
        ("2001", "192.0.2.1", None),  # whoever has a domain registers with it
        ("9999", "first.example", None),
    ]:
        account = phones.find(user, domain)
        assert (account and account.tenant) == expected
        if account is not None:
            assert account.ha1 == {"MD5": f"{expected}-{user}"}


def test_fifty_thousand_phones_are_taken_over_at_once() -> None:
    numbers = [str(number) for number in range(200_000, 250_000)]
    some = tenant("some", numbers)
    phones = phones_of(some)
    started_s = time.process_time()
    phones.load([some], phones._credentials)
    assert time.process_time() - started_s < 1.0
    assert phones.find("249999", "192.0.2.1") is not None
