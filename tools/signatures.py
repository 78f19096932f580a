"""Write down the signatures of the API operations that pytest_vbox calls, for each supported VirtualBox version.

    python tools/signatures.py FOLDER

FOLDER holds the services' own descriptions, ``vboxweb-VERSION.wsdl`` or ``.wsdl.gz`` (the SDK has them, and a
running service serves its own at ``/?wsdl``). Writes ``pytest_vbox/virtualbox/signatures.json``, by which the
descriptions are cut down at run time and the translations between versions are tested, and ``bootstrap.wsdl``,
which is enough to log on to any version and ask for it.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from lxml import etree

from pytest_vbox.virtualbox import compat
from pytest_vbox.virtualbox.wsdl import WSDL, XSD, distil, parse

ROOM = Path(__file__).parent.parent / "pytest_vbox" / "virtualbox"
BOOTSTRAP = (
    "IWebsessionManager_logon",
    "IWebsessionManager_logoff",
    "IVirtualBox_getVersion",
    "IVirtualBox_getRevision",
    "IVirtualBox_getAPIVersion",
    "IVirtualBoxErrorInfo_getText",
    "IVirtualBoxErrorInfo_getNext",
)
V = TypeVar("V")
OPERATION = re.compile(r"I[A-Z]\w*_[a-z]\w*")


def called_operations(room: Path = ROOM) -> set[str]:
    """The operations that the classes in a folder call, by their names in the newest version."""
    found: set[str] = set()
    for path in sorted(room.glob("*.py")):
        if path.name == "compat.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found.update(_named_whole(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.update(_called_by(node))
    return found


def _named_whole(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and OPERATION.fullmatch(node.value):
            yield node.value


def _called_by(node: ast.ClassDef) -> Iterator[str]:
    interface = next((name for entry in node.body if (name := _interface_set_by(entry))), None)
    if interface is None:
        return
    for child in ast.walk(node):
        if not isinstance(child, ast.Call) or not child.args:
            continue
        name = _string(child.args[0])
        if isinstance(child.func, ast.Attribute) and child.func.attr == "_call":
            yield f"{interface}_{name}"
        elif isinstance(child.func, ast.Name) and child.func.id in {"ReadOnly", "Attribute"}:
            capital = f"{name[:1].upper()}{name[1:]}" if name else ""
            yield f"{interface}_get{capital}"
            if child.func.id == "Attribute":
                yield f"{interface}_set{capital}"


def _interface_set_by(node: ast.stmt) -> str:
    """The value of ``interface = "I…"``, or nothing if the statement is another one."""
    if isinstance(node, ast.Assign) and any(
        isinstance(to, ast.Name) and to.id == "interface" for to in node.targets
    ):
        return _string(node.value)
    return ""


def _string(node: ast.AST | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def signature(root: etree._Element, operation: str) -> str | None:
    """An operation as ``name: type, … -> name: type, …``, or None if the description does not have it."""
    sides = []
    for name in (operation, f"{operation}Response"):
        element = root.find(f"{WSDL}types/{XSD}schema/{XSD}element[@name='{name}']")
        if element is None:
            return None
        sides.append(", ".join(_field(field) for field in element.iter(f"{XSD}element") if field is not element))
    return " -> ".join(sides)


def _field(element: etree._Element) -> str:
    many = "[]" if element.get("maxOccurs") == "unbounded" else ""
    return f"{element.get('name')}: {(element.get('type') or '').partition(':')[2]}{many}"


def enumerations(root: etree._Element, names: set[str]) -> dict[str, list[str]]:
    """The values of some enumerations."""
    found = {}
    for element in root.iter(f"{XSD}simpleType"):
        name = element.get("name") or ""
        if name in names:
            found[name] = [entry.get("value") or "" for entry in element.iter(f"{XSD}enumeration")]
    return found


def main(folder: Path) -> None:
    descriptions = {}
    for path in sorted(folder.glob("vboxweb-*.wsdl*")):
        version = path.name.removeprefix("vboxweb-").removesuffix(".gz").removesuffix(".wsdl")
        if tuple(int(part) for part in version.split(".")) >= compat.OLDEST:
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            descriptions[version] = data
    roots = {version: parse(data) for version, data in descriptions.items()}
    older = {old for operation in called_operations() for old in compat.older_names(operation)}
    operations = {}
    for operation in sorted(called_operations() | older):
        by_version = {version: signature(root, operation) for version, root in roots.items()}
        if any(by_version.values()):
            operations[operation] = _only_changes(by_version)
    used = {
        match
        for entry in operations.values()
        for text in entry.values()
        for match in re.findall(r": (\w+)", text or "")
    }
    enums: dict[str, dict[str, list[str]]] = {}
    for version, root in roots.items():
        for name, values in enumerations(root, used).items():
            enums.setdefault(name, {})[version] = values
    enums = {name: _only_changes(values) for name, values in sorted(enums.items())}
    document = {"versions": list(descriptions), "operations": operations, "enumerations": enums}
    (ROOM / "signatures.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    oldest = next(iter(descriptions.values()))
    (ROOM / "bootstrap.wsdl").write_bytes(distil(oldest, BOOTSTRAP))
    print(f"{len(operations)} operations, {len(enums)} enumerations, {len(descriptions)} versions")


def _only_changes(by_version: dict[str, V]) -> dict[str, V]:
    """Drop a version whose value is that of the version before."""
    kept: dict[str, V] = {}
    missing = object()
    last: object = missing
    for version, value in by_version.items():
        if value != last:
            kept[version] = value
            last = value
    return kept


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
