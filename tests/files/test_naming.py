"""File names from scan ids that peers chose."""

import pytest

from streamptycho.files import naming
from streamptycho.files.naming import safe_stem, unique_path


@pytest.mark.parametrize(
    ("scan_id", "stem"),
    [
        ("scan_0012", "scan_0012"),
        ("2026-11-22.run 7", "2026-11-22.run_7"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("/abs/olute", "_abs_olute"),
        ("a\\b:c*d", "a_b_c_d"),
        ("..", "scan"),
        (".hidden", "hidden"),
        ("Probe µ", "Probe_µ"),
        ("a\0b", "a_b"),
    ],
)
def test_names_stay_in_the_directory(tmp_path, scan_id, stem):
    assert safe_stem(scan_id) == stem
    path = unique_path(tmp_path, scan_id)
    assert path.parent == tmp_path
    assert path.resolve().parent == tmp_path.resolve()
    path.touch()


def test_a_long_id_still_fits_a_file_system(tmp_path):
    path = unique_path(tmp_path, "µ" * 128)
    path.touch()
    unique_path(tmp_path, "µ" * 128).touch()
    assert len(list(tmp_path.iterdir())) == 2


def test_existing_files_are_numbered_around(tmp_path):
    names = []
    for _ in range(3):
        path = unique_path(tmp_path, "scan")
        path.touch()
        names.append(path.name)
    assert names == ["scan.cxi", "scan-2.cxi", "scan-3.cxi"]


@pytest.mark.parametrize("suffix", [".cxi", ".result.h5", ".png"])
def test_no_file_of_another_scan_is_written_over(tmp_path, suffix):
    (tmp_path / f"scan{suffix}").touch()
    (tmp_path / "scan-3.cxi").touch()
    path = unique_path(tmp_path, "scan")
    assert path.name == "scan-2.cxi"
    path.with_suffix(".png").touch()
    assert unique_path(tmp_path, "scan").name == "scan-4.cxi"


def test_ids_that_look_alike_do_not_collide(tmp_path):
    unique_path(tmp_path, "a/b").touch()
    assert unique_path(tmp_path, "a?b").name == "a_b-2.cxi"


def test_names_fit_a_system_with_few_characters(tmp_path, monkeypatch):
    monkeypatch.setattr(naming.os, "fsencode", lambda name: name.encode("latin-1"))
    assert unique_path(tmp_path, "größe-µm").name == "größe-µm.cxi"
    assert unique_path(tmp_path, "Ω-µm").name == "_-_m.cxi"
