"""Base images: the user's disks, registered so that any number of machines can share one unwritten.

Knows nothing of pytest.
"""

from pytest_vbox.images.baseless import BaselessAnchor
from pytest_vbox.images.bases import Bases, drop_orphan
from pytest_vbox.images.convert import VirtualBoxConverter
from pytest_vbox.images.errors import ImageError
from pytest_vbox.images.identity import state_of
from pytest_vbox.images.library import Library, Stored, Usable
from pytest_vbox.images.report import Report, silent
from pytest_vbox.images.seed import Seed, check_user_data, make_seed

__all__ = [
    "BaselessAnchor",
    "Bases",
    "ImageError",
    "Library",
    "Report",
    "Seed",
    "Stored",
    "Usable",
    "VirtualBoxConverter",
    "check_user_data",
    "drop_orphan",
    "make_seed",
    "silent",
    "state_of",
]
