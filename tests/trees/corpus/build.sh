#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Makes the corpus within a tree that has the network: packages first, then the data and
# projects, with nothing but a loopback interface of its own.
set -ex
cd /srv/corpus

if [ "$1" != offline ]; then
    rm -rf /var/lib/apt/lists/*
    apt-get update
    apt-get install --yes postgresql-postgis
    apt-get clean
    # A testbed has no network, yet these are installed in it.
    # shellcheck disable=SC2086
    apt-get install --yes --download-only $DOWNLOADED
    apt-cache gencaches
    # A font that only the administrator has installed.
    cd /tmp
    apt-get download fonts-ocr-a
    dpkg-deb -x fonts-ocr-a_*.deb /tmp/font
    mkdir -p /usr/local/share/fonts
    find /tmp/font -name '*.?tf' -exec cp {} /usr/local/share/fonts ';'
    rm -r /tmp/font fonts-ocr-a_*.deb
    cd /srv/corpus
    rm -f /etc/resolv.conf
    exec unshare --net "$0" offline
fi

ip link set lo up
export HOME=/srv/corpus/building TMPDIR=/srv/corpus/building
chmod 600 building/pgpass
export QT_QPA_PLATFORM=offscreen QT_HASH_SEED=0
# For make_projects.py, by which the map projects of the other tests are made.
export PYTHONPATH=/srv/maps PYTHONDONTWRITEBYTECODE=1
mkdir auth listed

version=$(ls /etc/postgresql)
pg_ctlcluster "$version" main start
runuser -u postgres -- psql --set ON_ERROR_STOP=1 --file database.sql
ogr2ogr -f PostgreSQL "PG:host=127.0.0.1 dbname=gis user=editor password=edit" \
    /srv/maps/world_map.gpkg countries -nln countries -lco GEOMETRY_NAME=geom -lco FID=id
runuser -u postgres -- psql --set ON_ERROR_STOP=1 --dbname gis --file tables.sql

python3 make_data.py
# What layers of other servers are made from, and what of them is remembered in the projects.
python3 make_corpus.py first
qgis_mapserver 127.0.0.1:8091 >/dev/null 2>&1 &
remote=$!
until curl --silent --output /dev/null http://127.0.0.1:8091/; do sleep 0.1; done
PGPASSFILE=$HOME/pgpass PGSERVICEFILE=$HOME/pg_service.conf \
    QGIS_AUTH_DB_DIR_PATH=/srv/corpus/auth python3 make_corpus.py second
kill $remote
pg_ctlcluster "$version" main stop

rm -r building
chmod -R u=rwX,go=rX .
chmod -R go= auth
