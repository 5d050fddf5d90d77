"""Recipes, models and spectrogram augmentation for audio classification."""

__version__ = "0.1.0"
