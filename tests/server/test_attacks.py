# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests that want more than a project's maps, and those that get them, with the settings as
they are shipped."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urljoin

import pytest
from fuzz.making import OTHER, OUTSIDE
from fuzz.running import CANARY, target_bed
from shared.harm import taking
from shared.origins import EVIL, headers, is_not_fooled, names_only
from shared.pool import ctl, listens, wait_for, workers
from shared.serving import (
    ADVERTISING,
    FILTER,
    FORM,
    MAP,
    MAPS,
    PDF,
    PROJECT_LIST,
    PROJECTS,
    SECOND,
    Case,
    ask,
    fetch,
    get_map,
    get_print,
    shown,
    wfs,
    wms,
)
from testbed import Reply, Snapshot, Testbed

NAMED = "/qgis/world"
PLAIN = "/qgis-server"
SECRET = TITLE = CANARY.decode()
PORT = 8999
REMOTE = f"http://127.0.0.1:{PORT}"
HEARD = "/run/heard"
PRINTED = "countries,disputed_borders"
"""What get_print asks for."""
TOML = "/etc/qgis-server/server.toml"

LISTENER = f"""
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open({HEARD!r}, "a") as file:
            file.write(self.path + "\\n")
        self.send_error(404)

http.server.HTTPServer(("127.0.0.1", {PORT}), Handler).serve_forever()
"""

# An archive with a project, and members that QGIS 3.22 would write elsewhere.
LEAVING = """
import sys, zipfile
good, bad, *names = sys.argv[1:]
with zipfile.ZipFile(good) as old, zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as new:
    for member in old.infolist():
        new.writestr(member.filename, old.read(member))
    for name in names:
        new.writestr(name, "import os")
"""


GROUP = (
    '<qgis><layer-tree-group><layer-tree-group name="a"><customproperties><Option type="Map">'
    '<Option name="embedded" value="1" type="QString"/>'
    '<Option name="embedded_project" value="./archive.qgz" type="QString"/>'
    "</Option></customproperties></layer-tree-group></layer-tree-group></qgis>"
)
TAKING = {
    "embedding": taking("./archive.qgz"),
    "by-group": GROUP,
    "by-attachment": taking(f"attachment:{PROJECTS}/archive.qgz"),
    "by-resource": taking(f"inbuilt:/../../../..{PROJECTS}/archive.qgz"),
    "by-process": taking(f"{PROJECTS[1:]}/archive.qgz"),
    "by-qt": taking("./archive.qgz", inner="\x01"),
}
"""Ways of QGIS 3.22 to open the archive of another project."""

# Puts a project into a GeoPackage.
STORING = """
import binascii, sqlite3, sys
database, name, file = sys.argv[1:]
with sqlite3.connect(database) as connection, open(file, "rb") as content:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS qgis_projects(name TEXT PRIMARY KEY, metadata BLOB,"
        " content BLOB)"
    )
    told = '{"last_modified_time": "2024-01-01T00:00:00", "last_modified_user": "a"}'
    row = name, told, binascii.hexlify(content.read()).decode()
    connection.execute("INSERT INTO qgis_projects VALUES (?, ?, ?)", row)
"""

LEFT = tuple(f"/var/cache/qgis-server/{instance}/left.py" for instance in (1, 2))
"""Where workers may write."""

# A print whose layout has a page of HTML, and a label that is HTML; the same project with a layer
# that WMS hides, and a theme with it; the same with fields that it hides, and an atlas of a layer
# that has no key.
PAGES = """
import os, sys
os.environ["QT_QPA_PLATFORM"] = "offscreen"
from qgis.core import (QgsApplication, QgsLayerTreeModel, QgsLayoutFrame, QgsLayoutItemHtml,
                       QgsLayoutItemLabel, QgsLayoutPoint, QgsLayoutSize, QgsMapThemeCollection,
                       QgsProject, QgsVectorFileWriter, QgsVectorLayer)
application = QgsApplication([], False)
application.initQgis()
project = QgsProject.instance()
assert project.read(sys.argv[1])
layout = project.layoutManager().layouts()[0]
html = QgsLayoutItemHtml(layout)
layout.addMultiFrame(html)
frame = QgsLayoutFrame(layout, html)
frame.setId("page")
frame.attemptMove(QgsLayoutPoint(10, 10))
frame.attemptResize(QgsLayoutSize(50, 50))
html.addFrame(frame)
label = QgsLayoutItemLabel(layout)
label.setId("note")
label.setMode(QgsLayoutItemLabel.ModeHtml)
layout.addLayoutItem(label)
assert project.write(sys.argv[2])
root = project.layerTreeRoot()
for node in root.findLayers():
    node.setItemVisibilityChecked(True)
theme = QgsMapThemeCollection.createThemeFromCurrentState(root, QgsLayerTreeModel(root))
project.mapThemeCollection().insert("all", theme)
project.writeEntry("WMSRestrictedLayers", "/", ["Relief"])
assert project.write(sys.argv[3])
project.writeEntry("WMSRestrictedLayers", "/", [])
(layer,) = (one for one in project.mapLayers().values() if one.shortName() == "countries"
            or one.name().lower() == "countries")
layer.setExcludeAttributesWms(["ISO_A3", "WB_A3"])
layer.setExcludeAttributesWfs(["ISO_A3"])
file = os.path.dirname(sys.argv[1]) + "/keyless.shp"
QgsVectorFileWriter.writeAsVectorFormat(layer, file, "utf-8", layer.crs(), "ESRI Shapefile")
keyless = QgsVectorLayer(file, "keyless", "ogr")
assert keyless.isValid() and not keyless.primaryKeyAttributes()
project.addMapLayer(keyless)
atlas = layout.clone()
atlas.setName("Atlas")
atlas.atlas().setEnabled(True)
atlas.atlas().setCoverageLayer(keyless)
project.layoutManager().addLayout(atlas)
assert project.write(sys.argv[4])
"""


