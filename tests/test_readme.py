"""README tells the truth: its Python runs and prints what it says, its commands and their options exist.

Python blocks run in order and share one namespace, like cells of a notebook. A ```text block that follows a
```python block directly is what that block prints; ``...`` in it stands for anything, as in a doctest.
"""

import contextlib
import doctest
import io
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
SHELL = {"bash", "sh", "shell", "console"}
# Commands that are not ours to check; `pip install` and `git clone` depend on where the reader is.
FOREIGN = {"git", "cd", "pip", "source", "python"}


class Block(NamedTuple):
    """A fenced block: its language, its text, its line in README and the block that follows it directly."""

    language: str
    text: str
    line: int
    printed: str | None


def fenced_blocks(markdown: str) -> list[Block]:
    """Fenced blocks in order; a ```text block right after another block is its output."""
    fence = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
    blocks: list[Block] = []
    end = 0
    for match in fence.finditer(markdown):
        language, text = match.groups()
        line = markdown.count("\n", 0, match.start()) + 1
        if language == "text" and blocks and not markdown[end : match.start()].strip():
            blocks[-1] = blocks[-1]._replace(printed=text)
        else:
            blocks.append(Block(language, text, line, None))
        end = match.end()
    return blocks


def shell_commands(blocks: list[Block]) -> list[list[str]]:
    """Words of every command in the shell blocks; ``$`` prompts, comments and continued lines are read."""
    lines = [
        line.strip().removeprefix("$ ")
        for block in blocks
        if block.language in SHELL
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Text of ``splinecam-lite <words> --help``; the command line must know the words."""
    from splinecam_lite.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["splinecam-lite", *words, "--help"])
        try:
            code = main()
        except SystemExit as stopped:
            code = stopped.code
    printed = capsys.readouterr()
    assert not code, f"splinecam-lite {' '.join(words)} --help: {printed.err}"
    return printed.out


BLOCKS = fenced_blocks(README.read_text())
COMMANDS = shell_commands(BLOCKS)


def test_python_blocks_run_and_print_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for block in BLOCKS:
        if block.language != "python":
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            # Line numbers of a traceback are then those of README.
            exec(compile("\n" * block.line + block.text, str(README), "exec"), namespace)
        said, printed = block.printed or "", output.getvalue()
        assert doctest.OutputChecker().check_output(said, printed, flags), (
            f"README.md line {block.line} says\n{said}\nand prints\n{printed}"
        )
    plt.close("all")


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for words in COMMANDS if words[0] == "make" for word in words[1:] if "=" not in word}
    assert named <= targets


def test_commands_and_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for words in COMMANDS:
        program = words[0].rpartition("/")[2]
        if program != "splinecam-lite":
            continue
        subcommand = [word for word in words[1:2] if not word.startswith("-")]
        helped = help_of(subcommand, capsys)
        for option in [
            word.partition("=")[0] for word in words if word.startswith("--") and word != "--help"
        ]:
            assert option in helped, f"README uses {option}, which `{' '.join(words[:2])}` does not know"


def test_every_command_is_known_and_every_script_exists() -> None:
    for words in COMMANDS:
        program = words[0].rpartition("/")[2]
        assert program in {"make", "splinecam-lite", *FOREIGN}, f"README names an unknown command: {words}"
        if program == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).exists(), f"README names {words[1]}, which does not exist"


def test_links_into_the_project_exist() -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", README.read_text())
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_blocks_are_read_with_their_output() -> None:
    markdown = (
        "a\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n```bash\n$ make demo \\\n  X=1  # why\n```\n"
    )
    python, shell = fenced_blocks(markdown)
    assert python == Block("python", "print(1)\n", 2, "1\n")
    assert shell_commands([python, shell]) == [["make", "demo", "X=1"]]
