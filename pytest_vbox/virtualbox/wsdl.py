"""The service's own description (WSDL): cut down to what pytest-vbox calls, and kept in the user's cache.

VirtualBox serves 3.8 MB with 1925 operations, which zeep needs up to two seconds to parse, in every process.
The operations called here are a tenth of them. Which ones is written in ``signatures.json`` (made by
``tools/signatures.py`` from the code of this package).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

from filelock import FileLock
from lxml import etree

VBOX: Final = "http://www.virtualbox.org/"
WSDL: Final = "{http://schemas.xmlsoap.org/wsdl/}"
XSD: Final = "{http://www.w3.org/2001/XMLSchema}"

# Bump when the distilling changes, so that older cache files are not read.
_CACHE_FORMAT = 1


class WsdlError(ValueError):
    """What was served, or found in the cache, is not a description of VirtualBox's web service."""


@cache
def wanted_operations() -> frozenset[str]:
    """The names of all operations that pytest-vbox may call, over all supported VirtualBox versions."""
    text = resources.files(__package__).joinpath("signatures.json").read_text(encoding="utf-8")
    return frozenset(json.loads(text)["operations"])


def parse(data: bytes) -> etree._Element:
    """Parse a WSDL without touching the network or expanding entities.

    Raises:
        WsdlError: It is not XML, or not VirtualBox's.
    """
    # Without huge_tree, which would lift the parser's limits on entities; 3.8 MB are far below the others.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_blank_text=True)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise WsdlError(f"not XML: {error}") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise WsdlError("XML with a document type, which VirtualBox's description does not have")
    if root.tag != f"{WSDL}definitions" or root.get("targetNamespace") != VBOX:
        raise WsdlError("not the description of VirtualBox's web service")
    return root


def distil(data: bytes, operations: Collection[str]) -> bytes:
    """Cut a WSDL down to some operations, with the types and messages they need.

    Args:
        data: The description as the service gives it.
        operations: Names such as ``IMachine_getName``; names the service does not have are left out.

    Raises:
        WsdlError: ``data`` is not VirtualBox's description, or it has none of the operations.
    """
    root = parse(data)
    served = {str(operation.get("name")) for operation in root.iterfind(f"{WSDL}portType/{WSDL}operation")}
    kept = served.intersection(operations)
    if not kept:
        raise WsdlError("it has none of the operations that pytest-vbox calls")
    for section in ("portType", "binding"):
        for operation in root.findall(f"{WSDL}{section}/{WSDL}operation"):
            if operation.get("name") not in kept:
                _remove(operation)
    messages = {"InvalidObjectFaultMsg", "RuntimeFaultMsg"}
    messages |= {f"{name}{suffix}" for name in kept for suffix in ("RequestMsg", "ResultMsg")}
    for message in root.findall(f"{WSDL}message"):
        if message.get("name") not in messages:
            _remove(message)
    _prune_types(root, kept)
    etree.cleanup_namespaces(root, keep_ns_prefixes=["vbox", "xsd"])
    return etree.tostring(root, xml_declaration=True, encoding="utf-8")


def _remove(element: etree._Element) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)


def _prune_types(root: etree._Element, operations: Collection[str]) -> None:
    elements = {"InvalidObjectFault", "RuntimeFault"}
    elements |= {f"{name}{suffix}" for name in operations for suffix in ("", "Response")}
    needed: set[str] = set()
    schemas = root.findall(f"{WSDL}types/{XSD}schema")
    types = {child.get("name"): child for schema in schemas for child in schema if child.tag != f"{XSD}element"}
    pending: list[etree._Element] = []
    for schema in schemas:
        for element in schema.findall(f"{XSD}element"):
            if element.get("name") in elements:
                pending.append(element)
            else:
                schema.remove(element)
    while pending:
        for name in _types_named_in(pending.pop()):
            if name not in needed and name in types:
                needed.add(name)
                pending.append(types[name])
    for unused in types.keys() - needed:
        _remove(types[unused])


def _types_named_in(element: etree._Element) -> Iterator[str]:
    for child in element.iter(f"{XSD}element", f"{XSD}extension", f"{XSD}restriction"):
        kind = child.get("type") or child.get("base") or ""
        if kind.startswith("vbox:"):
            yield kind.removeprefix("vbox:")


class WsdlCache:
    """Distilled descriptions in a folder, one file per VirtualBox version and set of operations.

    A file holds the digest of its content in its first line, so a torn or altered one is noticed,
    dropped and made anew.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, version: str) -> Path:
        """Where the description of a VirtualBox version (such as ``7.2.22r170000``) is kept."""
        wanted = hashlib.sha256("\n".join(sorted(wanted_operations())).encode()).hexdigest()[:12]
        safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in version)
        return self._folder / f"vboxweb-{safe}-{wanted}.v{_CACHE_FORMAT}.wsdl"

    def load(self, version: str) -> bytes | None:
        """The cached description, or None if there is none, or it is damaged (then it is removed)."""
        path = self.path(version)
        try:
            digest, _, data = path.read_bytes().partition(b"\n")
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest().encode() == digest:
            return data
        with suppress(OSError):
            path.unlink(missing_ok=True)
        return None

    def store(self, version: str, data: bytes) -> None:
        """Keep a description. A cache that cannot be written is no error: the next run is slower."""
        path = self.path(version)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with FileLock(path.with_suffix(".lock")):
                temporary = path.with_suffix(".new")
                temporary.write_bytes(hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
                temporary.replace(path)
        except OSError:
            return
