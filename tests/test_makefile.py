import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def make(*arguments):
    command = ["make", "--no-print-directory", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_help_has_one_line_for_each_target():
    text = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z0-9-]+):(?!=)", text, re.M)
    lines = make("help")
    assert [line.split()[0] for line in lines] == targets
    assert all(line.split()[1:] for line in lines)


def test_all_targets_are_phony():
    text = (ROOT / "Makefile").read_text().replace("\\\n", "")
    (phony,) = re.findall(r"^\.PHONY:(.*)", text, re.M)
    assert sorted(phony.split()) == sorted(line.split()[0] for line in make("help"))


def test_make_alone_installs():
    assert make("--dry-run", "--always-make") == make(
        "--dry-run", "--always-make", "install"
    )
