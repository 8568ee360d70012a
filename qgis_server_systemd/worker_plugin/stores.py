# SPDX-License-Identifier: GPL-2.0-or-later
"""What QGIS keeps elsewhere than in files of its own: projects and passwords."""

from qgis.core import QgsApplication, QgsProjectStorage, QgsReadWriteContext

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


def content(project: str) -> bytes | None:
    """The archive in which such a project is; None if it can't be had."""
    # Most servers have none.
    from qgis.PyQt.QtCore import QBuffer, QIODevice

    storage: QgsProjectStorage = QgsApplication.projectStorageRegistry().projectStorageFromUri(
        project
    )
    if storage is None:
        return None
    buffer = QBuffer()
    buffer.open(QIODevice.OpenModeFlag.ReadWrite)
    good = storage.readProject(project, buffer, QgsReadWriteContext())
    return bytes(buffer.data()) if good else None


def ask_nobody() -> None:
    """Where the master password does not open the authentication database, QGIS looks for another
    one in the wallet of a desktop, and waits for it for ever (QgsAuthManager::masterPasswordInput).
    To be called before any project is opened."""
    QgsApplication.authManager().setPasswordHelperEnabled(False)
