"""The service's description: cut down without losing what is needed, and kept in a cache that heals itself."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
import zeep

from pytest_vbox.virtualbox.api import Api
from pytest_vbox.virtualbox.errors import ServiceUnavailable
from pytest_vbox.virtualbox.wire import Wire
from pytest_vbox.virtualbox.wsdl import WsdlCache, WsdlError, distil, parse, wanted_operations
from unit.kit.descriptions import NEWEST, VERSIONS, description

NAME: Final = "IMachine_getName"
VERSION: Final = "7.2.22r170000"
HEAD: Final = '<wsdl:definitions xmlns:wsdl="http://schemas.xmlsoap.org/wsdl/" {}>{}</wsdl:definitions>'
OURS: Final = 'targetNamespace="http://www.virtualbox.org/"'


def _names(wsdl: bytes, kind: str) -> set[str]:
    return set(re.findall(rf'<(?:xsd|wsdl):{kind} name="([^"]+)"', wsdl.decode()))


# Distilling


def test_only_the_wanted_operations_are_kept() -> None:
    small = distil(description().wsdl(), [NAME, "IMachine_getState", "IMachine_thereIsNoSuch"])
    assert _names(small, "operation") == {NAME, "IMachine_getState"}
    assert _names(small, "message") == {
        "InvalidObjectFaultMsg",
        "RuntimeFaultMsg",
        *(f"{name}{kind}Msg" for name in (NAME, "IMachine_getState") for kind in ("Request", "Result")),
    }


def test_types_are_kept_as_far_as_they_are_needed() -> None:
    small = distil(description().wsdl(), ["IMachine_getMediumAttachments"])
    # The struct is named by the operation, the enumeration only by the struct.
    assert _names(small, "complexType") == {"IMediumAttachment"}
    assert _names(small, "simpleType") == {"DeviceType"}


def test_the_base_of_a_type_is_kept_too() -> None:
    derived = (
        '<xsd:simpleType name="Parent"><xsd:restriction base="xsd:string"/></xsd:simpleType>'
        '<xsd:simpleType name="Child"><xsd:restriction base="vbox:Parent"/></xsd:simpleType>'
        '<xsd:element name="IMachine_getChild"><xsd:complexType><xsd:sequence>'
        '<xsd:element name="a" type="vbox:Child"/></xsd:sequence></xsd:complexType></xsd:element>'
    )
    wsdl = description().wsdl(derived).replace(b"IMachine_getName", b"IMachine_getChild")
    assert _names(distil(wsdl, ["IMachine_getChild"]), "simpleType") == {"Parent", "Child"}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_left_is_a_description_that_zeep_can_use(version: str) -> None:
    small = distil(
        description(version).wsdl(), [NAME, "IMachine_getMediumAttachments", "IWebsessionManager_logon"]
    )
    client = zeep.Client(io.BytesIO(small))
    binding = client.wsdl.bindings["{http://www.virtualbox.org/}vboxBinding"]
    assert set(binding.all()) == {NAME, "IMachine_getMediumAttachments", "IWebsessionManager_logon"}


def test_distilling_twice_changes_nothing() -> None:
    once = distil(description().wsdl(), wanted_operations())
    assert distil(once, wanted_operations()) == once


def test_comments_go() -> None:
    assert b"as the service serves it" in description().wsdl()
    assert b"as the service serves it" not in distil(description().wsdl(), [NAME])


def test_all_operations_of_all_versions_are_wanted() -> None:
    assert wanted_operations() == {name for version in VERSIONS for name in description(version).operations}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not XML"),
        (b"login: ", "not XML"),
        (b"<html><body>It works!</body>", "not XML"),
        (b"\xff\xfe\x00", "not XML"),
        (description().wsdl()[:-100], "not XML"),
        (b"<html><body>It works!</body></html>", "not the description of VirtualBox"),
        (HEAD.format("", "").encode(), "not the description of VirtualBox"),
        (HEAD.format('targetNamespace="http://example.org/"', "").encode(), "not the description of VirtualBox"),
        (HEAD.format(OURS, "").encode(), "none of the operations"),
    ],
    ids=["nothing", "words", "torn-html", "noise", "truncated", "html", "no-namespace", "other-service", "empty"],
)
def test_what_is_no_description_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(WsdlError, match=reason):
        distil(data, [NAME])


@pytest.mark.parametrize("where", ["content", "attribute"])
def test_entities_do_not_multiply(where: str) -> None:
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    bomb = f'<!DOCTYPE d [<!ENTITY l0 "ha">{levels}]>'
    attribute, content = (' name="&l9;"', "") if where == "attribute" else ("", "&l9;")
    data = (bomb + HEAD.format(OURS + attribute, content)).encode()
    with pytest.raises(WsdlError):
        distil(data, [NAME])


def test_entities_do_not_read_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush")
    doctype = f'<!DOCTYPE d [<!ENTITY x SYSTEM "{secret.as_uri()}">]>'
    wsdl = description().wsdl().replace(b"<wsdl:definitions", doctype.encode() + b"<wsdl:definitions", 1)
    wsdl = wsdl.replace(b"</wsdl:definitions>", b"&x;</wsdl:definitions>")
    with pytest.raises(WsdlError, match="document type") as caught:
        distil(wsdl, [NAME])
    assert "hush" not in str(caught.value)


def test_a_doctype_does_not_make_the_parser_load_anything() -> None:
    # Loopback port 1: a parser that went there would fail.
    wsdl = b'<!DOCTYPE d SYSTEM "http://127.0.0.1:1/x.dtd">' + HEAD.format(OURS, "").encode()
    with pytest.raises(WsdlError, match="document type"):
        parse(wsdl)


_TYPES: Final = '<wsdl:types><xsd:schema targetNamespace="urn:x">{}</xsd:schema></wsdl:types>'


@pytest.mark.parametrize(
    "reference",
    [
        '<wsdl:import namespace="urn:x" location="{}"/>',
        _TYPES.format('<xsd:import namespace="urn:y" schemaLocation="{}"/>'),
        _TYPES.format('<xsd:include schemaLocation="{}"/>'),
    ],
)
def test_documents_that_a_description_refers_to_are_not_fetched(tmp_path: Path, reference: str) -> None:
    # Were it read, it would do: it is an empty schema.
    secret = tmp_path / "secret.xsd"
    secret.write_text('<schema xmlns="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:y"/>')
    text = description().wsdl().decode().replace("<wsdl:types>", f"{reference.format(secret)}<wsdl:types>", 1)
    distilled = distil(text.encode(), wanted_operations())
    for data in (text.encode(), distilled):
        if b"secret.xsd" in data:
            with pytest.raises(ServiceUnavailable, match=r"cannot be used: .*it includes '.*secret.xsd'"):
                Api(Wire("http://127.0.0.1:1"), data)
    Api(Wire("http://127.0.0.1:1"), re.sub(rb"<wsdl:import[^>]*>", b"", distilled))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('name="vboxBinding"', 'name="other"'),
        ('type="xsd:string"', 'type="xsd:nothing"'),
        ('element="vbox:', 'element="nothing:'),
        ("<xsd:sequence>", "<xsd:sequence><xsd:any processContents='x'/><xsd:group ref='nothing'/>"),
        ('base="xsd:string"', 'base="nothing"'),
        ("soap:binding style", "soap:nothing style"),
    ],
)
def test_a_description_that_zeep_trips_over_is_said_to_be_that(old: str, new: str) -> None:
    text = description().wsdl().decode()
    assert old in text
    data = distil(text.replace(old, new).encode(), [NAME])
    # Some of it zeep passes over.
    with suppress(ServiceUnavailable):
        api = Api(Wire("http://127.0.0.1:1"), data)
        assert api.parameters(NAME) is None or "_this" in str(api.parameters(NAME))


# The cache


@pytest.fixture
def cache(tmp_path: Path) -> WsdlCache:
    return WsdlCache(tmp_path / "cache" / "wsdl")


def test_what_was_stored_is_loaded_again(cache: WsdlCache) -> None:
    assert cache.load(VERSION) is None
    cache.store(VERSION, b"<a/>\nline")
    assert cache.load(VERSION) == b"<a/>\nline"
    assert cache.load("6.1.50r1") is None


def test_storing_again_replaces(cache: WsdlCache) -> None:
    cache.store(VERSION, b"old")
    cache.store(VERSION, b"new")
    assert cache.load(VERSION) == b"new"


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b"definitions", b"Definitions"),
        lambda data: data.partition(b"\n")[2],
        lambda data: b"\0" * len(data),
        lambda data: data + b"\n",
    ],
    ids=["empty", "shorter", "half", "altered", "without-digest", "zeros", "longer"],
)
def test_a_damaged_file_is_dropped_and_made_anew(cache: WsdlCache, damage: Callable[[bytes], bytes]) -> None:
    data = distil(description().wsdl(), [NAME])
    cache.store(VERSION, data)
    path = cache.path(VERSION)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.load(VERSION) is None
    assert not path.exists()
    cache.store(VERSION, data)
    assert cache.load(VERSION) == data


def test_a_damaged_file_that_cannot_be_removed_is_no_error(
    cache: WsdlCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.store(VERSION, b"data")
    cache.path(VERSION).write_bytes(b"damaged")

    def refuse(self: Path, missing_ok: bool = False) -> None:  # noqa: ARG001
        raise PermissionError("read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert cache.load(VERSION) is None


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    cache = WsdlCache(tmp_path / "cache" / "wsdl")
    cache.store(VERSION, b"data")
    assert cache.load(VERSION) is None


def test_something_else_in_the_place_of_the_file_is_no_error(cache: WsdlCache) -> None:
    cache.path(VERSION).mkdir(parents=True)
    cache.store(VERSION, b"data")
    assert cache.load(VERSION) is None


@pytest.mark.parametrize("version", ["../../etc/passwd", "7.2/..", "a b\n", "7.2.22_Debian\0r1"])
def test_odd_versions_stay_in_the_folder(cache: WsdlCache, version: str) -> None:
    cache.store(version, b"data")
    assert cache.path(version).parent == cache.path(VERSION).parent
    assert cache.load(version) == b"data"


# Each content is one word over and over; any mixture of two is damage.
STORE_AND_LOAD: Final = f"""
import sys
from pathlib import Path
from pytest_vbox.virtualbox.wsdl import WsdlCache

