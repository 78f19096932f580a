"""Options, ini keys and variables: shown, read, and refused by name."""

from __future__ import annotations

import re

import pytest

from pytest_vbox.settings import OPTIONS

SEEN = """
def test_seen(vbox_settings):
    print(f"image={vbox_settings.image} keep={vbox_settings.keep} profiles={vbox_settings.profiles}")
"""


@pytest.mark.usefixtures("broken_yaml")
def test_help_shows_every_option_and_ini_key_even_with_broken_yaml(suite: pytest.Pytester) -> None:
    result = suite.runpytest("--help")
    assert result.ret == pytest.ExitCode.OK
    text = result.stdout.str()
    for option in OPTIONS:
        if option.flag is not None:
            assert re.search(rf"^ +{option.flag}[ =]", text, re.MULTILINE), option.flag
            assert re.search(rf"^ +{option.ini} \(", text, re.MULTILINE), option.ini
    assert "vbox_password " not in text
    assert "--vbox-password " not in text


def test_the_marker_is_registered(suite: pytest.Pytester) -> None:
    suite.makepyfile("import pytest\n\n@pytest.mark.vbox(image='x')\ndef test_one(): pass\n")
    suite.runpytest("--strict-markers", "--strict-config").assert_outcomes(passed=1)
    suite.runpytest("--markers").stdout.fnmatch_lines(["@pytest.mark.vbox([*], image=None, *"])


def test_values_come_from_line_environment_and_ini(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.makepyfile(SEEN)
    suite.makeini(
        "[pytest]\nvbox_image = from-ini\nvbox_keep = failed\nvbox_profiles =\n    more\n    /and/more\n"
    )
    monkeypatch.setenv("PYTEST_VBOX_IMAGE", "from-env")
    root = suite.path
    result = suite.runpytest("-s", "--strict-config")
    result.stdout.fnmatch_lines([f"*image=from-env keep=failed profiles=(*'{root}/more'*, *'/and/more'*)*"])
    result = suite.runpytest("-s", "--vbox-image=from-line", "--vbox-keep", "always", "--vbox-profiles=a")
    result.stdout.fnmatch_lines([f"*image=from-line keep=always profiles=(*'{root}/a'*)*"])
    result = suite.runpytest("-s", "-o", "vbox_keep=never")
    result.stdout.fnmatch_lines(["*image=from-env keep=never *"])


@pytest.mark.parametrize(
    ("arguments", "ini", "environment", "message"),
    [
        (
            ["--vbox-url=localhost"],
            "",
            {},
            "--vbox-url: 'localhost' cannot be used: expected an address such as *",
        ),
        ([], "vbox_url = 7", {}, "ini key vbox_url: '7' cannot be used: expected an address such as *"),
        (
            [],
            "",
            {"PYTEST_VBOX_URL": "ftp://x"},
            "PYTEST_VBOX_URL: 'ftp://x' cannot be used: expected an address *",
        ),
        (["--vbox=maybe"], "", {}, "--vbox: 'maybe' cannot be used: expected one of auto, require, off"),
        (
            ["--vbox-boot-timeout=x"],
            "",
            {},
            "--vbox-boot-timeout: 'x' cannot be used: expected a number of seconds*",
        ),
    ],
)
def test_a_wrong_value_ends_the_run_before_it_begins(
    suite: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    ini: str,
    environment: dict[str, str],
    message: str,
) -> None:
    suite.makepyfile("def test_one(): pass")
    suite.makeini(f"[pytest]\n{ini}\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = suite.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert "Traceback" not in result.stderr.str()


def test_every_fixture_explains_itself_and_its_scope(suite: pytest.Pytester) -> None:
    text = suite.runpytest("--fixtures", "-v").stdout.str()
    scopes = {
        "vbox": "",
        "vbox_machine": "",
        "class_vbox_machine": " [class scope]",
        "module_vbox_machine": " [module scope]",
        "package_vbox_machine": " [package scope]",
        "session_vbox_machine": " [session scope]",
        "vbox_host": " [session scope]",
        "vbox_settings": " [session scope]",
        "vbox_ssh_key": " [session scope]",
        "vbox_artifacts_dir": " [session scope]",
    }
    for name, scope in scopes.items():
        assert re.search(rf"^{name}{re.escape(scope)} -- .*\n    [A-Z]", text, re.MULTILINE), name
