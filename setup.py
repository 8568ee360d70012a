# SPDX-License-Identifier: GPL-2.0-or-later
"""Registers stdeb's commands; everything else is in pyproject.toml."""

from setuptools import setup

try:
    from qgis_server_systemd.stdeb_commands import bdist_deb, sdist_dsc
except ImportError:
    # pip builds a wheel in an environment that has neither stdeb nor Jinja2.
    commands = {}
else:
    commands = {"bdist_deb": bdist_deb, "sdist_dsc": sdist_dsc}

setup(cmdclass=commands)
