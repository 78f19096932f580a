"""What a command writes: kept within bounds, and its error stream freed of what is not the command's."""

from __future__ import annotations

from collections import deque

from pytest_vbox.guest.script import Script

#: Bytes kept of each stream: the first half and the last half.
MOST_KEPT = 16 * 1024 * 1024


class Output:
    """The text of one stream; of more than ``limit`` bytes the middle is left out, with a note.

    Args:
        limit: Bytes to keep.
    """

    def __init__(self, limit: int = MOST_KEPT) -> None:
        self._half = limit // 2
        self._piece = max(1, min(64 * 1024, limit // 8))
        self._head = bytearray()
        self._tail: deque[bytearray] = deque()
        self._tail_size = 0
        self._dropped = 0

    def add(self, data: bytes) -> None:
        """Append what came."""
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            # Small ones are put together: single bytes would cost many times their size.
            if not self._tail or len(self._tail[-1]) >= self._piece:
                self._tail.append(bytearray())
            self._tail[-1] += data
            self._tail_size += len(data)
        # Whole pieces are dropped, so that a flood costs no copying; the last half is kept in any case.
        while self._tail and self._tail_size - len(self._tail[0]) >= self._half:
            piece = self._tail.popleft()
            self._tail_size -= len(piece)
            self._dropped += len(piece)

    @property
    def text(self) -> str:
        """All that is kept, as UTF-8; bytes that are none become U+FFFD."""
        tail = b"".join(self._tail)
        if not self._dropped:
            return (bytes(self._head) + tail).decode("utf-8", "replace")
        note = f"\n[pytest-vbox: {self._dropped} bytes left out here]\n"
        return self._head.decode("utf-8", "replace") + note + tail.decode("utf-8", "replace")


class ErrorStream:
    """The error stream of a `Script`, which tells when the command started and when sudo asks.

    Args:
        script: What was sent.
    """

    # sudo, or a shell's start-up files, may write much, but not without end.
    _MOST_BEFORE_START = 1024 * 1024

    def __init__(self, script: Script) -> None:
        self._output = Output()
        self.started = not script.sudo
        """Whether the command itself is running or has run."""
        self.prompts = 0
        """How many times sudo has asked for the password."""
        self._script = script
        self._before = bytearray()
        # Up to where the prompt was looked for: a guest may send byte by byte.
        self._searched = 0

    def add(self, data: bytes) -> None:
        """Take in what came."""
        if self.started:
            self._output.add(data)
            return
        mark = self._script.mark
        begin = max(0, len(self._before) - len(mark) + 1)
        self._before += data
        end = self._before.find(mark, begin)
        if end >= 0:
            # What came before it was sudo's: a lecture, a warning about a host's name. What comes after it is the
            # command's, which shall not be taken for a prompt and get the password.
            self._output.add(bytes(self._before[end + len(mark) :]))
            del self._before[end:]
            self.started = True
        self._count_prompts()
        surplus = len(self._before) - self._MOST_BEFORE_START
        if surplus > 0:
            del self._before[:surplus]
            self._searched = max(0, self._searched - surplus)

    def _count_prompts(self) -> None:
        prompt = self._script.prompt
        while (found := self._before.find(prompt, self._searched)) >= 0:
            self.prompts += 1
            self._searched = found + len(prompt)
        self._searched = max(self._searched, len(self._before) - len(prompt) + 1)

    @property
    def text(self) -> str:
        """The command's error stream, or all that came if it did not start."""
        if self.started:
            return self._output.text
        return self._before.replace(self._script.prompt, b"").decode("utf-8", "replace")