def body_of(bed: Testbed, path: str, text: str) -> None:
    bed.run("tee", path, input=text)


@pytest.fixture(scope="module")
def bed(installed: Snapshot) -> Iterator[Testbed]:
    """Besides, a server that listens to what workers ask for, and a print with HTML."""
    with target_bed(installed, instances=2) as testbed:
        body_of(testbed, "/root/listener.py", LISTENER)
        testbed.run("systemd-run", "--unit=listener", "python3", "/root/listener.py")
        body_of(testbed, "/etc/qgis-server/fastcgi_params", f"fastcgi_param SECRET_WORD {SECRET};")
        files = (
            f"{PROJECTS}/{name}" for name in ("world.qgz", "pages.qgs", "hiding.qgs", "veiled.qgs")
        )
        testbed.run("python3", "-c", PAGES, *files)
        testbed.run("chmod", "-R", "a+rX", PROJECTS)
        testbed.run("systemctl", "reload", "nginx")
        wait_for(lambda: listens(testbed, PORT), "the listener is up")
        yield testbed


@contextlib.contextmanager
def stray(bed: Testbed) -> Iterator[None]:
    """A symbolic link in the folder of projects that leads out."""
    bed.run("ln", "-s", OTHER, f"{PROJECTS}/leak.qgs")
    try:
        yield
    finally:
        bed.run("rm", f"{PROJECTS}/leak.qgs")


@contextlib.contextmanager
def leaving(bed: Testbed) -> Iterator[None]:
    """Projects in the folder whose archives lead out of the folder they are unpacked to."""
    names = [f"{top}{left}" for top in ("", "../..", "../../..") for left in LEFT]
    world, files = f"{PROJECTS}/world.qgz", ("archive.qgz", "beside_attachments.zip")
    for file in files:
        bed.run("python3", "-c", LEAVING, world, f"{PROJECTS}/{file}", *names)
    bed.run("cp", f"{PROJECTS}/second.qgs", f"{PROJECTS}/beside.qgs")
    for name, text in TAKING.items():
        body_of(bed, f"{PROJECTS}/{name}.qgs", text)
    bed.run("chmod", "-R", "a+rX", PROJECTS)
    try:
        yield
    finally:
        bed.run("rm", *(f"{PROJECTS}/{file}" for file in (*files, "beside.qgs")))
        bed.run("rm", *(f"{PROJECTS}/{name}.qgs" for name in TAKING))


def has_left(bed: Testbed) -> bool:
    """Has an archive been unpacked to where it wanted?"""
    return any(bed.run("test", "-e", left, check=False).returncode == 0 for left in LEFT)


@contextlib.contextmanager
def settings(bed: Testbed, *lines: str) -> Iterator[None]:
    before = bed.run("cat", TOML).stdout
    body_of(bed, TOML, "\n".join([before, *lines, ""]))
    try:
        ctl(bed, "apply")
        yield
    finally:
        body_of(bed, TOML, before)
        ctl(bed, "apply")


def heard(bed: Testbed) -> str:
    return bed.run("cat", HEARD, check=False).stdout


@dataclass(frozen=True)
class Attack:
    """A request, and the status that it must get."""

    name: str
    target: str
    status: int = 403
    body: bytes | None = None
    content_type: str = FORM
    options: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        if self.body is None:
            return self.options
        kind = ("--header", f"Content-Type: {self.content_type}")
        return (*self.options, *kind, "--data-binary", "@/root/attack")


def send(bed: Testbed, attack: Attack) -> Reply:
    if attack.body is not None:
        bed.run_bytes("tee", "/root/attack", input=attack.body)
    url = f"http://127.0.0.1{attack.target}"
    return fetch(bed, url, "--globoff", "--path-as-is", "--max-time", "60", *attack.arguments)


CAPABILITIES = wms("GetCapabilities")
HOSTILE = f"MAP={OTHER}"


def maps(top: str) -> Iterator[Attack]:
    """All spellings of MAP, in the query and in a body."""

    def post(name: str, body: str, kind: str, query: str = CAPABILITIES) -> Attack:
        return Attack(f"{name} {top}", f"{top}?{query}", 403, body.encode(), kind)

    spellings = ("MAP", "map", "mAp", "%4d%41%50", "%6D%61%70", "M%61p", "MAP%00", "MAP%00x")
    for spelling in (*spellings, "::MAP", "%3a%3Amap"):
        yield Attack(f"{spelling} {top}", f"{top}?{spelling}={OTHER}&{CAPABILITIES}")
    for query in (
        f"{CAPABILITIES}&MAP={PROJECTS}/world.qgz&MAP={OTHER}",
        f"{CAPABILITIES}&MAP={OTHER}&MAP={PROJECTS}/world.qgz",
        f"MAP=&{CAPABILITIES}",
        f"MAP&{CAPABILITIES}",
        f"MAP={PROJECTS}/second.qgs&{CAPABILITIES}",
        f"%254dAP={OTHER}&{CAPABILITIES}",
    ):
        yield Attack(f"{query[:40]} {top}", f"{top}?{query}")
    form = f"{HOSTILE}&{CAPABILITIES}"
    yield post("form", form, FORM)
    yield post("form of another type", form, "text/xml")
    yield post("form with a scope", f"::{form}", FORM)
    yield post("form without a type", form, "")
    yield post("coded form", f"%6dap={OTHER}&{CAPABILITIES}", "text/plain")
    yield post("broken XML", f"<a>&{form}", "application/xml")
    yield post("attribute", f"<GetCapabilities service='WMS' MAP='{OTHER}'/>", "text/xml")
    yield post("small attribute", f"<a map='{OTHER}'/>", "text/xml")
    put = post("form by PUT", form, FORM)
    yield dataclasses.replace(put, options=("--request", "PUT"))


