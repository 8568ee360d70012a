# SPDX-License-Identifier: GPL-2.0-or-later
"""Generated requests through NGINX against the pool: nothing from outside is told, and the pool
stays up."""
