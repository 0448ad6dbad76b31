"""What happens to a folder while another process makes or drops it."""

import errno
import sqlite3
from pathlib import Path

import pytest

from engine.documents import DocumentStore
from engine.errors import CollectionBusy, CollectionExists, CollectionNotFound
from engine.folder import make_folder


def test_a_place_taken_meanwhile_is_said_to_exist_even_if_it_is_empty_again(tmp_path, monkeypatch):
    def taken(self, target):
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(Path, "rename", taken)
    with pytest.raises(CollectionExists):
        make_folder(tmp_path / "shop", fingerprint="f", encoder="e", busy_timeout_ms=1000)
    assert list(tmp_path.iterdir()) == []


def test_whatever_sqlite_stumbles_over_in_a_dropped_collection_it_is_said_to_be_dropped(tmp_path):
    store = DocumentStore.create(tmp_path / "documents.sqlite", busy_timeout_ms=1000)
    (tmp_path / "documents.sqlite").rename(tmp_path / "elsewhere")
    with pytest.raises(CollectionNotFound, match="dropped"), store.database._translated():
        raise sqlite3.OperationalError("disk I/O error")
    (tmp_path / "elsewhere").rename(tmp_path / "documents.sqlite")
    store.close()
    with pytest.raises(CollectionBusy, match="closed"):
        store.count()
