# SPDX-License-Identifier: GPL-2.0-or-later
"""The catalogue: what is known of each project that has an address, and of those that have none.

    python3 -m PLUGIN.catalogue WORKER_FILE ORDERS RESULT

It runs as an instance of the workers' unit, and so sees what they see. Each project is looked at
in a process of its own: one that hangs, crashes or eats memory ends the look at itself alone.
Nobody may believe what it writes: projects are code, and may have taken it over.
"""
