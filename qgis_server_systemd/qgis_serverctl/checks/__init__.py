# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wrong, and the command that fixes it."""
