# SPDX-License-Identifier: GPL-2.0-or-later
"""What is called at each request."""

from qgis.core import QgsApplication, QgsProjectStorage
from qgis.server import QgsServerFilter, QgsServerInterface

from .archives import Archives
from .fresh import Fresh, Signature
from .journal import say


def sign(project: str) -> Signature | None:
    """When a project in a database, or another store that QGIS knows, was saved."""
    storage: QgsProjectStorage = QgsApplication.projectStorageRegistry().projectStorageFromUri(
        project
    )
    if storage is None:
        return None
    good, metadata = storage.readProjectStorageMetadata(project)
    return (int(metadata.lastModified.toMSecsSinceEpoch()),) if good else None


class Filter(QgsServerFilter):  # type: ignore[misc]
    """QGIS Server has parsed the request, but not yet looked for its project."""

    def __init__(self, iface: QgsServerInterface, fresh: Fresh, archives: Archives) -> None:
        super().__init__(iface)
        self.iface = iface
        self.fresh = fresh
        self.archives = archives
        fresh.sign = sign

    def requestReady(self) -> None:  # noqa: N802
        try:
            iface = self.iface
            if iface.requestHandler().exceptionRaised():
                return
            project = iface.configFilePath()
            if project and self.fresh.is_stale(project):
                iface.removeConfigCacheEntry(project)
                self.archives.look_again(project)
        except Exception as error:
            # Whatever it is, the request goes on as it would without this plugin.
            say(f"{error!r}: not known whether the project has changed")
