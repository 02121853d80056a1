import os
import subprocess
import sys
from pathlib import Path

import pytest
import shellingham

from fedprune.simulations.cli import run_command_line


def printed(capsys, *words):
    """Return what a call prints that ends the process itself, with 0."""
    with pytest.raises(SystemExit) as ended:
        run_command_line(words)
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.fixture
def in_bash(monkeypatch):
    monkeypatch.setattr(shellingham, "detect_shell", lambda: ("bash", "/bin/bash"))


@pytest.fixture
def completed(monkeypatch, capsys):
    def complete(line):
        words = line.split(" ")
        monkeypatch.setenv("_FEDPRUNE_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        return printed(capsys).split()

    return complete


def test_commands_are_completed(completed):
    assert completed("fedprune st") == ["stop", "status"]
    assert completed("fedprune data ") == ["split"]


def test_options_are_completed(completed):
    assert completed("fedprune export --f") == ["--format", "--finetune-codebook"]
    assert completed("fedprune serve --tl") == ["--tls"]
    assert completed("fedprune client --on") == ["--once"]


@pytest.mark.usefixtures("in_bash")
def test_the_script_for_the_shell_is_shown(capsys):
    said = printed(capsys, "--show-completion")
    assert said.splitlines()[-1].endswith("-F _fedprune_completion fedprune")


@pytest.mark.usefixtures("in_bash")
def test_completion_is_installed_for_the_shell(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    script = tmp_path / ".bash_completions" / "fedprune.sh"
    assert str(script) in printed(capsys, "--install-completion")
    assert "_FEDPRUNE_COMPLETE=complete_bash" in script.read_text()
    assert f"source '{script}'" in (tmp_path / ".bashrc").read_text()


ASK = """
source <(fedprune --show-completion)
COMP_WORDS=(fedprune run-model --trust) COMP_CWORD=2
_fedprune_completion fedprune
echo "${COMPREPLY[@]}"
"""


@pytest.mark.slow
def test_a_bash_completes_by_the_script_that_it_is_shown(tmp_path):
    command = tmp_path / "fedprune"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fedprune "$@"\n')
    command.chmod(0o700)
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK],
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("--trust-code\n", "")
