"""Base images: the user's disks, registered so that any number of machines can share one unwritten.

Knows nothing of pytest.
"""

from pytest_vbox.images.bases import Bases, ImageError

__all__ = ["Bases", "ImageError"]
