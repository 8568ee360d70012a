# SPDX-License-Identifier: GPL-2.0-or-later
"""Projects of what other servers have: PostgreSQL, and services by HTTP."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from urllib.parse import quote

from make_projects import fill_project, save
from qgis.core import (
    QgsApplication,
    QgsAuthMethodConfig,
    QgsDataSourceUri,
    QgsFeatureRequest,
    QgsMapLayer,
    QgsProject,
    QgsVectorLayerJoinInfo,
)
from registry import FOLDER, LAND, Layers, project
from renderers import categorized, grey
from styles import labels, layer, plain

REMOTE = "http://127.0.0.1:8091/qgis-server"

# ---- PostgreSQL

CORPUS = {"service": "corpus"}
TCP = {"host": "127.0.0.1", "port": "5432", "user": "reader"}


def table(
    name: str, way: dict[str, str], key: str = "id", geometry: str | None = "geom", **more: str
) -> str:
    uri = QgsDataSourceUri()
    if "service" in way:
        uri.setConnection(way["service"], "", "", "")
    else:
        ssl = QgsDataSourceUri.SslPrefer
        uri.setConnection(
            way["host"], way["port"], "gis", way.get("user", ""), "", ssl, way.get("authcfg", "")
        )
    uri.setDataSource(
        "" if name.startswith("(") else "public", name, geometry, more.get("where", ""), key
    )
    if geometry is not None:
        uri.setSrid("4326")
    return str(uri.uri(False))


def tables(way: dict[str, str]) -> Layers:
    facts = layer("facts", table("facts", way, key="iso_a2", geometry=None), "postgres")
    joined = layer("joined", table("countries", way), "postgres", renderer=categorized)
    info = QgsVectorLayerJoinInfo()
    info.setJoinLayer(facts)
    info.setJoinFieldName("iso_a2")
    info.setTargetFieldName("iso_a2")
    joined.addJoin(info)
    query = (
        "(SELECT id, name, ST_Buffer(geom, 3)::geometry(Polygon, 4326) AS geom "
        "FROM capitals WHERE id < 90)"
    )
    return [
        layer(
            "capitals",
            table("capitals", way),
            "postgres",
            renderer=plain("marker", size=3),
            labels=labels("name"),
        ),
        layer("query", table(query, way), "postgres", renderer=plain("fill", color="#ee9944")),
        joined,
        layer(
            "filtered",
            table("countries", way, where="\"iso_a2\" IN ('DE', 'FR', 'PL', 'CZ')"),
            "postgres",
            renderer=plain("fill", color="#44aa99"),
        ),
        layer("hulls", table("hulls", way), "postgres", renderer=plain("fill", color="#aa4499")),
        layer("countries", table("countries", way), "postgres", renderer=plain("fill", **LAND)),
        facts,
    ]


def raster_table(way: dict[str, str]) -> QgsMapLayer:
    source = table("relief", way, key="rid", geometry="rast")
    return layer("raster", source, "postgresraster", renderer=partial(grey, least=0, most=700))


@project("postgis-tcp", "PostGIS over TCP", second=True)
def postgis_tcp() -> Layers:
    return tables(TCP)


@project("postgis-socket", "PostGIS by a service", second=True)
def postgis_socket() -> Layers:
    return [*tables(CORPUS), raster_table(CORPUS)]


def store() -> None:
    """A project within the database."""
    made = QgsProject()
    fill_project(made, "Stored", [*tables(CORPUS)])
    if not made.write("postgresql:?service=corpus&schema=public&project=stored"):
        raise SystemExit(f"can't store it: {made.error()}")


# ---- Passwords in the authentication database


def keep_passwords() -> None:
    manager = QgsApplication.authManager()
    if not manager.setMasterPassword("master", True):
        raise SystemExit("no authentication database")
    for identifier, name, password in (
        ("corpus1", "reader", "read"),
        ("corpus2", "guest", "knock"),
    ):
        config = QgsAuthMethodConfig("Basic")
        config.setId(identifier)
        config.setName(name)
        config.setConfig("username", name)
        config.setConfig("password", password)
        if not manager.storeAuthenticationConfig(config):
            raise SystemExit(f"can't store the password of {name}")


def remote(service: str, **more: str) -> str:
    url = f"{REMOTE}{service}?MAP={FOLDER}/vector.qgs"
    given = {
        "contextualWMSLegend": "0",
        "crs": "EPSG:4326",
        "dpiMode": "7",
        "format": "image/png",
        "styles": "",
    }
    given |= more
    pairs = "&".join(f"{name}={value}" for name, value in given.items())
    return f"{pairs}&url={quote(url, safe='')}"


@project("auth", "Passwords", second=True)
def auth() -> Layers:
    keep_passwords()
    return [
        layer(
            "secret_table",
            table("countries", {"host": "127.0.0.1", "port": "5432", "authcfg": "corpus1"}),
            "postgres",
            renderer=plain("fill", **LAND),
        ),
        layer("secret_service", remote("/closed", layers="categorized", authcfg="corpus2"), "wms"),
    ]


@project("cascade", "Layers of other servers", second=True)
def cascade() -> Layers:
    tiles = QgsDataSourceUri()
    tiles.setParam("type", "xyz")
    tiles.setParam("zmin", "0")
    tiles.setParam("zmax", "3")
    tiles.setParam(
        "url",
        f"{REMOTE}?MAP={FOLDER}/vector.qgs&SERVICE=WMTS&REQUEST=GetTile&VERSION=1.0.0"
        "&LAYER=categorized&STYLE=default&TILEMATRIXSET=EPSG:3857&FORMAT=image/png"
        "&TILEMATRIX={z}&TILEROW={y}&TILECOL={x}",
    )
    features = QgsDataSourceUri()
    features.setParam("url", f"{REMOTE}?MAP={FOLDER}/vector.qgs")
    features.setParam("typename", "land")
    features.setParam("version", "1.0.0")
    features.setParam("srsname", "EPSG:4326")
    features.setParam("restrictToRequestBBOX", "1")
    # They come in any order, and what is drawn last is on top.
    in_order = plain("fill", color="#ddaa33")
    in_order.setOrderBy(QgsFeatureRequest.OrderBy([QgsFeatureRequest.OrderByClause("fid")]))
    in_order.setOrderByEnabled(True)
    return [
        layer("wms", remote("", layers="land"), "wms"),
        layer("wms_two", remote("", layers="land&layers=graduated", styles="&styles="), "wms"),
        layer("xyz", bytes(tiles.encodedUri()).decode(), "wms"),
        layer("wfs", features.uri(False), "WFS", renderer=in_order),
    ]


# ---- What is changed, for each side of the comparison


def editable(project: QgsProject) -> None:
    ids = list(project.mapLayers())
    for what in ("Update", "Insert", "Delete"):
        project.writeEntry("WFSTLayers", what, ids)


def make_editable() -> None:
    for side in ("a", "b"):
        made = QgsProject()
        source = f"{FOLDER}/edit-{side}/places.gpkg"
        fill_project(
            made,
            "Places",
            [
                layer("places", f"{source}|layername=places", renderer=plain("marker", size=4)),
                layer(
                    "rows",
                    table(f"places_{side}", CORPUS),
                    "postgres",
                    renderer=plain("marker", size=4),
                ),
            ],
        )
        editable(made)
        save(made, Path(f"{FOLDER}/edit-{side}/edit.qgs"))
