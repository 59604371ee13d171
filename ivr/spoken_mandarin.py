"""Mandarin words for numbers, money, dates and times."""

from __future__ import annotations

from datetime import date, time

_DIGITS = "零一二三四五六七八九"
_MYRIADS = ("", "万", "亿", "万亿")


def _below_hundred(number: int, *, inside: bool) -> str:
    """1 to 99 as one piece; inside a longer number ten is 一十."""
    tens, units = divmod(number, 10)
    ten = "" if not tens else "十" if tens == 1 and not inside else _DIGITS[tens] + "十"
    return ten + (_DIGITS[units] if units else "")


def _below_myriad(number: int, *, inside: bool) -> list[str]:
    """1 to 9999; `inside` when something was said before it."""
    pieces: list[str] = []
    thousands, rest = divmod(number, 1000)
    hundreds, last = divmod(rest, 100)
    if thousands:
        pieces.append(("两" if thousands == 2 and not inside else _DIGITS[thousands]) + "千")
    if hundreds:
        pieces.append(_DIGITS[hundreds] + "百")
    elif thousands and last:
        pieces.append("零")
    if last:
        if hundreds and last < 10:
            pieces.append("零")
        pieces.append(_below_hundred(last, inside=inside or bool(pieces)))
    return pieces


class Mandarin:
    """How Mandarin says values; implements `ivr.spoken.Words`."""

    minus = "负"
    point = "点"

    def cardinal(self, number: int) -> list[str]:
        """Read 0 to 10^16 - 1: zeros between groups become one 零, a leading 2 of 千万亿 is 两."""
        if number == 0:
            return ["零"]
        pieces: list[str] = []
        skipped = False  # a gap of zeros was passed and wants its 零
        for power in (3, 2, 1, 0):
            group = number // 10_000**power % 10_000
            if not group:
                skipped = skipped or bool(pieces)
                continue
            if pieces and (skipped or group < 1000):
                pieces.append("零")
            skipped = False
            if group == 2 and power and not pieces:
                pieces.append("两")
            else:
                pieces += _below_myriad(group, inside=bool(pieces))
            # 万亿 is said once at its end: 一万亿, but 一万零五亿
            unit = _MYRIADS[power]
            if power == 3 and number // 10**8 % 10_000:
                unit = "万"
            if unit:
                pieces.append(unit)
        return pieces

    def counted(self, number: int) -> list[str]:
        """Read a number before a measure word: 两元, 两点."""
        return ["两"] if number == 2 else self.cardinal(number)

    def money(self, yuan: int, fen: int) -> list[str]:
        """Read 元角分: 128.56 is 一百二十八元五角六分, 10.05 is 十元零五分."""
        jiao, fen = divmod(fen, 10)
        pieces = [*self.counted(yuan), "元"] if yuan or not (jiao or fen) else []
        if jiao:
            pieces.append(("两" if jiao == 2 and not pieces else _DIGITS[jiao]) + "角")
        if fen:
            if yuan and not jiao:
                pieces.append("零")
            pieces.append(("两" if fen == 2 and not pieces else _DIGITS[fen]) + "分")
        return pieces

    def date(self, day: date) -> list[str]:
        """Read 二零二六年, 十一月, 二十一日."""
        return [
            *self.month_of_year(day.year, day.month),
            _below_hundred(day.day, inside=False) + "日",
        ]

    def month_of_year(self, year: int, month: int) -> list[str]:
        """Read 二零二六年, 十一月."""
        return [
            "".join(self.digits(str(year))) + "年",
            _below_hundred(month, inside=False) + "月",
        ]

    def time(self, moment: time) -> list[str]:
        """Read by the 24-hour clock: 十四点三十分, 八点零五分, 两点整."""
        hour = "".join(self.counted(moment.hour)) + "点"
        if not moment.minute:
            return [hour + "整"]
        minute = _below_hundred(moment.minute, inside=False)
        return [hour, f"零{minute}分" if moment.minute < 10 else f"{minute}分"]

    def digits(self, text: str) -> list[str]:
        """Read digits and Latin letters one by one."""
        return [
            _DIGITS[int(char)] if char.isdigit() else char.upper()
            for char in text
            if char.isascii() and char.isalnum()
        ]

    def phone(self, text: str) -> list[str]:
        """Read one by one with 幺 for 1."""
        return ["幺" if piece == "一" else piece for piece in self.digits(text)]
