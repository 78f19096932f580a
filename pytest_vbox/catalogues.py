"""Which folders images and hardware profiles are read from."""

from __future__ import annotations

from pathlib import Path

from pytest_vbox import places
from pytest_vbox.models import Catalogue
from pytest_vbox.settings import Settings

#: The folder under the rootdir with the project's own.
PROFILES = "profiles"


def load_catalogue(settings: Settings, root: Path) -> Catalogue:
    """Read the YAML: built-in, the user's, the project's, the options', later ones win.

    Args:
        settings: What the user set.
        root: The project's folder.

    Raises:
        ModelError: With all that is wrong in all files.
    """
    folders = [places.config_folder(), root / PROFILES, *settings.profiles]
    return Catalogue.load(folders, required=settings.profiles)
