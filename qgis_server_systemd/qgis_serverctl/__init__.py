# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs on a server: the administrator's command and its parts.

This folder is installed as it is into ``/usr/share/qgis-server-systemd`` and
uses the standard library alone, so that it also works while apt has half of
the machine unpacked, and from outside of a ``DPKG_ROOT``.
"""
