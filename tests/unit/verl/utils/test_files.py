"""A file is written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from verl.utils.files import write_text, written_whole


def test_replaces_a_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "table.json"
    write_text(path, "old")
    write_text(path, "naïve — 新")
    assert path.read_text(encoding="utf-8") == "naïve — 新"
    assert [*path.parent.iterdir()] == [path]


def test_a_writer_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    write_text(path, "old")

    def write_half() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "old"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_folder_takes_the_place_of_a_full_one(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for name in ("old", "new"):
        with written_whole(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
    assert [file.name for file in path.iterdir()] == ["new"]
    assert [*tmp_path.iterdir()] == [path]


def test_leftovers_of_a_killed_process_are_no_part_of_the_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with written_whole(path) as temporary:
        leftover = temporary
        temporary.mkdir()
    leftover.mkdir()
    (leftover / "half").write_text("")
    with written_whole(path) as temporary:
        temporary.mkdir()
    assert [*path.iterdir()] == []


def test_the_suffix_stays_and_the_name_is_hidden(tmp_path: Path) -> None:
    with written_whole(tmp_path / "curves.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.name.startswith(".")
        temporary.write_bytes(b"")
