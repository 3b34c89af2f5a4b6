"""The command line of the control plane."""

import pytest

from mesh.control.options import parse_options


def test_listens_on_loopback_unless_told() -> None:
    options = parse_options(["--state", "/s"])
    assert (options.address, options.api_port, options.xds_port, options.log_level) == (
        "127.0.0.1",
        15014,
        15012,
        "info",
    )


def test_a_relative_folder_is_made_absolute() -> None:
    assert parse_options(["--state", "s"]).state.is_absolute()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "--state"),
        (["--state", "/s", "--address", "localhost"], "'localhost' is not an IPv4 address"),
        (["--state", "/s", "--address", "::1"], "'::1' is not an IPv4 address"),
        (["--state", "/s", "--api-port", "65536"], "'65536' is not a port"),
        (["--state", "/s", "--xds-port=-1"], "'-1' is not a port"),
        (["--state", "/s", "--log-level", "loud"], "loud"),
    ],
)
def test_nonsense_is_refused(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse_options(arguments)
    assert left.value.code == 2
    assert complaint in capsys.readouterr().err
