-- SPDX-License-Identifier: GPL-2.0-or-later
-- Roles: reader has a password alone, editor as well, qgis-server is who the system says it is.
CREATE ROLE reader LOGIN PASSWORD 'read';
CREATE ROLE editor LOGIN PASSWORD 'edit';
CREATE ROLE "qgis-server" LOGIN;
CREATE DATABASE gis OWNER editor;
\connect gis
CREATE EXTENSION postgis;
CREATE EXTENSION postgis_raster;
