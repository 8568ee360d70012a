# SPDX-License-Identifier: GPL-2.0-or-later
"""Projects that are no files."""

from qgis.core import QgsApplication, QgsProjectStorage

from .fresh import Signature


def sign(project: str) -> Signature | None:
    """When a project in a database, or another store that QGIS knows, was saved."""
    storage: QgsProjectStorage = QgsApplication.projectStorageRegistry().projectStorageFromUri(
        project
    )
    if storage is None:
        return None
    good, metadata = storage.readProjectStorageMetadata(project)
    return (int(metadata.lastModified.toMSecsSinceEpoch()),) if good else None
