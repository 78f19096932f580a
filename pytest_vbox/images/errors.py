"""What can go wrong with an image's disk."""

from __future__ import annotations


class ImageError(Exception):
    """An image cannot be used. Says which file, why, and the way out."""
