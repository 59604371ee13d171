"""The way to a carrier's servers: over a proxy of ours, and over those that the carrier names."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cti.trunks.outbound import TrunkAttempt
from cti.trunks.registration import RegistrationState
from cti.trunks.status import RegistrationStatus
from tests.trunks.conftest import TENANT, Carrier, CarrierRegistrar, Platform, trunk
from tests.trunks.test_operation import call


@pytest.fixture
async def registrar() -> AsyncIterator[CarrierRegistrar]:
    carrier = CarrierRegistrar()
    await carrier.start()
    yield carrier
    await carrier.stop()


def registration(platform: Platform) -> RegistrationStatus:
    (status,) = platform.trunks.statuses()
    return status.registrations[0]


async def attempt(platform: Platform) -> TrunkAttempt:
    (found,) = await platform.trunks.outbound.attempts(TENANT, "13700000000")
    return found


async def test_all_that_goes_to_a_carrier_passes_the_outbound_proxy(
    platform: Platform, registrar: CarrierRegistrar
) -> None:
    # Nobody can find the carrier's server but its proxy.
    own = trunk(
        "account",
        "sip:carrier.invalid",
        outbound_proxy=registrar.server,
        register={"user": "02195598"},
    )
    await platform.start(own)
    await platform.until(lambda: platform.state("account") == "up", "the server answers")
    await platform.until(lambda: len(registrar.asked) > 0, "it is registered with")
    await call(platform)
    for method in ("REGISTER", "OPTIONS", "INVITE"):
        request = registrar.requests(method)[0]
        assert request.headers.get_all("Route") == [f"<{registrar.server};lr>"]
        assert request.uri.endswith("carrier.invalid")
    (status,) = platform.trunks.statuses()
    assert status.hops[0].server == f"sip:carrier.invalid via {registrar.server};lr"


async def test_calls_pass_the_service_route_while_the_registrar_wants_it(
    platform: Platform, registrar: CarrierRegistrar, carriers: list[Carrier]
) -> None:
    core, _ = carriers
    route = f"<{core.server};lr>"
    registrar.register_headers = [("Service-Route", route)]
    own = trunk("account", registrar.server, register={"user": "02195598", "expires_s": 10})
    await platform.start(own)

    async def goes_to(carrier: Carrier) -> bool:
        return (await attempt(platform)).hop.port == carrier.address[1]

    await platform.until(lambda: goes_to(core), "calls pass the service route")
    assert (await attempt(platform)).route == (route,)
    assert (await attempt(platform)).uri == f"sip:013700000000@{registrar.server[4:]}"
    await platform.until(lambda: platform.state("account") == "up", "the way is probed")
    await call(platform)
    assert core.sessions[0].request.headers.get_all("Route") == [route]
    platform.reload(own.model_copy(update={"max_calls": 7}))
    assert (await attempt(platform)).route == (route,)
    # What it does not say again holds no more (RFC 3608 5).
    registrar.register_headers = []
    await platform.until(lambda: goes_to(registrar), "calls go to the server itself")


async def test_a_service_route_follows_the_outbound_proxy(
    platform: Platform, registrar: CarrierRegistrar
) -> None:
    route = "<sip:core1.carrier.invalid;lr>, <sip:core2.carrier.invalid;lr>"
    registrar.register_headers = [("Service-Route", route)]
    own = trunk(
        "account",
        "sip:carrier.invalid",
        outbound_proxy=registrar.server,
        register={"user": "02195598"},
    )
    await platform.start(own)

    async def whole() -> bool:
        return (await attempt(platform)).route == (
            f"<{registrar.server};lr>",
            *route.split(", "),
        )

    await platform.until(whole, "the route is whole")
    assert (await attempt(platform)).hop.port == registrar.address[1]
    platform.reload(own.model_copy(update={"register_": None}))
    assert (await attempt(platform)).route == (f"<{registrar.server};lr>",)


@pytest.mark.parametrize(
    "value",
    ["<sip:strict.invalid>", "<<<", "<tel:+862195598>", ", ".join(["<sip:a.invalid;lr>"] * 9)],
)
async def test_what_cannot_be_a_route_is_none(
    platform: Platform, registrar: CarrierRegistrar, value: str
) -> None:
    registrar.register_headers = [("Service-Route", value)]
    await platform.start(trunk("account", registrar.server, register={"user": "1"}))
    await platform.until(
        lambda: registration(platform).state is RegistrationState.REGISTERED, "it is registered"
    )
    assert (await attempt(platform)).route == ()


@pytest.mark.parametrize(("asked", "least", "most"), [("600", 590, 600), ("999999", 1790, 1800)])
async def test_a_registrar_may_tell_when_to_come_again(
    platform: Platform, registrar: CarrierRegistrar, asked: str, least: int, most: int
) -> None:
    registrar.register_status = 503
    registrar.register_headers = [("Retry-After", f"{asked} (busy)")]
    own = trunk("account", registrar.server, register={"user": "1"}, probe={"interval_s": 0})
    await platform.start(own, first_wait_s=0.1)
    await platform.until(
        lambda: registration(platform).state is RegistrationState.FAILED, "it is refused"
    )
    assert least <= registration(platform).next_attempt_s <= most
    assert registrar.requests("REGISTER")[0].headers.get_all("Supported") == ["path"]
