"""Text that attacks pages: whoever shows it as text is safe."""

ATTACKS = {
    "element": "<img src=x onerror=alert('element')>",
    "script": "\"><script>alert('script')</script>",
    "end": "</style></title></textarea></script><svg onload=alert('end')>",
    "attribute": "\" autofocus onfocus=alert('attribute') x='",
    "template": "{{constructor.constructor('alert(1)')()}} ${alert(1)} <%= alert(1) %> #{alert(1)} $page_token",
    "link": "javascript:alert('link')",
    "direction": "invoice \u202egnp.exe\u202c \u2066\u2067 \u200f",
    "control": "a\x00b\x1b[2J\x07\x08\u2028\u2029\ufeff",
    "surrogate": "half \ud83d of a pair",
    "combining": "Z" + "\u0301" * 200,
    "entity": "&lt;b&gt; &#60;script&#62;alert(1)&#60;/script&#62; &amp;",
    "property": "__proto__",
}
LONG = "W" * 100_000
