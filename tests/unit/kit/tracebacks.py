"""What a traceback would show of an error, with ``--showlocals``."""

from __future__ import annotations

import traceback


def shown(error: BaseException, test: str) -> str:
    """All that is shown of an error, and of those behind it: words, attributes, and every function's variables.

    Args:
        error: The error, as it was caught.
        test: The file of the test, whose own variables are left out.
    """
    parts: list[str] = []
    waiting: list[BaseException | None] = [error]
    seen: list[BaseException] = []
    while waiting:
        entry = waiting.pop()
        if entry is None or any(entry is other for other in seen):
            continue
        seen.append(entry)
        parts += [repr(entry), str(entry), repr(vars(entry))]
        for frame, _ in traceback.walk_tb(entry.__traceback__):
            if frame.f_code.co_filename != test:
                parts += [
                    f"{frame.f_code.co_qualname}: {name}={value!r}" for name, value in frame.f_locals.items()
                ]
        waiting += [entry.__cause__, entry.__context__]
    return "\n".join(parts)