def expressions() -> Iterator[Attack]:
    features = f"{NAMED}?{wfs('GetFeature', TYPENAME='countries', OUTPUTFORMAT='GeoJSON')}"
    for text in (
        f"env('SECRET_WORD') = '{SECRET}'",
        f"ENV/**/('SECRET_WORD') = '{SECRET}'",
        f"file_exists('{OUTSIDE}/secret.txt')",
        "@project_path LIKE '/%'",
        "1=1 and@project_path LIKE '/%'",
        "var('project_path') LIKE '/%'",
        "eval('1=1')",
        "layer_property('countries', 'source') LIKE '/%'",
        "get_feature('states_provinces', 'fid', 1) IS NOT NULL",
    ):
        yield Attack(f"EXP_FILTER {text}", f"{features}&EXP_FILTER={quote(text)}")
        coded = quote(f"' = 'y' OR {text} OR 'x' = '")
        part = f"1 < 2 AND 'x{coded}'"
        yield Attack(f"a part of {text}", f"{features}&EXP_FILTER={quote(part)}")
    yield Attack("scope", f"{features}&::EXP_FILTER={quote('env(1) IS NULL')}")
    call = '<Function name="env"><Literal>SECRET_WORD</Literal></Function>'
    for function in (call, call.replace("env", "&#101;nv"), "<a>e<!-- > -->nv('X')</a>"):
        ogc = (
            f'<Filter xmlns="http://www.opengis.net/ogc"><PropertyIsEqualTo>{function}'
            f"<Literal>{SECRET}</Literal></PropertyIsEqualTo></Filter>"
        )
        yield Attack(f"FILTER {function}", f"{features}&FILTER={quote(ogc)}")
        yield Attack(f"twice coded {function}", f"{features}&FILTER={quote(quote(ogc))}")
        yield Attack(
            f"map {function}",
            f"{NAMED}?{get_map()}&FILTER={quote('countries:' + ogc)}",
        )
        filtered = FILTER.replace(b"<ogc:PropertyName>NAME</ogc:PropertyName>", function.encode())
        yield Attack(f"body {function}", NAMED, 403, filtered, "text/xml")
    yield Attack(
        "SORTBY", f"{features}&SORTBY={quote('case when env(1) is null then 1 else 2 end')}"
    )
    items = f"{NAMED}/wfs3/collections/countries/items.json"
    yield Attack("OGC API", f"{items}?NAME={quote(chr(92) + chr(39) + ' or 1=1 --')}")
    yield Attack(
        "print",
        f"{NAMED}?{get_print('pdf')}&title={quote('[% env(' + repr('SECRET_WORD') + ') %]')}",
    )


def sld(rule: str) -> str:
    return quote(
        '<StyledLayerDescriptor version="1.1.0" xmlns="http://www.opengis.net/sld" '
        'xmlns:se="http://www.opengis.net/se" xmlns:ogc="http://www.opengis.net/ogc" '
        'xmlns:xlink="http://www.w3.org/1999/xlink"><NamedLayer><se:Name>countries</se:Name>'
        f"<UserStyle><se:FeatureTypeStyle><se:Rule>{rule}</se:Rule></se:FeatureTypeStyle>"
        "</UserStyle></NamedLayer></StyledLayerDescriptor>"
    )


def label(text: str) -> str:
    return sld(
        "<se:PolygonSymbolizer><se:Fill/></se:PolygonSymbolizer><se:TextSymbolizer><se:Label>"
        f"<ogc:PropertyName>{text}</ogc:PropertyName></se:Label></se:TextSymbolizer>"
    )


def references() -> Iterator[Attack]:
    map = f"{NAMED}?{get_map()}"
    for place in (f"{REMOTE}/a.sld", f"file://{OUTSIDE}/secret.txt", f"{OUTSIDE}/secret.txt"):
        yield Attack(f"SLD {place}", f"{map}&SLD={place}")
        graphic = (
            "<se:PointSymbolizer><se:Graphic><se:ExternalGraphic><se:OnlineResource "
            f'xlink:type="simple" xlink:href="{place}"/><se:Format>image/svg+xml</se:Format>'
            "</se:ExternalGraphic></se:Graphic></se:PointSymbolizer>"
        )
        yield Attack(
            f"HIGHLIGHT_SYMBOL {place}",
            f"{map}&HIGHLIGHT_GEOM={quote('POINT(0 50)')}&HIGHLIGHT_SYMBOL={sld(graphic)}",
        )
        yield Attack(f"SLD_BODY {place}", f"{map}&SLD_BODY={sld(graphic)}")
        prints = f"{PLAIN.replace('-server', '/pages')}?{get_print('pdf')}"
        yield Attack(f"page {place}", f"{prints}&page={quote(place)}")
        yield Attack(f"label {place}", f"{prints}&note={quote(f'<img src={place}>')}")
        yield Attack(
            f"page as the body says {place}",
            prints.replace("REQUEST=GetPrint", "REQUEST=GetPrin%2574") + f"&page={quote(place)}",
        )
    yield Attack("SLD in lower case", f"{map}&sld={REMOTE}/b.sld")
    yield Attack("SLD coded twice", f"{map}&S%254CD={REMOTE}/c.sld")
    yield Attack("SLD with a NUL", f"{map}&SLD%00x={REMOTE}/d.sld")
    yield Attack("SLD with a scope", f"{map}&::SLD={REMOTE}/f.sld")
    yield Attack("SLD of a map with a scope", f"{map}&MAP0:::SLD={REMOTE}/g.sld")
    yield Attack("SLD in a body", NAMED, 403, f"{get_map()}&SLD={REMOTE}/e.sld".encode())
    far = (
        f"&a:url={quote(REMOTE + '/wms?')}&a:layers=x&a:format=image/png&a:crs=EPSG:4326&a:styles="
    )
    for layer in ("EXTERNAL_WMS:a", "countries,EXTERNAL_WMS:a", "EXTERNAL%255FWMS:a"):
        yield Attack(f"{layer} in a map", f"{NAMED}?{get_map(layer).replace('%3A', ':')}{far}")
        yield Attack(
            f"{layer} in a print",
            f"{NAMED}?{get_print('pdf')}&map0:LAYERS={layer}{far}",
        )
    for text in ("env('SECRET_WORD')", "@project_path", "e<!-- -->nv('SECRET_WORD')"):
        yield Attack(f"label {text}", f"{map}&SLD_BODY={label(text)}")


