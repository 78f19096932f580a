"""YAML files: every text gives models or a `ModelError` that says where; and so does every choice of a machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pytest_vbox.models import Catalogue, Hardware, Image, ModelError

WORDS = [
    *(name.encode() + b": " for name in sorted({*Hardware.model_fields, *Image.model_fields})),
    *(
        b"hardware:",
        b"images:",
        b"extends: ",
        b"<<: *",
        b"&a ",
        b"*a",
        b"- ",
        b"null",
        b"!!",
        b"|\n",
        b"\n  ",
        b"? ",
    ),
    *(b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\x85", b"%YAML 1.1\n---\n", b"1 GiB", b"0x", b"1e999", b"..", b"~"),
]

_SEEDS = (
    """
hardware:
  base: &base {memory: 2048, cpus: 2, vram: 16, firmware: efi, boot_order: [dvd, hard-disk]}
  medium: {extends: small, memory: 2 GiB, cpus: 2, extra_data: {a/b: "1"}}
  wide:
    <<: *base
    network:
      - {attachment: nat, nat_rules: [{name: web, host_port: 0, guest_port: 80}]}
      - null
      - {attachment: internal, network: lab, mac_address: "080027000001"}
    storage:
      - {bus: sata, ports: 4, devices: [{disk: 3 GiB}]}
images:
  tiny:
    disk: tiny.vdi
    os_type: Linux26_64
    user: root
    password: "007"
    hardware: {memory: 256}
  cloud:
    url: https://example.org/image.qcow2
    sha256: "0000000000000000000000000000000000000000000000000000000000000000"
    cloud_init: {hostname: a, packages: [curl], user_data: "#cloud-config\\nruncmd: [ls]"}
  boxed: {vagrant: debian/bookworm64, extends: tiny, disk: null}
""",
    "images: {a: {disk: a.vdi, tags: [x], os: debian, version: 12}}\n",
    "hardware: {a: {extends: b}, b: {extends: c}, c: {extends: a}}\n",
    "a: &a [x, x]\nb: &b [*a, *a]\nimages: *b\n",
)


def seeds() -> Iterator[bytes]:
    for seed in _SEEDS:
        yield seed.encode()


def run(data: bytes, folder: Path) -> None:
    (folder / "a.yaml").write_bytes(data)
    try:
        catalogue = Catalogue.load([folder])
    except ModelError as error:
        _says_where(error, folder)
        return
    images: list[str | Mapping[str, object]] = [*list(catalogue.images)[:4], {"os": "linux"}, {"tags": ["x"]}]
    profiles: list[str | Mapping[str, object]] = [*list(catalogue.profiles)[-2:], {"memory": 512}]
    for image in images:
        for profile in profiles:
            try:
                machine = catalogue.machine(image, profile)
            except ModelError as error:
                assert all(problem.message for problem in error.problems)
            else:
                assert machine.digest()


def _says_where(error: ModelError, folder: Path) -> None:
    assert error.problems
    for problem in error.problems:
        assert problem.message, error
        assert problem.file == folder / "a.yaml", error
        assert problem.line is not None or problem.message.startswith("not valid YAML") or not problem.key, error
    assert len(str(error).splitlines()) == len(error.problems) + (len(error.problems) > 1), error