def run(folder, name):
    cache = WsdlCache(Path(folder))
    for turn in range(10):
        cache.store({VERSION!r}, f"{{name}}-{{turn}} ".encode() * 5000)
        data = cache.load({VERSION!r})
        assert data is None or (len(set(data.split())), len(data.split())) == (1, 5000)
"""


def test_threads_and_processes_do_not_tear_each_others_files(tmp_path: Path) -> None:
    script = f"{STORE_AND_LOAD}\nrun({str(tmp_path)!r}, 'process')"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    room: dict[str, Callable[[Path, str], None]] = {}
    exec(STORE_AND_LOAD, room)  # noqa: S102 - the same in this process
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(room["run"], tmp_path, name) for name in ("one", "two")]:
            done.result()
    _, problems = process.communicate()
    assert (process.returncode, problems) == (0, "")
    data = WsdlCache(tmp_path).load(VERSION)
    assert data is not None
    assert len(set(data.split())) == 1


def test_the_bootstrap_description_fits_every_version() -> None:
    bootstrap = Path(parse.__code__.co_filename).with_name("bootstrap.wsdl").read_bytes()
    names = _names(bootstrap, "operation")
    assert "IWebsessionManager_logon" in names
    for version in VERSIONS:
        small = distil(description(version).wsdl(), names)
        assert _names(small, "operation") == names
        for name in names:
            assert description(version).operations[name] == description(NEWEST).operations[name]
