"""How the page looks: in light, in the dark, and on paper."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #fff; --panel: #f6f7f9; --text: #1b1f24; --faint: #667; --rule: #d8dce2;
  --good: #1a7f37; --bad: #c62828;
  --c0: #2563c9; --c1: #d9730d; --c2: #1f9254; --c3: #8a4fc0; --c4: #8b8f98; --c5: #c2337a;
  --c6: #b9bec7;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15181c; --panel: #1e2227; --text: #e6e8eb; --faint: #98a0ab; --rule: #363c45;
    --good: #4cc26e; --bad: #ff7b72;
    --c0: #6ea8ff; --c1: #f0a35e; --c2: #5cc98d; --c3: #c197ee; --c4: #9aa1ab; --c5: #f080b4;
    --c6: #5b626d;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 24px; max-width: 1180px; background: var(--ground); color: var(--text);
  font: 14px/1.5 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
}
h1 { font-size: 24px; margin: 0; }
h2 { font-size: 17px; margin: 32px 0 10px; }
p { margin: 4px 0; }
.faint, .unit, .tick { color: var(--faint); }
.verdict {
  margin: 16px 0; padding: 10px 16px; border-left: 6px solid var(--rule);
  background: var(--panel); font-size: 17px; font-weight: 600;
}
.verdict.good { border-color: var(--good); color: var(--good); }
.verdict.bad { border-color: var(--bad); color: var(--bad); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); gap: 10px; }
.tile { background: var(--panel); padding: 10px 14px; border-radius: 6px; }
.tile b { display: block; font-size: 21px; font-variant-numeric: tabular-nums; }
.tile span { color: var(--faint); font-size: 12.5px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(460px, 1fr)); gap: 14px; }
figure { margin: 0; background: var(--panel); padding: 12px 14px 8px; border-radius: 6px; }
figcaption { font-weight: 600; }
.unit { font-weight: 400; }
svg { width: 100%; height: auto; display: block; }
.grid { stroke: var(--rule); stroke-width: 1; fill: none; }
.axis { stroke: var(--faint); stroke-width: 1; fill: none; }
.mark { stroke: var(--faint); stroke-width: 1; stroke-dasharray: 4 3; fill: none; }
text.tick { fill: var(--faint); font-size: 12px; font-variant-numeric: tabular-nums; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.area { stroke: none; fill-opacity: .8; }
.bar { fill: var(--c0); }
.line.s0 { stroke: var(--c0) } .line.s1 { stroke: var(--c1) } .line.s2 { stroke: var(--c2) }
.line.s3 { stroke: var(--c3) } .line.s4 { stroke: var(--c4) } .line.s5 { stroke: var(--c5) }
.line.s6 { stroke: var(--c6) }
.area.s0 { fill: var(--c0) } .area.s1 { fill: var(--c1) } .area.s2 { fill: var(--c2) }
.area.s3 { fill: var(--c3) } .area.s4 { fill: var(--c4) } .area.s5 { fill: var(--c5) }
.area.s6 { fill: var(--c6) }
.key { margin-right: 14px; font-size: 12.5px; white-space: nowrap; }
.key i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 5px;
  vertical-align: -1px; }
i.s0 { background: var(--c0) } i.s1 { background: var(--c1) } i.s2 { background: var(--c2) }
i.s3 { background: var(--c3) } i.s4 { background: var(--c4) } i.s5 { background: var(--c5) }
i.s6 { background: var(--c6) }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 4px 10px; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
th { color: var(--faint); font-weight: 500; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.good { color: var(--good); } td.bad { color: var(--bad); font-weight: 600; }
code, pre { font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
pre { background: var(--panel); padding: 12px; overflow-x: auto; border-radius: 6px; }
@media (max-width: 560px) { .plots { grid-template-columns: 1fr; } body { padding: 12px; } }
@media print {
  :root { color-scheme: light; }
  body { padding: 0; max-width: none; font-size: 11px; }
  .plots { grid-template-columns: 1fr 1fr; }
  figure, .tile, tr, .verdict { break-inside: avoid; }
  h2 { break-after: avoid; }
  .verdict, .tile, figure, .area, .bar, .key i {
    print-color-adjust: exact; -webkit-print-color-adjust: exact;
  }
}
"""
