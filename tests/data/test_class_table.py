"""Masks of 16-bit ids, palettes and colours, and the tables that give them classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.composed import parsed
from numpy.typing import NDArray
from PIL import Image

from segdistill.config.class_table import parse_colour, read_class_table
from segdistill.config.data import IGNORE_INDEX, FolderConfig
from segdistill.data.labels import UNMAPPED, mask_coding
from segdistill.data.sources.folder import open_folder
from segdistill.data.sources.opening import labels_of
from segdistill.utils.errors import ConfigError, UserError

COLOURS = {0: (60, 60, 60), 1: (0, 0, 255), 2: (0, 0, 142), 7: (0, 220, 130), 255: (0, 0, 0)}
"""Value in the masks of `folder_config` -> the colour it is repainted with."""
IDS = {0: 0, 1: 1, 2: 1, 7: 2, 255: IGNORE_INDEX}
TABLE = """name,colour,merged_into,void
background,#3c3c3c,,
car,0 0 255,,
truck,"0,0,142",car,
lane,#00DC82,,false
unlabelled,#000000,,true
"""


def repaint(config: FolderConfig, mode: str = "RGB") -> None:
    """Turn the masks of ids into colours, of the palette or of every pixel."""
    for path in Path(config.root).glob("*/masks/*.png"):
        with Image.open(path) as image:
            values = np.array(image)
        colours = np.zeros((*values.shape, 3), np.uint8)
        for value, colour in COLOURS.items():
            colours[values == value] = colour
        painted = Image.fromarray(colours)
        (painted.quantize(8) if mode == "P" else painted.convert(mode)).save(path)


def with_table(config: FolderConfig, content: str, name: str = "classes.csv", **changes: object) -> FolderConfig:
    (Path(config.root) / name).write_text(content, "utf-8")
    changes = {"classes": {}, "class_table": name, **changes}
    return replace(config, **changes)  # type: ignore[arg-type] # fields by name


def ids_of(values: NDArray[np.integer]) -> NDArray[np.integer]:
    return np.array([[IDS[int(value)] for value in row] for row in values])


def stored(config: FolderConfig) -> NDArray[np.uint8]:
    with Image.open(Path(config.root) / "train/masks/001.png") as image:
        return np.array(image)


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA"])
def test_masks_of_colours_have_the_classes_of_a_table(folder_config: FolderConfig, cache_dir: Path, mode: str) -> None:
    expected = ids_of(stored(folder_config))
    repaint(folder_config, mode)
    config = with_table(folder_config, TABLE)
    index = open_folder(config, cache_dir)
    assert index.labels.names == ("background", "car", "lane")
    assert index.labels.palette == ((60, 60, 60), (0, 0, 255), (0, 220, 130))
    assert labels_of(config) == index.labels
    np.testing.assert_array_equal(index.read("train", 1)[1], expected)
    masks = [index.read("train", place)[1] for place in range(5)]
    assert index.class_pixels("train").tolist() == [sum(int((m == i).sum()) for m in masks) for i in range(3)]


def test_grey_masks_may_be_named_by_colours_too(folder_config: FolderConfig, cache_dir: Path) -> None:
    for path in Path(folder_config.root).glob("*/masks/*.png"):
        with Image.open(path) as image:
            values = np.array(image)
        Image.fromarray(np.where(values == 7, 255, 0).astype(np.uint8)).save(path)
    config = replace(folder_config, classes={"background": "#000000", "lane": "#ffffff"})
    assert open_folder(config, cache_dir).labels.palette == ((0, 0, 0), (255, 255, 255))
    with pytest.raises(ConfigError, match=r"classes\.lane=255: already belongs to void; take it out of data\.void"):
        replace(folder_config, classes={"background": 0, "lane": 255})


def test_a_colour_that_no_row_has_is_told_with_its_pixels(folder_config: FolderConfig, cache_dir: Path) -> None:
    repaint(folder_config)
    path = Path(folder_config.root) / "train/masks/001.png"
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[0, :3] = 1, 2, 3
    pixels[1, 1] = 9, 9, 9
    Image.fromarray(pixels).save(path)
    config = with_table(folder_config, TABLE)
    message = (
        rf"^{path}: colour #010203 belongs to no class \(3 pixels, and 1 more like it\); give it one by data\.classes"
    )
    with pytest.raises(UserError, match=message):
        open_folder(config, cache_dir)
    Image.fromarray(pixels).resize((18, 12), Image.Resampling.BILINEAR).resize((36, 24)).save(path)
    with pytest.raises(UserError, match=r"colours \(#.*\) belong to no class, in .* as after saving"):
        open_folder(config, cache_dir)


def test_a_transparent_mask_and_one_of_16_bits_a_channel_are_refused(
    folder_config: FolderConfig, cache_dir: Path
) -> None:
    repaint(folder_config, "RGBA")
    path = Path(folder_config.root) / "train/masks/001.png"
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels[0, 0, 3] = 0
    Image.fromarray(pixels).save(path)
    config = with_table(folder_config, TABLE)
    with pytest.raises(UserError, match="must not be transparent; save it without an alpha channel"):
        open_folder(config, cache_dir)
    Image.fromarray(np.zeros((24, 36), np.uint16)).save(path)
    with pytest.raises(UserError, match="need 8 bits a channel; save it with 8 bits"):
        open_folder(config, cache_dir)


def test_masks_of_16_bit_ids_are_read(folder_config: FolderConfig, cache_dir: Path) -> None:
    expected = ids_of(stored(folder_config))
    for path in Path(folder_config.root).glob("train/masks/*.png"):
        with Image.open(path) as image:
            values = np.array(image).astype(np.uint16)
        values[values == 7] = 26_001
        Image.fromarray(values).save(path)
    config = replace(folder_config, classes={"background": 0, "car": [1, 2], "lane": [7, 26_001]})
    np.testing.assert_array_equal(open_folder(config, cache_dir).read("train", 1)[1], expected)
    with pytest.raises(UserError, match="mask value 26001 belongs to no class"):
        open_folder(folder_config, cache_dir)


def test_a_table_of_ids_and_colours_reads_either_kind_of_mask(folder_config: FolderConfig, cache_dir: Path) -> None:
    expected = ids_of(stored(folder_config))
    rows = [f"{{name: {name}, id: {value}, colour: {list(COLOURS[value])}}}" for name, value in NAMES.items()]
    table = "\n".join(f"- {row}" for row in [*rows, "{name: truck, id: 2, colour: '#00008e', merged_into: car}"])
    config = with_table(folder_config, table, "classes.yaml", void=[255, "#000000"])
    np.testing.assert_array_equal(open_folder(config, cache_dir).read("train", 1)[1], expected)
    repaint(folder_config)
    np.testing.assert_array_equal(open_folder(config, cache_dir).read("train", 1)[1], expected)


NAMES = {"background": 0, "car": 1, "lane": 7}


@pytest.mark.parametrize("colour", ["#0A0b0c", "10 11 12", "10,11,12", "(10, 11, 12)", [10, 11, 12]])
def test_a_colour_is_written_in_several_ways(colour: object) -> None:
    assert parse_colour(colour) == "#0a0b0c"


@pytest.mark.parametrize("colour", ["red", "#12345", "1 2", "1 2 256", "-1 2 3", [1, 2, 3, 4], 7, None])
def test_what_is_no_colour_is_none(colour: object) -> None:
    assert parse_colour(colour) is None


def test_columns_of_channels_and_rows_named_void(tmp_path: Path) -> None:
    (tmp_path / "class_dict.csv").write_text("name, r, g, b\nSky,128,128,128\nVoid,0,0,0\n\nCar,64,0,128\nCar,1,2,3\n")
    table = read_class_table(tmp_path / "class_dict.csv")
    assert table.classes == {"Sky": ["#808080"], "Car": ["#400080", "#010203"]}
    assert table.void == ["#000000"]
    assert table.palette == {"Sky": [128, 128, 128], "Car": [64, 0, 128]}


def test_a_class_that_others_are_merged_into_keeps_its_own_colour(tmp_path: Path) -> None:
    rows = ["van,#000001,vehicle", "vehicle,#000002,", "tree,#000003,plant", "mud,#000004,void"]
    (tmp_path / "a.csv").write_text("\n".join(["name,colour,merged_into", *rows]))
    table = read_class_table(tmp_path / "a.csv")
    assert table.classes == {"vehicle": ["#000001", "#000002"], "plant": ["#000003"]}
    assert table.palette == {"vehicle": [0, 0, 2]}
    assert table.void == ["#000004"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "name,id\nroad,70000\n", "line 2: id=70000 must be a mask value from 0 to 65535"),
        ("a.csv", "name,id\nroad,x\n", "line 2: id=x must be"),
        ("a.csv", "name,colour\n\nroad,blue\n", "line 3: colour=blue must be #rrggbb, or three numbers"),
        ("a.csv", "name,r,g,b\nroad,1,2,\n", r"line 2: colour=\['1', '2', ''\] must be"),
        ("a.csv", "name,id\nroad,\n", "line 2: needs an id or a colour"),
        ("a.csv", "name,id\n,3\n", "line 2: needs a name"),
        ("a.csv", "name,id,void\nroad,3,maybe\n", "line 2: void=maybe must be true or false"),
        ("a.csv", "class,id\nroad,3\n", "line 2: unknown column class; known: name, id, colour"),
        ("a.csv", "name,id\nroad,3,4\n", "line 2: more cells than the header"),
        ("a.csv", "name,id\n", "names no class"),
        ("a.yaml", "- road\n", "entry 1: must be a mapping, as in"),
        ("a.yaml", "road: 1\n", "names no class"),
        ("a.yaml", "- {name: [", "while parsing a flow"),
        ("a.txt", "road", r"must be a \.csv or a \.yaml file"),
        ("a.csv", None, r"cannot be read \(no such file\)"),
    ],
)
def test_a_faulty_table_is_told_with_its_line(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=rf"^class_table={tmp_path / name}: {message}") as raised:
        read_class_table(tmp_path / name)
    assert "\n" not in str(raised.value)


def composed(*changes: str) -> Sequence[str]:
    return ["data=folder", "data.input_size=[360,640]", *changes]


def test_a_table_is_named_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text(TABLE)
    data = parsed(*composed(f"data.root={tmp_path}", "data.class_table=classes.csv")).data
    assert isinstance(data, FolderConfig)
    assert list(data.classes) == ["background", "car", "lane"]
    assert data.void == [255, "#000000"]
    assert replace(data, limit=3).classes == data.classes
    taken = composed(f"data.root={tmp_path}", "data.class_table=classes.csv", "+data.classes={road: 0, car: 1}")
    with pytest.raises(ConfigError, match=r"^data\.classes=.*must be empty where data\.class_table=classes\.csv names"):
        parsed(*taken)
    with pytest.raises(ConfigError, match=r"^data\.class_table=no\.csv: cannot be read \(no such file\)"):
        parsed(*composed(f"data.root={tmp_path}", "data.class_table=no.csv"))


@pytest.mark.parametrize("value", ["red", "'#12345'", "70000", "-1", "1.5", "true"])
def test_a_class_owns_values_and_colours_only(value: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.classes\.car=.* must be a mask value from 0 to 65535, a colour"):
        parsed(*composed("data.root=.", f"+data.classes={{road: 0, car: {value}}}"))


def test_a_coding_maps_values_and_colours() -> None:
    coding = mask_coding({"road": [3, "#000003"], "car": "#ff0000"}, void=[255, "#000000"])
    assert coding.class_ids(np.array([[3, 255, 9]], np.uint8)).tolist() == [[0, IGNORE_INDEX, UNMAPPED]]
    assert coding.class_ids(np.array([[3, 256, 65535]], np.uint16)).tolist() == [[0, UNMAPPED, UNMAPPED]]
    colours = np.array([[[0, 0, 3], [255, 0, 0], [0, 0, 0], [255, 0, 1], [255, 255, 255]]], np.uint8)
    assert coding.class_ids(colours).tolist() == [[0, 1, IGNORE_INDEX, UNMAPPED, UNMAPPED]]
    assert coding.unmapped(colours) == [("#ff0001", 1), ("#ffffff", 1)]
    assert coding.unmapped(np.array([[9, 8, 8, 3]], np.uint8)) == [("8", 2), ("9", 1)]
