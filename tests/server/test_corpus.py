# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing that QGIS Server does breaks in the pool: it answers as an unconfined process does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from shared.book import carry_out, recipe, seen
from shared.corpus.beside import PER_REQUEST, Sides, corpus_bed, tables
from shared.corpus.cases import FOLDER, SAME, SIDES, Request, read
from shared.pool import ctl, settled, wait_for
from shared.serving import PROJECTS
from testbed import Reply, Testbed, since

REQUESTS = {request.name: request for request in read()}


@pytest.fixture(scope="session")
def sides(suite: str, package: Path) -> Iterator[Sides]:
    with corpus_bed(suite, package) as found:
        yield found


@pytest.fixture(scope="session")
def replies(sides: Sides) -> dict[str, dict[str, Reply]]:
    """What has been answered so far, by request and side."""
    return {}


def ask(sides: Sides, replies: dict[str, dict[str, Reply]], request: Request) -> dict[str, Reply]:
    if request.name not in replies:
        replies[request.name] = {side: sides.ask(side, request) for side in SIDES}
    return replies[request.name]


def compare(sides: Sides, replies: dict[str, dict[str, Reply]], request: Request) -> None:
    """Both sides answer what was asked for, and the same."""
    answers = ask(sides, replies, request)
    for reply in answers.values():
        request.judge(reply)
    pool, plain = (SAME[request.compare](answers[side].body) for side in SIDES)
    # Not "assert pool == plain": pytest would print megabytes of difference.
    same = pool == plain
    assert same, f"{len(pool)} bytes differ from the {len(plain)} of an unconfined process"
    if request.unlike:
        other = ask(sides, replies, REQUESTS[request.unlike])
        differs = other["a"].body != answers["a"].body
        assert differs, f"it is the same as {request.unlike}"


# In the order of the file: some requests see what others have changed.
@pytest.mark.each
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(request, id=name, marks=pytest.mark.only(*since(request.since)))
        for name, request in REQUESTS.items()
    ],
)
def test_the_pool_answers_as_an_unconfined_process_does(
    sides: Sides, replies: dict[str, dict[str, Reply]], request_: Request
) -> None:
    compare(sides, replies, request_)


@pytest.mark.each
def test_what_both_have_changed_is_the_same(sides: Sides) -> None:
    """After the requests above."""
    assert tables(sides.bed, "a") == tables(sides.bed, "b")


@pytest.mark.each
def test_the_look_at_the_projects_has_the_passwords_as_well(sides: Sides) -> None:
    sides.bed.run("cp", f"{FOLDER}/auth.qgs", f"{PROJECTS}/passwords.qgs")
    looked = sides.bed.run("qgis-serverctl", "projects", "--json", "passwords", check=False)
    sides.bed.run("rm", f"{PROJECTS}/passwords.qgs")
    assert looked.stdout, looked.stderr
    (found,) = json.loads(looked.stdout)["projects"]
    assert (found["layers"], found["problems"]) == (2, [])


# A table of somebody else, and as the recipe finds it: the role is not there yet.
PLACES = """
CREATE TABLE places (LIKE places_a);
CREATE SEQUENCE places_id_seq OWNED BY places.id;
ALTER TABLE places ALTER id SET DEFAULT nextval('places_id_seq'), ADD PRIMARY KEY (id);
ALTER ROLE "qgis-server" RENAME TO kept;
"""
NO_PLACES = """
DROP TABLE places;
DROP OWNED BY "qgis-server";
DROP ROLE "qgis-server";
ALTER ROLE kept RENAME TO "qgis-server";
"""
INSERT = """
<wfs:Transaction service="WFS" version="1.1.0" xmlns:wfs="http://www.opengis.net/wfs"
    xmlns:gml="http://www.opengis.net/gml" xmlns="http://www.qgis.org/gml">
  <wfs:Insert>
    <rows>
      <name>Here</name>
      <geometry>
        <gml:Point srsName="EPSG:4326"><gml:pos srsDimension="2">8.5 47.4</gml:pos></gml:Point>
      </geometry>
    </rows>
  </wfs:Insert>
</wfs:Transaction>
"""


def psql(bed: Testbed, commands: str) -> str:
    options = ("--dbname=gis", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1")
    return bed.out("psql", *options, user="postgres", input=commands)


@pytest.fixture
def places(sides: Sides) -> Iterator[Testbed]:
    """A project that shows a table by the service gis, to which workers have no right."""
    bed = sides.bed
    psql(bed, PLACES)
    per_request = bed.run("cat", PER_REQUEST).stdout
    # It would be before the file of the recipe.
    bed.run("sed", "--in-place", "/PGSERVICEFILE/d", PER_REQUEST)
    text = bed.run("cat", f"{FOLDER}/edit-a/edit.qgs").stdout
    text = text.replace("service='corpus'", "service='gis'").replace("places_a", "places")
    text = text.replace("./places.gpkg", f"{FOLDER}/edit-a/places.gpkg")
    bed.run("tee", f"{PROJECTS}/places.qgs", input=text)
    yield bed
    bed.run("rm", f"{PROJECTS}/places.qgs", "/etc/qgis-server/credentials/pg_service.conf")
    bed.run("tee", PER_REQUEST, input=per_request)
    psql(bed, NO_PLACES)
    ctl(bed, "apply")
    wait_for(lambda: settled(bed), "all is as it was")


def test_a_table_is_opened_for_editing(places: Testbed) -> None:
    """As the book of recipes says."""
    url = "http://127.0.0.1/qgis/places"
    query = f"{url}?SERVICE=WFS&VERSION=1.1.0&REQUEST=GetCapabilities"
    assert places.fetch(query).status != 200
    carry_out(places, recipe("Edit PostGIS by WFS-T"))
    wait_for(lambda: settled(places), "the settings are applied")
    seen(places, recipe("Edit files by WFS-T"))
    reply = places.fetch(url, "--header", "Content-Type: text/xml", "--data", INSERT)
    assert b"totalInserted>1<" in reply.body, reply.body
    assert psql(places, "SELECT id, name FROM places;") == "1|Here"


TIGHT = """[Service]
InaccessiblePaths=+/usr/local/share/fonts +/usr/share/proj +/srv/corpus/data/house.svg
InaccessiblePaths=+/srv/corpus/edit-a
RestrictAddressFamilies=
RestrictAddressFamilies=AF_UNIX
"""
NOTICED = (
    "labels: fonts_own",
    "crs: features moved by a grid",
    "symbols: svg_own",
    "postgis-tcp: countries",
    "cascade: a WMS that the client names",
    "edit: insert into places",
)


@pytest.fixture
def tight(sides: Sides) -> Iterator[None]:
    """A pool whose workers lack what projects use."""
    folder = "/run/systemd/system/qgis-server@.service.d"
    # Not the target: it is up again before they have ended.
    again = "systemctl daemon-reload && systemctl restart 'qgis-server@*.service'"
    sides.bed.run("mkdir", "--parents", folder)
    sides.bed.run("tee", f"{folder}/tight.conf", input=TIGHT)
    sides.bed.run("sh", "-c", again)
    yield
    sides.bed.run("rm", f"{folder}/tight.conf")
    sides.bed.run("sh", "-c", again)


@pytest.mark.usefixtures("tight")
def test_what_a_sandbox_breaks_is_noticed(sides: Sides) -> None:
    missed = []
    for name in NOTICED:
        try:
            compare(sides, {}, REQUESTS[name])
        except AssertionError:
            continue
        missed.append(name)
    assert missed == []
