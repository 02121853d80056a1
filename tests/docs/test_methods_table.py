"""The guide's table of methods is the registry's."""

from pathlib import Path

from fedprune.simulations.inspection.methods import as_markdown, kinds_of

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide.md"
START, END = "<!-- fedprune methods --markdown -->", "<!-- end -->"


def test_the_guide_holds_the_table_that_the_command_prints():
    text = GUIDE.read_text(encoding="utf-8")
    table = text.partition(START)[2].partition(END)[0]
    wanted = "\n".join(as_markdown(kinds_of("")))
    assert table.strip() == wanted, f"replace what follows {START} by its output"
