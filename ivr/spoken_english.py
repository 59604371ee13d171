"""English words for numbers, money, dates and times."""

from __future__ import annotations

from datetime import date, time

_SMALL = (  # noqa: SIM905 - words read better than quotes
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_SCALES = ((10**15, "quadrillion"), (10**12, "trillion"), (10**9, "billion"), (10**6, "million"),
           (1000, "thousand"))  # fmt: skip
_MONTHS = (  # noqa: SIM905 - words read better than quotes
    "January February March April May June July August September October November December"
).split()
_ORDINALS = (  # noqa: SIM905 - words read better than quotes
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth twenty-first "
    "twenty-second twenty-third twenty-fourth twenty-fifth twenty-sixth twenty-seventh "
    "twenty-eighth twenty-ninth thirtieth thirty-first"
).split()


def _below_hundred(number: int) -> str:
    if number < 20:
        return _SMALL[number]
    tens, units = divmod(number, 10)
    return f"{_TENS[tens]}-{_SMALL[units]}" if units else _TENS[tens]


def _below_thousand(number: int) -> list[str]:
    hundreds, rest = divmod(number, 100)
    pieces = [f"{_SMALL[hundreds]} hundred"] if hundreds else []
    if rest:
        pieces += ["and", _below_hundred(rest)] if hundreds else [_below_hundred(rest)]
    return pieces


class English:
    """How English says values; implements `ivr.spoken.Words`."""

    minus = "minus"
    point = "point"

    def cardinal(self, number: int) -> list[str]:
        """Read 0 to 10^16 - 1 in British style: one hundred and five."""
        if number == 0:
            return ["zero"]
        pieces: list[str] = []
        for size, name in _SCALES:
            group, number = divmod(number, size)
            if group:
                pieces += [*_below_thousand(group), name]
        if number:
            if pieces and number < 100:
                pieces.append("and")
            pieces += _below_thousand(number)
        return pieces

    def money(self, yuan: int, fen: int) -> list[str]:
        """Read yuan as a decimal: one hundred and twenty-eight point five six yuan."""
        pieces = self.cardinal(yuan)
        if fen:
            pieces = [*pieces, self.point, *self.digits(f"{fen:02d}".rstrip("0"))]
        return [*pieces, "yuan"]

    def date(self, day: date) -> list[str]:
        """Read November twenty-first, twenty twenty-six."""
        return [_MONTHS[day.month - 1], _ORDINALS[day.day - 1], self._year(day.year)]

    def month_of_year(self, year: int, month: int) -> list[str]:
        """Read November, twenty twenty-six."""
        return [_MONTHS[month - 1], self._year(year)]

    def _year(self, year: int) -> str:
        century, rest = divmod(year, 100)
        if century == 0 or (century % 10 == 0 and rest < 10):  # two thousand and five
            return " ".join(self.cardinal(year))
        if rest == 0:
            return f"{_below_hundred(century)} hundred"
        return f"{_below_hundred(century)} {'oh ' if rest < 10 else ''}{_below_hundred(rest)}"

    def time(self, moment: time) -> list[str]:
        """Read by the 12-hour clock: two thirty p.m., eight oh five a.m., twelve a.m."""
        hour = _below_hundred((moment.hour - 1) % 12 + 1)
        half = "a.m." if moment.hour < 12 else "p.m."
        if not moment.minute:
            return [f"{hour} {half}"]
        minute = _below_hundred(moment.minute)
        return [hour, f"oh {minute}" if moment.minute < 10 else minute, half]

    def digits(self, text: str) -> list[str]:
        """Read digits and Latin letters one by one."""
        return [
            _SMALL[int(char)] if char.isdigit() else char.upper()
            for char in text
            if char.isascii() and char.isalnum()
        ]

    def phone(self, text: str) -> list[str]:
        """Read one by one."""
        return self.digits(text)
