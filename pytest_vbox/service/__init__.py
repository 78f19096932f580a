"""VirtualBox's web service: the one the user named, the one that runs already, or a private one of ours.

Knows nothing of machines and their models, nor of SOAP.
"""

from pytest_vbox.service.endpoint import Endpoint, find, renew, tidy
from pytest_vbox.service.installation import (
    Installation,
    VirtualBoxNotFound,
    VirtualBoxUnusable,
    find_installation,
)
from pytest_vbox.service.listener import strangers

__all__ = [
    "Endpoint",
    "Installation",
    "VirtualBoxNotFound",
    "VirtualBoxUnusable",
    "find",
    "find_installation",
    "renew",
    "strangers",
    "tidy",
]
