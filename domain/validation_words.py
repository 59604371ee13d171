"""What pydantic finds, in the words of the person who edits the file, and what to do about it."""

from __future__ import annotations

from pydantic_core import ErrorDetails, PydanticCustomError

from domain.words import Words

_NUMBER = Words("写数字", "write a number")
_WHOLE = Words("应为整数", "a whole number is expected")
_TRUTH = Words("应为 true 或 false", "true or false is expected")
_FIELDS = Words("应为“名字: 内容”的几行", "named fields are expected")
_WRITE_FIELDS = Words("写成缩进的“名字: 内容”", "write `name: value` lines, indented")
_LIST = Words("应为列表", "a list is expected")
_WRITE_LIST = Words("每项一行,以“- ”开头", "write one entry a line, each behind a dash")
_TEXT = Words("应为文字", "text is expected")
_IP = Words("不是 IP 地址或网段", "that is no IP address or network")
_WRITE_IP = Words("例如 192.0.2.10 或 192.0.2.0/28", "write it like 192.0.2.10 or 192.0.2.0/28")
_URL = Words("不是完整的网址", "that is no whole URL")
_WRITE_URL = Words("例如 http://127.0.0.1:8096", "write it like http://127.0.0.1:8096")

_WORDS: dict[str, tuple[Words, Words]] = {
    "string_type": (_TEXT, Words("写文字", "write a text")),
    "int_type": (_WHOLE, _NUMBER),
    "int_parsing": (_WHOLE, _NUMBER),
    "int_from_float": (_WHOLE, _NUMBER),
    "float_type": (Words("应为数字", "a number is expected"), _NUMBER),
    "float_parsing": (Words("应为数字", "a number is expected"), _NUMBER),
    "bool_type": (_TRUTH, Words("写 true 或 false", "write true or false")),
    "bool_parsing": (_TRUTH, Words("写 true 或 false", "write true or false")),
    "list_type": (_LIST, _WRITE_LIST),
    "tuple_type": (_LIST, _WRITE_LIST),
    "dict_type": (_FIELDS, _WRITE_FIELDS),
    "model_type": (_FIELDS, _WRITE_FIELDS),
    "model_attributes_type": (_FIELDS, _WRITE_FIELDS),
    "ip_v4_network": (_IP, _WRITE_IP),
    "ip_v6_network": (_IP, _WRITE_IP),
    "url_parsing": (_URL, _WRITE_URL),
    "url_scheme": (_URL, _WRITE_URL),
}
# Types whose context holds the bound that was broken.
_BOUNDS = {
    "greater_than_equal": ("ge", "最小是", "it is at least"),
    "greater_than": ("gt", "必须大于", "it is above"),
    "less_than_equal": ("le", "最大是", "it is at most"),
    "less_than": ("lt", "必须小于", "it is below"),
    "string_pattern_mismatch": ("pattern", "写法必须是", "its pattern is"),
    "string_too_short": ("min_length", "最少字数是", "its least length is"),
    "string_too_long": ("max_length", "最多字数是", "its greatest length is"),
    "too_short": ("min_length", "最少项数是", "the least number of entries is"),
    "too_long": ("max_length", "最多项数是", "the greatest number of entries is"),
    "literal_error": ("expected", "只能是", "it is"),
    "enum": ("expected", "只能是", "it is"),
}


_EXPLAINED = "explained"


def explained(reason: Words, remedy: Words) -> PydanticCustomError:
    """Return the error for a validator to raise that knows reason and remedy itself."""
    return PydanticCustomError(
        _EXPLAINED,
        "{en}",
        {"zh": reason.zh, "en": reason.en, "remedy_zh": remedy.zh, "remedy_en": remedy.en},
    )


def validation_words(fault: ErrorDetails) -> tuple[Words, Words]:
    """Return reason and remedy of a value that is wrong."""
    if fault["type"] == _EXPLAINED:
        told = fault["ctx"]
        return Words(told["zh"], told["en"]), Words(told["remedy_zh"], told["remedy_en"])
    known = _WORDS.get(fault["type"])
    if known is not None:
        return known
    bound = _BOUNDS.get(fault["type"])
    if bound is not None:
        name, zh, en = bound
        limit = str(fault.get("ctx", {}).get(name, ""))
        reason = Words(
            f"值不合要求,{zh} {limit.replace(' or ', ' 或 ')}", f"the value is wrong: {en} {limit}"
        )
        return reason, Words("按此改正", "correct it so")
    message = fault["msg"].removeprefix("Value error, ")
    return Words(f"值不合要求({message})", message), Words("按说明改正", "see docs")
