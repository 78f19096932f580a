"""What was written is read as it was."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_vbox.images.checksums import sum_for
from pytest_vbox.machines.golden import Golden, is_stale
from pytest_vbox.ownership import Entry, Ledger, ProcessId, abandoned
from pytest_vbox.ownership.counting import Count, Limits, Part, Slot, Ticket
from pytest_vbox.records import Record as Answer
from pytest_vbox.records import Way
from pytest_vbox.service.record import Record
from pytest_vbox.settings import OPTIONS, Settings, SettingsError
from pytest_vbox.settings import load as load_settings

pytestmark = pytest.mark.slow

# No half of a surrogate pair: such text is in no file.
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_name = _text.filter(bool)
_number = st.integers(0, 2**40)
_seconds = st.floats(0, 1e9)

_entry = st.builds(Entry, id=st.uuids().map(str), name=_text, host=_text, test=_text, since=_name)
_limits = st.builds(Limits, st.integers(1, 99), _number, st.integers(1, 99))
_slot = st.builds(Slot, _text, _number, _number, _text, st.booleans(), st.booleans(), st.booleans())
_ticket = st.builds(Ticket, _number, _text, _number, _number, _text)
_part = st.builds(
    Part,
    _number,
    _text,
    _limits,
    st.lists(_slot, max_size=3).map(tuple),
    st.lists(_ticket, max_size=3).map(tuple),
)
_KEYS = Path("/home/me/.local/state/pytest-vbox/golden/keys")
_golden = st.builds(
    Golden,
    id=st.uuids().map(str),
    **dict.fromkeys(("name", "key", "subject", "image", "profile", "virtualbox", "host_key"), _text),
    base=st.tuples(_text, _text),
    private_key=st.none() | st.uuids().map(lambda key: str(_KEYS / key.hex)),
    sudo_asks=st.booleans(),
    tool=_text,
    cold_seconds=_seconds,
    ssh_seconds=_seconds,
    made=_text,
    discarded=_text,
)


@given(entries=st.lists(_entry, max_size=4, unique_by=lambda entry: entry.id))
def test_entries_of_a_ledger_are_found_by_whoever_cleans_up(entries: list[Entry]) -> None:
    with tempfile.TemporaryDirectory() as name:
        ledger = Ledger(Path(name), "run")
        for entry in entries:
            ledger.add(entry)
        ledger.close()
        with abandoned(Path(name)) as found:
            assert [entry for left in found for entry in left.entries] == entries
            for left in found:
                for entry in list(left.entries):
                    left.strike(entry)
        with abandoned(Path(name)) as found:
            assert not any(left.entries for left in found)


@given(parts=st.dictionaries(_text, _part, max_size=3))
def test_a_count_is_read_as_it_was_written(parts: Mapping[str, Part]) -> None:
    count = Count()
    for participant, part in parts.items():
        count.put(participant, part)
    assert Count.load(count.dump()) == count


@given(golden=_golden)
def test_a_golden_machine_is_read_as_it_was_written(golden: Golden) -> None:
    assert Golden.parse(json.dumps(asdict(golden)), golden.id, _KEYS) == golden


@given(golden=_golden, data=st.data())
def test_a_golden_machine_with_a_field_of_another_type_is_none(golden: Golden, data: st.DataObject) -> None:
    document = asdict(golden)
    key = data.draw(st.sampled_from(sorted(document)))
    assume(key not in {"private_key", "base"})
    document[key] = data.draw(st.sampled_from([None, [], {}, {"a": 1}]))
    assert Golden.parse(json.dumps(document), golden.id, _KEYS) is None


def test_a_golden_machine_of_a_disk_that_no_path_leads_to_is_stale() -> None:
    assert is_stale(Golden("i", "n", "k", "s", "a", "small", "7.2", ("/a\0b", "1"), "host key"))


@given(
    port=st.integers(0, 65_535),
    user=_text,
    password=_text,
    computer=_text,
    boot=_text,
    pid=st.integers(1, 2**31 - 1),
    started=_seconds.map(lambda s: round(s, 3)),
)
def test_the_service_is_read_as_it_was_written(
    port: int, user: str, password: str, computer: str, boot: str, pid: int, started: float
) -> None:
    process = ProcessId(computer, boot, pid, started)
    record = Record(f"http://127.0.0.1:{port}", user, password, process, process)
    with tempfile.TemporaryDirectory() as name:
        record.write(Path(name))
        assert Record.read(Path(name)) == record


@given(
    way=st.sampled_from(Way),
    texts=st.tuples(_text, _text, _text, _text),
    phases=st.dictionaries(_text, _seconds, max_size=3),
    cold=st.none() | _seconds,
)
def test_how_a_machine_came_is_read_as_it_was_written(
    way: Way, texts: tuple[str, str, str, str], phases: Mapping[str, float], cold: float | None
) -> None:
    answer = Answer(*texts, way, 1.5, phases, {}, cold)
    assert Answer.from_json(json.loads(json.dumps(answer.to_json()))) == answer


@given(
    sums=st.dictionaries(
        st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/\\()"), min_size=1),
        st.binary(min_size=32, max_size=32).map(bytes.hex),
        min_size=1,
        max_size=5,
    ),
    bsd=st.booleans(),
)
def test_every_file_of_a_list_has_its_sum(sums: Mapping[str, str], bsd: bool) -> None:
    listed = "".join(f"SHA256 ({name}) = {sha}\n" if bsd else f"{sha}  {name}\n" for name, sha in sums.items())
    for name, sha in sums.items():
        assert sum_for(name, listed, "SHA256SUMS") == sha


@given(
    chosen=st.dictionaries(
        st.sampled_from([option.name for option in OPTIONS]),
        st.sampled_from(["1", "2.5", "yes", "auto", "a", "/b"]),
    )
)
def test_a_setting_is_the_same_from_every_source(chosen: Mapping[str, str]) -> None:
    """What the environment says counts just as the same text on the command line."""
    options = {option.name: option for option in OPTIONS}
    root = Path("/root")
    results: list[Settings | str] = []
    for keywords in (
        {"environ": {options[name].environment: text for name, text in chosen.items()}},
        {"command_line": dict(chosen)},
    ):
        try:
            results.append(load_settings(root=root, **keywords))
        except SettingsError:
            results.append("refused")
    assert results[0] == results[1]
