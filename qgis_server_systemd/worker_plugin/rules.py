# SPDX-License-Identifier: GPL-2.0-or-later
"""What a request may not ask of QGIS Server, whoever sends it. Knows nothing of QGIS.

QGIS Server evaluates expressions, fetches styles and graphics, and draws pages that a request
names, with the rights of the worker. What it does to its parameters is not to be guessed: it
decodes them a second time before WMS and WFS see them (QgsServerParameters::urlQuery), ends a
name at a NUL, and resolves the entities of XML. So each value is looked at in every reading.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

Parameters = Mapping[str, str]
"""By their names, as QGIS Server has them: in capitals, decoded."""

DECODED = 3
"""How often a value is decoded at most; QGIS Server does so twice."""

UNSAFE_GROUPS = frozenset(
    {"Files and Paths", "Map Layers", "Rasters", "General", "Layout", "Processing", "Sensors"}
)
"""Groups of functions of QGIS's expressions: they look at files, the environment, variables
and other layers, or evaluate a text. Their names are in the user's manual of QGIS."""

UNSAFE_FUNCTIONS = frozenset(
    {
        *("aggregate", "relation_aggregate", "get_feature", "get_feature_by_id"),
        *("represent_value", "represent_attributes", "sqlite_fetch_and_increment"),
        *("maptip", "display_expression", "exif_geotag"),
        *("env", "eval", "eval_template", "var", "exif", "layer_property", "load_layer"),
        *("overlay_contains", "overlay_crosses", "overlay_disjoint", "overlay_equals"),
        *("overlay_intersects", "overlay_touches", "overlay_within", "overlay_nearest"),
    }
)
"""The same in other groups, and those that must not be missed whatever QGIS says of them."""

SAFE_FUNCTIONS = frozenset({"mime_type", "with_variable"})
"""Of unsafe groups: they see nothing but their arguments."""

OWN_VARIABLES = "geometry|feature|id|element|counter|value"
"""A regular expression: variables that say nothing but of the feature at hand."""

WMS = frozenset(
    {
        *("BBOX", "BGCOLOR", "CRS", "SRS", "WIDTH", "HEIGHT", "EXTENT", "FORMAT", "INFO_FORMAT"),
        *("LAYERS", "LAYER", "QUERY_LAYERS", "STYLES", "STYLE", "SLD", "SLD_BODY", "RULE"),
        *("FILTER", "FILTER_GEOM", "SELECTION", "TEMPLATE", "ATLAS_PK", "FORMAT_OPTIONS"),
        *("HIGHLIGHT_GEOM", "HIGHLIGHT_SYMBOL", "HIGHLIGHT_LABELSTRING", "HIGHLIGHT_LABELFONT"),
    }
)
"""Parameters of WMS in which a print is no different from a map."""

PRINTS = frozenset({"getprint", "getprintatlas"})

SIDES = frozenset({"WIDTH", "HEIGHT"})
RESOLUTIONS = frozenset({"DPI", "MAP_RESOLUTION"})
SIZED = SIDES | RESOLUTIONS | {"FORMAT_OPTIONS"}
OPTION = re.compile(r"dpi\s*:\s*([0-9]+)", re.IGNORECASE)
"""In FORMAT_OPTIONS."""
NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2}(?![0-9]))?")

NAMES = re.compile("[A-Z0-9_]*")
"""Of parameters, one after the other, that are about no single map of a print."""
HARMLESS = re.compile(r"(?:[A-Za-z0-9 ,./:;_]|-(?!-))*")
"""A text that has one reading, and in which a rule can find but numbers, dots and REFERENCE."""
REFERENCE = "external_wms:"
"""In small letters: begins the name of a layer that is on another server."""

