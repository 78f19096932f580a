"""Progress objects: the only place where an operation that goes on by itself says how it ended."""

from __future__ import annotations

import math

import pytest

from pytest_vbox.deadline import Deadline
from pytest_vbox.virtualbox import Progress
from pytest_vbox.virtualbox.errors import Failed, OperationTimeout, ServiceUnavailable, VmError
from unit.kit.service import FakeService, HangUp, Refusal, UnknownObject, signed


@pytest.fixture
def progress(service: FakeService) -> Progress:
    """An operation that has ended well."""
    service.add(
        "p", Completed=True, ResultCode=0, Description="Starting VM", Percent=40, Cancelable=True, ErrorInfo=""
    )
    service.answer("IProgress_waitForCompletion", None)
    service.answer("IProgress_cancel", None)
    return Progress(service.api, "p")


def test_success_is_waited_for_and_forgotten(service: FakeService, progress: Progress) -> None:
    service.answer("IProgress_getCompleted", False, False, True)
    progress.wait(Deadline(60))
    assert service.names.count("IProgress_waitForCompletion") == 3
    assert service.names[-1] == "IManagedObjectRef_release"


def test_failure_has_its_code_and_all_words(service: FakeService, progress: Progress) -> None:
    info = service.error_info("The VM died", "", "The VM died", "No memory (VERR_NO_MEMORY)")
    service.objects["p"].update(ResultCode=signed(0x80BB0003), ErrorInfo=info)
    with pytest.raises(VmError) as caught:
        progress.wait(Deadline(60))
    assert caught.value.text == "Starting VM: The VM died\nNo memory (VERR_NO_MEMORY)"


def test_failure_without_error_info_explains_the_code(service: FakeService, progress: Progress) -> None:
    service.objects["p"].update(ResultCode=signed(0x80BB0003))
    with pytest.raises(VmError, match="the virtual machine itself failed"):
        progress.wait(Deadline(60))


@pytest.mark.parametrize("error", [UnknownObject(), HangUp(), Refusal(0x80004005)], ids=lambda e: type(e).__name__)
def test_failure_whose_words_cannot_be_had_is_still_that_failure(
    service: FakeService, progress: Progress, error: Exception
) -> None:
    service.objects["p"].update(ResultCode=signed(0x80BB0003))
    service.answer("IProgress_getErrorInfo", error)
    with pytest.raises(VmError):
        progress.wait(Deadline(60))


def test_a_chain_of_causes_without_an_end_ends(service: FakeService, progress: Progress) -> None:
    info = service.error_info(*(f"cause {number}" for number in range(20)))
    service.objects["p"].update(ResultCode=signed(0x80004005), ErrorInfo=info)
    with pytest.raises(Failed) as caught:
        progress.wait(Deadline(60))
    assert caught.value.text == "Starting VM: " + "\n".join(f"cause {number}" for number in range(5))


def test_the_deadline_cancels_what_can_be_cancelled(service: FakeService, progress: Progress) -> None:
    service.objects["p"].update(Completed=False)
    with pytest.raises(OperationTimeout, match=r"Starting VM was at 40 % after \d+\.\d s"):
        progress.wait(Deadline(0))
    assert service.names[-1] == "IProgress_cancel"


def test_what_cannot_be_cancelled_is_left_alone(service: FakeService, progress: Progress) -> None:
    service.objects["p"].update(Completed=False, Cancelable=False, Description="")
    with pytest.raises(OperationTimeout, match="the operation was at 40 %"):
        progress.wait(Deadline(0))
    assert "IProgress_cancel" not in service.names


def test_a_cancel_that_comes_too_late_does_not_hide_the_timeout(service: FakeService, progress: Progress) -> None:
    service.objects["p"].update(Completed=False)
    service.answer("IProgress_cancel", Refusal(0x80BB0007, "Operation cannot be canceled"))
    with pytest.raises(OperationTimeout):
        progress.wait(Deadline(0))


def test_what_ended_at_the_last_moment_has_ended(service: FakeService, progress: Progress) -> None:
    progress.wait(Deadline(0))
    assert service.called("IProgress_waitForCompletion") == [{"_this": "p", "timeout": 0}]


@pytest.mark.parametrize(("left", "asked"), [(math.inf, 500), (60.0, 500), (0.1, 100)])
def test_the_server_is_never_asked_to_wait_for_long(
    service: FakeService, progress: Progress, monkeypatch: pytest.MonkeyPatch, left: float, asked: int
) -> None:
    monkeypatch.setattr(Deadline, "remaining", left)
    progress.wait(Deadline(left))
    assert service.called("IProgress_waitForCompletion") == [{"_this": "p", "timeout": asked}]


def test_a_service_that_dies_meanwhile_is_told(service: FakeService, progress: Progress) -> None:
    service.answer("IProgress_waitForCompletion", HangUp())
    with pytest.raises(ServiceUnavailable):
        progress.wait(Deadline(60))


def _interrupt(_: int) -> None:
    raise KeyboardInterrupt


def test_what_nobody_waits_for_any_more_is_cancelled_and_gets_a_moment_to_stop(
    service: FakeService, progress: Progress
) -> None:
    service.objects["p"].update(Completed=False)
    with pytest.raises(KeyboardInterrupt):
        progress.wait_or_cancel(Deadline(60), _interrupt)
    assert service.names[-2:] == ["IProgress_cancel", "IProgress_waitForCompletion"]


@pytest.mark.parametrize("cancelable", [True, False])
def test_what_ended_the_wait_is_told_even_where_nothing_can_be_cancelled(
    service: FakeService, progress: Progress, cancelable: bool
) -> None:
    service.objects["p"].update(Completed=False, Cancelable=cancelable)
    service.answer("IProgress_cancel", Refusal(0x80BB0007, "Operation cannot be canceled"))
    with pytest.raises(KeyboardInterrupt):
        progress.wait_or_cancel(Deadline(60), _interrupt)
