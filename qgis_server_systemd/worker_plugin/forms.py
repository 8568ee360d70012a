# SPDX-License-Identifier: GPL-2.0-or-later
"""Parses the values of requests that are more than a pattern can tell: filters, expressions,
XML. Each function says what is wrong with a value, in the words that follow its name in a
refusal, or nothing. Takes time in proportion to the length of the value. Knows nothing of QGIS.
"""

import json
import re
from collections.abc import Collection, Iterator
from urllib.parse import unquote
from xml.parsers import expat

from .allowed import (
    CODE,
    EXPRESSION_WORDS,
    FIELD_ELEMENTS,
    FILTER_ELEMENTS,
    FILTER_WORDS,
    NUMBER,
    OWN_VARIABLES,
    REMOTE_ELEMENTS,
    STRICT_ELEMENTS,
    STYLE_ELEMENTS,
)

DECODED = 3
"""How often a value is decoded at most; QGIS Server does so twice."""

CRS = re.compile(CODE, re.IGNORECASE)
BAD_CRS = "is not the code of a reference system such as EPSG:4326"
REMOTE = "refers to another place (setting remote_references)"

ENTITY = re.compile("&(?:#([0-9]{1,7})|#[xX]([0-9A-Fa-f]{1,6})|(amp|lt|gt|quot|apos));")
ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}


