"""Colours and the style sheet, shared by page and figures.

A Python string, not a file: an app bundle keeps only a few kinds of text files.
"""

INK = "#1c2430"
MUTED = "#667085"
FAINT = "#98a2b3"
LINE = "#e4e7ec"
PAPER = "#ffffff"

PRUNED = "#1f6f8b"  # our run, everywhere
CONTROL = "#8a8f98"  # dense FedAvg, everywhere
CUT = "#d9822b"
ROLLBACK = "#c23b4b"

STATUS = {
    "accepted": "#86c5a6",
    "late": "#e6b450",
    "refused": "#c23b4b",
    "failed": "#7a5ba6",
    "not asked": "#eef1f5",
}
PHASES = {"warmup": "#dfe4ea", "sparsify": "#f3d9b8", "finetune": "#c9e2e9"}

# Okabe and Ito's colours, which people with colour-blindness tell apart.
RUNS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#8c6d1f",
    "#56b4e9",
    "#5b4b9a",
    "#e69f00",
)

CSS = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: #f5f7f9; color: {INK};
  font: 15px/1.55 "Inter", "Segoe UI", system-ui, -apple-system, "Helvetica Neue",
  "Liberation Sans", "Noto Sans", Arial, sans-serif; }}
main {{ max-width: 1080px; margin: 0 auto; padding: 36px 24px 64px; }}
header h1 {{ font-size: 27px; line-height: 1.2; margin: 0 0 6px;
  letter-spacing: -.015em; overflow-wrap: anywhere; }}
header p {{ margin: 0; color: {MUTED}; }}
.chip {{ display: inline-block; margin-left: 10px; padding: 2px 10px;
  border-radius: 99px; font-size: 12.5px; font-weight: 600; vertical-align: 4px;
  letter-spacing: 0; background: #e3f3ec; color: #24704f; }}
.chip.open {{ background: #fdf0dc; color: #95570f; }}
.cards {{ display: grid; gap: 12px; margin: 26px 0 14px;
  grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); }}
.card, section {{ background: {PAPER}; border: 1px solid {LINE};
  border-radius: 10px; }}
.card {{ padding: 14px 16px 12px; }}
.card small {{ display: block; color: {MUTED}; font-size: 13px; }}
.card b {{ display: block; font-size: 25px; line-height: 1.25; font-weight: 650;
  letter-spacing: -.02em; white-space: nowrap; }}
section {{ margin: 14px 0 0; padding: 20px 22px 18px; }}
h2 {{ font-size: 16.5px; margin: 0 0 2px; letter-spacing: -.005em; }}
section > p, figure > p {{ margin: 2px 0 12px; color: {MUTED}; font-size: 13.5px; }}
.pair {{ display: grid; gap: 14px; grid-template-columns: 1fr 1fr; }}
@media (max-width: 860px) {{ .pair {{ grid-template-columns: 1fr; }} }}
svg {{ display: block; width: 100%; height: auto; }}
svg text {{ font-family: inherit !important; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-size: 14px;
  font-variant-numeric: tabular-nums; }}
th, td {{ padding: 7px 12px; text-align: right; border-bottom: 1px solid {LINE};
  vertical-align: top; }}
th:first-child, td.text, .words td {{ text-align: left; }}
th:first-child {{ padding-left: 0; }}
td:last-child, th:last-child {{ padding-right: 0; }}
thead th {{ color: {MUTED}; font-weight: 600; font-size: 13px;
  border-bottom-color: #cfd5dd; }}
.words thead th {{ text-align: left; }}
tbody th {{ font-weight: 500; }}
tbody tr:last-child > * {{ border-bottom: 0; }}
.headline td:nth-last-child(2) {{ font-weight: 650; }}
.better {{ color: #24704f; }}
.worse {{ color: {ROLLBACK}; }}
.tight td, .tight tbody th {{ white-space: nowrap; }}
.swatch {{ display: inline-block; width: 11px; height: 11px; border-radius: 3px;
  margin-right: 8px; vertical-align: -1px; }}
pre {{ margin: 6px 0 0; padding: 14px 16px; background: #f5f7f9; border-radius: 8px;
  overflow-x: auto; font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas,
  "Liberation Mono", "DejaVu Sans Mono", monospace; }}
summary {{ cursor: pointer; font-weight: 600; font-size: 14px; padding: 4px 0; }}
details + details {{ margin-top: 6px; }}
.note {{ padding: 10px 14px; background: #fdf6e9; border-radius: 8px;
  font-size: 13.5px; margin: 14px 0 0; }}
footer {{ margin-top: 22px; color: {FAINT}; font-size: 12.5px; }}
@media print {{ body {{ background: #fff; }} section {{ break-inside: avoid; }} }}
"""
