"""The teacher's classes are found by name; what the user says comes first, and what is missing is one clear error."""

from __future__ import annotations

import logging

import pytest

from segdistill.engine.class_map import class_groups
from segdistill.utils.errors import ConfigError

KNOWN = ["__background__", "car", "person", "traffic light", "road", "bus"]
NAMES = ("background", "cars", "signal", "pedestrian")


def test_classes_are_found_by_name_and_logged_as_a_table(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert class_groups({}, len(KNOWN), KNOWN, NAMES) == [[0], [1], [3], [2]]
    lines = [" ".join(line.split()) for line in caplog.text.splitlines()]
    assert {"cars 1 car name", "pedestrian 2 person synonym", "background 0 __background__ name"} <= set(lines)


def test_the_map_of_the_user_wins_by_ids_and_by_names() -> None:
    assert class_groups({"cars": ["Bus", 1]}, len(KNOWN), KNOWN, NAMES) == [[0], [5, 1], [3], [2]]
    assert class_groups({"signal": [2], "pedestrian": ["road"]}, 6, KNOWN, NAMES) == [[0], [1], [2], [4]]


def test_a_star_takes_all_that_no_other_class_has() -> None:
    known = KNOWN[1:]
    assert class_groups({"background": ["*"]}, len(known), known, NAMES) == [[3, 4], [0], [2], [1]]


@pytest.mark.parametrize(
    ("class_map", "names", "complaint"),
    [
        (
            {},
            ("car", "lane", "sky"),
            r"teacher\.class_map=\{\}: .*like lane, sky; .*'\+teacher\.class_map=\{lane: \[__background__\]\}'.*"
            r"the data has \['car', 'lane', 'sky'\], the teacher 0 __background__, 1 car, ",
        ),
        ({"car": ["lorry"]}, ("car",), r"teacher\.class_map\.car=.*no class lorry; it knows 0 __"),
        ({"car": ["trafic light"]}, ("car",), r"did you mean traffic light\?"),
        ({"car": [6]}, ("car",), r"teacher\.class_map\.car=\[6\]: .*0 to 5"),
        ({"car": [1], "bus": ["car"]}, ("car", "bus"), "1 already belongs to car"),
        ({"tram": [1]}, ("car",), "like car"),
        ({"tram": [5]}, ("car",), "the data has no such class"),
    ],
)
def test_what_does_not_fit_is_one_error(
    class_map: dict[str, list[object]], names: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        class_groups(class_map, len(KNOWN), KNOWN, names)


def test_a_teacher_without_names_needs_ids() -> None:
    assert class_groups({"car": [1], "sky": ["*"]}, 3, (), ("car", "sky")) == [[1], [0, 2]]
    with pytest.raises(ConfigError, match=r"misses the class sky, and the teacher tells no names; give ids, or"):
        class_groups({"car": [1]}, 3, (), ("car", "sky"))
    with pytest.raises(ConfigError, match="it tells no names; give ids"):
        class_groups({"car": ["car"]}, 3, (), ("car",))
