# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs inside the container, with the standard library and the package's own modules."""
