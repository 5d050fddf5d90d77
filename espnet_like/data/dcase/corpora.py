"""What the TUT and TAU urban acoustic scenes hold, from the README of each data set.

A copy is <directory>/{audio/*.wav, meta.csv, evaluation_setup/fold1_{train,test,evaluate}.*}, all
tables with TAB between fields. Clips of 10 s are named
<scene>-<city>-<location>-<segment>-<device>.wav; the number of a location is unique over all cities
and scenes, and no location is in train and in evaluate.
"""

from __future__ import annotations

from dataclasses import dataclass

# Scene -> class of the 3Class data set; file names keep the scene.
THREE_CLASSES = {
    "airport": "indoor",
    "bus": "transportation",
    "metro": "transportation",
    "metro_station": "indoor",
    "park": "outdoor",
    "public_square": "outdoor",
    "shopping_mall": "indoor",
    "street_pedestrian": "outdoor",
    "street_traffic": "outdoor",
    "tram": "transportation",
}
SCENES = tuple(THREE_CLASSES)
SIX_CITIES = ("barcelona", "helsinki", "london", "paris", "stockholm", "vienna")
TEN_CITIES = tuple(sorted((*SIX_CITIES, "lisbon", "lyon", "milan", "prague")))
SECONDS = 10.0


@dataclass(frozen=True)
class Release:
    """Numbers of clips, each a tuple over SCENES: in all, and in fold 1's two parts."""

    name: str
    all: tuple[int, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class Corpus:
    """One of the data sets.

    Attributes:
        recipe: its directory below egs/.
        title, directory: as its publisher names it and its root.
        rate, channels: of the clips, which have 24 bit.
        releases: what its versions hold; each is good.
        cities: where it was recorded.
        devices: recorders, as file names have them; `a` is the main one.
        classes: scene -> label.
        folds: suffix of the fold files.
        header: whether the fold files have a header; meta.csv always has.
    """

    recipe: str
    title: str
    directory: str
    rate: int
    channels: int
    releases: tuple[Release, ...]
    cities: tuple[str, ...] = TEN_CITIES
    devices: tuple[str, ...] = ("a",)
    classes: tuple[str, ...] = SCENES
    folds: str = "csv"
    header: bool = True

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in class order."""
        return tuple(sorted(set(self.classes)))

    def label(self, scene: str) -> str:
        """The class of a scene."""
        return self.classes[SCENES.index(scene)]


TRAIN_2019 = (911, 928, 902, 897, 946, 945, 896, 924, 942, 894)
TEST_2019 = (421, 415, 433, 435, 386, 387, 441, 429, 402, 436)
# 1,030 clips of Milan are in neither part, so that Milan is a city to test on alone.
RELEASE_2019 = Release("", (1440,) * 10, TRAIN_2019, TEST_2019)

DCASE18 = Corpus(
    recipe="dcase18",
    title="TUT Urban Acoustic Scenes 2018",
    directory="TUT-urban-acoustic-scenes-2018-development",
    rate=48000,
    channels=2,
    releases=(
        Release(
            "",
            (864,) * 10,
            (599, 622, 603, 605, 622, 648, 585, 617, 618, 603),
            (265, 242, 261, 259, 242, 216, 279, 247, 246, 261),
        ),
    ),
    cities=SIX_CITIES,
    folds="txt",
    header=False,
)
DCASE19 = Corpus(
    recipe="dcase19",
    title="TAU Urban Acoustic Scenes 2019",
    directory="TAU-urban-acoustic-scenes-2019-development",
    rate=48000,
    channels=2,
    releases=(RELEASE_2019,),
)
# Version 2.0 lacks five clips of devices b and c, and has other sound in 118.
DCASE20A = Corpus(
    recipe="dcase20a",
    title="TAU Urban Acoustic Scenes 2020 Mobile",
    directory="TAU-urban-acoustic-scenes-2020-mobile-development",
    rate=44100,
    channels=1,
    releases=(
        Release(
            "version 2.0",
            (2302, 2304, 2304, 2304, 2304, 2303, 2303, 2304, 2304, 2303),
            (1393, 1400, 1382, 1380, 1429, 1427, 1373, 1386, 1413, 1379),
            (296, 297, 297, 297, 297, 297, 297, 297, 297, 296),
        ),
        Release(
            "version 1.0",
            (2304,) * 10,
            (1394, 1400, 1382, 1380, 1429, 1428, 1374, 1386, 1413, 1379),
            (297,) * 10,
        ),
    ),
    devices=("a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6"),
)
DCASE20B = Corpus(
    recipe="dcase20b",
    title="TAU Urban Acoustic Scenes 2020 3Class",
    directory="TAU-urban-acoustic-scenes-2020-3class-development",
    rate=48000,
    channels=2,
    releases=(RELEASE_2019,),
    classes=tuple(THREE_CLASSES.values()),
)
CORPORA = (DCASE18, DCASE19, DCASE20A, DCASE20B)