def sql() -> Iterator[Attack]:
    """All that ends in a database, or in an expression."""
    hidden = "(select group_concat(name) from sqlite_master)"
    for text in (
        f"countries:'x'||{hidden}||'y' LIKE '%a%'",
        f"countries:\"NAME\" = 'x' OR {hidden} LIKE '%a%'",
        f"countries:'x' = 'y;countries:'x'||{hidden}||'y'",
        "countries:\"NAME\" = 'x' ) OR ( 1 = 1 -- ",
        "countries:\"sqlite_version\" ( ) LIKE '%.%'",
        "countries:\"query_to_xml\" ( 'select 1' ) IS NULL",
        "countries:'x' IN \"gpkg_extensions\"",
        "countries:( 'x' , 1 ) IN 'gpkg_ogr_contents'",
        "countries:\"LABELRANK\" < 9 AND 'x%27%7C%7C(select 1)%7C%7C%27y' LIKE 'a'",
    ):
        for name in ("FILTER", "MAP0:FILTER"):
            yield Attack(f"{name} {text}", f"{NAMED}?{get_map()}&{name}={quote(text)}")
        coded = quote(quote(text))
        yield Attack(f"FILTER twice {text}", f"{NAMED}?{get_map()}&FILTER={coded}")
        info = get_map().replace("GetMap", "GetFeatureInfo")
        yield Attack(
            f"info {text}",
            f"{NAMED}?{info}&QUERY_LAYERS=countries&I=1&J=1&FILTER={quote(text)}",
        )
    inside = f"<Filter><Literal>a;countries:'x'||{hidden}||'y'</Literal></Filter>"
    yield Attack("FILTER in XML", f"{NAMED}?{get_map()}&FILTER={quote(inside)}")
    features = f"{NAMED}?{wfs('GetFeature', TYPENAME='countries', OUTPUTFORMAT='GeoJSON')}"
    endless = f"{NAMED}?{wfs('Transaction', OPERATION='DELETE', FEATUREID='countries.1')}"
    yield Attack("endless", endless)
    yield Attack("FEATUREID", f"{features}&FEATUREID={quote(chr(39) + ' or 1=1 --')}")
    yield Attack("SORTBY", f"{features}&SORTBY={quote('NAME || env(1)')}")
    yield Attack("SELECTION", f"{NAMED}?{get_map()}&SELECTION={quote('countries:1) or (1=1')}")
    yield Attack("TIME", f"{NAMED}?{get_map()}&TIME={quote(chr(39) + ' or 1=1 --')}")
    atlas = quote("1) or env('SECRET_WORD') is not null or (1=1")
    yield Attack("ATLAS_PK", f"{NAMED}?{get_print('pdf')}&ATLAS_PK={atlas}")


def systems() -> Iterator[Attack]:
    """Reference systems that QGIS would fetch, read or run."""
    features = f"{NAMED}?{wfs('GetFeature', TYPENAME='countries', OUTPUTFORMAT='GeoJSON')}"
    coverage = f"{NAMED}?SERVICE=WCS&VERSION=1.0.0&REQUEST=GetCoverage&COVERAGE=relief&FORMAT=GTiff"
    for text in (
        f"{REMOTE}/crs",
        f"/vsicurl/{REMOTE}/crs",
        f"{OUTSIDE}/secret.txt",
        f"PROJ:+proj=tinshift +file={OUTSIDE}/secret.txt",
        f"+proj=pipeline +step +proj=defmodel +model={OUTSIDE}/secret.txt",
        f'WKT:GEOGCS["a",EXTENSION["PROJ4_GRIDS","{OUTSIDE}/secret.txt"]]',
    ):
        system = quote(text)
        yield Attack(f"SRSNAME {text}", f"{features}&SRSNAME={system}")
        yield Attack(f"SRSNAME twice {text}", f"{features}&SRSNAME={quote(system)}")
        yield Attack(f"BBOX {text}", f"{features}&BBOX=0,0,1,1,{system}")
        yield Attack(f"CRS {text}", f"{NAMED}?{get_map()}&CRS={system}")
        yield Attack(f"RESPONSE_CRS {text}", f"{coverage}&BBOX=0,0,1,1&RESPONSE_CRS={system}")
        items = f"{NAMED}/wfs3/collections/countries/items.json?bbox=0,0,1,1"
        for name, more in itertools.product(("crs", "bbox-crs"), ("", "&REQUEST=GetPrint")):
            yield Attack(f"{name} {text} {more}", f"{items}&{name}={system}{more}")
        escaped = text.replace('"', "&quot;")
        body = FILTER.replace(b'srsName="EPSG:4326"', f'srsName="{escaped}"'.encode())
        assert body != FILTER
        yield Attack(f"body {text}", NAMED, 403, body, "text/xml")
    link = '{"type": "Feature", "crs": {"type": "link", "properties": {"href": "%s/crs"}}}'
    yield Attack("item", items, 403, (link % REMOTE).encode(), "application/geo+json")


