# SPDX-License-Identifier: GPL-2.0-or-later
"""What sends requests to the pool: NGINX, its files and its site."""
