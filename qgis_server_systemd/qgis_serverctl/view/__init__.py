# SPDX-License-Identifier: GPL-2.0-or-later
"""The pool as data, for whoever shows it."""
