# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts requests by what NGINX tells of them; writes metrics, and what the status page shows."""