def header_makers() -> Iterator[Attack]:
    """Lines that a reply would have as its headers."""
    lines = quote("text/html\r\nSet-Cookie: split=1\r\n\r\n<script>")
    info = f"{NAMED}?{get_map().replace('GetMap', 'GetFeatureInfo')}&QUERY_LAYERS=countries&I=1&J=1"
    tile = (
        f"{NAMED}?SERVICE=WMTS&VERSION=1.0.0&REQUEST=GetFeatureInfo&LAYER=countries&STYLE=default"
        "&TILEMATRIXSET=EPSG:3857&TILEMATRIX=0&TILEROW=0&TILECOL=0&FORMAT=image/png&I=1&J=1"
    )
    for value in (lines, quote(lines)):
        for name in ("INFO_FORMAT", "FORMAT", "EXCEPTIONS", "VERSION", "FILE_NAME", "X"):
            yield Attack(f"{name} {value}", f"{info}&{name}={value}")
        yield Attack(f"INFOFORMAT {value}", f"{tile}&INFOFORMAT={value}")
        features = wfs("GetFeature", TYPENAME="countries")
        yield Attack(f"OUTPUTFORMAT {value}", f"{NAMED}?{features}&OUTPUTFORMAT={value}")


def encodings() -> Iterator[Attack]:
    """Bodies that a service reads in another encoding than the guard would."""
    features = f"{NAMED}?{wfs('GetFeature', OUTPUTFORMAT='GeoJSON')}"
    call = b'<Function name="env"><Literal>SECRET_WORD</Literal></Function>'
    body = FILTER.replace(b"<ogc:PropertyName>NAME</ogc:PropertyName>", call).decode()
    text = body.partition("?>")[2] or body
    for encoding in ("utf-16", "utf-16-be", "utf-32"):
        yield Attack(encoding, features, 403, text.strip().encode(encoding), "text/xml")
    coded = "<?xml version='1.0' encoding='UTF-7'?>" + text.strip().replace("env", "+AGUAbgB2-")
    yield Attack("utf-7", features, 403, coded.encode(), "text/xml")


def hidden_layers() -> Iterator[Attack]:
    """Without a layer that WMS has, a print shows those of the project."""
    hiding = f"/qgis/hiding?{get_print('pdf')}"
    for layers in ("", "relief", "unknown"):
        yield Attack(f"print of {layers}", hiding.replace(PRINTED, layers))
        yield Attack(f"map of {layers}", f"{hiding}&LAYERS=&map0:LAYERS={layers}")
    yield Attack("a theme", f"{hiding}&FORMAT_OPTIONS=WRITE_GEO_PDF:TRUE;EXPORT_THEMES:all")


VEILED = "/qgis/veiled"


def naming(field: str, answer: int, other: int) -> Iterator[Attack]:
    """Requests that tell of what is in a field, with the answers of WMS and of WFS."""

    def wfs_of(name: str, value: str) -> Attack:
        query = wfs("GetFeature", TYPENAME="countries", OUTPUTFORMAT="GeoJSON", MAXFEATURES="1")
        return Attack(f"{name} {field}", f"{VEILED}?{query}&{name}={quote(value)}", other)

    of_layer = f"countries:\"{field}\" = 'NOR'"
    for name in ("FILTER", "filter", "MAP0:FILTER"):
        yield Attack(f"{name} {field}", f"{VEILED}?{get_map()}&{name}={quote(of_layer)}", answer)
    info = get_map().replace("GetMap", "GetFeatureInfo")
    asked = f"{VEILED}?{info}&QUERY_LAYERS=countries&I=1&J=1"
    yield Attack(f"info {field}", f"{asked}&FILTER={quote(of_layer)}", answer)
    yield Attack(f"label {field}", f"{VEILED}?{get_map()}&SLD_BODY={label(field)}", answer)
    for text in (f"\"{field}\" = 'NOR'", f"{field} = 'NOR'", f"\"{field.lower()}\" = 'NOR'"):
        yield wfs_of("EXP_FILTER", text)
    yield wfs_of("SORTBY", field)
    yield wfs_of("SORTBY", f"{field} DESC")
    body = FILTER.replace(b">NAME<", f">{field}<".encode())
    yield Attack(f"body {field}", VEILED, other, body, "text/xml")
    items = f"{VEILED}/wfs3/collections/countries/items.json?limit=1"
    yield Attack(f"items {field}", f"{items}&{field}=NOR", other)


def hidden_fields() -> Iterator[Attack]:
    yield from naming("ISO_A3", 403, 403)
    features = f"{VEILED}?{wfs('GetFeature', TYPENAME='countries', OUTPUTFORMAT='GeoJSON')}"
    for text in ("attribute($currentfeature, 'ISO' || '_A3') = 'NOR'", "attributes()['ISO_A3']"):
        yield Attack(text, f"{features}&EXP_FILTER={quote(text)}")
    yield Attack("an order by what is made of it", f"{features}&SORTBY={quote('ISO_A3 / 1')}")
    for text in ("ISO_A3 + 0", "NAME LIKE ISO_A3"):
        yield Attack(f"label {text}", f"{VEILED}?{get_map()}&SLD_BODY={label(text)}")
    yield Attack(
        "an order of features by their keys",
        f"{features.replace('TYPENAME=countries', 'TYPENAME=land')}"
        "&FEATUREID=countries.1,countries.2&SORTBY=ISO_A3",
    )
    implied = get_map().replace("SERVICE=WMS&", "")
    named = quote("countries:\"WB_A3\" = 'NOR'")
    yield Attack("a map without SERVICE", f"{VEILED}/wfs3?{implied}&FILTER={named}")
    row = quote("countries:\"countries\" > ( 1 , 'x' )")
    yield Attack("a whole row", f"{VEILED}?{get_map()}&FILTER={row}")
    exported = f"{get_map(image='application/dxf')}&FORMAT_OPTIONS=LAYERATTRIBUTES:iso_a3"
    yield Attack("a layer for each value", f"{VEILED}?{exported}")
    atlas = get_print("pdf").replace("TEMPLATE=A4", "TEMPLATE=Atlas")
    for key in ("0 OR @project_path IS NULL", "ISO_A3", "0-id"):
        yield Attack(f"an atlas of {key}", f"{VEILED}?{atlas}&ATLAS_PK={quote(key)}")
    made = f"{get_print('pdf')}&FORMAT_OPTIONS=WRITE_GEO_PDF:TRUE"
    yield Attack("all fields in a print", f"{VEILED}?{made}")
    yield Attack("all fields in a map", f"{VEILED}?{get_map(image='application/pdf')}")


