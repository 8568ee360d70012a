# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine: files, processes, formats. Knows nothing of a pool."""
