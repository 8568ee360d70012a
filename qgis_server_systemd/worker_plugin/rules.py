# SPDX-License-Identifier: GPL-2.0-or-later
"""What a request may ask of QGIS Server, whoever sends it. Knows nothing of QGIS.

QGIS Server evaluates expressions, fetches styles and graphics, sends databases what a filter
says, and draws pages that a request names, with the rights of the worker. So each parameter that
it knows must have the form that ``allowed`` tells. What it does to its parameters is not to be
guessed: it decodes them a second time before WMS and WFS see them
(QgsServerParameters::urlQuery), ends a name at a NUL, begins it after two colons, and resolves
the entities of XML. So a value must have its form in the end, however it is coded.
"""

import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping

from . import forms
from .allowed import (
    API,
    FORMS,
    SAFE_FUNCTIONS,
    SAFE_GROUPS,
    UNSAFE_FUNCTIONS,
    Form,
)
from .forms import readings

Parameters = Mapping[str, str]
"""By their names, as QGIS Server has them: in capitals, decoded."""

PRINTS = frozenset({"getprint", "getprintatlas"})

SIDES = frozenset({"WIDTH", "HEIGHT", "SRCWIDTH", "SRCHEIGHT"})
RESOLUTIONS = frozenset({"DPI", "MAP_RESOLUTION"})
PRECISION = "WMS_PRECISION"
DIGITS = 20
"""After the point, in WMS_PRECISION: no number has more, and for a thousand million of them QGIS
Server takes minutes and all memory."""
OPTION = re.compile(r"dpi\s*:\s*([0-9]+)", re.IGNORECASE)
"""In FORMAT_OPTIONS."""
NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2}(?![0-9]))?")

ENCODED = re.compile("%[0-9A-Fa-f]{2}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
PART = re.compile(r"MAP\d+:")
"""Before the name of a parameter for one map of a print."""
SCOPE = "::"
"""In a name: QGIS Server takes ::SLD for SLD (QMetaEnum::keyToValue)."""
DIMENSION = "DIM_"

# At a glance: values in which no reading has anything but what is allowed. All rules would take
# ten times as long, and while a map is drawn, what is done here falls out of the processor's
# caches: the less, the better.
PLAIN = re.compile(r"[^\x00-\x1f\x7f-\x9f%]*+")
PLAIN_LAYERS = re.compile(r"[^\x00-\x1f\x7f-\x9f%:]*+")
PLAIN_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f%\\\[]*+")
"""Of a parameter that QGIS does not know."""
PLAIN_NAME = re.compile("[A-Z0-9_:.-]*+")
PLAIN_PATH = re.compile(r"[^\x00-\x1f\x7f-\x9f%#?]*+")
REREAD = re.compile("[#?]|%[0-9A-Fa-f]{2}")
"""In a path that is decoded: the APIs of QGIS Server take it for a URL once more
(QgsServerOgcApi::executeRequest), and see another path than the one that is judged."""
GLANCES = {"names": PLAIN, "text": PLAIN, "layers": PLAIN_LAYERS}


def _by_name(names: Callable[[Form], str]) -> dict[str, str]:
    return {name: form for form, about in FORMS.items() for name in names(about).split()}


EVERYWHERE = _by_name(lambda form: f"{form.wms} {form.others}")
"""The form of each parameter."""
IN_PRINTS = _by_name(lambda form: form.wms)
"""Others are what a layout shall show in a print, such as a title."""
PATTERNS = {
    form: re.compile(about.pattern, about.flags) for form, about in FORMS.items() if about.pattern
}


def allowed(functions: Iterable[tuple[str, Iterable[str], Iterable[str]]]) -> frozenset[str]:
    """The functions that a request may use, of all those of QGIS: name, aliases, groups."""
    found: set[str] = set()
    for name, aliases, groups in functions:
        names = {one.casefold() for one in (name, *aliases)}
        known = set(groups)
        is_safe = bool(known) and known <= SAFE_GROUPS
        if (is_safe or name in SAFE_FUNCTIONS) and not names & UNSAFE_FUNCTIONS:
            found |= names
    return frozenset(found)


def is_print(request: str) -> bool:
    return any(text.lower() in PRINTS for text in readings(request))


def is_text(name: str) -> bool:
    """Is it what a layout shall show in a print? In it QGIS Server looks for [% expressions %]
    alone."""
    return PART.sub("", name) not in IN_PRINTS


def is_unknown(name: str) -> bool:
    """Does QGIS surely know nothing of a parameter of this name?"""
    bare = PART.sub("", name)
    is_known = bare in EVERYWHERE or bare.startswith(DIMENSION)
    return not is_known and SCOPE not in name and bool(PLAIN_NAME.fullmatch(name))


def surely_up_to(limit: int) -> re.Pattern[str]:
    """Numbers that are no more than the limit, as their length and first digit tell."""
    first, rest = int(str(limit)[0]), len(str(limit)) - 1
    same = f"|[1-{first - 1}][0-9]{{{rest}}}" if first > 1 else ""
    return re.compile(f"[0-9]{{0,{rest}}}{same}|{limit}")


def is_plain(path: str) -> bool:
    """Of a request: are there no items of the OGC API in it, and nothing that is read in two
    ways?"""
    return bool(PLAIN_PATH.fullmatch(path)) and not any(
        part in path for part in ("..", " ", "/collections/", "/items")
    )


def has_form(form: str, value: str) -> bool:
    """Of one with a pattern: does the value have it in the end?"""
    pattern = PATTERNS[form]
    if pattern.fullmatch(value):
        # People may write 52%05 in a text.
        return (
            "%" not in value
            or form == "text"
            or all(pattern.fullmatch(text) for text in readings(value))
        )
    return "%" in value and bool(pattern.fullmatch([*readings(value)][-1]))


def ordinary(side: int, dpi: int) -> re.Pattern[str]:
    """The query of a request as most are: a map or tile of less than `side` pixels a side and of
    up to `dpi`, in parameters and values which nothing speaks against, that name no fields, and of
    which nothing stays in a project. So it is told by one look, without what QGIS Server has
    made of it: letters that it reads in two ways are not in here."""
    pixels, dots = (surely_up_to(max(limit, 0)).pattern for limit in (side - 1, dpi))
    number = r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:e-?[0-9]{1,2})?"
    names = r"(?:[A-Za-z0-9_.,()+-]|%2C|%20|%C3%[89AB][0-9A-F])*"
    word = r"(?:[A-Za-z0-9_.-]|%3A|:)*"
    forms = {
        "SERVICE": "WMS|WMTS",
        "REQUEST": "GetMap|GetTile",
        "VERSION": "[0-9.]*",
        "LAYERS|LAYER|STYLES|STYLE": names,
        "CRS|SRS": "(?:EPSG|CRS)(?::|%3A)[0-9]{1,9}",
        "BBOX": rf"{number}(?:(?:,|%2C){number}){{3}}",
        "WIDTH|HEIGHT": pixels,
        "DPI|MAP_RESOLUTION": dots,
        "FORMAT_OPTIONS": f"dpi(?::|%3A)(?:{dots})",
        "FORMAT": r"image(?:/|%2F)(?:png|jpe?g|webp)(?:(?:;|%3B)(?:\+|%20)?mode%3D[0-9]{1,2}bit)?",
        "TRANSPARENT|TILED": "true|false",
        "EXCEPTIONS": "(?:[a-z_./]|%2F)*",
        "BGCOLOR": "(?:0x|%23)?[0-9a-f]{3,8}",
        "TILEMATRIXSET|TILEMATRIX": word,
        "TILEROW|TILECOL": "[0-9]{1,9}",
    }
    one = "|".join(f"(?:{name})=(?:{form})" for name, form in forms.items())
    both = "".join(f"(?=(?:.*&)?{name}=)" for name in ("SERVICE", "REQUEST"))
    return re.compile(rf"{both}(?:(?:{one})(?:&|$))*", re.IGNORECASE | re.ASCII)


