# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of secrets: where they should not be, and who may read them."""

import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from ..pool.host import Host
from ..pool.settings import env_variables
from ..system import access
from ..system.access import Question
from ..system.files import read_or_none
from .finding import Finding, error, warning

NAMES = re.compile(r"PASS(?!.*FILE)|SECRET|TOKEN|USERPWD|API_?KEY|ACCOUNT_KEY", re.IGNORECASE)
"""What names of variables that hold secrets have in them: of libpq, GDAL and QGIS.
QGIS_AUTH_PASSWORD_FILE and PGPASSFILE name files."""


def check_variables(host: Host) -> Iterator[Finding]:
    """Everybody may read env; whoever can make a worker evaluate an expression reads all
    variables."""
    package = host.package
    env = f"{package.etc}/env"
    found = [(env, name) for name, value in env_variables(host).items() if value]
    params = f"{package.etc}/fastcgi_params"
    text = read_or_none(host.path(params)) or ""
    pattern = r"^\s*fastcgi_param\s+(\w+)\s+[^\s;]"
    found += [(params, name) for name in re.findall(pattern, text, re.MULTILINE)]
    for file, name in found:
        if NAMES.search(name):
            yield warning(
                "secret-in-environment",
                f"{name} holds a secret, and is in the environment of all workers",
                file,
                f"put it into {package.service_file} or QGIS's authentication database "
                f"(docs/security.md), and remove the line",
            )


def check_credentials(host: Host) -> Iterator[Finding]:
    """Root's, and for the workers' group to read: for nobody else, and for these at all."""
    package = host.package
    folder = host.path(package.credentials)
    if not folder.is_dir():
        return
    for file in (folder, *sorted(folder.iterdir())):
        found = file.lstat()
        if found.st_mode & stat.S_IRWXO or found.st_uid != 0:
            place = shlex.quote(str(file))
            own = "750" if stat.S_ISDIR(found.st_mode) else "640"
            yield error(
                "secret-exposed",
                "others than root and the workers may read or change it",
                str(file),
                f"chown root:{package.group} {place} && chmod {own} {place}",
            )
    database = f"{package.auth}/qgis-auth.db"
    wanted = [package.service_file, package.master_password, database]
    questions = [Question(str(path), "r") for path in map(host.path, wanted) if path.exists()]
    for question in access.as_user(package.user, questions):
        yield error(
            "secret-unreadable",
            "workers can't read it",
            question.path,
            f"chgrp {package.group} {Path(question.path)} && chmod 640 {question.path}",
        )


def check(host: Host) -> Iterator[Finding]:
    yield from check_variables(host)
    yield from check_credentials(host)
