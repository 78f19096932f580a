"""SFTP over a folder of the host. Names in it switch faults on: see `FolderServer`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko
from paramiko.sftp import SFTP_FAILURE, SFTP_OK, SFTP_PERMISSION_DENIED
from paramiko.sftp_attr import SFTPAttributes

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _Handle(paramiko.SFTPHandle):
    def __init__(self, file: Any, *, full: bool) -> None:
        super().__init__()
        self.readfile = self.writefile = file
        self._full = full

    def write(self, offset: int, data: Buffer) -> int:
        return SFTP_FAILURE if self._full else super().write(offset, data)

    def stat(self) -> SFTPAttributes | int:
        self.readfile.flush()
        return SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))

    def chattr(self, attr: SFTPAttributes) -> int:
        os.fchmod(self.readfile.fileno(), attr.st_mode or 0)
        return SFTP_OK


class FolderServer(paramiko.SFTPServerInterface):
    """Serves a folder as the guest's root. A path with ``forbidden`` in it is denied, a file with ``full`` in
    its name takes nothing, and a folder named ``hostile`` lists the names that its file ``names`` holds."""

    def __init__(self, server: paramiko.ServerInterface, root: Path, *args: Any, **kwargs: Any) -> None:
        super().__init__(server, *args, **kwargs)
        self._root = root

    def _path(self, path: str) -> Path:
        return self._root / self.canonicalize(path).lstrip("/")

    def list_folder(self, path: str) -> list[SFTPAttributes] | int:
        folder = self._path(path)
        try:
            entries = [SFTPAttributes.from_stat(entry.lstat(), entry.name) for entry in folder.iterdir()]
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        if folder.name == "hostile":
            status = (folder / "names").stat()
            names = (folder / "names").read_text().split("\n")
            return [SFTPAttributes.from_stat(status, name) for name in names]
        return entries

    def stat(self, path: str) -> SFTPAttributes | int:
        try:
            return SFTPAttributes.from_stat(self._path(path).stat())
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    def lstat(self, path: str) -> SFTPAttributes | int:
        try:
            return SFTPAttributes.from_stat(self._path(path).lstat())
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    def open(self, path: str, flags: int, attr: SFTPAttributes) -> paramiko.SFTPHandle | int:  # noqa: ARG002
        if "forbidden" in path:
            return SFTP_PERMISSION_DENIED
        try:
            descriptor = os.open(self._path(path), flags, 0o644)
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        writing = flags & (os.O_WRONLY | os.O_RDWR)
        return _Handle(os.fdopen(descriptor, "wb" if writing else "rb"), full="full" in path)

    def mkdir(self, path: str, attr: SFTPAttributes) -> int:  # noqa: ARG002
        if "forbidden" in path:
            return SFTP_PERMISSION_DENIED
        try:
            self._path(path).mkdir()
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        return SFTP_OK

    def chattr(self, path: str, attr: SFTPAttributes) -> int:
        self._path(path).chmod(attr.st_mode or 0)
        return SFTP_OK
