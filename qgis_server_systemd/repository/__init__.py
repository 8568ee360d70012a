# SPDX-License-Identifier: GPL-2.0-or-later
"""A signed APT repository in a folder: what `publish` makes and keeps."""
