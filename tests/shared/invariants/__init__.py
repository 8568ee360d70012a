# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing that a request does outlasts it: replies that stay as they are, and requests that try to
change them."""
