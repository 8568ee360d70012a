# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process has of the machine's memory. Knows nothing of QGIS."""


def private(pid: int | str = "self") -> int:
    """Bytes that are the process's own (RssAnon in proc(5)); 0 if there is none."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
