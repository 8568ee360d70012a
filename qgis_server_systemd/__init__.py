# SPDX-License-Identifier: GPL-2.0-or-later
"""Build tool for the Debian package qgis-server-systemd."""

__version__ = "0.1.0"
"""The upstream version; debian/changelog must begin with the same."""
