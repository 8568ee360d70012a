# SPDX-License-Identifier: GPL-2.0-or-later
"""Questions of debconf: asked, preseeded, changed, and overruled by the administrator."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from shared.pool import (
    DEB,
    OFFLINE,
    apt,
    enabled,
    install,
    nginx_is_content,
    path,
    quick_workers,
    sockets,
    status,
    wait_for,
)
from testbed import Testbed

from qgis_server_systemd.qgis_serverctl.config.names import Package
from qgis_server_systemd.qgis_serverctl.config.values import MAX_INSTANCES

NAME = "qgis-server-systemd"
HINT = "run: qgis-serverctl site enable [--project FILE]"
CAPABILITIES = "http://127.0.0.1/qgis/world?SERVICE=WMS&REQUEST=GetCapabilities"
FRENCH = {"LANGUAGE": "fr", "LC_ALL": "C.UTF-8", "PERL5LIB": "/root/perl"}
# debconf translates only where this module is, which a small system lacks. From
# UTF-8 to UTF-8 there is nothing to convert.
ICONV = "package Text::Iconv; sub new { bless {} } sub convert { $_[1] } 1;\n"


def preseed(bed: Testbed, question: str, value: str) -> None:
    kind = {"instances": "string", "site": "boolean"}[question]
    line = f"{NAME} {NAME}/{question} {kind} {value}\n"
    bed.run("debconf-set-selections", input=line)


def on_a_terminal(bed: Testbed, command: str, *answers: str, **env: str) -> str:
    """Run a command that asks questions, and answer them; returns what was shown."""
    text = "".join(f"{answer}\n" for answer in answers)
    front = {"DEBIAN_FRONTEND": "teletype", "TERM": "dumb", **env}
    script = ("script", "--quiet", "--return", "--command", command, "/dev/null")
    return bed.run(*script, input=text, env=front).stdout


def reconfigure(bed: Testbed, *answers: str, **env: str) -> str:
    """dpkg-reconfigure; the questions are asked if there are answers."""
    if answers:
        return on_a_terminal(bed, f"dpkg-reconfigure {NAME}", *answers, **env)
    done = bed.run("dpkg-reconfigure", NAME, env=OFFLINE)
    return done.stdout + done.stderr


def known(bed: Testbed) -> dict[str, str]:
    """debconf's database of this package."""
    lines = bed.out("debconf-show", NAME).splitlines()
    pairs = (line.lstrip("* ").partition(":") for line in lines)
    return {key.partition("/")[2]: value.strip() for key, _, value in pairs}


def count(bed: Testbed) -> tuple[object, str]:
    """The number of instances that is set, and where."""
    found = status(bed)["settings"]["instances"]
    return found["value"], Path(found["from"]).name


def ctl(bed: Testbed, *args: str) -> str:
    done = bed.run("qgis-serverctl", *args)
    return done.stdout + done.stderr


def is_served(bed: Testbed) -> bool:
    """A project that is put where the shipped settings look for it."""
    bed.run("cp", "-r", "/srv/maps/.", Package().projects)
    return bed.fetch(CAPABILITIES).status == 200 and status(bed)["nginx"]["site"] is not None


