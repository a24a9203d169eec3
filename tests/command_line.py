"""The command line as tests use it: run a command in this process, and hold its end against what is promised."""

from click.testing import CliRunner, Result

from cli.main import main


def run(*arguments: str) -> Result:
    """How this command ends."""
    return CliRunner().invoke(main, list(arguments))


def assert_refused(result: Result, code: int, *words: str) -> None:
    """Assert one message with these words, no traceback, and the exit code that the README promises."""
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output, result.output
