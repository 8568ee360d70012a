# SPDX-License-Identifier: GPL-2.0-or-later
"""The lane for heavy requests: is what keeps it out of the way of others in force?"""

from pathlib import Path

from ..config.names import Package
from ..pool import cores
from ..view.look import Look


def has_cpu_controller(package: Package, root: Path = Path(cores.CGROUPS)) -> bool:
    """Can systemd give the lane's slice a weight? A container may get no controllers from its
    host: the file is that of the root that this machine sees, since systemd passes them on as
    far as there is a use for them (cgroups(7))."""
    slices = (root / folder for folder in reversed(cores.slice_chain(package.heavy_slice)))
    for folder in (next((one for one in slices if one.is_dir()), root), root):
        try:
            return "cpu" in (folder / "cgroup.controllers").read_text(encoding="ascii").split()
        except OSError:
            continue
    # The first version of control groups has a folder for each controller.
    return (root / "cpu").is_dir()


def notes(package: Package, look: Look) -> tuple[str, ...]:
    """What is not as it could be, and no mistake of anybody's."""
    if not (look.wanted and look.wanted.heavy) or has_cpu_controller(package):
        return ()
    return (
        f"there is no cpu controller for {package.heavy_slice}: heavy requests share the processor "
        "with others, instead of having what these leave; a container gets controllers from its "
        "host",
    )
