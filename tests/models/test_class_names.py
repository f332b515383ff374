"""Names of data sets and networks as they are found: what means the same is found, nothing else."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import yaml
from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights

from segdistill.models.class_names import SYNONYMS, match_names, normalised

CONF = Path(__file__).parents[2] / "conf"
CITYSCAPES = yaml.safe_load((CONF / "teacher/smp_pretrained.yaml").read_text())["network"]["class_names"]
CAMVID = list(yaml.safe_load((CONF / "data/camvid.yaml").read_text())["classes"])
VOC = LRASPP_MobileNet_V3_Large_Weights.DEFAULT.meta["categories"]


def found(wanted: list[str], known: list[str]) -> dict[str, list[str]]:
    return {name: [known[index] for index in indices] for name, (indices, _) in match_names(wanted, known).items()}


def test_camvid_is_found_in_cityscapes() -> None:
    others = {"pavement": "sidewalk", "tree": "vegetation", "sign_symbol": "traffic sign", "pedestrian": "person"}
    others["bicyclist"] = "rider"
    assert found(CAMVID, CITYSCAPES) == {name: [others.get(name, name)] for name in CAMVID}


def test_the_embedded_scenes_are_found_in_voc_as_far_as_it_has_them() -> None:
    wanted = ["background", "car", "signal", "pedestrian", "lane"]
    assert match_names(wanted, VOC) == {
        "background": ([0], "name"),
        "car": ([7], "name"),
        "pedestrian": ([15], "synonym"),
    }


@pytest.mark.parametrize(
    ("wanted", "known"),
    [
        ("Traffic_Lights", "traffic light"),
        ("people", "Person"),
        ("buses", "bus"),
        ("grass", "grass"),
        ("glasses", "glass"),
        ("lorries", "truck"),
        ("potted plant", "pottedplant"),
        ("dining-table", "diningtable"),
        ("couch", "sofa, couch, lounge"),
        ("route", "road;route"),
        ("bed", "bed "),
        ("TV", "tvmonitor"),
    ],
)
def test_spellings_of_one_meaning(wanted: str, known: str) -> None:
    assert found([wanted], ["wall", known]) == {wanted: [known]}


@pytest.mark.parametrize(("wanted", "known"), [("lane", "plane"), ("sign", "signal"), ("bus", "us"), ("car", "card")])
def test_names_that_are_alike_do_not_mean_the_same(wanted: str, known: str) -> None:
    assert found([wanted], [known]) == {}


def test_a_name_as_it_is_comes_before_a_synonym_and_nothing_is_given_twice() -> None:
    assert found(["pedestrian", "person"], ["person", "wall"]) == {"person": ["person"]}
    assert found(["person", "car"], ["pedestrian", "human", "cars", "car"]) == {
        "person": ["pedestrian", "human"],
        "car": ["cars", "car"],
    }
    assert match_names(["car"], ["car", "cars"], taken=[0]) == {"car": ([1], "name")}


def test_no_name_has_two_meanings() -> None:
    for group, other in itertools.combinations(SYNONYMS, 2):
        first, second = (set().union(*map(normalised, each)) for each in (group, other))
        assert not first & second
