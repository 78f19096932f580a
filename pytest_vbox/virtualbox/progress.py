"""IProgress: an operation that goes on in VirtualBox while the caller waits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pytest_vbox.deadline import Deadline
from pytest_vbox.virtualbox.errors import OperationTimeout, VirtualBoxError, error_for
from pytest_vbox.virtualbox.interface import Interface, ReadOnly, text

# The server answers as soon as the operation is over; in between, this is how often a signal (Ctrl-C) or the
# deadline is noticed.
_SLICE: Final = 0.5
# Seconds that an operation gets to stop after it was cancelled; until then its media and machines stay locked.
_STOPPING: Final = 5.0


class Progress(Interface):
    """IProgress. Nothing that returns one has succeeded before :meth:`wait` returned."""

    interface = "IProgress"
    description = ReadOnly("description", text)
    percent = ReadOnly("percent", int)
    completed = ReadOnly("completed", bool)
    cancelable = ReadOnly("cancelable", bool)
    result_code = ReadOnly("resultCode", int)

    def wait(self, deadline: Deadline, watch: Callable[[int], None] | None = None) -> None:
        """Wait until the operation is over, check its result and release it.

        Args:
            deadline: For how long.
            watch: Is told now and then how far it is, in percent.

        Raises:
            VirtualBoxError: The operation failed, with VirtualBox's own words.
            OperationTimeout: It did not end before the deadline; it was cancelled if it can be.
        """
        while True:
            self._call("waitForCompletion", timeout=int(deadline.at_most(_SLICE) * 1000))
            if self.completed:
                break
            if deadline.expired:
                raise self._give_up(deadline)
            if watch is not None:
                watch(self.percent)
        code = self.result_code
        if code:
            raise self._error(code)
        self.release()

    def wait_or_cancel(self, deadline: Deadline, watch: Callable[[int], None] | None = None) -> None:
        """The same, but where the wait itself ends (Ctrl-C, an error of ``watch``), so does the operation.

        For what nobody wants any more then, such as a copy. It gets some seconds to stop. What is raised stays
        what is told, even if the operation cannot be cancelled, or goes on all the same.
        """
        try:
            self.wait(deadline, watch)
        except VirtualBoxError:
            raise  # it has ended, or its time was up, for which it is cancelled already
        except BaseException:
            with suppress(VirtualBoxError):
                if self._cancel():
                    self._call("waitForCompletion", timeout=int(_STOPPING * 1000))
            raise

    def _cancel(self) -> bool:
        """Have the operation stopped. Returns whether it can be."""
        if not self.cancelable:
            return False
        self._call("cancel")
        return True

    def _give_up(self, deadline: Deadline) -> OperationTimeout:
        error = OperationTimeout(
            f"{self.description or 'the operation'} was at {self.percent} % after {deadline.elapsed:.1f} s",
            operation="IProgress_waitForCompletion",
        )
        # It may have ended just now; what the caller has to hear is that its time was up.
        with suppress(VirtualBoxError):
            self._cancel()
        return error

    def _error(self, code: int) -> VirtualBoxError:
        words = ""
        # The code is what failed; not getting the words for it must not take its place.
        with suppress(VirtualBoxError):
            words = self.api.error_texts(text(self._call("getErrorInfo")))
            words = f"{self.description}: {words}" if words else ""
        return error_for(code, words, "IProgress_getErrorInfo")
