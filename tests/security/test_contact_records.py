"""A phone that registers cannot write into the records of registrations where it is reached."""

from __future__ import annotations

import pytest

from tests.sip_session.test_registrar import SOURCE, Desk

ELSEWHERE = "\tudp\t203.0.113.9\t5060\t\tnode-1\t\t\t1000\t"


@pytest.mark.parametrize("inside", [ELSEWHERE, "\t", " ", "\x0b", "\x85", "\u2028"])
@pytest.mark.parametrize("header", ["Contact", "Path"])
async def test_fields_of_a_record_are_not_smuggled_in(inside: str, header: str) -> None:
    desk = Desk()
    evil = f"<sip:1001@{SOURCE.host};x=a{inside}b>"
    if header == "Path":
        response = await desk.register("<sip:1001@192.0.2.7>", headers=[("Path", evil)])
    else:
        response = await desk.register(evil)
    assert response.status == 400
    assert not await desk.hops()
