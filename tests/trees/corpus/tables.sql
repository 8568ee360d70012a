-- SPDX-License-Identifier: GPL-2.0-or-later
CREATE VIEW capitals AS
    SELECT id, name, iso_a2, ST_PointOnSurface(geom)::geometry(Point, 4326) AS geom FROM countries;
CREATE MATERIALIZED VIEW hulls AS
    SELECT id, name, ST_ConvexHull(geom)::geometry(Polygon, 4326) AS geom FROM countries
    WHERE ST_GeometryType(ST_ConvexHull(geom)) = 'ST_Polygon';
CREATE UNIQUE INDEX ON hulls (id);
CREATE TABLE facts (iso_a2 text PRIMARY KEY, letters integer, born date, tags jsonb);
INSERT INTO facts
    SELECT DISTINCT ON (iso_a2) iso_a2, length(name), date '2000-01-01' + id,
        jsonb_build_object('id', id)
    FROM countries WHERE iso_a2 IS NOT NULL ORDER BY iso_a2, id;

-- One for each side of the comparison.
CREATE TABLE places_a (
    id serial PRIMARY KEY, name text NOT NULL, rank integer, geom geometry(Point, 4326)
);
INSERT INTO places_a (name, rank, geom)
    SELECT name, id, geom FROM capitals WHERE iso_a2 IN ('DE', 'FR', 'PL') ORDER BY name;
CREATE TABLE places_b (LIKE places_a INCLUDING ALL);
CREATE SEQUENCE places_b_id_seq OWNED BY places_b.id;
ALTER TABLE places_b ALTER id SET DEFAULT nextval('places_b_id_seq');
INSERT INTO places_b SELECT * FROM places_a;
SELECT setval('places_b_id_seq', 3);

CREATE TABLE relief AS
    SELECT 1 AS rid, ST_MapAlgebra(
        ST_AddBand(ST_MakeEmptyRaster(72, 36, -180, 90, 5, -5, 0, 0, 4326), '16BSI'::text, 0, -1),
        1, '16BSI'::text, 'mod([rast.x]::integer * [rast.y]::integer, 700)'
    ) AS rast;
SELECT AddRasterConstraints('relief'::name, 'rast'::name);
ALTER TABLE relief ADD PRIMARY KEY (rid);

-- Projects are stored in the database, too.
GRANT CREATE ON SCHEMA public TO editor;
ALTER TABLE places_a OWNER TO editor;
ALTER TABLE places_b OWNER TO editor;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader, editor, "qgis-server";
ALTER DEFAULT PRIVILEGES FOR ROLE editor GRANT SELECT ON TABLES TO reader, "qgis-server";
GRANT ALL ON places_a, places_b TO "qgis-server";
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO editor, "qgis-server";