def bodies() -> Iterator[Attack]:
    entity = f"<!DOCTYPE a [<!ENTITY b SYSTEM 'file://{OUTSIDE}/secret.txt'>]>"
    get = "<GetFeature service='WFS' version='1.0.0'><Query typeName='countries'>&b;</Query>"
    for kind in ("text/xml", FORM, "application/json"):
        body = f"{entity}{get}</GetFeature>".encode()
        yield Attack(f"entity {kind}", NAMED, 403, body, kind)
    yield Attack("entity in a filter", f"{NAMED}?{get_map()}&SLD_BODY={quote(entity + '<a/>')}")
    source = f"<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>{REMOTE}/a.csv"
    feature = f'{{"type": "Feature", "a": "{source}</SrcDataSource></OGRVRTLayer>"}}'.encode()
    items = f"{NAMED}/wfs3/collections/countries/items"
    yield Attack("another format for GDAL", items, 403, feature, "application/geo+json")
    digits = f"{get_map()}&OPACITIES={'1' * 100_000}x".encode()
    yield Attack("many digits", NAMED, 403, digits)
    for end in ("a\r\nX-Accel-Redirect: /", 'a"; b=c'):
        yield Attack(f"header {end}", f"{NAMED}?{CAPABILITIES}&FILE_NAME={quote(end)}")


def paths() -> Iterator[Attack]:
    query = f"?{CAPABILITIES}"
    for path, answer in (
        ("/qgis/unknown", 404),
        ("/qgis/.hidden", 404),
        (f"/qgis/..%2f..%2f..%2f..%2f..{OTHER}", 400),
        ("/qgis/%2e%2e/%2e%2e/opt/outside/other", 400),
        ("/qgis/x/..%2f..%2fopt/outside/other", 404),
        ("/qgis/outside%00", 400),
        ("/qgis/leak", 403),
        ("/qgis/archive", 403),
        ("/qgis/beside", 403),
        *((f"/qgis/{name}", 403) for name in TAKING),
        ("/qgis/beside/wfs3/collections.json", 403),
        ("/qgis/leak/wfs3/collections.json", 403),
        ("/qgis/other/../world", 403),
        ("/qgis-server/project/x/../../../qgis/world", 403),
        ("/qgis-server/index.html", 403),
        ("/qgis-server/index.json", 403),
        ("/qgis-server/map/0123456789abcdef", 403),
        ("/qgis/world/wfs3/static/..%2f..%2fsecret.txt", 403),
        # QGIS Server would read these once more, and find items.
        ("/qgis/world/wfs3/collections/countries/it%2565ms", 403),
        ("/qgis/world/wfs3/collections/countries/items%23x", 403),
        ("/qgis/world/wfs3/collections/countries/items%3fx", 403),
    ):
        yield Attack(path, f"{path}{query if path.startswith('/qgis/') else ''}", answer)


SERVED = tuple(
    dataclasses.replace(case, project=None, prefix=NAMED)
    for case in (*ADVERTISING, MAP, PDF)
    if case != PROJECT_LIST
)

ATTACKS = (
    *maps(NAMED),
    *maps(PLAIN),
    *maps("/qgis/world/wfs3/collections"),
    *expressions(),
    *references(),
    *sql(),
    *systems(),
    *header_makers(),
    *encodings(),
    *hidden_layers(),
    *hidden_fields(),
    *bodies(),
    *paths(),
)


@pytest.mark.each
def test_every_attack_is_refused_and_harms_nobody(bed: Testbed) -> None:
    """In one test, since each takes but a moment."""
    before = workers(bed)
    wrong = []
    with stray(bed), leaving(bed):
        for attack in ATTACKS:
            reply = send(bed, attack)
            told = reply.body.decode(errors="replace") + str(reply.headers)
            if reply.status != attack.status or SECRET in told or TITLE in told:
                wrong.append(f"{attack.name}: {shown(reply)}")
            if "x-accel" in told.lower() or "set-cookie" in str(reply.headers).lower():
                wrong.append(f"{attack.name}: a header")
    assert wrong == []
    assert not has_left(bed), "an archive was unpacked to where it wanted"
    assert heard(bed) == "", "something was fetched"
    assert workers(bed) == before, "a worker ended"
    for case in SERVED:
        case.check(ask(bed, case))
    assert fetch(bed, f"http://127.0.0.1/qgis/hiding?{get_print('pdf')}").status == 200


def test_fields_that_a_project_shows_may_be_named(bed: Testbed) -> None:
    """WB_A3 is hidden from WMS alone."""
    shown_in_both = naming("NAME", 200, 200)
    for attack in (*shown_in_both, *naming("WB_A3", 403, 200)):
        if attack.status == 200:
            reply = send(bed, attack)
            assert reply.status == 200, f"{attack.name}: {shown(reply)}"


@pytest.mark.each
def test_a_browser_runs_nothing_in_what_is_told_of_features(bed: Testbed) -> None:
    """Clients may have written the values, and Debian 12's QGIS makes markup of them."""
    info = get_map().replace("GetMap", "GetFeatureInfo")
    query = f"{info}&QUERY_LAYERS=countries&I=1&J=1&INFO_FORMAT=text/html"
    reply = named(bed, "world", query)
    assert (reply.status, reply.headers["content-type"][:9]) == (200, "text/html"), shown(reply)
    assert reply.headers["content-security-policy"].startswith("script-src 'none'")
    assert "content-security-policy" not in named(bed, "world", get_map()).headers


