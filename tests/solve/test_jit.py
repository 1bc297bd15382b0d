"""Compiled functions are kept where there is a place for them, and work where there is none."""

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from numba.core import caching, config

from streamptycho.solve.compiled import jit as module
from streamptycho.solve.compiled.jit import jit


def twice(x: float) -> float:
    return 2 * x


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary directory, where neither the sources nor the home can be written to."""
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [caching.UserProvidedCacheLocator])
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    module._temporary_place.cache_clear()
    yield tmp_path
    module._temporary_place.cache_clear()


def kept(place: Path, pattern: str) -> list[Path]:
    return list(place.rglob(f"test_jit.twice*{pattern}"))


def test_a_place_of_this_user_is_used(place: Path, caplog: Any) -> None:
    for _ in range(2):
        assert jit(twice)(3.0) == 6
    (directory,) = place.iterdir()
    assert directory.stat().st_mode & 0o777 == 0o700
    assert kept(directory, ".nbc")
    assert caplog.messages == [
        f"compiled functions are kept in {directory}: neither the installation nor a home directory can be written to"
    ]


@pytest.mark.parametrize("trap", ["open to all", "link"])
def test_a_place_that_others_can_write_to_is_not(trap: str, place: Path, caplog: Any) -> None:
    """What is read from it is executed."""
    directory = place / f"streamptycho-numba-{os.getuid()}"
    if trap == "link":
        (place / "elsewhere").mkdir(mode=0o700)
        directory.symlink_to(place / "elsewhere")
    else:
        directory.mkdir()
        directory.chmod(0o777)
    assert jit(twice)(3.0) == 6
    assert not kept(place, "")
    (line,) = caplog.messages
    assert line.startswith("compiled functions are not kept, set NUMBA_CACHE_DIR: ")


def test_an_unknown_home_is_not_made_in_the_working_directory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes = [caching.UserProvidedCacheLocator, caching.UserWideCacheLocator]
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", classes)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    monkeypatch.chdir(place)
    assert jit(twice)(3.0) == 6
    assert not (place / "~").exists()


class TestDamage:
    @pytest.fixture
    def cached(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
        assert jit(twice)(3.0) == 6
        assert jit(twice)(3.0) == 6
        return tmp_path

    @pytest.mark.parametrize("what", [".nbi", ".nbc"])
    @pytest.mark.parametrize("keep", [0, 40])
    def test_is_mended(self, what: str, keep: int, cached: Path, caplog: Any) -> None:
        """A power cut leaves files with less in them than was written."""
        (file,) = kept(cached, what)
        whole = file.read_bytes()
        file.write_bytes(whole[:keep])
        assert jit(twice)(3.0) == 6
        assert "the cache is damaged and is made anew" in caplog.text
        assert kept(cached, what)[0].stat().st_size > keep
        caplog.clear()
        assert jit(twice)(3.0) == 6
        assert caplog.messages == []

    def test_a_full_disk_costs_time_only(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
        monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
        function = jit(twice)
        assert (function(3.0), function(3)) == (6, 6)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "No space left on device" in caplog.text
