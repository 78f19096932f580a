"""Base images: the user's disks, registered so that any number of machines can share one unwritten.

Knows nothing of pytest.
"""

from pytest_vbox.images.bases import Bases, ImageError
from pytest_vbox.images.seed import Seed, check_user_data, make_seed

__all__ = ["Bases", "ImageError", "Seed", "check_user_data", "make_seed"]
