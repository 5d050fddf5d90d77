"""Data directories, archives and audio files."""
