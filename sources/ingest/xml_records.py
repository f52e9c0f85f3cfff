"""Records of an XML file: elements of one name, read as a stream; XPath leads to their fields.

lxml, because fields are told by XPath 1.0, of which defusedxml's ElementTree has a fraction. It is set so that nothing that XML can be
attacked with works: no DTD is loaded, no entity resolved, no network used, no huge text or depth taken, and a document with a
DOCTYPE is refused as soon as its root begins. Until then it is fed in pieces too small to hold a bomb.
"""

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from lxml import etree

from tillstream.sources.ingest.json_records import each_of, number_text
from tillstream.sources.ingest.mapping import Mapping, Xml
from tillstream.sources.ingest.mapping_rules import Place
from tillstream.sources.ingest.rows import RAW_CHARS_MAX, BadField, Passed, Row, Stop, Unreadable

PIECE = 64 * 1024
FIRST_PIECE = 512
"""Bytes fed at a time while the root has not begun."""

RECORD_BYTES_MAX = 16 * 1024 * 1024
RECORD_ELEMENTS_MAX = 500_000
"""Between the ends of two records: three times the largest receipt, and they bound the memory of a file that has none."""

Paths = dict[str, Any]
Kinds = dict[str, tuple[Any, Paths]]


class XmlRecord:
    """One record, line or tender; `outer` is the record that holds it."""

    __slots__ = ("element", "kinds", "number", "outer", "paths")

    def __init__(self, number: int, element: Any, paths: Paths, kinds: Kinds, outer: "XmlRecord | None" = None) -> None:
        self.number = number
        self.element = element
        self.paths = paths
        self.kinds = kinds
        self.outer = outer

    @property
    def raw(self) -> str:
        return str(etree.tostring(self.element, encoding="unicode", with_tail=False))[:RAW_CHARS_MAX]

    def field(self, name: str) -> str:
        if name not in self.paths and self.outer is not None:
            return self.outer.field(name)
        path = self.paths[name]
        return text_of(evaluated(path, self.element), path.path)

    def parts(self, name: str) -> Sequence[Row]:
        path, fields = self.kinds[name]
        found = evaluated(path, self.element)
        if not isinstance(found, list) or not all(isinstance(element, etree._Element) for element in found):
            raise BadField(f"{path.path} leads to no elements", "correct `each` in the mapping")
        return [XmlRecord(self.number, element, fields, self.kinds, self) for element in found]


def xml_records(stream: BinaryIO, mapping: Mapping) -> Iterator[XmlRecord | Unreadable | Passed]:
    """The records of an XML file.

    Raises:
        Stop: the document is not well-formed, has a DOCTYPE, or no records.
    """
    form = mapping.xml or Xml(record="")
    paths, kinds = compiled(mapping.fields, form), each_of(mapping, lambda each, fields: (xpath(each, form), compiled(fields, form)))
    number = 0
    for number, element in enumerate(elements(stream, qualified(form)), 1):
        yield XmlRecord(number, element, paths, kinds)
    if number == 0:
        raise Stop(f"the document has no element {form.record}", "correct xml.record in the mapping; in a namespace it needs a prefix")


def elements(stream: BinaryIO, name: str) -> Iterator[Any]:
    """The elements of a name, each whole when it comes and gone when the next is asked for.

    Those inside of another are part of it. Raises Stop.
    """
    parser = etree.XMLPullParser(
        events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip
    root, depth, kept = None, 0, Kept()
    pending, begun = 0, 0
    try:
        while piece := stream.read(PIECE if root is not None else FIRST_PIECE):
            parser.feed(piece)
            pending += len(piece)
            for event, element in parser.read_events():
                if root is None:
                    root = element
                    check_no_doctype(root)
                begun += event == "start"
                if element.tag != name:
                    continue
                depth += 1 if event == "start" else -1
                if event == "end" and depth == 0:
                    yield element
                    kept.let_go(element)
                    pending, begun = 0, 0
            if pending > RECORD_BYTES_MAX or begun > RECORD_ELEMENTS_MAX:
                raise Stop(f"{begun} elements in {pending} bytes without the end of a record", "correct xml.record in the mapping")
        parser.close()
    except etree.XMLSyntaxError as error:
        raise Stop(f"not well-formed XML: {error.msg}", "export the file again") from None


class Kept:
    """What of the tree stays in memory: elements before the first record, for paths that lead there, and the latest record."""

    def __init__(self) -> None:
        self.parent: Any = None
        self.before = 0

    def let_go(self, element: Any) -> None:
        """Empties a record, and removes what lies between it and those before the first."""
        parent = element.getparent()
        element.clear()
        if parent is None:
            return
        place = parent.index(element)
        if parent is not self.parent:
            self.parent, self.before = parent, place
        del parent[self.before : place]


def check_no_doctype(root: Any) -> None:
    """Raises Stop where the document has a DOCTYPE."""
    if root.getroottree().docinfo.internalDTD is not None or root.getroottree().docinfo.doctype:
        raise Stop("the document has a DOCTYPE, which can define entities", "export it without; data need none")


def qualified(form: Xml) -> str:
    """The name of records as the parser tells it, `{namespace}name`."""
    prefix, colon, name = form.record.rpartition(":")
    return f"{{{form.namespaces[prefix]}}}{name}" if colon else name


def xpath(text: str, form: Xml) -> Any:
    return etree.XPath(text, namespaces=form.namespaces, smart_strings=False)


def compiled(fields: dict[str, Place], form: Xml) -> Paths:
    """The fields' expressions."""
    return {name: xpath(place, form) for name, place in fields.items() if isinstance(place, str)}


def evaluated(path: Any, element: Any) -> Any:
    """What an expression leads to. Raises BadField."""
    try:
        return path(element)
    except etree.XPathError as error:
        raise BadField(f"{path.path}: {error}", "correct the path in the mapping") from None


def text_of(found: Any, path: str) -> str:
    """The text of the first node, as XPath's own string() takes it. Raises BadField where it is none."""
    if isinstance(found, list):
        if not found:
            return ""
        found = found[0]
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, str):
        return found.strip()
    if isinstance(found, etree._Element):
        return "".join(found.itertext()).strip()
    return number_text(found, path)