ENCODED = re.compile("%[0-9A-Fa-f]{2}")
PART = re.compile(r"MAP\d+:")
DOCTYPE = re.compile(r"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)
ENTITY = re.compile("&(?:#([0-9]+)|#[xX]([0-9A-Fa-f]+)|(amp|lt|gt|quot|apos));")
ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
MARKUP = (("<!--", "-->", False), ("<?", "?>", False), ("<![CDATA[", "]]>", True))
"""What may stand in the middle of a word of XML: its ends, and whether it is text itself."""
GRAPHIC = re.compile(
    r"<\s*(?:[^\s<>:]*:)?(?:ExternalGraphic|OnlineResource|InlineContent)\b", re.IGNORECASE
)
WORDS = "and|or|not|is|in|i?like|between|case|when|then|else"
VARIABLE = re.compile(
    rf"(?<![\w.])(?:[\d.][\w.]*|{WORDS})?@(?!(?:{OWN_VARIABLES})\b)[^\W\d]", re.IGNORECASE
)
"""A variable, which may come right after a number or one of these words; not the end of a mail
address."""
GRID = re.compile(r"\b\w*grids\s*=|\binit\s*=\s*/", re.IGNORECASE)
"""A file that PROJ reads when an expression transforms to a system that the request defines."""
CALL = re.compile(r"(?<![\w$])([^\W\d]\w*)\s*(?:\(|/\*|--)")
"""The name of a function, its arguments, or a comment before them (qgsexpressionlexer.ll)."""
FUNCTION = re.compile(r"\bname\s*=\s*[\"']\s*(\w+)")
"""<ogc:Function name="env">"""


def unsafe(functions: Iterable[tuple[str, Iterable[str], Iterable[str]]]) -> frozenset[str]:
    """The functions that a request may not use, of all those of QGIS: name, aliases, groups."""
    found = set(UNSAFE_FUNCTIONS)
    for name, aliases, groups in functions:
        if UNSAFE_GROUPS.intersection(groups) and name not in SAFE_FUNCTIONS:
            found.update((name, *aliases))
    return frozenset(name.casefold() for name in found)


def _character(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if name:
        return ENTITIES[name]
    number = int(decimal) if decimal else int(hexadecimal, 16)
    return chr(number) if number <= sys.maxunicode else ""


def plain(text: str) -> str:
    """XML with its tags, but as it is understood: without comments, entities resolved. Takes
    time in proportion to its length, whatever a client sends."""
    parts, at = [], 0
    while (begin := text.find("<", at)) >= 0:
        parts.append(text[at:begin])
        opening, closing, is_content = next(
            (markup for markup in MARKUP if text.startswith(markup[0], begin)), ("<", "", True)
        )
        inside = begin + len(opening)
        end = text.find(closing, inside) if closing else inside
        if end < 0:  # which is no XML
            at = begin
            break
        parts.append(text[inside:end] if closing and is_content else "" if closing else "<")
        at = end + len(closing)
    parts.append(text[at:])
    return ENTITY.sub(_character, "".join(parts))


def readings(value: str) -> Iterator[str]:
    """The text, and all that QGIS Server may make of it."""
    for _ in range(DECODED):
        yield value
        if "<" in value and (text := plain(value)) != value:
            yield text
        decoded = unquote(value)
        if decoded == value:
            return
        value = decoded


def is_harmless(parameters: Parameters, path: str) -> bool:
    """Can no rule but that of the sizes find anything? So it is with most requests. All rules
    would take ten times as long, and while a map is drawn, what is done here falls out of the
    processor's caches: the less, the better."""
    text = ";".join((path, *parameters.values()))
    if not (NAMES.fullmatch("".join(parameters)) and HARMLESS.fullmatch(text)):
        return False
    return ".." not in text and REFERENCE not in text.lower() and "SLD" not in parameters


def is_print(request: str) -> bool:
    return any(text.lower() in PRINTS for text in readings(request))


def is_text(request: str, name: str) -> bool:
    """Is it what a layout shall show in a print, such as a title? In it QGIS Server looks for
    [% expressions %] alone."""
    return request.lower() in PRINTS and PART.sub("", name) not in WMS


@dataclass(frozen=True)
class Rules:
    """`functions`: those of expressions that a request may not use. `remote`: may it refer to
    what QGIS Server then fetches or reads? `side`: pixels that an image may be wide or high.
    `dpi`: dots per inch that it may have."""

    functions: frozenset[str] = UNSAFE_FUNCTIONS
    remote: bool = False
    side: int = sys.maxsize
    dpi: int = sys.maxsize

    def refusal(self, parameters: Parameters, body: bytes, path: str) -> str:
        """Why the request is refused; empty if it is not."""
        if not body and is_harmless(parameters, path):
            sized = (name for name in parameters if name in SIZED)
            found = (self.of_size(name, parameters[name]) for name in sized)
            return next(filter(None, found), "")
        if any(".." in text.split("/") for text in readings(path)):
            return "the path has dots"
        request = parameters.get("REQUEST", "")
        api = any("/collections/" in text for text in readings(path))
        for name, value in parameters.items():
            if "\0" in name or ENCODED.search(name):
                return "the name of a parameter is coded twice"
            if value and (reason := self.of_value(name.upper(), value, request, api=api)):
                return reason
        return self.of_body(body, parameters)

    def of_value(self, name: str, value: str, request: str, *, api: bool) -> str:
        bare = PART.sub("", name)
        if bare == "SLD" and not self.remote:
            return "SLD refers to another place"
        for text in readings(value):
            if reason := self.of_size(bare, text):
                return reason
            if bare == "FILE_NAME" and re.search(r'[\x00-\x1f\x7f"]', text):
                return "FILE_NAME is no name of a file"
            if api and "\\" in text:
                # QGIS Server puts these into expressions, and forgets that \ quotes a quote.
                return f"{bare} has a backslash"
            if is_text(request, name):
                if "[%" in text:
                    return f"{bare} has an expression"
            elif reason := self.of_text(bare, text, request):
                return reason
        return ""

    def of_size(self, name: str, value: str) -> str:
        """WMS_MAX_WIDTH and its like are for maps and legends alone."""
        if name in SIDES:
            limit, found = self.side, NUMBER.findall(value)
        elif name in RESOLUTIONS:
            limit, found = self.dpi, NUMBER.findall(value)
        else:
            limit, found = self.dpi, OPTION.findall(value) if name == "FORMAT_OPTIONS" else []
        return f"{name} is more than {limit}" if any(float(n) > limit for n in found) else ""

    def of_text(self, name: str, text: str, request: str) -> str:
        if DOCTYPE.search(text):
            return f"{name} has a document type"
        if not self.remote and (REFERENCE in text.lower() or GRAPHIC.search(text)):
            return f"{name} refers to another place"
        named = self.uses(FUNCTION, text)
        if name == "REQUEST_BODY" and request.lower().endswith("transaction"):
            # Its values may be any text; there are no expressions but filters.
            found = named
        else:
            seen = VARIABLE.search(text) or GRID.search(text)
            found = named or self.uses(CALL, text) or bool(seen)
        return f"{name} has an expression that is not for requests" if found else ""

    def uses(self, pattern: re.Pattern[str], text: str) -> bool:
        """Is one of the names that the pattern finds a function that requests may not use?"""
        return any(found[1].casefold() in self.functions for found in pattern.finditer(text))

    def of_body(self, body: bytes, parameters: Parameters) -> str:
        """A body that QGIS Server has not made parameters of, but a service may read."""
        if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            return ""
        text = body.decode("utf-8", "replace")
        if text.replace("+", "%2B") == parameters.get("REQUEST_BODY"):
            return ""
        request = parameters.get("REQUEST", "")
        reasons = (self.of_text("REQUEST_BODY", one, request) for one in readings(text))
        return next(filter(None, reasons), "")
