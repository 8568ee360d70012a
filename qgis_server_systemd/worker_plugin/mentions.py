# SPDX-License-Identifier: GPL-2.0-or-later
"""Which fields of which layers a request names, once it has the forms that are allowed. Knows
nothing of QGIS.

QGIS Server leaves out of its replies what a project hides of its layers, but filters, sorts,
draws and labels by it all the same: who may name a hidden field can find out what is in it. What
is found here may be more than a request means, and never less.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from xml.parsers import expat

from .allowed import FIELD_ELEMENTS
from .forms import ENTITY, TOKEN, character, readings, xml_of
from .rules import is_print

SAYING = frozenset(
    {
        *("FILTER", "EXP_FILTER", "SORTBY", "SLD_BODY", "PROPERTYNAME", "PROPERTIES"),
        *("REQUEST_BODY", "FORMAT_OPTIONS"),
    }
)
"""Parameters that may name fields."""

LAYERS = frozenset({"LAYERS", "LAYER", "QUERY_LAYERS", "TYPENAME", "TYPENAMES"})
KEYS = frozenset({"FEATUREID", "RESOURCEID"})
"""These name layers, too, and whatever TYPENAME says."""

WHOLE = frozenset(
    {"attribute", "attributes", "is_attribute_valid", "is_feature_valid", "eval_template"}
)
"""Functions that may see any field."""

BOTH = frozenset({"WMS", "WFS"})

PART = re.compile(r"MAP\d+:")
NAME = re.compile(r"(?:\w+:)?\w*")
WORD = re.compile(r"[^\W\d]\w*")
DIRECTION = re.compile(r"(?<![ +])[ +]++(?:A|ASC|D|DESC)$", re.IGNORECASE)
GEO_PDF = "WRITE_GEO_PDF"
PDF = "pdf"
MAY_BE_PDF = re.compile("pdf|%", re.IGNORECASE)
QUOTED = re.compile(r"\"((?:[^\"]|\"\")*)\"|'(?:[^']|'')*'")
CALLED = re.compile(r"\s*\(")
LAYER_ELEMENTS = frozenset({"Query", "Update", "Delete", "Lock"})


@dataclass
class Mention:
    """What a parameter names, as `plain` has it. `layers`: those that it is about itself, if it
    says so. `whole`: what may see any field. `words`: of a name that QGIS takes for an expression
    where it is no field's. `only`: it may name fields alone, since a database knows other names.
    `themes`: of the project, as they are written."""

    parameter: str
    fields: set[str] = field(default_factory=set)
    layers: set[str] = field(default_factory=set)
    whole: str = ""
    words: dict[str, set[str]] = field(default_factory=dict)
    only: bool = False
    themes: set[str] = field(default_factory=set)

    def name(self, text: str) -> None:
        """It names this, or what is in it."""
        self.fields.add(plain(text))
        if not NAME.fullmatch(text.strip()):
            self.words[plain(text)] = {one.casefold() for one in WORD.findall(text)}


def plain(name: str) -> str:
    """A name of a field or a layer, whatever QGIS Server takes for the same."""
    return (
        name.strip().strip('"').rpartition(":")[2].rpartition("/")[2].replace(" ", "_").casefold()
    )


def listed(text: str) -> set[str]:
    return {plain(one) for one in re.split(r"[,()]", text)} - {""}


def services(parameters: Mapping[str, str], path: str) -> frozenset[str]:
    """For which of them fields are hidden in a project: "WMS", "WFS"; both where there is no
    telling which one answers."""
    said = {text.strip().upper() for text in readings(parameters.get("SERVICE", ""))}
    # Without SERVICE, some requests are of WMS on any path.
    if said == {""} and "/wfs3" in path and not parameters.get("REQUEST"):
        said = {"WFS"}
    known = {"WMS": "WMS", "WMTS": "WMS", "WFS": "WFS"}
    return frozenset(known[one] for one in said) if said <= known.keys() else BOTH


def layers_of(parameters: Mapping[str, str], path: str) -> set[str]:
    """The layers that a request is about."""
    found: set[str] = set()
    for name, value in parameters.items():
        if PART.sub("", name) in LAYERS:
            for text in readings(value):
                found |= listed(text)
        if name in KEYS:
            for text in readings(value):
                found |= listed(",".join(one.partition(".")[0] for one in text.split(",")))
    for text in readings(path):
        _, is_one, rest = text.partition("/collections/")
        if is_one:
            found.add(plain(re.split(r"[/.]", rest)[0]))
    return found


@dataclass(frozen=True)
class Said:
    """All that a request names. `layers`: those that it is about."""

    mentions: tuple[Mention, ...] = ()
    layers: frozenset[str] = frozenset()
    services: frozenset[str] = BOTH


NOTHING = Said()


def said(parameters: Mapping[str, str], body: bytes, path: str) -> Said:
    if (
        not body
        and not MAY_BE_PDF.search(parameters.get("FORMAT", ""))
        and SAYING.isdisjoint(parameters)
        and "/collections/" not in path
        and ":" not in "".join(parameters)
    ):
        return NOTHING
    given = {name.upper(): value for name, value in parameters.items()}
    found = tuple(_mentions(given, body, path))
    return Said(found, frozenset(layers_of(given, path)), services(given, path))


def _mentions(parameters: Mapping[str, str], body: bytes, path: str) -> Iterator[Mention]:
    in_collection = any("/collections/" in text for text in readings(path))
    for name, value in parameters.items():
        bare = PART.sub("", name)
        if in_collection:
            # The value of a field is asked for by its name.
            yield Mention(name, {plain(name)})
        if bare == "FORMAT" and any(PDF in text.lower() for text in readings(value)):
            yield from _of_pdf(name, parameters)
        if bare in SAYING:
            for text in readings(value):
                yield from _of_value(name, bare, text)
    if xml_of(body) is not None:
        yield from _of_xml("the body", body.decode("utf-8", "replace"))


def _of_pdf(name: str, parameters: Mapping[str, str]) -> Iterator[Mention]:
    """QGIS Server makes a GeoPDF of each map, whatever FORMAT_OPTIONS says."""
    if not is_print(parameters.get("REQUEST", "")):
        yield Mention(name, whole="all fields in a PDF")


def _of_value(name: str, bare: str, text: str) -> Iterator[Mention]:
    if "<" in text and bare in ("FILTER", "SLD_BODY", "REQUEST_BODY"):
        for part in re.split(r"(?<=>)\s*[;)]+", text):
            for found in _of_xml(name, part[max(0, part.find("<")) :]):
                # A style says itself what layers it is for, and not in a way that is safe.
                yield replace(found, layers={"*"}) if bare == "SLD_BODY" else found
    if bare == "FILTER" and not text.lstrip().startswith(("<", "(")):
        for part in text.split(";"):
            layers, _, tokens = part.partition(":")
            fields = {plain(found.replace('""', '"')) for found in QUOTED.findall(tokens)}
            yield Mention(name, fields - {""}, listed(layers), only=True)
    elif bare == "EXP_FILTER":
        yield _of_expression(name, text)
    elif bare in ("SORTBY", "PROPERTYNAME", "PROPERTIES"):
        yield _sorted_by(name, text)
    elif bare == "FORMAT_OPTIONS":
        yield _of_options(name, text)


def _sorted_by(name: str, text: str) -> Mention:
    """The names, without a direction before or after them, if it is one."""
    found = Mention(name)
    for one in re.split(r"[,()]", text):
        bare = one.strip().lstrip("+-")
        found.name(bare)
        found.name(DIRECTION.sub("", bare))
    found.fields.discard("")
    return found


def _of_options(name: str, text: str) -> Mention:
    """A DXF has a layer for each value of a field. What a GeoPDF draws has all of its fields."""
    found = Mention(name)
    for option in text.split(";"):
        key, _, value = option.partition(":")
        if key.strip().upper() == "LAYERATTRIBUTES":
            found.fields |= listed(value)
        if key.strip().upper() == "EXPORT_THEMES":
            found.themes |= {one.strip() for one in value.split(",")} - {""}
        if key.strip().upper() == GEO_PDF and value.strip().lower() not in ("", "0", "false"):
            found.whole = GEO_PDF
    return found if not found.whole else replace(found, layers={"*"})


def _of_expression(name: str, text: str) -> Mention:
    found = Mention(name)
    for token in TOKEN.finditer(text):
        what = token[0].casefold()
        if token.lastgroup == "field":
            found.fields.add(plain(what.strip('"').replace('""', '"')))
        elif token.lastgroup == "word" and CALLED.match(text, token.end()):
            found.whole = found.whole or (what if what in WHOLE else "")
        elif token.lastgroup == "word":
            found.fields.add(what)
    return found


class _Reader:
    def __init__(self, name: str) -> None:
        self.found = Mention(name)
        self.text: list[str] | None = None
        self.is_layer = False

    def start(self, element: str, attributes: list[str]) -> None:
        local = element.rpartition(":")[2]
        names = [one.rpartition(":")[2].casefold() for one in attributes[::2]]
        given = dict(zip(names, attributes[1::2], strict=True))
        if local in LAYER_ELEMENTS:
            for text in (given.get("typename", ""), given.get("typenames", "")):
                self.found.layers |= listed(text)
        if local == "Function":
            called = given.get("name", "").strip().casefold()
            self.found.whole = self.found.whole or (called if called in WHOLE else "")
        if local in FIELD_ELEMENTS:
            self.text = []

    def data(self, text: str) -> None:
        if self.text is not None:
            self.text.append(text)

    def end(self, _: str) -> None:
        if self.text is not None:
            for text in readings("".join(self.text)):
                self.found.name(text)
                self.found.name(ENTITY.sub(character, text))
            self.text = None


def _of_xml(name: str, text: str) -> Iterable[Mention]:
    reader = _Reader(name)
    parser = expat.ParserCreate("utf-8")
    parser.ordered_attributes = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    try:
        parser.Parse(text.lstrip("\ufeff \t\r\n").encode("utf-8", "replace"), True)
    except expat.ExpatError:
        # What came before the end of it counts.
        pass
    return [reader.found]
