"""Serial and parallel ports, USB, audio, and folders of the host."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from pytest_vbox.models.fields import NOT_BOOLEAN, Line, LocalPath, Model, Port, Term


class SerialMode(Term):
    """What a serial port leads to."""

    FILE = "file"
    PIPE = "pipe"
    TCP = "tcp"
    DEVICE = "device"
    DISCONNECTED = "disconnected"


class Uart(Term):
    """The chip of a serial port that the guest sees, in VirtualBox's spelling."""

    U16450 = "U16450"
    U16550A = "U16550A"
    U16750 = "U16750"


class UsbController(Term):
    """A kind of USB controller."""

    OHCI = "ohci"
    EHCI = "ehci"
    XHCI = "xhci"


class AudioDriver(Term):
    """What VirtualBox plays by on the host."""

    DEFAULT = "default"
    NULL = "null"
    OSS = "oss"
    ALSA = "alsa"
    PULSE = "pulse"
    WINMM = "winmm"
    DIRECT_SOUND = "direct-sound"
    WAS = "was"
    CORE_AUDIO = "core-audio"


class AudioController(Term):
    """The sound card that the guest sees."""

    AC97 = "ac97"
    SB16 = "sb16"
    HDA = "hda"


class AudioCodec(Term):
    """The chip on the sound card."""

    SB16 = "sb16"
    STAC9700 = "stac9700"
    AD1980 = "ad1980"
    STAC9221 = "stac9221"


Irq = Annotated[int, Field(ge=0, le=255), NOT_BOOLEAN]
IoAddress = Annotated[int, Field(ge=0, le=0xFFFF), NOT_BOOLEAN]


class SerialPort(Model):
    """A serial port."""

    enabled: bool = Field(default=True, description="Whether the guest sees the port at all.")
    mode: SerialMode = Field(default=SerialMode.FILE, description="What it leads to.")
    path: Line | None = Field(
        default=None,
        description="The pipe's or device's name, or the file's; with mode `tcp` not used.",
        json_schema_extra={"x-default": "for a file: `serial-N.log` in the machine's folder"},
    )
    server: bool = Field(
        default=True, description="Whether VirtualBox makes the pipe, or listens, rather than connecting to it."
    )
    address: Line | None = Field(
        default=None,
        description="With mode `tcp`, and not `server`: the computer to connect to.",
        json_schema_extra={"x-default": "`localhost`"},
    )
    port: Port | None = Field(
        default=None, description="With mode `tcp`: the port to listen on, or to connect to."
    )
    uart: Uart | None = Field(
        default=None,
        description="The chip that the guest sees.",
        json_schema_extra={"x-default": "VirtualBox's, `U16550A`"},
    )
    irq: Irq | None = Field(
        default=None, description="Its interrupt.", json_schema_extra={"x-default": "the usual one of the slot"}
    )
    io_address: IoAddress | None = Field(
        default=None, description="Its I/O address.", json_schema_extra={"x-default": "the usual one of the slot"}
    )

    @model_validator(mode="after")
    def _mode_and_what_it_needs(self) -> SerialPort:
        if self.mode is SerialMode.TCP:
            if self.port is None:
                raise ValueError("mode 'tcp' needs port")
            if self.path is not None:
                raise ValueError("mode 'tcp' takes address and port, not path")
        elif self.port is not None or self.address is not None:
            raise ValueError(f"port and address are for the mode 'tcp', and it is '{self.mode}'")
        if self.path is None and self.mode in {SerialMode.PIPE, SerialMode.DEVICE}:
            raise ValueError(f"mode '{self.mode}' needs path")
        return self


class ParallelPort(Model):
    """A parallel port."""

    enabled: bool = Field(default=True, description="Whether the guest sees the port at all.")
    path: Line | None = Field(default=None, description="The host's device, such as `/dev/parport0`.")
    irq: Irq | None = Field(
        default=None, description="Its interrupt.", json_schema_extra={"x-default": "the usual one of the slot"}
    )
    io_base: IoAddress | None = Field(
        default=None, description="Its I/O address.", json_schema_extra={"x-default": "the usual one of the slot"}
    )


class Audio(Model):
    """The sound card."""

    enabled: bool = Field(default=True, description="Whether the guest sees a sound card.")
    driver: AudioDriver = Field(
        default=AudioDriver.NULL, description="By what the host plays; `null`: not at all."
    )
    controller: AudioController | None = Field(
        default=None, description="The card that the guest sees.", json_schema_extra={"x-default": "VirtualBox's"}
    )
    codec: AudioCodec | None = Field(
        default=None, description="The chip on it.", json_schema_extra={"x-default": "VirtualBox's"}
    )
    input: bool = Field(default=False, description="Whether the guest can record.")
    output: bool = Field(default=True, description="Whether the guest can play.")


class SharedFolder(Model):
    """A folder of the host that the guest can see (with the Guest Additions)."""

    name: Annotated[Line, Field(max_length=255, pattern=r"^[^/\\]+$")] = Field(
        description="Its name in the guest: `mount -t vboxsf NAME /mnt`."
    )
    path: LocalPath = Field(description="The folder, on the computer that VirtualBox runs on.")
    writable: bool = Field(
        default=False, description="Whether the guest may write. What it writes is not undone after the test."
    )
    auto_mount: bool = Field(default=False, description="Whether the Guest Additions mount it by themselves.")
    mount_point: Line | None = Field(
        default=None,
        description="Where they mount it.",
        json_schema_extra={"x-default": "the Guest Additions' choice"},
    )

    @model_validator(mode="after")
    def _mount_point_is_for_auto_mount(self) -> SharedFolder:
        if self.mount_point is not None and not self.auto_mount:
            raise ValueError("mount_point is for auto_mount: true")
        return self