def test_one_tile_matrix_too_many_ends_no_worker(bed: Testbed) -> None:
    before = workers(bed)
    tile = wms("GetTile").replace("WMS", "WMTS").replace("1.3.0", "1.0.0")
    tile += "&LAYER=countries&STYLE=&FORMAT=image/png&TILEROW=0&TILECOL=0&TILEMATRIXSET="
    said = named(bed, "world", wms("GetCapabilities").replace("WMS", "WMTS")).body
    sets = re.findall(
        rb"<TileMatrixSet>\s*<ows:Identifier>([^<]*)(.*?)</TileMatrixSet>", said, re.S
    )
    assert sets
    for name, matrices in sets:
        count = matrices.count(b"<TileMatrix>")
        query = f"{tile}{name.decode()}&TILEMATRIX="
        assert named(bed, "world", f"{query}{count - 1}").status == 200
        for number in (f"{count}", f"0{count}", f"%2520{count}", f"%2B{count}", f"{count + 1}"):
            assert named(bed, "world", query + number).status in (400, 403), number
    assert workers(bed) == before


@pytest.mark.parametrize("case", SERVED, ids=lambda case: case.name)
def test_a_named_project_is_at_its_url_whatever_headers_say(bed: Testbed, case: Case) -> None:
    reply = ask(bed, case, "http://127.0.0.1", *headers(EVIL))
    if case in (SERVED[-2:]):
        case.check(reply)
        return
    is_not_fooled(reply, case)
    names_only(reply, "http://127.0.0.1", NAMED)


def test_a_trusted_proxy_tells_the_url(bed: Testbed) -> None:
    told = headers({"X-Forwarded-Host": "maps.example.org", "X-Forwarded-Proto": "https"})
    with settings(bed, 'trusted_proxies = ["127.0.0.1"]'):
        for case in SERVED[:-2]:
            reply = ask(bed, case, "http://127.0.0.1", *told)
            names_only(reply, "https://maps.example.org", NAMED)


def test_styles_and_scripts_of_a_named_project_are_served(bed: Testbed) -> None:
    page = fetch(bed, f"http://127.0.0.1{NAMED}/wfs3.html", "--header", "Accept: text/html")
    links = re.findall(r"(?:href|src)=[\"']?([^\"'\s>]+\.(?:css|js))", page.body.decode())
    local = [urljoin(f"http://127.0.0.1{NAMED}/wfs3.html", link) for link in links]
    local = [link for link in local if link.startswith(f"http://127.0.0.1{NAMED}/")]
    assert local, shown(page)
    for link in local:
        assert fetch(bed, link).status == 200, link


def named(bed: Testbed, name: str, query: str = CAPABILITIES) -> Reply:
    return fetch(bed, f"http://127.0.0.1/qgis/{name}?{query}")


def by_map(bed: Testbed, project: str) -> Reply:
    return fetch(bed, f"http://127.0.0.1{PLAIN}?MAP={quote(project)}&{CAPABILITIES}")


def test_a_file_is_served_at_once_and_no_longer_when_it_goes(bed: Testbed) -> None:
    assert named(bed, "new.v1_a-b").status == 404
    bed.run("cp", f"{PROJECTS}/second.qgs", f"{PROJECTS}/new.v1_a-b.qgs")
    assert b"<Title>Second<" in named(bed, "new.v1_a-b").body
    bed.run("rm", f"{PROJECTS}/new.v1_a-b.qgs")
    assert named(bed, "new.v1_a-b").status == 404


def test_an_unknown_name_bothers_no_worker(bed: Testbed) -> None:
    bed.run("systemctl", "stop", "qgis-server.slice")
    try:
        assert (named(bed, "unknown").status, named(bed, "world").status) == (404, 503)
        assert by_map(bed, f"{PROJECTS}/world.qgz").status == 403
    finally:
        bed.run("systemctl", "start", "qgis-server.target")


def test_settings_give_names_to_other_projects(bed: Testbed) -> None:
    folders = f'project_folders = ["{PROJECTS}", "{MAPS}"]'
    seen = f'data_folders = ["/srv", "{OUTSIDE}"]'
    with settings(bed, f'named_projects = ["other={OTHER}", "World={SECOND}"]', folders, seen):
        assert TITLE.encode() in named(bed, "other").body
        assert b"<Title>Second<" in named(bed, "World").body
        assert b"<Title>World<" in named(bed, "world").body
    assert named(bed, "other").status == 404


def test_map_is_a_choice_and_stays_in_the_folders(bed: Testbed) -> None:
    with settings(bed, "map_parameter = true"), stray(bed):
        assert b"<Title>Second<" in by_map(bed, SECOND).body
        assert b"<Title>Second<" in by_map(bed, f"{PROJECTS}/second.qgs").body
        for project in (
            OTHER,
            f"/srv/..{OTHER}",
            f"{PROJECTS}/leak.qgs",
            f"file://{SECOND}",
            f"/vsisubfile/0_100,{OTHER}",
            "http://127.0.0.1:8999/a.qgs",
            "geopackage:/opt/outside/a.gpkg?projectName=a",
            f"{SECOND}\0",
            "second.qgs",
        ):
            reply = by_map(bed, project)
            assert reply.status == 403, f"{project}: {shown(reply)}"
        for attack in maps(NAMED):
            reply = send(bed, attack)
            assert reply.status == 403, f"{attack.name}: {shown(reply)}"
        form = Attack("form", PLAIN, 403, f"{HOSTILE}&{CAPABILITIES}".encode(), "text/xml")
        assert send(bed, form).status == 403
        bed.run("ln", "-s", "/srv/maps/second.qgs", f"{PROJECTS}/own.qgs")
        assert named(bed, "own").status == 200, "a link within the folders"
        bed.run("rm", f"{PROJECTS}/own.qgs")
    with settings(bed, "map_parameter = true", f'data_folders = ["{OUTSIDE}"]'):
        assert TITLE.encode() in by_map(bed, OTHER).body
        assert by_map(bed, SECOND).status == 403
    assert heard(bed) == ""


