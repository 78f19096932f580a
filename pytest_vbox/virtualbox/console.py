"""IConsole and what hangs on it: a machine that runs, its screen and its keyboard."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from pytest_vbox.virtualbox.enums import BitmapFormat
from pytest_vbox.virtualbox.interface import Interface
from pytest_vbox.virtualbox.progress import Progress


class Display(Interface):
    """IDisplay."""

    interface = "IDisplay"

    def get_screen_resolution(self, screen_id: int = 0) -> tuple[int, int]:
        """Width and height of a screen in pixels."""
        result = self._call("getScreenResolution", screenId=screen_id)
        return int(result.width), int(result.height)

    def take_screen_shot_to_array(
        self, screen_id: int, width: int, height: int, bitmap_format: BitmapFormat = BitmapFormat.PNG
    ) -> bytes:
        """A picture of a screen. (The web service sends the bytes as one base64 string.)"""
        result = self._call(
            "takeScreenShotToArray",
            screenId=screen_id,
            width=width,
            height=height,
            bitmapFormat=bitmap_format,
        )
        return base64.b64decode(result)


class Keyboard(Interface):
    """IKeyboard."""

    interface = "IKeyboard"

    def put_scancodes(self, scancodes: Sequence[int]) -> int:
        """Send raw PC set 1 scan codes. Returns how many were stored."""
        return int(self._call("putScancodes", scancodes=list(scancodes)))


class MachineDebugger(Interface):
    """IMachineDebugger; only its statistics are used here."""

    interface = "IMachineDebugger"

    def get_stats(self, pattern: str, with_descriptions: bool = False) -> str:
        """The statistics whose names match, as XML."""
        return str(self._call("getStats", pattern=pattern, withDescriptions=with_descriptions))


class Console(Interface):
    """IConsole: controls a machine that runs, through the session that is locked to it."""

    interface = "IConsole"

    @property
    def display(self) -> Display:
        return Display(self.api, str(self._call("getDisplay")))

    @property
    def keyboard(self) -> Keyboard:
        return Keyboard(self.api, str(self._call("getKeyboard")))

    @property
    def debugger(self) -> MachineDebugger:
        return MachineDebugger(self.api, str(self._call("getDebugger")))

    def power_down(self) -> Progress:
        """Stop the machine at once, as pulling its plug would."""
        return Progress(self.api, str(self._call("powerDown")))

    def power_button(self) -> None:
        """Press the ACPI power button."""
        self._call("powerButton")

    def pause(self) -> None:
        self._call("pause")

    def resume(self) -> None:
        self._call("resume")

    def reset(self) -> None:
        """Press the reset button."""
        self._call("reset")
