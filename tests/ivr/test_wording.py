from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivr.wording import Piece, cut


@pytest.mark.parametrize(
    ("text", "language", "pieces"),
    [
        ("欢迎致电95598", "zh", [("zh", "欢迎致电九五五九八")]),
        ("电费请按1，返回请按2。", "zh", [("zh", "电费请按一，返回请按二。")]),
        ("2026年12月", "zh", [("zh", "二零二六年十二月")]),
        ("用电3.5度", "zh", [("zh", "用电三点五度")]),
        ("工号0571", "zh", [("zh", "工号零五七一")]),
        ("您好，\n  欢迎", "zh", [("zh", "您好，欢迎")]),
        (
            "请按0。For English, press 9.",
            "zh",
            [("zh", "请按零。"), ("en", "For English, press 9.")],
        ),
        ("用电单位是kWh", "zh", [("zh", "用电单位是kWh")]),
        ("Call 95598 now", "en", [("en", "Call nine five five nine eight now")]),
        ("Press 9. 中文服务请按9。", "en", [("en", "Press 9."), ("zh", "中文服务请按九。")]),
        ("，。", "zh", []),
        ("，请稍候", "zh", [("zh", "请稍候")]),
        ("", "en", []),
    ],
)
def test_texts_are_cut_by_voice_and_numbers_respelled(
    text: str, language: str, pieces: list[tuple[str, str]]
) -> None:
    assert list(cut(text, language)) == [Piece(*piece) for piece in pieces]


@given(st.text(max_size=100), st.sampled_from(["zh", "en"]))
def test_no_text_breaks_cutting(text: str, language: str) -> None:
    assert all(piece.text for piece in cut(text, language))
