"""What a cache is keyed by: code that shapes a result, and nothing that does not."""

from __future__ import annotations

import pytest

from segdistill.utils.code import code_digest, essence

SOURCE = '"""Room."""\ndef f(x: int) -> int:\n    """Doc."""\n    return x + 1\n'


@pytest.mark.parametrize(
    "changed",
    [
        '"""Another room."""\ndef f(x: int) -> int:\n    """Longer doc."""\n    return x + 1  # why\n',
        "\n\ndef f(x: int) -> int:\n    return (x + 1)\n",
    ],
    ids=["docstrings and comments", "layout"],
)
def test_comments_and_layout_do_not_change_the_code_digest(changed: str) -> None:
    assert essence(changed) == essence(SOURCE)


def test_a_changed_constant_changes_the_code_digest() -> None:
    assert essence(SOURCE.replace("1", "2")) != essence(SOURCE)
    assert essence('x = "a"') != essence('x = "b"')  # a string that is no docstring


def test_each_room_has_a_digest_of_its_own() -> None:
    digests = {
        code_digest(*places)
        for places in (["roadscenes"], ["segdistill/data"], ["roadscenes", "segdistill/data"], ["segdistill/cli.py"])
    }
    assert len(digests) == 4
    assert all(len(digest) == 8 for digest in digests)


def test_a_missing_path_has_no_code_digest() -> None:
    with pytest.raises(FileNotFoundError):
        code_digest("no_such_room.py")
