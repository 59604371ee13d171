"""The form in which a tenant dials a number outside (SD 4.1.4): home area, other areas, abroad.

There is no free database of which mobile belongs to which area: a mobile is at home when its first
seven digits (the H code) are in the tenant's own table, all others get the long-distance prefix.
"""

from __future__ import annotations

from cti.numbers import without_separators
from cti.trunks.number_lists import NumberTable
from cti.trunks.rewriting import is_diallable
from cti.trunks.settings import OutboundSettings
from domain.failures import Code, PlatformError

_MOBILE_DIGITS = 11
_MOBILE_SECOND_DIGITS = frozenset("3456789")
# National numbers without an area: 400 and 800 services of ten digits.
_SERVICES = ("400", "800")
_SERVICE_DIGITS = 10
# Area code and local number, without the long-distance prefix, are nine digits at least.
_MIN_AREA_AND_LOCAL_DIGITS = 9


def dial_form(number: str, rules: OutboundSettings, home_mobiles: NumberTable | None) -> str:
    """Return the number as trunks are given it; PlatformError NUMBER_FORBIDDEN.

    A dialled form stays as it is when it is given again.
    """
    national = _national(without_separators(number), rules)
    if is_mobile(national):
        at_home = home_mobiles is not None and national in home_mobiles
        dialled = national if at_home else rules.long_distance_prefix + national
    else:
        dialled = _fixed(national, rules)
    if not is_diallable(dialled):
        raise PlatformError(Code.NUMBER_FORBIDDEN, "not a number that can be dialled")
    _check_prefixes(national, dialled, rules)
    return dialled


def is_mobile(number: str) -> bool:
    """Tell whether these are the eleven digits of a mobile."""
    return (
        len(number) == _MOBILE_DIGITS
        and number[0] == "1"
        and number[1] in _MOBILE_SECOND_DIGITS
        and number.isascii()
        and number.isdigit()
    )


def _national(number: str, rules: OutboundSettings) -> str:
    """Return a number without country code; a mobile without the long-distance prefix too."""
    for prefix in (f"+{rules.home_country}", f"{rules.international_prefix}{rules.home_country}"):
        if number.startswith(prefix):
            return _with_area(number[len(prefix) :], rules)
    if number.startswith("+"):
        return rules.international_prefix + number[1:]
    bare = number.removeprefix(rules.long_distance_prefix)
    return bare if is_mobile(bare) else number


def _with_area(significant: str, rules: OutboundSettings) -> str:
    """Give the prefix back to an area code, which an international form goes without."""
    has_none = (
        is_mobile(significant)
        or significant.startswith("0")
        or len(significant) < _MIN_AREA_AND_LOCAL_DIGITS
        or (len(significant) == _SERVICE_DIGITS and significant.startswith(_SERVICES))
    )
    return significant if has_none else rules.long_distance_prefix + significant


def _fixed(number: str, rules: OutboundSettings) -> str:
    if rules.home_area_code == "strip":
        for code in rules.home_area_codes:
            if number.startswith(code) and len(number) > len(code):
                return number[len(code) :]
    return number


def _check_prefixes(national: str, dialled: str, rules: OutboundSettings) -> None:
    forms = (national, dialled)
    forbidden = any(form.startswith(each) for each in rules.forbidden_prefixes for form in forms)
    is_abroad = dialled.startswith((rules.international_prefix, "+"))
    allowed = not rules.allowed_prefixes or any(
        form.startswith(each) for each in rules.allowed_prefixes for form in forms
    )
    if forbidden or not allowed or (is_abroad and not rules.allow_international):
        raise PlatformError(Code.NUMBER_FORBIDDEN, "by the outbound rules of the tenant")
