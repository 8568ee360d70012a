# SPDX-License-Identifier: GPL-2.0-or-later
"""What a request may say, as data: the parameters that QGIS Server knows, and the form that the
value of each must have. Knows nothing of QGIS.

The names are those of QGIS Server 3.22 to 3.44 (QgsServerParameter, QgsWmsParameter,
QgsWfsParameter, QgsWmtsParameter, the functions of WCS and of the OGC API), and those that
the standards have besides. One table is for all services, since a request can say in many ways
which service it is for. The table in docs/security.md is made of this one.

A pattern is for the whole value, once it is decoded. Where there is none, forms.py parses it.
"""

import re
from dataclasses import dataclass

CODE = (
    r"(?:(?:EPSG|ESRI|IGNF|OGC|CRS|IAU|IAU_2015|NKG|NRCAN|SR-ORG|POSTGIS|USER):[\w.-]{1,40}"
    r"|urn:(?:x-)?ogc:def:crs:[\w-]{1,20}(?::[\w.-]{0,20}){1,2}"
    r"|https?://(?:www\.)?opengis\.net/def/crs/[\w-]{1,20}/[\w.-]{1,20}/[\w.-]{1,40}"
    r"|https?://(?:www\.)?opengis\.net/gml/srs/epsg\.xml#\d{1,10})"
)
"""A reference system. Anything else QGIS takes for a definition, a file or a URL."""
NUMBER = r"[+-]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][+-]?\d{1,3})?"
"""Without a second way to read the same digits, which would take time by the square of them."""
PRINTABLE = r"[^\x00-\x1f\x7f-\x9f]"
WORD = r"[\w.:-]"
KEY = r"[\w .:@{}/*+-]"
"""Of a feature."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


@dataclass(frozen=True)
class Form:
    """`what`: what a value is, in the document and in refusals. `wms`, `others`: parameters of
    WMS and all services, and of the others alone: a print takes those for its own texts."""

    what: str
    example: str
    pattern: str = ""
    wms: str = ""
    others: str = ""
    flags: int = 0


FORMS = {
    "number": Form(
        "a number",
        "`256`, `-1.5e3`, `12;14`",
        rf" *(?:{NUMBER} *(?:[,;] *|$))*+",
        "WIDTH HEIGHT SRCWIDTH SRCHEIGHT DPI MAP_RESOLUTION I J X Y SCALE ROTATION OPACITIES"
        " FEATURE_COUNT FI_POINT_TOLERANCE FI_LINE_TOLERANCE FI_POLYGON_TOLERANCE WMS_PRECISION"
        " IMAGE_QUALITY GRID_INTERVAL_X GRID_INTERVAL_Y BOXSPACE ICONLABELSPACE LAYERSPACE"
        " LAYERTITLESPACE SYMBOLSPACE SYMBOLHEIGHT SYMBOLWIDTH ITEMFONTSIZE LAYERFONTSIZE"
        " HIGHLIGHT_LABELSIZE HIGHLIGHT_LABELWEIGHT HIGHLIGHT_LABELBUFFERSIZE"
        " HIGHLIGHT_LABEL_ROTATION HIGHLIGHT_LABEL_DISTANCE",
        "MAXFEATURES COUNT STARTINDEX LIMIT OFFSET TILEROW TILECOL RESX RESY",
    ),
    "word": Form(
        "a word",
        "`WMS`, `1.3.0`, `TRUE`",
        rf"{WORD}*(?:[ ,;]{WORD}*)*+",
        "SERVICE REQUEST VERSION WMTVER SLD_VERSION TRANSPARENT TILED ADDLAYERGROUPS"
        " WITH_GEOMETRY WITH_MAPTIP WITH_DISPLAY_NAME SHOWFEATURECOUNT SHOWRULEDETAILS LAYERTITLE"
        " RULELABEL ITEMFONTBOLD ITEMFONTITALIC LAYERFONTBOLD LAYERFONTITALIC"
        " HIGHLIGHT_LABEL_HORIZONTAL_ALIGNMENT HIGHLIGHT_LABEL_VERTICAL_ALIGNMENT",
        "ACCEPTVERSIONS SECTIONS UPDATESEQUENCE RESULTTYPE SORTDESC INTERPOLATION TILEMATRIXSET"
        " TILEMATRIX F",
    ),
    "crs": Form(
        "the code of a reference system",
        "`EPSG:25832`, `urn:ogc:def:crs:OGC:1.3:CRS84`,"
        " `http://www.opengis.net/def/crs/EPSG/0/4326`",
        CODE,
        "CRS SRS",
        "SRSNAME RESPONSE_CRS OUTPUTCRS SUBSETTINGCRS BBOX-CRS FILTER-CRS",
        re.IGNORECASE,
    ),
    "box": Form(
        "numbers, perhaps with the code of a reference system at the end",
        "`5,45,10,50`, `5,45,10,50,EPSG:4326`",
        rf" *+{NUMBER}(?:[, ]++{NUMBER}){{3,5}}+ *+(?:,{CODE})?",
        "BBOX EXTENT",
        flags=re.IGNORECASE,
    ),
    "time": Form(
        "a moment, number or word, or a range of them",
        "`2020-03-01/2020-04-01`, `current`",
        r"[\w .,:/*+-]*",
        "TIME ELEVATION DIM_*",
        "DATETIME",
    ),
    "format": Form(
        "the name of a format",
        "`image/png; mode=8bit`, `text/xml; subtype=gml/3.1.1`, `GTiff`",
        r"[\w.+*/;:=,\" -]*",
        "FORMAT INFO_FORMAT EXCEPTIONS",
        "INFOFORMAT OUTPUTFORMAT ACCEPTFORMATS",
    ),
    "colour": Form(
        "a colour",
        "`#ff0000`, `0xff0000`, `red`",
        r"[\w#(),.; ]*",
        "BGCOLOR ITEMFONTCOLOR LAYERFONTCOLOR HIGHLIGHT_LABELCOLOR HIGHLIGHT_LABELBUFFERCOLOR",
    ),
    "geometry": Form(
        "a geometry as WKT",
        "`POLYGON((0 0,0 9,9 9,0 0))`",
        r"[\w(),.;:=+ -]*",
        "HIGHLIGHT_GEOM FILTER_GEOM",
        "SUBSET",
    ),
    "keys": Form(
        "the key of a feature",
        "`countries.1,countries.2`, `{8c5b…}`",
        rf"{KEY}*(?:,{KEY}*)*+",
        "ATLAS_PK",
        "FEATUREID RESOURCEID",
    ),
    "selection": Form(
        "the keys of features of a layer",
        "`countries:1,2;rivers:5`",
        rf"(?:[^:;'\"\\<>\x00-\x1f\x7f]*:{KEY}*(?:,{KEY}*)*+(?:;|$))*+",
        "SELECTION",
    ),
    "layers": Form(
        "the name of a layer of the project, or of one of another server (`EXTERNAL_WMS:`) with"
        " `remote_references` alone",
        "`countries,rivers`",
        rf"(?!.*(?i:external_wms:)){PRINTABLE}*+",
        "LAYERS LAYER QUERY_LAYERS",
    ),
    "names": Form(
        "a name, in one line",
        "`default`, `Straßen (alt)`",
        rf"{PRINTABLE}*+",
        "STYLES STYLE RULE TEMPLATE ITEMFONTFAMILY LAYERFONTFAMILY HIGHLIGHT_LABELFONT"
        " FORMAT_OPTIONS MAP",
        "TYPENAME TYPENAMES PROPERTYNAME PROPERTIES GEOMETRYNAME COVERAGE COVERAGEID IDENTIFIER"
        " NAMESPACE NAMESPACES",
    ),
    "file": Form(
        "the name of a file",
        "`Karte von Köln.pdf`",
        r"[^\x00-\x1f\x7f-\x9f\"]*+",
        "FILE_NAME",
    ),
    "text": Form(
        "any text, drawn as it is",
        '`5" pipe (old) & "new", 100 %`',
        r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*+",
        "HIGHLIGHT_LABELSTRING XSI:SCHEMALOCATION",
    ),
    "filter": Form(
        "for each layer: names of fields in double quotes, literals in single ones, numbers,"
        " `( ) , = != <> < <= > >= %`, and words such as `AND`; or OGC filters",
        '`countries:"NAME" = \'Germany\' AND "POP" > 5`, `<Filter>…</Filter>`',
        wms="FILTER",
    ),
    "expression": Form(
        "an expression of QGIS with functions that look at the feature alone",
        '`"name" ILIKE \'%(old)%\' AND year("built") > 1900`',
        others="EXP_FILTER",
    ),
    "order": Form(
        "names of fields, each perhaps with a direction",
        "`name,size D`",
        others="SORTBY",
    ),
    "style": Form(
        "styles (SLD, SE) with elements that are known, and without external graphics",
        "`<StyledLayerDescriptor>…`",
        wms="SLD_BODY HIGHLIGHT_SYMBOL",
    ),
    "request": Form(
        "XML with filters as above",
        "`<GetFeature>…`, `<Transaction>…`",
        wms="REQUEST_BODY",
    ),
    "place": Form(
        "a URL, with `remote_references` alone",
        "`https://example.org/style.sld`",
        wms="SLD",
    ),
}

API = _names("BBOX BBOX-CRS CRS DATETIME LIMIT OFFSET PROPERTIES RESULTTYPE SORTBY SORTDESC")
"""Of a collection of the OGC API; whatever else is there is the value of a field."""

HEAVY_REQUESTS = frozenset({"GETPRINT", "GETPRINTATLAS", "GETCOVERAGE"})
"""Requests that are heavy whatever their parameters are (setting heavy_workers)."""

FILTER_WORDS = (
    *("AND", "OR", "NOT", "IS", "NULL", "LIKE", "ILIKE", "BETWEEN"),
    *("DMETAPHONE", "SOUNDEX"),
)
"""Of FILTER (QgsRenderer::testFilterStringSafety), and IN before a bracket: without one, SQLite
takes the name of a table there. QGIS_SERVER_ALLOWED_EXTRA_SQL_TOKENS adds to them."""

EXPRESSION_WORDS = frozenset(
    {
        *("and", "or", "not", "is", "in", "like", "ilike", "between", "case", "when", "then"),
        *("else", "end", "null", "true", "false"),
    }
)
"""Words of an expression that are no functions, although a bracket may follow."""

SAFE_GROUPS = frozenset(
    {
        *("Aggregates", "Arrays", "Color", "Conditionals", "Conversions", "Date and Time"),
        *("Fuzzy Matching", "GeometryGroup", "Maps", "Math", "Record and Attributes", "String"),
    }
)
"""Groups of functions of QGIS's expressions that see but their arguments and the layer at hand.
Others look at files, the environment, variables and other layers, or evaluate a text."""

UNSAFE_FUNCTIONS = frozenset(
    {
        *("aggregate", "relation_aggregate", "get_feature", "get_feature_by_id"),
        *("represent_value", "represent_attributes", "sqlite_fetch_and_increment"),
        *("maptip", "display_expression", "num_selected"),
        *("overlay_contains", "overlay_crosses", "overlay_disjoint", "overlay_equals"),
        *("overlay_intersects", "overlay_touches", "overlay_within", "overlay_nearest"),
        *("exif", "exif_geotag", "geom_from_gml", "geomfromgml"),
    }
)
"""Of safe groups, but not safe: they look at other layers, at files, or at a reference system
that a text defines."""

SAFE_FUNCTIONS = frozenset({"mime_type", "with_variable"})
"""Of other groups, but safe."""

OWN_VARIABLES = "geometry|feature|id|element|counter|value"
"""Variables that say nothing but of the feature at hand."""

FILTER_ELEMENTS = _names(
    """
    Query Filter And Or Not SortBy SortProperty SortOrder PropertyName ValueReference Literal
    Function Add Sub Mul Div
    PropertyIsEqualTo PropertyIsNotEqualTo PropertyIsLessThan PropertyIsGreaterThan
    PropertyIsLessThanOrEqualTo PropertyIsGreaterThanOrEqualTo PropertyIsLike PropertyIsNull
    PropertyIsNil PropertyIsBetween LowerBoundary UpperBoundary
    BBOX Intersects Within Contains Disjoint Touches Crosses Overlaps Equals DWithin Beyond Distance
    FeatureId GmlObjectId ResourceId
    After Before Begins BegunBy TContains During EndedBy Ends TEquals MetBy Meets TOverlaps
    OverlappedBy AnyInteracts TimeInstant TimePeriod timePosition beginPosition endPosition
    Point LineString LinearRing Polygon Box Envelope Curve Surface MultiPoint MultiLineString
    MultiPolygon MultiCurve MultiSurface MultiGeometry LineStringSegment PolygonPatch Arc
    pointMember pointMembers lineStringMember polygonMember curveMember curveMembers
    surfaceMember surfaceMembers geometryMember geometryMembers segments patches
    outerBoundaryIs innerBoundaryIs exterior interior
    coordinates coord X Y Z pos posList lowerCorner upperCorner
    """
)
"""Elements of a filter, by their names without prefix: OGC Filter 1.0 to 2.0, GML 2 and 3."""

STYLE_ELEMENTS = FILTER_ELEMENTS | _names(
    """
    StyledLayerDescriptor NamedLayer UserLayer UserStyle NamedStyle FeatureTypeStyle
    CoverageStyle Name Title Abstract Description IsDefault LayerFeatureConstraints
    FeatureTypeConstraint FeatureTypeName SemanticTypeIdentifier Version Rule ElseFilter
    MinScaleDenominator MaxScaleDenominator LegendGraphic Geometry
    PointSymbolizer LineSymbolizer PolygonSymbolizer TextSymbolizer RasterSymbolizer
    Graphic Mark WellKnownName MarkIndex Fill Stroke GraphicFill GraphicStroke CssParameter
    SvgParameter VendorOption Opacity Size Rotation AnchorPoint AnchorPointX AnchorPointY
    Displacement DisplacementX DisplacementY PerpendicularOffset Gap InitialGap Priority
    Label Font LabelPlacement PointPlacement LinePlacement IsRepeated IsAligned
    GeneralizeLine Halo Radius
    ChannelSelection RedChannel GreenChannel BlueChannel GrayChannel SourceChannelName
    ColorMap ColorMapEntry Categorize Interpolate InterpolationPoint Data Value LookupValue
    Threshold ContrastEnhancement Normalize Histogram Logarithmic Exponential GammaValue
    ShadedRelief BrightnessOnly ReliefFactor ImageOutline OverlapBehavior AVERAGE RANDOM
    LATEST_ON_TOP EARLIEST_ON_TOP Overlap
    """
)
"""Elements of a style: SLD 1.0 and 1.1, SE 1.1, and what QGIS and GeoServer add."""

REMOTE_ELEMENTS = frozenset(
    {
        "ExternalGraphic",
        "OnlineResource",
        "InlineContent",
        "Format",
        "RemoteOWS",
        "ColorReplacement",
    }
)
"""Of a style: QGIS Server would read or fetch what they name."""

STRICT_ELEMENTS = frozenset({"Filter", "Query", "SortBy"})
"""Where they begin in a request, all below is as in a filter; the rest of a request, such as the
features of a Transaction, has names of the project's own."""

FIELD_ELEMENTS = frozenset({"PropertyName", "ValueReference"})
"""Their text is the name of a field: QGIS takes some that are none for an expression."""
