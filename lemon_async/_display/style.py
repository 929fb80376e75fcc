"""How a contact sheet looks: by day, by night, on paper, on a telephone. Colours contrast by 4.5 or more."""

import base64
import hashlib

__all__ = ["SHEET_STYLE", "SHEET_STYLE_SOURCE"]

SHEET_STYLE = """
:root{color-scheme:light dark;--page:#f5f5f2;--card:#fff;--ink:#1b1d21;--soft:#5a5f68;--line:#dfdfd9;--mat:#ecece7;
--link:#0a58b8;--bad:#a8201a;--bad-mat:#fdeeec}
@media (prefers-color-scheme:dark){:root{--page:#121316;--card:#1c1e23;--ink:#eceef2;--soft:#a6adb8;--line:#32363e;
--mat:#26292f;--link:#8fbcff;--bad:#ff9d94;--bad-mat:#33201f}}
*{box-sizing:border-box}
html{font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink)}
header,main,footer{max-width:100rem;margin:0 auto;padding:0 clamp(1rem,3vw,2.5rem)}
header{padding-top:clamp(1.25rem,4vw,2.75rem)}
h1{font-size:clamp(1.6rem,1.2rem + 1.8vw,2.5rem);line-height:1.15;letter-spacing:-.02em;margin:0;overflow-wrap:anywhere}
a{color:var(--link);text-underline-offset:.15em}
:focus-visible{outline:3px solid var(--link);outline-offset:2px;border-radius:.25rem}
.skip{position:absolute;left:1rem;top:-4rem;background:var(--card);padding:.5rem 1rem;border-radius:.5rem}
.skip:focus{top:.75rem;z-index:1}
.sum{display:flex;flex-wrap:wrap;gap:.9rem clamp(1.5rem,3vw,3rem);margin:1.1rem 0 0;padding:1rem 0 0;
border-top:1px solid var(--line)}
.sum dt{font-size:.8rem;color:var(--soft)}
.sum dd{margin:0;font-size:1.15rem;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.sum .bad dd{color:var(--bad)}
nav{display:flex;flex-wrap:wrap;gap:.2rem 1rem;margin:1rem 0 0;padding:.6rem 1rem;
background:var(--bad-mat);border-radius:.6rem;font-size:.92rem}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;margin:0;padding:0;list-style:none}
nav a{color:var(--bad)}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(19rem,100%),1fr));gap:clamp(1rem,1.8vw,1.6rem);
margin:clamp(1.25rem,2.5vw,2rem) 0;padding:0;list-style:none;align-items:start}
.grid>li{border-radius:.9rem;overflow:hidden;background:var(--card);border:1px solid var(--line)}
.dense{grid-template-columns:repeat(auto-fill,minmax(min(13.75rem,100%),1fr));gap:clamp(.6rem,1vw,.9rem)}
.dense>li{border-radius:.6rem}
.dense .text{padding:.5rem .7rem .65rem}
.dense h2{font-size:.85rem;font-weight:500}
.dense .no,.dense figcaption,.dense details{font-size:.75rem}
.dense figcaption{padding:.3rem .7rem}
.dense details{display:inline-block;margin:.3rem .8rem 0 0}
.dense details[open]{display:block;margin-right:0}
.dense .facts{font-size:.75rem}
.dense .fault{padding:.7rem;font-size:.8rem}
.long>li{content-visibility:auto;contain-intrinsic-size:auto 32rem}
.pics{display:grid;gap:1px;background:var(--line)}
.many .pics{grid-template-columns:1fr 1fr}
.many figcaption{padding:.35rem .6rem;font-size:.72rem}
figure{margin:0;background:var(--mat);min-width:0;display:flex;flex-direction:column}
figure a{display:block}
figure a:focus-visible{outline-offset:-4px}
img{display:block;width:100%;height:auto;aspect-ratio:1;object-fit:contain}
figcaption{font-size:.8rem;color:var(--soft);padding:.45rem 1rem;background:var(--card);overflow-wrap:anywhere;flex:1}
.none{display:grid;place-content:center;flex:1;min-height:9rem;padding:1.25rem;font-size:.9rem;text-align:center;
color:var(--soft);overflow-wrap:anywhere;white-space:pre-wrap}
.text{padding:.8rem 1rem 1rem}
h2{font-size:1rem;line-height:1.4;margin:0;overflow-wrap:anywhere;white-space:pre-wrap}
.no{font-size:.8rem;color:var(--soft);margin:0;font-variant-numeric:tabular-nums}
.revised{font-size:.88rem;color:var(--soft);margin:.45rem 0 0;overflow-wrap:anywhere;white-space:pre-wrap}
details{font-size:.88rem;margin:.45rem 0 0;overflow-wrap:anywhere}
details p{margin:.35rem 0 0;white-space:pre-wrap}
summary{cursor:pointer;color:var(--link);width:fit-content}
.facts{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15rem 1rem;font-size:.85rem;
margin:.7rem 0 0;padding:.7rem 0 0;border-top:1px solid var(--line)}
details .facts{margin:.35rem 0 0;padding:0;border:0}
.facts dt{color:var(--soft);max-width:9rem;overflow-wrap:anywhere}
.facts dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.fault{background:var(--bad-mat);padding:1rem;overflow-wrap:anywhere;font-size:.92rem}
.fault strong{color:var(--bad)}
.fault p{margin:.3rem 0 0;white-space:pre-wrap}
code{font:.85em/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
footer{color:var(--soft);font-size:.85rem;padding-bottom:2.5rem}
@media print{:root{--page:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--mat:#fff;--link:#000;--bad:#8a1410;
--bad-mat:#fff}.skip{display:none}.grid{grid-template-columns:repeat(3,1fr);gap:.8rem}.dense{grid-template-columns:repeat(5,1fr)}
.grid>li{break-inside:avoid;content-visibility:visible}html{font-size:11px}}
""".replace("\n", "")

# The one style that the page's policy lets in, by its digest: no other that finds its way there has any effect.
SHEET_STYLE_SOURCE = f"'sha256-{base64.b64encode(hashlib.sha256(SHEET_STYLE.encode()).digest()).decode()}'"
