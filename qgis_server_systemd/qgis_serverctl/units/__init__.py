# SPDX-License-Identifier: GPL-2.0-or-later
"""Files generated for systemd and for the workers."""