def test_a_folder_that_is_taken_back_is_gone_from_running_workers(bed: Testbed) -> None:
    with settings(bed, "map_parameter = true", f'data_folders = ["/srv", "{OUTSIDE}"]'):
        assert TITLE.encode() in by_map(bed, OTHER).body
        before = workers(bed)
    assert not set(before) & set(workers(bed))


def test_a_project_in_a_store_is_an_archive_as_well(bed: Testbed) -> None:
    """The front page's look does not open a harmful one either, and a good one is served."""
    store = f"{MAPS}/store.gpkg"
    bed.run("cp", f"{MAPS}/world_map.gpkg", store)
    names = ("good", "bad")
    named_ones = ", ".join(f'"{name}=geopackage:{store}?projectName={name}"' for name in names)
    try:
        with leaving(bed):
            for name, file in zip(names, ("world.qgz", "archive.qgz"), strict=True):
                bed.run("python3", "-c", STORING, store, name, f"{PROJECTS}/{file}")
            with settings(bed, f"named_projects = [{named_ones}]"):
                assert b"<Title>World<" in named(bed, "good").body
                assert named(bed, "bad").status == 403
                told = ctl(bed, "projects", check=False)
                assert "leads out of it" in told
            assert not has_left(bed)
    finally:
        bed.run("rm", store)


def test_with_an_archive_that_leads_out_there_is_no_landing_page(bed: Testbed) -> None:
    with leaving(bed):
        assert fetch(bed, f"http://127.0.0.1{PLAIN}/index.json").status == 403
    assert not has_left(bed)


def test_without_a_stray_link_the_landing_page_is_there(bed: Testbed) -> None:
    assert fetch(bed, f"http://127.0.0.1{PLAIN}/index.json").status == 200


def test_remote_references_are_a_choice(bed: Testbed) -> None:
    with settings(bed, "remote_references = true"):
        fetch(bed, f"http://127.0.0.1{NAMED}?{get_map()}&SLD={REMOTE}/chosen.sld")
    wait_for(lambda: "/chosen.sld" in heard(bed), "it was fetched")
    bed.run("rm", HEARD)


def test_a_file_of_the_administrators_own_is_confined(bed: Testbed) -> None:
    """It says nothing of MAP, as one by the published recipe."""
    site = "/etc/nginx/conf.d/own-site.conf"
    body_of(
        bed,
        site,
        """server {
            listen 8192;
            location /cgi-bin/ {
                include fastcgi_params;
                fastcgi_pass qgis-server;
            }
        }""",
    )
    try:
        bed.run("systemctl", "reload", "nginx")
        wait_for(lambda: listens(bed, 8192), "NGINX listens")
        url = f"http://127.0.0.1:8192/cgi-bin/qgis?{CAPABILITIES}&MAP="
        assert b"<Title>Second<" in fetch(bed, url + SECOND).body
        assert fetch(bed, url + OTHER).status == 403
    finally:
        bed.run("rm", site)
        bed.run("systemctl", "reload", "nginx")


def test_replies_of_a_named_project_are_kept(bed: Testbed) -> None:
    world = f"{PROJECTS}/world.qgz"
    link = f"/run/qgis-server-cache/projects{world}"
    site = "/etc/nginx/conf.d/cache-status.conf"
    body_of(bed, site, "add_header X-Cache $upstream_cache_status always;\n")
    tile = get_map(WIDTH=256, HEIGHT=256)
    try:
        # One that leads out is not loaded in advance either.
        warm = f'warm = ["{PROJECTS}/archive.qgz", "{world}"]'
        with leaving(bed), settings(bed, 'reply_cache = "50M"', warm):
            named(bed, "world")
            wait_for(lambda: bed.run("test", "-L", link, check=False).returncode == 0, "it is kept")
            kept = [named(bed, "world", tile).headers["x-cache"] for _ in range(2)]
            assert kept == ["MISS", "HIT"]
            other = named(bed, "second", get_map("land", WIDTH=256, HEIGHT=256))
            assert other.headers.get("x-cache") != "HIT"
            assert named(bed, "world", get_print("pdf")).status == 200
            bed.run("systemctl", "restart", "qgis-server@2.service")
            unit = ("journalctl", "--unit=qgis-server@2", "--no-pager", "--lines=200")
            said = "archive.qgz: can't be loaded in advance: it has a member"
            wait_for(lambda: said in bed.out(*unit), "the worker says so")
            assert not has_left(bed)
    finally:
        bed.run("rm", site)
        bed.run("systemctl", "reload", "nginx")


def test_a_worker_that_cannot_judge_serves_nothing(bed: Testbed) -> None:
    file = "/var/lib/qgis-server-systemd/worker.json"
    before = bed.run("cat", file).stdout

    def put(text: str) -> None:
        body_of(bed, file, text)
        # As whatever changes it does.
        bed.run("touch", "/run/qgis-server-systemd")

    try:
        put("{}")
        assert named(bed, "world").status == 500
        bed.run("systemctl", "kill", "--signal=KILL", "qgis-server@*.service")
        unit = ("journalctl", "--unit=qgis-server@1", "--no-pager", "--lines=50")
        wait_for(lambda: "requests can't be judged" in bed.out(*unit), "the worker says so")
    finally:
        put(before)
    wait_for(lambda: named(bed, "world").status == 200, "it is mended")


def test_where_a_new_administrator_looks(bed: Testbed) -> None:
    said = ctl(bed, "site", "enable")
    urls = re.findall(r"WMS: +http://[^/]+(/\S+)", said)
    query = re.escape(CAPABILITIES.replace("&VERSION=1.3.0", ""))
    assert urls
    assert all(re.fullmatch(rf"/qgis/[\w-]+\?{query}", url) for url in urls), urls
    assert "MAP=" not in said
