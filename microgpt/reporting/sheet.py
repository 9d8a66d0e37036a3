"""Pages that need nothing beside them, light or dark as the browser is: what all of them are made of."""

from collections.abc import Iterable, Sequence
from html import escape

from microgpt.files.written import MARK

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c1e21; --faint: #5c6068; --grid: #d9dce1;
  --panel: #f5f6f8; --bad: #b3261e; --ok: #1a6e3c; --open: #8a5a00; --mark: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181c; --ink: #e4e6ea; --faint: #a2a7b0;
  --grid: #3a3e46; --panel: #1f2228; --bad: #ff8a80; --ok: #7fd39a; --open: #e6b450; --mark: #6cb8ea; } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 66rem; padding: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; max-width: 46rem; } .faint, td.faint, figcaption { color: var(--faint); }
svg { width: 100%; height: auto; } svg text { font-family: system-ui, sans-serif !important; }
figure { margin: .8rem 0; } figcaption { font-size: .85rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } .wide { overflow-x: auto; }
th, td { padding: .22rem .9rem .22rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--grid); }
th { font-weight: 600; } td.n, th.n { text-align: right; }
tr.is-set td:first-child { font-weight: 600; color: var(--mark); }
.facts { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; padding: 0; list-style: none; }
.facts li { background: var(--panel); border-radius: .4rem; padding: .5rem .9rem; }
.facts b { display: block; font-size: 1.2rem; } .facts span { color: var(--faint); font-size: .85rem; }
.bar { display: flex; height: 1.6rem; border-radius: .3rem; overflow: hidden; margin: .6rem 0; }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; margin-right: .45rem; }
pre { background: var(--panel); border-radius: .4rem; padding: .7rem .9rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .88rem; margin: .4rem 0; }
.bad { color: var(--bad); } .ok { color: var(--ok); } .open { color: var(--open); }
summary { cursor: pointer; }
"""


def whole(title: str, sections: Iterable[str]) -> str:
    """A page of sections; empty ones are left out."""
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="generator" content="{MARK}"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(filter(None, sections)) + "\n</body></html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A part of a page under its title."""
    return f"<section><h2>{escape(title)}</h2>\n" + "\n".join(parts) + "</section>"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], n_text: int = 1) -> str:
    """A table of escaped cells; those behind the first `n_text` hold numbers."""

    def line(cells: Sequence[str], tag: str) -> str:
        return (
            "<tr>"
            + "".join(
                f"<{tag}{' class=n' if place >= n_text else ''}>{escape(cell)}</{tag}>"
                for place, cell in enumerate(cells)
            )
            + "</tr>"
        )

    return (
        '<div class="wide"><table>'
        + line(titles, "th")
        + "".join(line(row, "td") for row in rows)
        + "</table></div>"
    )
