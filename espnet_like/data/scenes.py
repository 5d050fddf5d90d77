"""Synthetic acoustic scenes: ten classes, many places, three recorders.

They stand in for the DCASE corpora where none can be had. A scene is a mix of the same sounds as
its neighbours at other levels, so that no single sound tells the classes apart. A
place (city and location) has its own levels, pitches, room and colour, which vary more than its
clips do: a held-out place is a real test. Recorders b and c are cheap ones.

Each clip is drawn from its own name and the seed: corpora of different sizes share their clips.
Other versions of numpy may round a sample differently.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from espnet_like.data import synthesis as syn
from espnet_like.data.synthesis import Wave

# Bump when a change to the sounds makes old corpora stale.
VERSION = 1

# Level in dB and how often it is heard in a place, for each sound of a scene.
SCENES: dict[str, dict[str, tuple[float, float]]] = {
    "airport": {
        "air": (-4, 1.0), "hum": (-9, 0.7), "babble": (-8, 0.9), "trolley": (-4, 0.9),
        "chime": (-7, 0.7), "speech": (-10, 0.4), "steps": (-13, 0.5), "rumble": (-9, 0.4),
    },
    "bus": {
        "engine": (0, 1.0), "rumble": (-5, 1.0), "air": (-10, 0.7), "babble": (-13, 0.5),
        "speech": (-8, 0.5), "chime": (-11, 0.3), "rattle": (-7, 0.9), "traffic": (-9, 0.4),
    },
    "metro": {
        "rumble": (-1, 1.0), "rails": (-4, 1.0), "whine": (-9, 0.6), "squeal": (-9, 0.7),
        "air": (-9, 0.8), "speech": (-10, 0.4), "chime": (-12, 0.3), "babble": (-14, 0.4),
    },
    "metro_station": {
        "rumble": (-5, 0.9), "rails": (-12, 0.4), "babble": (-7, 1.0), "steps": (-6, 0.9),
        "chime": (-10, 0.4), "air": (-6, 0.9), "squeal": (-12, 0.4), "speech": (-9, 0.4),
    },
    "park": {
        "birds": (-5, 0.9), "wind": (-3, 1.0), "traffic": (-11, 0.5), "steps": (-11, 0.5),
        "speech": (-11, 0.4), "babble": (-14, 0.3),
    },
    "public_square": {
        "babble": (-6, 1.0), "traffic": (-9, 0.7), "birds": (-9, 0.7), "steps": (-12, 0.5),
        "wind": (-3, 1.0), "music": (-13, 0.2), "speech": (-11, 0.3), "chime": (-8, 0.5),
    },
    "shopping_mall": {
        "babble": (-4, 1.0), "music": (-5, 0.9), "steps": (-9, 0.7), "air": (-8, 1.0),
        "chime": (-13, 0.3), "speech": (-9, 0.5), "hum": (-13, 0.4), "trolley": (-12, 0.4),
    },
    "street_pedestrian": {
        "babble": (-7, 1.0), "steps": (-3, 1.0), "traffic": (-7, 0.9), "wind": (-9, 1.0),
        "birds": (-14, 0.2), "music": (-12, 0.3), "speech": (-6, 0.7), "trolley": (-13, 0.2),
    },
    "street_traffic": {
        "traffic": (0, 1.0), "engine": (-5, 0.8), "wind": (-9, 1.0), "steps": (-13, 0.4),
        "babble": (-14, 0.4), "birds": (-14, 0.3), "squeal": (-15, 0.2), "rumble": (-10, 0.5),
    },
    "tram": {
        "rumble": (-5, 1.0), "rails": (-8, 0.9), "whine": (-3, 0.9), "chime": (-8, 0.6),
        "speech": (-9, 0.5), "babble": (-11, 0.6), "traffic": (-10, 0.4), "rattle": (-11, 0.5),
    },
}  # fmt: skip
# Length (RT60, s) and share of the reverberation in each scene.
ROOMS = {
    "airport": (1.3, 0.9), "bus": (0.15, 0.4), "metro": (0.25, 0.5), "metro_station": (1.8, 1.1),
    "park": (0.1, 0.1), "public_square": (0.5, 0.3), "shopping_mall": (1.0, 0.8),
    "street_pedestrian": (0.4, 0.3), "street_traffic": (0.3, 0.2), "tram": (0.2, 0.45),
}  # fmt: skip
CITIES = ("lisbon", "lyon", "vienna", "helsinki", "prague", "milan")
# Frequency response (Hz, dB), noise floor (dB below full scale), drive into the clipper.
DEVICES: dict[str, tuple[tuple[tuple[float, float], ...], float, float]] = {
    "a": (((20, -3), (60, 0), (12000, 0)), -75.0, 1.0),
    "b": (((60, -30), (200, -3), (900, 0), (3200, 6), (6500, -3), (11000, -20)), -52.0, 2.0),
    "c": (((60, -18), (150, 2), (700, 3), (1800, -4), (5000, 2), (9000, -12)), -46.0, 3.0),
}

Sound = Callable[[np.random.Generator, int, int, "Tone"], Wave]


class Tone(NamedTuple):
    """What a place fixes of one of its sounds: factors around one, and a level in dB."""

    pitch: float
    rate: float
    level: float
    heard: bool


def _steps(rng: np.random.Generator, n: int, rate: int, tone: Tone) -> Wave:
    total = np.zeros(n, np.float32)
    for _ in range(2):
        shoe = syn.ring(rng, rate, [160 * tone.pitch, 900 * tone.pitch], 0.09)
        total += syn.strikes(rng, n, rate, 1.9 * tone.rate * rng.uniform(0.85, 1.2), 0.05, shoe)
    return total


def _rails(rng: np.random.Generator, n: int, rate: int, tone: Tone) -> Wave:
    wheel = syn.ring(rng, rate, [90 * tone.pitch, 420 * tone.pitch, 1900 * tone.pitch], 0.16)
    pair = np.concatenate([wheel, np.zeros(int(0.12 * rate), np.float32)])
    pair[int(0.12 * rate) :] += 0.8 * wheel
    return syn.strikes(rng, n, rate, 1.3 * tone.rate, 0.04, pair)


def _trolley(rng: np.random.Generator, n: int, rate: int, tone: Tone) -> Wave:
    bed = syn.noise(rng, n, rate, ((80, -20), (600 * tone.pitch, 0), (2500, -8), (9000, -35)))
    wheel = syn.ring(rng, rate, [700 * tone.pitch], 0.04)
    clicks = syn.strikes(rng, n, rate, 9 * tone.rate, 0.1, wheel)
    return (syn.unit(bed) + syn.unit(clicks)) * np.clip(syn.drift(rng, n, rate, 0.8), 0, None)


def _rattle(rng: np.random.Generator, n: int, rate: int, tone: Tone) -> Wave:
    panel = syn.ring(rng, rate, [310 * tone.pitch, 1250 * tone.pitch], 0.05)
    gate = np.clip(syn.drift(rng, n, rate, 2.0), 0, None)
    return syn.strikes(rng, n, rate, 14 * tone.rate, 0.3, panel) * gate


def _gusts(rng: np.random.Generator, n: int, rate: int, tone: Tone) -> Wave:
    curve = ((30, 6), (200, 0), (1500 * tone.pitch, -12), (9000, -30))
    return syn.noise(rng, n, rate, curve) * syn.decibels(4 * syn.drift(rng, n, rate, 0.9))


def _rumble(rng: np.random.Generator, n: int, rate: int, tone: Tone) -> Wave:
    curve = ((25, 0), (110 * tone.pitch, 3), (500, -16), (3000, -36), (9000, -55))
    return syn.noise(rng, n, rate, curve) * syn.decibels(2 * syn.drift(rng, n, rate, 3.0))


def _air(rng: np.random.Generator, n: int, rate: int, tone: Tone) -> Wave:
    return syn.noise(rng, n, rate, ((60, 0), (500 * tone.pitch, -3), (3000, -14), (9000, -26)))


def _traffic(rng: np.random.Generator, n: int, rate: int, tone: Tone) -> Wave:
    curve = ((40, 2), (250, 0), (1000 * tone.pitch, -2), (3500, -18), (9000, -36))
    return syn.passes(rng, n, rate, int(rng.integers(1, 4)), curve)


def _hum(rng: np.random.Generator, n: int, rate: int, tone: Tone) -> Wave:
    turns = np.arange(n) * (50.0 / rate)
    wave = sum(np.sin(2 * np.pi * k * turns) / k**tone.rate for k in (1, 2, 3, 4, 6, 8))
    return np.asarray(wave, np.float32)


SOUNDS: dict[str, Sound] = {
    "air": _air,
    "babble": lambda rng, n, rate, tone: syn.babble(rng, n, rate, 115 * tone.pitch),
    "birds": lambda rng, n, rate, tone: syn.song(rng, n, rate, 4000 * tone.pitch, 1.3 * tone.rate),
    "chime": lambda rng, n, rate, tone: syn.chime(
        rng, n, rate, 850 * tone.pitch, int(rng.integers(1, 4))
    ),
    "engine": lambda rng, n, rate, tone: syn.engine(rng, n, rate, 32 * tone.pitch, 4 * tone.rate),
    "hum": _hum,
    "music": lambda rng, n, rate, tone: syn.chords(rng, n, rate, 220 * tone.pitch),
    "rails": _rails,
    "rattle": _rattle,
    "rumble": _rumble,
    "speech": lambda rng, n, rate, tone: syn.voice(
        rng, n, rate, 160 * tone.pitch * rng.uniform(0.7, 1.5), pauses=0.35
    ),
    "squeal": lambda rng, n, rate, tone: (
        syn.whine(rng, n, rate, 2600 * tone.pitch, 1.5)
        * np.clip(syn.drift(rng, n, rate, 1.5), 0, None)
    ),
    "steps": _steps,
    "traffic": _traffic,
    "trolley": _trolley,
    "whine": lambda rng, n, rate, tone: syn.whine(rng, n, rate, 420 * tone.pitch, 5 * tone.rate),
    "wind": _gusts,
}
# Deviations: of a place and of a clip around it, in dB, and of pitches and rates, in octaves.
PLACE_LEVEL, CLIP_LEVEL, PLACE_PITCH, PLACE_COLOUR = 2.2, 1.8, 0.2, 2.0


class Place(NamedTuple):
    """What the clips of one place share."""

    tones: dict[str, Tone]
    room: tuple[float, float]
    colour: tuple[tuple[float, float], ...]


def _generator(*parts: object) -> np.random.Generator:
    """A generator that depends on the parts only, on every platform."""
    name = "/".join(str(part) for part in parts).encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name).digest()[:16], "little"))


def draw_place(seed: int, scene: str, city: str, location: int) -> Place:
    """The levels, pitches, room and colour of a place."""
    rng = _generator(seed, VERSION, scene, city, location)
    tones = {}
    for sound in SOUNDS:  # always all, so that one sound more does not change the others
        pitch, tempo = np.exp2(PLACE_PITCH * rng.standard_normal(2))
        level, chance = PLACE_LEVEL * rng.standard_normal(), rng.uniform()
        base, heard = SCENES[scene].get(sound, (0.0, 0.0))
        tones[sound] = Tone(float(pitch), float(tempo), base + float(level), chance < heard)
    seconds, wet = np.array(ROOMS[scene]) * np.exp2(0.5 * rng.standard_normal(2))
    octaves = (60.0, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0)
    colour = zip(octaves, (PLACE_COLOUR * rng.standard_normal(len(octaves))).tolist(), strict=True)
    return Place(tones, (float(seconds), float(wet)), tuple(colour))


def synthesize(
    seed: int, scene: str, city: str, location: int, segment: int, device: str,
    seconds: float = 3.0, rate: int = 22050,
) -> Wave:  # fmt: skip
    """One clip, float32 samples (round(seconds * rate),) within -1..1."""
    place = draw_place(seed, scene, city, location)
    rng = _generator(seed, VERSION, scene, city, location, segment)
    n = round(seconds * rate)
    mix = np.zeros(n, np.float32)
    for sound, tone in place.tones.items():
        level = tone.level + CLIP_LEVEL * rng.standard_normal()
        if tone.heard and rng.uniform() < 0.9:
            mix += syn.unit(SOUNDS[sound](rng, n, rate, tone)) * syn.decibels(level)
    mix = syn.echo(mix, syn.room(rng, n, rate, *place.room))
    curve, floor, drive = DEVICES[device]
    mix = syn.unit(syn.shaped(mix, rate, place.colour))
    # A passing disturbance that says nothing of the scene: any band, any time.
    centre, width = rng.uniform(150, 6000), rng.uniform(0.3, 1.5)
    band = ((centre / 2**width - 1, -60), (centre, 0), (centre * 2**width, -60))
    mix += syn.unit(syn.passes(rng, n, rate, 1, band)) * syn.decibels(rng.uniform(-20, -2))
    rng = _generator(seed, VERSION, scene, city, location, segment, device)
    wave = syn.unit(syn.shaped(mix, rate, curve)) * syn.decibels(-22 + 3 * rng.standard_normal())
    wave = np.tanh(drive * wave) / drive
    hiss = rng.standard_normal(n, dtype=np.float32) * syn.decibels(
        floor + 3 * rng.standard_normal()
    )
    return np.clip(wave + hiss, -1, 1).astype(np.float32)
