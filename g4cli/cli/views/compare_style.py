"""The style sheet of the report of `g4 compare`; it loads nothing."""

from typing import Final

STYLE: Final = """
:root { --ink: #1b1f24; --soft: #5b6570; --line: #dfe3e8; --page: #f6f7f9; --card: #fff;
  --good: #12703f; --good-back: #e2f4e9; --bad: #a3261b; --bad-back: #fbe6e3; --back: #eceff2;
  --checker: #eef0f3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --soft: #9aa4ae; --line: #2f363d; --page: #14171a; --card: #1c2024;
    --good: #7fd6a4; --good-back: #173526; --bad: #f3998f; --bad-back: #432420; --back: #2a3036;
    --checker: #f3f4f6; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 6px; letter-spacing: -.01em; }
h2 { font-size: 19px; margin: 44px 0 12px; }
h3 { font-size: 15px; margin: 0; overflow-wrap: anywhere; }
p { margin: 6px 0; } .soft { color: var(--soft); } small { color: var(--soft); }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 8px 0 0; padding: 12px;
  background: var(--back); border-radius: 8px; max-height: 480px; overflow: auto; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 8px 14px;
  border-bottom: 1px solid var(--line); }
td, thead th { min-width: 8.5em; }
tr:last-child > * { border-bottom: 0; }
thead th small, h3 small { display: block; font-weight: 400; overflow-wrap: anywhere; }
thead th { font-size: 13px; color: var(--soft); font-weight: 600; overflow-wrap: anywhere; }
tbody th { font-weight: 500; white-space: nowrap; } tbody th small { display: block;
  white-space: normal; font-weight: 400; max-width: 34em; }
.graph { display: block; width: 100%; max-width: 980px; height: auto; padding: 14px;
  margin: 0 auto;
  font: 12px system-ui, sans-serif; fill: var(--ink); }
.graph .grid { stroke: var(--line); stroke-width: 1; }
.key { display: inline-block; width: 11px; height: 11px; margin-right: 7px; border-radius: 50%; }
.cards { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(290px, 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 14px; min-width: 0; max-width: 640px; }
.prompt { white-space: pre-wrap; overflow-wrap: anywhere; max-width: 76ch; margin: 0 0 14px; }
.answer { border-top: 1px solid var(--line); margin-top: 12px; padding-top: 12px; }
h3 + .answer { border-top: 0; padding-top: 0; }
.picture { display: flex; align-items: center; justify-content: center; aspect-ratio: 4 / 3;
  border-radius: 8px; overflow: hidden; background: #fff; border: 1px solid var(--line); }
.picture img { width: 100%; height: 100%; object-fit: contain; }
.none { background: var(--back); color: var(--soft); border-style: dashed; aspect-ratio: 5 / 1; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 220px; overflow: auto; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; margin: 10px 0 4px; }
.chip { font-size: 12.5px; line-height: 1.5; padding: 1px 9px; border-radius: 99px;
  background: var(--back); overflow-wrap: anywhere; }
.good { color: var(--good); background: var(--good-back); }
.bad { color: var(--bad); background: var(--bad-back); }
details { margin-top: 8px; } summary { cursor: pointer; color: var(--soft); font-size: 13.5px; }
ul { margin: 8px 0 0; padding-left: 18px; font-size: 13.5px; } li { margin: 2px 0; }
.note { border-left: 4px solid #e69f00; padding: 8px 14px; margin: 14px 0;
  background: var(--card); border-radius: 0 8px 8px 0; }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
"""
