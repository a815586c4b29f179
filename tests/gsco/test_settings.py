"""Settings: who wins, and that the key stays where it is."""

from dataclasses import fields
from pathlib import Path

import pytest

from gsco.errors import UsageError
from gsco.settings import Settings, load_settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gsco.toml").write_text('neighbours = 3\ngeneralist = "of the file"\n')
    return tmp_path


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    assert load_settings(folder=tmp_path, environment={}) == Settings()
    assert Settings().neighbours == 10


def test_the_file_beats_the_default(folder: Path) -> None:
    found = load_settings(folder=folder, environment={})
    assert (found.neighbours, found.generalist, found.permutations) == (3, "of the file", 2)


def test_the_environment_beats_the_file(folder: Path) -> None:
    found = load_settings(folder=folder, environment={"GSCO_NEIGHBOURS": "5"})
    assert (found.neighbours, found.generalist) == (5, "of the file")


def test_the_argument_beats_the_environment(folder: Path) -> None:
    found = load_settings(folder=folder, environment={"GSCO_NEIGHBOURS": "5"}, neighbours=7)
    assert found.neighbours == 7
    assert load_settings(folder=folder, environment={}, neighbours=None).neighbours == 3


def test_the_environment_of_the_process_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GSCO_WORKSPACE", "here")
    monkeypatch.chdir(tmp_path)
    assert load_settings().workspace == "here"


def test_every_setting_can_come_from_the_environment(tmp_path: Path) -> None:
    for field in fields(Settings):
        found = load_settings(folder=tmp_path, environment={f"GSCO_{field.name.upper()}": "4"})
        assert str(getattr(found, field.name)) == "4"


@pytest.mark.parametrize("name", ["api_key", "token"])
def test_a_secret_is_never_shown(tmp_path: Path, name: str) -> None:
    environment = {f"GSCO_{name.upper()}": "sk-secret"}
    found = load_settings(folder=tmp_path, environment=environment)
    assert getattr(found, name) == "sk-secret"
    assert "sk-secret" not in f"{found!r} {found}"


@pytest.mark.parametrize("value", ["many", "2.5", "0", "-1", "true"])
def test_a_count_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(UsageError, match=f"'neighbours' is '{value}'"):
        load_settings(folder=tmp_path, environment={"GSCO_NEIGHBOURS": value})


def test_an_unknown_setting_in_the_file_is_refused_with_the_closest(tmp_path: Path) -> None:
    (tmp_path / "gsco.toml").write_text("neighbors = 3\n")
    with pytest.raises(UsageError, match="Did you mean 'neighbours'"):
        load_settings(folder=tmp_path, environment={})


@pytest.mark.parametrize("content", [b"neighbours = \n", b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gsco.toml").write_bytes(content)
    with pytest.raises(UsageError, match=r"gsco\.toml cannot be read"):
        load_settings(folder=tmp_path, environment={})
