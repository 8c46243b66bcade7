"""demo.html: the generated text with its citations on hover, and the perplexity chart.

Knows: plain figures and tokens. Does not know: models. One file, no scripts, nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from extmem.lm.generate import GeneratedToken, Generation

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --dim: #5d6b7a; --paper: #fbfaf7; --card: #fff;
        --line: #e2ded5; --memory: 22 138 90; --bar: #c9d3dd; --best: #168a5a }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --dim: #9aa7b4; --paper: #14181d;
        --card: #1c2229; --line: #303842; --memory: 64 200 140; --bar: #46525f; --best: #40c88c } }
body { font: 17px/1.65 Georgia, serif; color: var(--ink); background: var(--paper); margin: 0 }
main { max-width: 46rem; margin: 3rem auto; padding: 0 1.25rem }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem } h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem }
p.lead, figcaption, .note { color: var(--dim) }
section, figure { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
        padding: 1.1rem 1.3rem; margin: .8rem 0 }
.prompt { color: var(--dim) }
section { position: relative } .token { border-radius: 3px; padding: 1px 0;
        background: rgb(var(--memory) / calc(var(--share) * .38)) }
.token[tabindex] { cursor: help; border-bottom: 1px dotted var(--dim) }
.token .why { display: none; position: absolute; left: 1.3rem; right: 1.3rem; top: calc(100% - .7rem); z-index: 2;
        font: 13px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--card); border: 1px solid var(--line);
        border-radius: 6px; padding: .6rem .8rem; box-shadow: 0 6px 24px rgb(0 0 0 / .18) }
.token:hover .why, .token:focus .why { display: block }
.why b { font-weight: 600 } .why q { display: block; color: var(--dim) }
.row { display: grid; grid-template-columns: 9.5rem 1fr 9rem; gap: .8rem; align-items: center; margin: .45rem 0;
        font: 15px system-ui, sans-serif }
.row i { display: block; height: 1.3rem; border-radius: 3px; background: var(--bar); width: var(--width) }
.row.best i { background: var(--best) } .row span:last-child { text-align: right; font-variant-numeric: tabular-nums }
"""


def page(
    chart: Sequence[tuple[str, float]],
    texts: Sequence[tuple[str, Generation]],
    records: Mapping[str, str],
    about: str,
) -> str:
    """The page: bars (name, perplexity), texts with their titles, the records they cite."""
    body = "".join(
        f"<h2>{escape(title)}</h2><section><span class=prompt>{escape(text.prompt)}</span>"
        f"{''.join(_token(token, piece, records) for token, piece in zip(text.tokens, text.pieces, strict=True))}"
        "</section>"
        for title, text in texts
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>extmem: the demo</title><style>{STYLE}</style><main>"
        "<h1>A language model that says where its words come from</h1>"
        f"<p class=lead>{escape(about)}</p>"
        f"<h2>Perplexity of text that neither model nor memory has seen</h2>{_chart(chart)}"
        "<p class=note>The greener a word, the more of its probability came from the memory. "
        "Point at one, or reach it with the Tab key, to see what it cites.</p>"
        f"{body}</main></html>\n"
    )


def _chart(chart: Sequence[tuple[str, float]]) -> str:
    first, best = chart[0][1], min(value for _, value in chart)
    rows = "".join(
        f"<div class='row{' best' if value == best else ''}'><span>{escape(name)}</span>"
        f"<span><i style='--width:{100 * value / first:.1f}%'></i></span>"
        f"<span>{value:.1f}{'' if value == first else f' ({100 * (value / first - 1):+.0f} %)'}</span></div>"
        for name, value in chart
    )
    return f"<figure>{rows}<figcaption>Lower is better.</figcaption></figure>"


def _token(token: GeneratedToken, piece: str, records: Mapping[str, str]) -> str:
    word = piece.lstrip()
    gap = piece[: len(piece) - len(word)].replace("\n\n", "<br><br>")
    shown = f"style='--share:{token.memory_share:.2f}'"
    if not token.citations:
        return f"{gap}<span class=token {shown}>{escape(word)}</span>"
    places = "".join(
        f"<b>{escape(cited.key)}</b>, characters {cited.start}-{cited.end}: {cited.weight:.0%}"
        f"<q>{escape(_around(records.get(cited.key, ''), cited.start, cited.end))}</q>"
        for cited in token.citations
    )
    shares = f"probability {token.probability:.0%}, of it from memory {token.memory_share:.0%}"
    why = f"<span class=why>{shares}<br>{places}</span>"
    return f"{gap}<span class=token tabindex=0 {shown}>{escape(word)}{why}</span>"


def _around(text: str, start: int, end: int) -> str:
    """The words about a span."""
    return " ".join(f"…{text[max(0, start - 50) : end + 30]}…".split())
