# SPDX-License-Identifier: GPL-2.0-or-later
"""The pool as it is on this host: instances, queues, cores, and what systemd says."""