def character(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if name:
        return ENTITIES[name]
    number = int(decimal) if decimal else int(hexadecimal, 16)
    return chr(number) if number <= 0x10FFFF else ""


def readings(value: str) -> Iterator[str]:
    """The text, and all that QGIS Server may make of it by decoding it again."""
    for _ in range(DECODED):
        yield value
        if "%" not in value or (decoded := unquote(value)) == value:
            return
        value = decoded


# ---- Filters of WMS


def filter_pattern(extra: Collection[str] = ()) -> re.Pattern[str]:
    """Of a whole FILTER that is no XML. `extra`: words that the administrator allows. Without
    backslashes and semicolons in literals: databases, and QGIS, read those in several ways. A
    name in quotes before a bracket would be a function's, before a literal a type's."""
    words = "|".join(re.escape(word) for word in (*FILTER_WORDS, *extra) if word)
    token = (
        r"\s++|(?:\"(?:[^\"\\;]|\"\")*+\"|'(?:[^'\\;]|'')*+')(?!\s*+['\"(])"
        rf"|[(),%]|[<>!]?=|<>|[<>]|{NUMBER}(?![\w.$])|IN(?=\s*+\()|(?:{words})(?![\w$])"
    )
    layers = r"[^:;'\"\\<>\x00-\x1f\x7f]*+"
    return re.compile(rf"(?:;|{layers}:(?:{token})*+(?:;|$))*+", re.IGNORECASE)


HIDDEN_FILTER = re.compile(r"\(\s*<|<[^\s<>]{0,20}Filter", re.IGNORECASE)
"""In a value that is no XML, QGIS 3.40 would find XML there."""
SPLIT_TEXT = re.compile(r";[^<>;]*:")
"""In XML: QGIS 3.40 takes what follows the semicolon for a filter of another kind."""
BETWEEN = re.compile(r"(?<=>)\s*;\s*(?=<|$)")
"""Two documents of XML."""


def ogc_filters(text: str) -> list[str]:
    """Those of (<Filter>…</Filter>)(), one for each layer, split as QGIS 3.40 does; empty if the
    text is something else."""
    found: list[str] = []
    at = 0
    while at < len(text):
        end = text.find("Filter>)", at) if text.startswith("(<", at) else -1
        if text.startswith("()", at):
            end = at - 6
            found.append("")
        elif end < 0:
            return []
        else:
            found.append(text[at + 1 : end + 7])
        at = end + 8
    return found


def filters(value: str, pattern: re.Pattern[str], functions: Collection[str]) -> str:
    """FILTER, of WMS and WFS."""
    text = value.strip()
    if not text.startswith(("<", "(<", "()")):
        if HIDDEN_FILTER.search(text) or not pattern.fullmatch(text):
            return (
                "is not of names in double quotes, literals in single ones, numbers, comparisons"
                " and words such as AND (variable QGIS_SERVER_ALLOWED_EXTRA_SQL_TOKENS)"
            )
        return ""
    parts = ogc_filters(text) if text.startswith("(") else BETWEEN.split(text)
    if not parts:
        return "is not one OGC filter for each layer"
    if any(SPLIT_TEXT.search(part) for part in parts):
        return "has a semicolon in a text"
    reasons = (xml(part, "filter", functions) for part in parts if part)
    return next(filter(None, reasons), "")


# ---- Expressions

TOKEN = re.compile(
    r"""
    (?P<space>\s++)
    |(?P<string>'(?:[^'\\]|\\.|'')*+')
    |(?P<field>"(?:[^"]|"")*+")
    |(?P<comment>--|/\*)
    |(?P<variable>@\w*+)
    |(?P<special>\$\w++)
    |(?P<number>(?:0[xX][0-9a-fA-F]++|[0-9]++(?:\.[0-9]*+)?(?:[eE][+-]?[0-9]++)?|\.[0-9]++))
    |(?P<word>[^\W\d]\w*+)
    |(?P<sign>[-+*/^%=<>!~|(),.\[\]:;])
    """,
    re.VERBOSE | re.DOTALL,
)
"""As qgsexpressionlexer.ll has them."""
VARIABLE = re.compile(rf"@(?:{OWN_VARIABLES})", re.IGNORECASE)
TRANSFORM = "transform"


def expression(value: str, functions: Collection[str]) -> str:
    """EXP_FILTER: what it calls must be among `functions`. QGIS 3.40 takes what is between
    semicolons for expressions of their own, and none of them if one has an error."""
    whole = _tokens(value)
    if whole is None or value.lstrip().startswith("<"):
        return "is no expression"
    parts = [_tokens(part) for part in value.split(";")] if ";" in value else []
    understood = [part for part in parts if part is not None]
    reasons = (_calls(one, functions) for one in (whole, *understood))
    if len(understood) < len(parts):
        return _calls(whole, functions)
    return next(filter(None, reasons), "")


def _tokens(text: str) -> list[tuple[str, str]] | None:
    """By kind and text, without spaces; None where QGIS would find none."""
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            return None
        at = found.end()
        if found.lastgroup and found.lastgroup != "space":
            tokens.append((found.lastgroup, found[0]))
    return tokens


def _calls(tokens: list[tuple[str, str]], functions: Collection[str]) -> str:
    if not _have_codes(tokens):
        return f"has a call of {TRANSFORM} whose reference systems are no codes"
    for number, (kind, what) in enumerate(tokens):
        name, is_call = what.casefold(), tokens[number + 1 : number + 2] == [("sign", "(")]
        if kind == "comment":
            return "is an expression with a comment"
        if kind == "variable" and not VARIABLE.fullmatch(what):
            return f"has the variable {what[:40]}, which is not for requests"
        if kind not in ("word", "special") or not is_call:
            continue
        if kind == "special" or (name not in EXPRESSION_WORDS and name not in functions):
            return f"has the function {what[:40]}, which is not for requests"
    return ""


def _have_codes(tokens: list[tuple[str, str]]) -> bool:
    """Are the second and third argument of each call of transform codes of reference systems?"""
    # Of each bracket that is open: is it of such a call? And its arguments, of each as many
    # tokens as tell whether it is one alone.
    brackets: list[tuple[bool, list[list[tuple[str, str]]]]] = [(False, [[]])]
    before = ("", "")
    for token in tokens:
        if token[0] == "sign" and token[1] in ")]":
            is_transform, arguments = brackets.pop()
            if is_transform and not _are_codes(arguments):
                return False
            brackets = brackets or [(False, [[]])]
        _, arguments = brackets[-1]
        if token == ("sign", ","):
            arguments.append([])
        elif len(arguments[-1]) < 2:
            arguments[-1].append(token)
        if token[0] == "sign" and token[1] in "([":
            called = before[0] == "word" and before[1].casefold() == TRANSFORM
            brackets.append((called and token[1] == "(", [[]]))
        before = token
    return not any(is_transform for is_transform, _ in brackets)


def _are_codes(arguments: list[list[tuple[str, str]]]) -> bool:
    return len(arguments) == 3 and all(
        len(one) == 1 and one[0][0] == "string" and CRS.fullmatch(one[0][1][1:-1])
        for one in arguments[1:]
    )


ORDER = re.compile(
    r"(?:[+-]?[^\W\d][\w.:/ -]{0,200}?|\"[^\"\x00-\x1f]*\")(?:[ +]{1,9}(?:A|ASC|D|DESC))?",
    re.IGNORECASE,
)


def order(value: str) -> str:
    """SORTBY: QGIS takes each part for an expression, and splits at any comma."""
    if value.strip("() ") and not all(
        ORDER.fullmatch(part.strip()) for part in value.strip("()").split(",")
    ):
        return "is not of names of fields, each perhaps with a direction"
    return ""


# ---- XML

FIELD = re.compile(r"(?!.*(?:--|/\*))[^\x00-\x1f\x7f()'\"@\\<>;|]*", re.DOTALL)
FUNCTIONLESS = frozenset({TRANSFORM})
"""Functions that a filter of XML may not use, since what it gives them is not looked at."""
ENCODINGS = frozenset({"utf-8", "us-ascii", "ascii", "iso-8859-1", "iso-8859-15", "windows-1252"})
"""All are like ASCII where it matters."""
DECLARED = re.compile(rb"^\s*<\?xml[^>]*?\bencoding\s*=\s*[\"']([^\"']*)[\"']")


class _Refused(Exception):
    pass


class _Reader:
    """Reads XML up to what is not allowed in it. `kind`: "filter", "style" or "request"."""

    def __init__(self, kind: str, functions: Collection[str], remote: bool) -> None:
        self.functions = functions
        self.remote = remote
        self.known = STYLE_ELEMENTS if kind == "style" else FILTER_ELEMENTS
        self.strict = int(kind != "request")
        self.field: list[str] | None = None
        self.is_cdata = False

    def read(self, text: str) -> None:
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.ordered_attributes = True
        parser.StartElementHandler = self.start
        parser.EndElementHandler = self.end
        parser.CharacterDataHandler = self.text
        parser.CommentHandler = self.comment
        parser.StartCdataSectionHandler = lambda: self.cdata(True)
        parser.EndCdataSectionHandler = lambda: self.cdata(False)
        parser.ProcessingInstructionHandler = self.instruction
        parser.StartDoctypeDeclHandler = self.doctype
        parser.Parse(text.encode("utf-8", "replace"), True)

    def start(self, name: str, attributes: list[str]) -> None:
        local = name.rpartition(":")[2]
        if self.field is not None:
            raise _Refused(f"has {local[:40]} in a name of a field")
        if not self.remote and local in REMOTE_ELEMENTS and self.known is STYLE_ELEMENTS:
            raise _Refused(REMOTE)
        if local in STRICT_ELEMENTS or self.strict:
            self.strict += 1
            if local not in self.known and local not in REMOTE_ELEMENTS:
                raise _Refused(f"has the element {local[:40]}, which is not known there")
        if local in FIELD_ELEMENTS:
            self.field = []
        for at in range(0, len(attributes), 2):
            self.attribute(local, attributes[at].rpartition(":")[2], attributes[at + 1])
        if local == "Function" and "name" not in attributes[::2]:
            raise _Refused("has a function without a name")

    def attribute(self, element: str, name: str, value: str) -> None:
        for text in readings(value):
            if text is not value and any(text.count(c) > value.count(c) for c in "<\"'"):
                raise _Refused("is coded twice")
            plain = ENTITY.sub(character, text)
            if name.casefold() == "srsname" and not CRS.fullmatch(plain.strip()):
                raise _Refused(f"has a {name} that {BAD_CRS}")
            if name == "href" and not self.remote:
                raise _Refused(REMOTE)
            if element == "Function" and name == "name":
                called = plain.strip().casefold()
                if called not in self.functions or called in FUNCTIONLESS:
                    raise _Refused(f"has the function {called[:40]}, which is not for requests")

    def text(self, data: str) -> None:
        if self.is_cdata and "<" in data:
            raise _Refused("hides XML")
        if self.field is not None:
            self.field.append(data)

    def end(self, name: str) -> None:
        if self.strict:
            self.strict -= 1
        if self.field is not None:
            for text in readings("".join(self.field)):
                if not FIELD.fullmatch(ENTITY.sub(character, text).strip()):
                    raise _Refused("has a name of a field that is none")
            self.field = None

    def comment(self, data: str) -> None:
        if "<" in data or self.field is not None:
            raise _Refused("hides XML")

    def cdata(self, begins: bool) -> None:
        self.is_cdata = begins
        if self.field is not None:
            raise _Refused("hides XML")

    def instruction(self, target: str, data: str) -> None:
        raise _Refused("has a processing instruction")

    def doctype(self, *_: object) -> None:
        raise _Refused("has a document type")


def xml(text: str, kind: str, functions: Collection[str], *, remote: bool = False) -> str:
    """A filter, style or request. What it is decoded to must have the same elements."""
    if "%" in text and any(one.count("<") > text.count("<") for one in readings(text)):
        return "is coded twice"
    try:
        _Reader(kind, functions, remote).read(text.lstrip("\ufeff \t\r\n"))
    except _Refused as reason:
        return str(reason)
    except (expat.ExpatError, ValueError):
        return "is not well-formed XML"
    return ""


def style(text: str, functions: Collection[str], *, remote: bool) -> str:
    """SLD_BODY, HIGHLIGHT_SYMBOL: QGIS parses what is between the semicolons of the latter."""
    parts = BETWEEN.split(text.strip())
    reasons = (xml(part, "style", functions, remote=remote) for part in parts if part)
    return next(filter(None, reasons), "")


# ---- Bodies


MARKUP = re.compile(rb"<[A-Za-z!?/]")
"""In JSON: QGIS hands it to GDAL, which takes what has the name of an element of one of its other
formats for that, wherever it is: one of them names files and URLs to be read (OGRVRTDataSource)."""


SPACE = b"\xef\xbb\xbf \t\r\n"
"""Before XML: a mark of UTF-8, too."""


def xml_of(data: bytes) -> bytes | None:
    """The body, without what may be before it, if QGIS Server takes it for XML."""
    text = data.lstrip(SPACE)
    return text if text.startswith(b"<") else None


def body(data: bytes, functions: Collection[str], *, remote: bool, api: bool) -> str:
    """What a service may read of a body by itself. One that is a form is parameters alone."""
    if b"\0" in data:
        return "has a NUL, as in an encoding other than UTF-8"
    if (text := xml_of(data)) is not None:
        declared = DECLARED.search(text)
        if declared and declared[1].decode("ascii", "replace").lower() not in ENCODINGS:
            return "is in an encoding other than UTF-8"
        return xml(text.decode("utf-8", "replace"), "request", functions, remote=remote)
    text = data.lstrip(SPACE)
    if api and MARKUP.search(text):
        return r"has markup: in JSON, write \u003c for <"
    return feature(text) if api and text.startswith((b"{", b"[")) else ""


def feature(data: bytes) -> str:
    """GeoJSON: GDAL fetches what a reference system of the type "link" names."""
    systems: list[dict[str, object]] = []

    def pairs(found: list[tuple[str, object]]) -> dict[str, object]:
        for name, value in found:
            if name.casefold() == "crs" and isinstance(value, dict):
                systems.append(value)
            if name == "coordRefSys":  # JSON-FG
                systems.append({"type": "name", "properties": {"name": value}})
        return dict(found)

    try:
        json.loads(data, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return "is no JSON"
    for system in systems:
        named = system.get("properties")
        code = named.get("name") if isinstance(named, dict) else None
        if system.get("type") != "name" or not isinstance(code, str) or not CRS.fullmatch(code):
            return f"has a crs that {BAD_CRS}"
    return ""