class Rules:
    """`functions`: those of expressions that a request may use. `remote`: may it refer to what
    QGIS Server then fetches or reads? `side`: pixels that an image may be wide or high. `dpi`:
    dots per inch that it may have. `words`: those that FILTER may have besides."""

    def __init__(
        self,
        functions: Collection[str] = frozenset(),
        remote: bool = False,
        side: int = sys.maxsize,
        dpi: int = sys.maxsize,
        words: Iterable[str] = (),
    ) -> None:
        self.functions = functions
        self.remote = remote
        self.side = side
        self.dpi = dpi
        self.filters = forms.filter_pattern(tuple(words))
        self.glances = {
            name: GLANCES.get(form, PATTERNS[form]).fullmatch
            for name, form in EVERYWHERE.items()
            if form in PATTERNS
        }
        for names, limit in ((SIDES, side), (RESOLUTIONS, dpi), ((PRECISION,), DIGITS)):
            self.glances |= dict.fromkeys(names, surely_up_to(limit).fullmatch)
        for name in ("FILE_NAME", "FORMAT_OPTIONS", "SELECTION"):
            del self.glances[name]

    def refusal(self, parameters: Parameters, body: bytes, path: str) -> str:
        """Why the request is refused; empty if it is not."""
        if "OPERATION" in parameters and "FEATUREID" in parameters:
            # Takes memory without end (parseTransactionParameters in qgswfstransaction.cpp).
            return "QGIS Server would never end a Transaction by OPERATION with FEATUREID"
        if not PLAIN_PATH.fullmatch(path) or ".." in path or "/collections/" in path:
            return self.of_all(parameters, body, path)
        glances = self.glances
        for name, value in parameters.items():
            glance = glances.get(name)
            if glance is None:
                if PLAIN_TEXT.fullmatch(value) and is_unknown(name):
                    continue
            elif glance(value):
                continue
            return self.of_all(parameters, body, path)
        return self.of_body(body, api=False) if body else ""

    def of_all(self, parameters: Parameters, body: bytes, path: str) -> str:
        """The same, one after the other, whatever the values are."""
        for text in readings(path):
            if ".." in text.split("/"):
                return "the path has dots"
            if CONTROL.search(text):
                return "the path has a control character"
        if REREAD.search(path):
            return "the path is coded twice"
        in_collection = any("/collections/" in text for text in readings(path))
        # As QgsServer decides, which takes a request with a service for none of the API.
        api = in_collection and not parameters.get("SERVICE") and not parameters.get("REQUEST")
        may_print = is_print(parameters.get("REQUEST", ""))
        # Without a service it is no print, but may be a request of the API.
        in_print = may_print and bool(parameters.get("SERVICE"))
        if body and (reason := self.of_body(body, api=in_collection)):
            # Parameters that QGIS Server makes of it would tell less.
            return reason
        for name, value in parameters.items():
            if CONTROL.search(name) or ENCODED.search(name):
                return "the name of a parameter is coded twice or has a control character"
            if SCOPE in name:
                return "the name of a parameter has two colons"
            if in_collection and any("\\" in text for text in readings(value)):
                # QGIS Server puts these into expressions, and forgets that \ quotes a quote.
                return f"{name} has a backslash"
            if not value or (name == "REQUEST_BODY" and self.is_body(value, body)):
                continue
            bare = name.upper()
            if may_print and is_text(bare) and any("[%" in text for text in readings(value)):
                return f"{bare} has an expression"
            if reason := self.of_value(bare, value, in_print=in_print, api=api):
                return reason
        return ""

    def of_value(self, name: str, value: str, *, in_print: bool, api: bool) -> str:
        bare = PART.sub("", name)
        form = (IN_PRINTS if in_print else EVERYWHERE).get(bare)
        if bare.startswith(DIMENSION):
            form = "time"
        if api and bare not in API:
            form = None
        if form is None:
            return self.of_unknown(bare, value, in_print=in_print)
        reason = self.of_form(form, value) or self.of_size(bare, value)
        return f"{name} {reason}" if reason else ""

    def of_unknown(self, name: str, value: str, *, in_print: bool) -> str:
        """A parameter that is for a plugin, for nobody, or for a text of a print."""
        form = "text" if in_print or name.startswith("XMLNS") else "names"
        return "" if has_form(form, value) else f"{name} has a control character"

    def of_form(self, form: str, value: str) -> str:
        if form == "layers" and self.remote:
            form = "names"
        if form in PATTERNS:
            if has_form(form, value):
                return ""
            is_remote = form == "layers" and has_form("names", value)
            return forms.REMOTE if is_remote else f"is not {FORMS[form].what}"
        if form == "place":
            return "" if self.remote else forms.REMOTE
        reasons = (self.of_parsed(form, text) for text in self.coded(form, value))
        return next(filter(None, reasons), "")

    def coded(self, form: str, value: str) -> Iterable[str]:
        """The readings of a value that is parsed. What is always XML is looked at piece by piece;
        all else may be something else in each reading."""
        return [value] if form in ("style", "request") else readings(value)

    def of_parsed(self, form: str, text: str) -> str:
        if form == "filter":
            return forms.filters(text, self.filters, self.functions)
        if form == "expression":
            return forms.expression(text, self.functions)
        if form == "order":
            return forms.order(text)
        if form == "style":
            return forms.style(text, self.functions, remote=self.remote)
        return forms.xml(text, form, self.functions, remote=self.remote)

    def of_size(self, name: str, value: str) -> str:
        """WMS_MAX_WIDTH and its like are for maps and legends alone."""
        texts = [value, *readings(value)][1:]
        if name in SIDES:
            limit, setting, pattern = self.side, " (setting image_size_max)", NUMBER
        elif name in RESOLUTIONS:
            limit, setting, pattern = self.dpi, " (setting dpi_max)", NUMBER
        elif name == "FORMAT_OPTIONS":
            limit, setting, pattern = self.dpi, " (setting dpi_max)", OPTION
        elif name == PRECISION:
            limit, setting, pattern = DIGITS, "", NUMBER
        else:
            return ""
        found = (number for text in texts for number in pattern.findall(text))
        is_more = any(float(number) > limit for number in found)
        return f"is more than {limit}{setting}" if is_more else ""

    def is_body(self, value: str, body: bytes) -> bool:
        """Is it what QGIS Server has made of the body, which is looked at as it is? It does so of
        XML alone."""
        is_xml = forms.xml_of(body) is not None
        return is_xml and body.decode("utf-8", "replace").replace("+", "%2B") == value

    def of_body(self, body: bytes, *, api: bool) -> str:
        reason = forms.body(body, self.functions, remote=self.remote, api=api)
        return f"the body {reason}" if reason else ""
