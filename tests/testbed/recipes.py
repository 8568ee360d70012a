# SPDX-License-Identifier: GPL-2.0-or-later
"""What is in the trees, and the commands that make them."""

from __future__ import annotations

from pathlib import Path

INSTALLED = (
    "ca-certificates",
    "curl",
    "dbus",
    "fonts-dejavu-core",
    "gdal-bin",
    "init",
    "iproute2",
    "libfcgi-bin",
    "netbase",
    "poppler-utils",
    "procps",
    "python3",
    "python3-owslib",
    "python3-prometheus-client",
    "python3-qgis",
    "qgis-server",
    "systemd",
    "systemd-sysv",
)
# In a tree of another architecture, where each program is emulated: what a server needs.
FOREIGN = (
    "ca-certificates",
    "curl",
    "dbus",
    "fonts-dejavu-core",
    "init",
    "iproute2",
    "libfcgi-bin",
    "netbase",
    "nginx",
    "procps",
    "python3",
    "python3-prometheus-client",
    "python3-qgis",
    "qgis-server",
    "systemd",
    "systemd-sysv",
)
# Kept in the tree's APT cache: a testbed has no network, yet packages are installed in it.
DOWNLOADED = ("nginx", "openssh-sftp-server", "postgresql", "rsync", "sshfs")
# In a layer of its own, for the few tests that build and check the package inside a suite.
TOOLS = (
    "apt-utils",
    "autopkgtest",
    "build-essential",
    "debhelper",
    "dh-python",
    "faketime",
    "gpg",
    "gpg-agent",
    "gpgv",
    "lintian",
    "piuparts",
    "po-debconf",
    "prometheus",
    "prometheus-node-exporter",
    "python3-debian",
    "python3-jinja2",
    "python3-markdown-it",
    "python3-setuptools",
    "python3-venv",
    "python3-wheel",
    "schroot",
    "shellcheck",
    "zsh",
)
# In a layer of its own, for the roll-out by Ansible: what servers have that it manages.
MANAGED = ("openssh-server", "python3-apt", "sudo")
# Kept in that layer's APT cache as well, for the fronts of several servers.
BALANCER = ("haproxy", "keepalived")
# In a layer of its own, for the front page.
BROWSER = ("chromium", "chromium-driver", "libjs-leaflet")
# In a layer of its own, for the benchmark.
RIVALS = (
    "apache2",
    "fcgiwrap",
    "libapache2-mod-fcgid",
    "multiwatch",
    "python3-pkg-resources",
    "python3-psutil",
    "python3-tornado",
    "python3-typing-extensions",
    "python3-yaml",
    "python3-zmq",
    "spawn-fcgi",
    "uwsgi-core",
)
# apt reads its whole lists after each change, which takes longer than most installations: those of
# what is installed and what can be are left. `apt-get update` would take them for whole, so they go
# before it.
KEEP = """
dpkg-query --show --showformat '${Package}\\n' >/tmp/names
for file in /var/cache/apt/archives/*.deb; do
    dpkg-deb --field "$file" Package
done >>/tmp/names
for list in /var/lib/apt/lists/*_Packages; do
    awk 'BEGIN { while ((getline name <"/tmp/names") > 0) kept["Package: " name]
        RS = ""; FS = "\\n"; ORS = "\\n\\n" } $1 in kept' "$list" >/tmp/kept
    cat /tmp/kept >"$list"
done
rm /tmp/names /tmp/kept
apt-cache gencaches
"""
UPDATE = """
rm -rf /var/lib/apt/lists/*
apt-get update
"""
# Runs inside the new tree while its package lists are still there. The machine ID is fixed
# because systemd takes an empty one for a first boot and would enable every installed unit.
PREPARE = f"""
apt-get clean
apt-get install --yes --download-only {" ".join(DOWNLOADED)}
mkdir /tmp/qgis-common
cd /tmp/qgis-common
apt-get download qgis-common
mkdir -p /srv/maps
dpkg-deb --fsys-tarfile qgis-common_*.deb |
    tar -xO ./usr/share/qgis/resources/data/world_map.gpkg >/srv/maps/world_map.gpkg
cd /
rm -r /tmp/qgis-common
{KEEP}"""
# With newer package lists than the tree's, what was downloaded may be out of date, too.
PREPARE_TOOLS, PREPARE_MANAGED, PREPARE_BROWSER = (
    f"""{UPDATE}
apt-get install --yes {" ".join(packages)}
apt-get clean
apt-get install --yes --download-only {" ".join((*DOWNLOADED, *more))}
{KEEP}
rm -f /etc/resolv.conf
"""
    for packages, more in ((TOOLS, ()), (MANAGED, BALANCER), (BROWSER, ()))
)
# One package that is missing must not keep the others away; its unit is missing then, too, so
# systemctl may complain. None starts by itself.
PREPARE_RIVALS = f"""{UPDATE}
for package in {" ".join(RIVALS)}; do
    apt-get install --yes "$package" || echo "$package can't be installed" >&2
done
systemctl disable apache2.service fcgiwrap.service fcgiwrap.socket || true
apt-get clean
apt-get install --yes --download-only {" ".join(DOWNLOADED)}
{KEEP}
rm -f /etc/resolv.conf
"""
# systemd runs its generators at each reload, which takes most of its time: what they make is for
# other machines. The one that is left reads a virtual machine's kernel command line. What a new
# /usr has to be followed by, dpkg has done.
FINISH = """
rm -f /etc/resolv.conf /etc/dpkg/dpkg.cfg.d/99mmdebstrap
mkdir -p /etc/systemd/system-generators
for generator in /usr/lib/systemd/system-generators/* /lib/systemd/system-generators/*; do
    ln -sf /dev/null "/etc/systemd/system-generators/${generator##*/}"
done
rm /etc/systemd/system-generators/systemd-debug-generator
echo testbed >/etc/hostname
printf '127.0.0.1 localhost testbed\\n::1 localhost ip6-localhost\\n' >/etc/hosts
echo 7e57bed07e57bed07e57bed07e57bed0 >/etc/machine-id
touch /etc/.updated /var/.updated
"""
# Much of QGIS's Python, of which workers and tests load nothing, takes a third of the time that a
# tree takes if all of it is compiled.
COMPILE_LATER = """
chroot "$1" dpkg-divert --local --rename --add /usr/bin/py3compile
ln -s /bin/true "$1/usr/bin/py3compile"
"""
COMPILE_AGAIN = """
rm /usr/bin/py3compile
dpkg-divert --local --rename --remove /usr/bin/py3compile
cd /usr/lib/python3/dist-packages
"""
COMPILE = f"""{COMPILE_AGAIN}\
ls | grep -vxE 'fontTools|matplotlib|mpmath|plotly|pygments|scipy|sympy' |
    xargs python3 -m compileall -q /usr/share/python3/debpython
"""
# In a tree of another architecture, where each program is emulated: what workers load.
FOREIGN_COMPILE = f"""{COMPILE_AGAIN}\
python3 -m compileall -q PyQt5 osgeo qgis
"""
MMDEBSTRAP_OPTIONS = (
    "--mode=root",
    "--variant=minbase",
    "--format=directory",
    "--skip=cleanup/apt",
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=force-unsafe-io",
    f"--essential-hook={COMPILE_LATER}",
)
# Nothing but the package itself is installed there later, so apt needs no lists. Whether programs
# run is not for mmdebstrap to find out.
FOREIGN_OPTIONS = (
    *(option for option in MMDEBSTRAP_OPTIONS if option != "--skip=cleanup/apt"),
    "--skip=check/qemu",
)
# The Release file of Debian testing is valid for a week, and a mirror may be behind.
TESTING_OPTIONS = ('--aptopt=Acquire::Check-Valid-Until "false"',)
FILES = Path(__file__).resolve().parents[1] / "trees"
PROJECTS_SCRIPT = FILES / "maps" / "make_projects.py"
PROJECTS_COMMAND = (
    "env",
    "QT_QPA_PLATFORM=offscreen",
    "python3",
    "/srv/maps/make_projects.py",
    "/srv/maps",
)
CORPUS = FILES / "corpus"
CORPUS_COMMAND = ("env", f"DOWNLOADED={' '.join(DOWNLOADED)}", "/srv/corpus/build.sh", "all")