def test_the_control_archive_has_them(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--control", package, tmp_path], check=True)
    text = (tmp_path / "templates").read_text()
    assert (tmp_path / "config").stat().st_mode & 0o111
    assert "Description-fr.UTF-8: Faut-il activer" in text
    assert "Description-de.UTF-8: Soll die NGINX-Site" in text
    assert "db_purge" in (tmp_path / "postrm").read_text()


# ---- Install


def test_unasked_everything_is_as_the_defaults_say(ready: Testbed) -> None:
    quick_workers(ready)
    ready.boot()
    said = install(ready, "nginx", maps=False)
    assert HINT in said
    assert known(ready) == {"instances": "auto", "instances-invalid": "", "site": "false"}
    assert count(ready) == ("auto", "default")
    assert status(ready)["nginx"]["site"] is None
    assert not (ready.root / "etc/qgis-server/server.auto.toml").exists()


def test_a_preseeded_server_serves_at_once(ready: Testbed) -> None:
    """Also NGINX comes in this very run of APT."""
    ready.boot()
    preseed(ready, "instances", "3")
    preseed(ready, "site", "true")
    said = install(ready, "nginx")
    assert HINT not in said
    assert "front page:   http://" in said
    assert count(ready) == (3, "server.auto.toml")
    assert sockets(ready) == [path(n) for n in (1, 2, 3)]
    assert is_served(ready)
    nginx_is_content(ready)
    # Nothing of it is left to do, and a purge forgets the answers.
    assert "nothing to do" in ctl(ready, "apply")
    apt(ready, "purge", NAME)
    assert known(ready) == {}
    assert NAME not in (ready.root / "var/cache/debconf/config.dat").read_text()
    # A process of NGINX from before the reload may take one more connection.
    welcome = "http://127.0.0.1/"
    wait_for(lambda: ready.fetch(welcome).status == 200, "NGINX's welcome page is back")
    install(ready)
    assert count(ready) == ("auto", "default")
    assert status(ready)["nginx"]["site"] is None


def test_the_site_waits_for_nginx(ready: Testbed) -> None:
    ready.boot()
    preseed(ready, "site", "true")
    assert "the NGINX site is not enabled yet" in install(ready)
    assert status(ready)["nginx"]["site"] is None
    install(ready, "nginx", package=False)
    assert is_served(ready)
    nginx_is_content(ready)


def test_the_site_waits_until_nginx_is_set_up(ready: Testbed) -> None:
    """Whatever the order in which dpkg configures the two."""
    ready.boot()
    apt(ready, "install", "--download-only", "nginx")
    preseed(ready, "site", "true")
    ready.run("sh", "-c", f"dpkg --no-triggers --unpack /var/cache/apt/archives/*.deb {DEB}")
    ready.run("dpkg", "--no-triggers", "--configure", NAME, env=OFFLINE)
    assert status(ready)["nginx"]["site"] is None
    ready.run("dpkg", "--configure", "--pending", env=OFFLINE)
    assert is_served(ready)
    nginx_is_content(ready)


def test_an_image_gets_the_site_too(ready: Testbed) -> None:
    line = f"{NAME} {NAME}/site boolean true"
    ready.chroot("sh", "-c", f"echo {line} | debconf-set-selections")
    ready.chroot("apt-get", "--yes", "install", DEB, "nginx", env=OFFLINE)
    ready.boot()
    assert is_served(ready)


def test_the_site_stays_wanted_while_another_is_in_its_place(web: Testbed) -> None:
    web.boot()
    own = web.root / "etc/nginx/conf.d/own.conf"
    own.write_text("server { listen 80 default_server; }\n")
    web.run("rm", "/etc/nginx/sites-enabled/default")
    preseed(web, "site", "true")
    said = install(web)
    assert re.search("warning: NGINX site: nginx -t: .* a duplicate default server", said)
    assert status(web)["nginx"]["site"] is None
    own.unlink()
    ctl(web, "apply")
    assert is_served(web)


def test_an_invalid_number_is_told_and_not_used(ready: Testbed) -> None:
    quick_workers(ready)
    ready.boot()
    for answer in ("lots", "0", "513", "-1", "99999999999999999999"):
        preseed(ready, "instances", answer)
        said = install(ready)
        assert "Invalid number of instances" in said
        assert f'"{answer}" is neither "auto" nor a number from 1 to {MAX_INSTANCES}' in said
        assert known(ready)["instances"] == "auto"
        assert count(ready) == ("auto", "default")
        apt(ready, "purge", NAME)


# ---- Answers and what the administrator did since


def test_an_answer_is_followed_once(quick: Testbed, newer_package: Path) -> None:
    preseed(quick, "instances", "3")
    apt(quick, "install", "--reinstall", DEB)
    assert count(quick) == (3, "server.auto.toml")
    ctl(quick, "apply", "--instances", "2")
    apt(quick, "install", "--reinstall", DEB)
    assert count(quick) == (2, "server.auto.toml")
    # The same answer given again, as by a tool that does so every day, is no news.
    preseed(quick, "instances", "3")
    quick.put(newer_package, "/root/newer.deb")
    apt(quick, "install", "/root/newer.deb")
    assert count(quick) == (2, "server.auto.toml")
    # dpkg-reconfigure starts from what there is; a new answer counts.
    reconfigure(quick)
    assert known(quick)["instances"] == "2"
    assert count(quick) == (2, "server.auto.toml")
    preseed(quick, "instances", "1")
    reconfigure(quick)
    assert count(quick) == (1, "server.auto.toml")
    assert sockets(quick) == [path(1)]
    preseed(quick, "instances", "many")
    assert "Invalid number" in reconfigure(quick)
    assert count(quick) == (1, "server.auto.toml")
    assert known(quick)["instances"] == "1"


def test_the_settings_file_wins_over_any_answer(quick: Testbed) -> None:
    settings = quick.root / "etc/qgis-server/server.toml"
    text = settings.read_text() + "instances = 1\n"
    settings.write_text(text)
    ctl(quick, "apply")
    apt(quick, "install", "--reinstall", DEB)
    assert count(quick) == (1, "server.toml")
    reconfigure(quick)
    assert known(quick)["instances"] == "1"
    assert "instances" not in (quick.root / "etc/qgis-server/server.auto.toml").read_text()
    preseed(quick, "instances", "3")
    assert "/server.toml sets instances too and wins: change it there" in reconfigure(quick)
    assert count(quick) == (1, "server.toml")
    assert enabled(quick) == [1]
    assert settings.read_text() == text


def test_a_site_of_the_administrator_is_left_alone(server: Testbed) -> None:
    ctl(server, "site", "enable")
    apt(server, "install", "--reinstall", DEB)
    assert is_served(server)
    reconfigure(server)
    assert known(server)["site"] == "true"
    assert is_served(server)
    ctl(server, "site", "disable")
    apt(server, "install", "--reinstall", DEB)
    assert status(server)["nginx"]["site"] is None
    reconfigure(server)
    assert known(server)["site"] == "false"
    assert status(server)["nginx"]["site"] is None
    # One that asks for it, and one that takes that back.
    preseed(server, "site", "true")
    apt(server, "install", "--reinstall", DEB)
    assert is_served(server)
    preseed(server, "site", "false")
    assert "the site is disabled" in reconfigure(server)
    assert status(server)["nginx"]["site"] is None
    assert server.fetch("http://127.0.0.1/").status == 200
    nginx_is_content(server)


def test_settings_with_a_mistake_stop_no_question(quick: Testbed) -> None:
    quick.run("sh", "-c", "echo 'instanzes = 1' >>/etc/qgis-server/server.toml")
    preseed(quick, "instances", "3")
    said = reconfigure(quick)
    assert "unknown key instanzes" in said
    assert "the pool is not complete" in said
    quick.run("sed", "-i", "/instanzes/d", "/etc/qgis-server/server.toml")
    reconfigure(quick)
    assert count(quick) == (3, "server.auto.toml")


# ---- Somebody answers


def test_questions_in_french_on_a_terminal(server: Testbed) -> None:
    module = server.root / "root/perl/Text/Iconv.pm"
    module.parent.mkdir(parents=True)
    module.write_text(ICONV)
    ctl(server, "apply", "--instances", "2")
    said = reconfigure(server, "beaucoup", "yes", "3", **FRENCH)
    assert "Nombre d'instances de QGIS Server" in said
    assert "« beaucoup » n'est ni « auto » ni" in " ".join(said.split())
    assert "Faut-il activer le site NGINX de QGIS Server" in said
    assert count(server) == (3, "server.auto.toml")
    assert is_served(server)


def test_an_old_answer_given_anew_counts(quick: Testbed) -> None:
    preseed(quick, "instances", "3")
    reconfigure(quick)
    ctl(quick, "apply", "--instances", "2")
    said = reconfigure(quick, "3", "no")
    assert "Number of QGIS Server instances" in said
    assert count(quick) == (3, "server.auto.toml")
    # Back to the cores, which a plain upgrade would not do to a larger pool.
    cores = status(quick)["cores"]["count"]
    reconfigure(quick, "auto", "no")
    assert count(quick) == ("auto", "server.auto.toml")
    assert sockets(quick) == [path(n) for n in range(1, cores + 1)]


def test_questions_while_installing(ready: Testbed) -> None:
    ready.boot()
    said = on_a_terminal(ready, f"dpkg --install {DEB}", "2", "yes", DEBIAN_PRIORITY="low")
    assert "Enable the NGINX site of QGIS Server?" in said
    assert count(ready) == (2, "server.auto.toml")
    install(ready, "nginx", package=False)
    assert is_served(ready)
