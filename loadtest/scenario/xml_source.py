"""XML as a tree with the line of every element; nothing outside the file is ever read."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat  # entities are refused below, and external ones never fetched

from domain.words import Words

_DEEPEST = 16
_MOST_ELEMENTS = 10_000


class XmlError(Exception):
    """The text is no XML that we accept; `line` counts from 1."""

    def __init__(self, line: int, reason: Words, remedy: Words) -> None:
        super().__init__(f"line {line}: {reason.en}")
        self.line, self.reason, self.remedy = line, reason, remedy


@dataclass(slots=True)
class Element:
    """An element, what stands in it, and where."""

    name: str
    line: int
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)
    cdata: str = ""
    cdata_line: int = 0
    text: str = ""
    """Text outside of CDATA."""


def parse_xml(data: bytes) -> Element:
    """Return the root element; XmlError for what is no XML, or declares entities."""
    reader = _Reader()
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        why = expat.errors.messages[error.code]
        raise XmlError(
            error.lineno,
            Words(f"不是正确的 XML:{why}", f"not XML: {why}"),
            Words("改正该处的 XML 写法", "mend the XML there"),
        ) from None
    return reader.root


class _Reader:
    def __init__(self) -> None:
        self.root = Element("", 1)
        self._open: list[Element] = []
        self._count = 0
        self._in_cdata = False
        self.parser = expat.ParserCreate()
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartCdataSectionHandler = self._start_cdata
        self.parser.EndCdataSectionHandler = self._end_cdata
        self.parser.EntityDeclHandler = self._refuse_entity
        self.parser.SkippedEntityHandler = self._refuse_entity

    def _error(self, reason: Words, remedy: Words) -> XmlError:
        return XmlError(self.parser.CurrentLineNumber, reason, remedy)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= _DEEPEST or self._count > _MOST_ELEMENTS:
            reason = Words("文件太大或嵌套太深", "the document is too large or too deep")
            raise self._error(reason, Words("缩短它", "shorten it"))
        element = Element(name, self.parser.CurrentLineNumber, attributes)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, _name: str) -> None:
        self._open.pop()

    def _start_cdata(self) -> None:
        self._in_cdata = True

    def _end_cdata(self) -> None:
        self._in_cdata = False

    def _characters(self, text: str) -> None:
        element = self._open[-1]
        if not self._in_cdata:
            element.text += text
            return
        if not element.cdata:
            element.cdata_line = self.parser.CurrentLineNumber
        element.cdata += text

    def _refuse_entity(self, name: str, *_: object) -> None:
        reason = Words(f"不能声明或引用实体 {name}", f"the entity {name} is not allowed")
        raise self._error(
            reason, Words("把内容直接写在该处", "write what it stands for in its place")
        )
