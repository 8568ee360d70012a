# SPDX-License-Identifier: GPL-2.0-or-later
"""Make the data of the corpus, in formats that QGIS reads by different libraries.

Run in /srv/corpus by build.sh, over Natural Earth's world_map.gpkg and the relief of
maps/make_projects.py. Writes the folder data, and edit-a and edit-b, which requests change.
"""

from __future__ import annotations

import csv
import shutil
import sqlite3
import zipfile
from math import cos, radians, sin
from pathlib import Path

from osgeo import gdal, ogr, osr

MAPS = Path("/srv/maps")
DATA = Path("data")


def reference_system(number: int) -> osr.SpatialReference:
    crs = osr.SpatialReference()
    crs.ImportFromEPSG(number)
    crs.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return crs


def make_points() -> None:
    """A point in each country: as a GeoPackage, and without a geometry as CSV."""
    source = ogr.Open(str(DATA / "world_map.gpkg"))
    target = ogr.GetDriverByName("GPKG").CreateDataSource(str(DATA / "points.gpkg"))
    layer = target.CreateLayer("points", reference_system(4326), ogr.wkbPoint)
    for name, kind in (
        ("name", ogr.OFTString),
        ("iso_a2", ogr.OFTString),
        ("size", ogr.OFTReal),
        ("rank", ogr.OFTInteger),
        ("day", ogr.OFTDate),
    ):
        layer.CreateField(ogr.FieldDefn(name, kind))
    rows = []
    for number, country in enumerate(source.GetLayerByName("countries")):
        geometry = country.GetGeometryRef()
        feature = ogr.Feature(layer.GetLayerDefn())
        point = geometry.PointOnSurface()
        feature.SetGeometry(point)
        values = {
            "name": country["NAME"],
            "iso_a2": country["iso_a2"],
            "size": round(geometry.GetArea(), 3),
            "rank": number % 7,
            "day": f"2020-{number % 12 + 1:02}-15",
        }
        for name, value in values.items():
            if value is not None:
                feature[name] = value
        layer.CreateFeature(feature)
        rows.append({"x": round(point.GetX(), 4), "y": round(point.GetY(), 4), **values})
    with (DATA / "points.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def make_lines() -> None:
    """Waves around the world, for what follows a line."""
    target = ogr.GetDriverByName("GPKG").CreateDataSource(str(DATA / "lines.gpkg"))
    layer = target.CreateLayer("lines", reference_system(4326), ogr.wkbLineString)
    layer.CreateField(ogr.FieldDefn("name", ogr.OFTString))
    for number in range(9):
        line = ogr.Geometry(ogr.wkbLineString)
        for lon in range(-180, 181, 3):
            line.AddPoint_2D(lon, 15 * number - 60 + 5 * sin(radians(6 * lon + 40 * number)))
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometry(line)
        feature["name"] = f"Great wave number {number}"
        layer.CreateFeature(feature)


def make_vector_formats() -> None:
    source = str(DATA / "points.gpkg")
    for name, driver, options in (
        ("points.shp", "ESRI Shapefile", []),
        ("points.geojson", "GeoJSON", []),
        ("points.fgb", "FlatGeobuf", []),
        ("points.sqlite", "SQLite", ["SPATIALITE=YES"]),
        ("points.kml", "KML", []),
        ("points.gml", "GML", []),
        ("points.gpx", "GPX", ["GPX_USE_EXTENSIONS=YES"]),
    ):
        gdal.VectorTranslate(
            str(DATA / name), source, format=driver, datasetCreationOptions=options
        )
    with zipfile.ZipFile(DATA / "points.zip", "w") as archive:
        for part in sorted(DATA.glob("points.???")):
            if part.suffix in (".shp", ".shx", ".dbf", ".prj"):
                archive.write(part, part.name)
    # The writer of tiles crashes at times with more than one thread (GDAL 3.10).
    gdal.SetConfigOption("GDAL_NUM_THREADS", "1")
    gdal.VectorTranslate(
        str(DATA / "tiles.mbtiles"),
        str(DATA / "world_map.gpkg"),
        layers=["countries"],
        format="MBTILES",
        dstSRS="EPSG:3857",
        spatFilter=[-179, -60, 179, 80],
        datasetCreationOptions=["MINZOOM=0", "MAXZOOM=2"],
    )


def make_rasters() -> None:
    relief = str(MAPS / "relief.tif")
    shutil.copyfile(relief, DATA / "relief.tif")
    small = gdal.Translate("/vsimem/small.tif", relief, width=180, height=90)
    eight = gdal.Translate(
        "/vsimem/eight.tif", small, outputType=gdal.GDT_Byte, scaleParams=[[-3500, 3500, 1, 255]]
    )
    three = gdal.GetDriverByName("GTiff").Create(str(DATA / "rgb.tif"), 180, 90, 3)
    three.SetGeoTransform(eight.GetGeoTransform())
    three.SetProjection(eight.GetProjection())
    values = eight.GetRasterBand(1).ReadRaster()
    for number in range(3):
        shifted = bytes((value * (number + 1)) % 256 for value in values)
        three.GetRasterBand(number + 1).WriteRaster(0, 0, 180, 90, shifted)
    three.FlushCache()
    paletted = gdal.GetDriverByName("GTiff").Create(str(DATA / "classes.tif"), 180, 90, 1)
    paletted.SetGeoTransform(eight.GetGeoTransform())
    paletted.SetProjection(eight.GetProjection())
    paletted.GetRasterBand(1).WriteRaster(0, 0, 180, 90, bytes(value // 43 for value in values))
    paletted.FlushCache()
    for name, driver, source in (
        ("relief.nc", "netCDF", small),
        ("relief.jp2", "JP2OpenJPEG", three),
        ("relief.asc", "AAIGrid", small),
        ("relief.webp", "WEBP", three),
        ("relief.png", "PNG", three),
        ("cloud.tif", "COG", small),
        ("raster.gpkg", "GPKG", three),
        ("raster.mbtiles", "MBTILES", None),
    ):
        if source is None:
            source = gdal.Warp(
                "/vsimem/mercator.tif",
                str(DATA / "rgb.tif"),
                dstSRS="EPSG:3857",
                outputBounds=[-20037508, -15000000, 20037508, 15000000],
            )
        gdal.Translate(
            str(DATA / name),
            source,
            format=driver,
            creationOptions=["WORLDFILE=YES"] if driver == "PNG" else [],
        )
    gdal.BuildVRT(str(DATA / "relief.vrt"), [str(DATA / "relief.tif")]).FlushCache()
    with zipfile.ZipFile(DATA / "relief.zip", "w") as archive:
        archive.write(DATA / "relief.tif", "relief.tif")


def make_mesh() -> None:
    """Triangles with a value at each corner, in the text format 2DM."""
    width, height = 19, 13
    lines = ["MESH2D"]
    for row in range(height - 1):
        for column in range(width - 1):
            at = row * width + column + 1
            number = 2 * (row * (width - 1) + column) + 1
            lines.append(f"E3T {number} {at} {at + 1} {at + width} 1")
            lines.append(f"E3T {number + 1} {at + 1} {at + width + 1} {at + width} 1")
    for row in range(height):
        for column in range(width):
            lon, lat = -180 + 20 * column, -90 + 15 * row
            value = 100 * sin(radians(lon)) * cos(radians(2 * lat))
            lines.append(f"ND {row * width + column + 1} {lon} {lat} {value:.3f}")
    (DATA / "mesh.2dm").write_text("\n".join(lines) + "\n", "ascii")


def make_pictures() -> None:
    (DATA / "house.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 20">'
        '<path d="M2 10 L10 2 L18 10 V18 H2 Z" fill="param(fill) #ff0000" '
        'stroke="param(outline) #000" stroke-width="param(outline-width) 1"/></svg>\n',
        "ascii",
    )
    source = gdal.Open(str(DATA / "rgb.tif"))
    gdal.Translate(str(DATA / "picture.png"), source, format="PNG", width=64, height=48)
    gdal.Translate(str(DATA / "picture.jpg"), source, format="JPEG", width=64, height=48)
    for leftover in DATA.glob("picture.*.aux.xml"):
        leftover.unlink()


def make_places() -> None:
    """What requests insert into, change and delete from, for each side of the comparison."""
    for side in ("a", "b"):
        folder = Path(f"edit-{side}")
        folder.mkdir()
        gdal.VectorTranslate(
            str(folder / "places.gpkg"),
            str(DATA / "points.gpkg"),
            where="iso_a2 IN ('DE', 'FR', 'PL')",
            layerName="places",
        )


def make_gauss() -> None:
    """Points around Frankfurt on a datum of old, DHDN."""
    target = ogr.GetDriverByName("GPKG").CreateDataSource(str(DATA / "gauss.gpkg"))
    layer = target.CreateLayer("gauss", reference_system(31467), ogr.wkbPoint)
    layer.CreateField(ogr.FieldDefn("name", ogr.OFTString))
    for number in range(8):
        point = ogr.Geometry(ogr.wkbPoint)
        point.AddPoint_2D(3400000 + 30000 * number, 5500000 + 20000 * number)
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometry(point)
        feature["name"] = f"point {number}"
        layer.CreateFeature(feature)


def close_databases() -> None:
    """Without SQLite's write-ahead log, which can't be opened where nobody may write."""
    for file in [*Path().rglob("*.gpkg"), *Path().rglob("*.sqlite"), *Path().rglob("*.mbtiles")]:
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
        connection.close()


def main() -> None:
    gdal.UseExceptions()
    ogr.UseExceptions()
    osr.UseExceptions()
    DATA.mkdir()
    shutil.copyfile(MAPS / "world_map.gpkg", DATA / "world_map.gpkg")
    make_points()
    make_lines()
    make_vector_formats()
    make_rasters()
    make_mesh()
    make_gauss()
    make_pictures()
    make_places()
    close_databases()


if __name__ == "__main__":
    main()
