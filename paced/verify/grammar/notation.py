"""One spelling for the many ways an answer is written: unicode, LaTeX spacing, wrappers, thousands separators."""

import re
import unicodedata
from functools import lru_cache

LONGEST = 2_000  # characters of an answer; nobody's final answer is longer, and every step here is linear in it


class Unreadable(ValueError):
    """The text is no mathematical answer that the grammar covers."""


_SUPER = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ⁽⁾ˣ", "0123456789+-n()x", strict=True))
_SUB = dict(zip("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n", strict=True))
_SYMBOLS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ",
    "∙": r"\cdot ", "•": r"\cdot ", "÷": "/", "⁄": "/", "∕": "/", "√": r"\surd ", "∛": r"\cbrt ",
    "π": r"\pi ", "∞": r"\infty ", "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ",
    "≈": r"\approx ", "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ",
    "°": r"^\circ ", "º": r"^\circ ", "ℝ": r"\mathbb{R}", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ",
    "⌉": r"\rceil ", "⟨": r"\langle ", "⟩": r"\rangle ", "…": r"\ldots ",
    "⇒": r"\implies ", "⟹": r"\implies ", "∴": r"\therefore ", "⇔": r"\iff ",
    "′": "'", "∠": r"\angle ",
    "“": '"', "”": '"', "‘": "'", "’": "'", "，": ",", "。": ".", "、": ",", "；": ";", "：": ":",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\epsilon ", "θ": r"\theta ",
    "λ": r"\lambda ", "μ": r"\mu ", "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\phi ", "ω": r"\omega ",
    "¢": r"\text{ cents}", "Δ": r"\Delta ", "Ω": r"\Omega ", "∣": "|",
}  # fmt: skip
_VULGAR = {c: tuple(unicodedata.normalize("NFKC", c).split("⁄")) for c in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒"}
_TABLE = str.maketrans(_SYMBOLS | {c: rf"\frac{{{a}}}{{{b}}}" for c, (a, b) in _VULGAR.items()})
_SCRIPTS = re.compile(f"[{''.join(_SUPER)}]+|[{''.join(_SUB)}]+")

_SPACES = re.compile(
    r"\\(?:displaystyle|textstyle|limits|nolimits|qquad|quad|enspace|thinspace|left|right|[Bb]igg?[lrm]?|middle)"
    r"(?![a-zA-Z])\.?|(?<!\\)\\[,;:!># ]|~|\\phantom(?=\s*[^\s{])|\\(?:hspace|vspace|phantom|hphantom)\{[^{}]{0,40}\}"
)
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,?\s?\\!\s?,?\s?|\\[,;: ]\s?|~|,\\[,;: ]\s?)(?=\d{3}(?!\d))")
_GROUPS = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d,]|\s?/)")
_RENAMED = re.compile(
    r"\\(?:[dtc]frac|[dt]binom|leq(?:slant|q)?|geq(?:slant|q)?|lt|gt|neq|lbrace|rbrace|lbrack|rbrack|lvert|rvert|vert|mid"
    r"|varnothing|colon|ast|bigcup|union|land|wedge|lor|vee|degree|textdegree|textdollar|dots|cdots|varphi"
    r"|varepsilon|thickspace)(?![a-zA-Z])"
)
_NAMES = {
    "dfrac": r"\frac", "tfrac": r"\frac", "cfrac": r"\frac", "dbinom": r"\binom", "tbinom": r"\binom", "lt": "<",
    "gt": ">", "neq": r"\ne", "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]", "lvert": "|",
    "rvert": "|", "vert": "|", "mid": "|", "varnothing": r"\emptyset", "colon": ":", "ast": "*", "bigcup": r"\cup",
    "union": r"\cup", "land": ",", "wedge": ",", "lor": ",", "vee": ",", "degree": r"^\circ", "textdegree": r"^\circ",
    "textdollar": r"\$", "dots": r"\ldots", "cdots": r"\ldots", "varphi": r"\phi", "varepsilon": r"\epsilon",
}  # fmt: skip
# Pairs that may stand around a whole answer.
_WRAPPERS = (
    ("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("__", "__"), ("```", "```"), ("`", "`"),
    ("*", "*"), ('"', '"'), ("<answer>", "</answer>"),
)  # fmt: skip
_BOXES = re.compile(r"\\(?:boxed|fbox|framebox|mbox|text|textbf|mathbf|mathrm|textrm|bf|rm|boldsymbol|bm)\s*(?=\{)")
_ALIGNED = re.compile(r"\\(?:begin|end)\s*\{(?:align(?:ed|\*)?|gathered|split|equation\*?)\}")
_HALF = re.compile(r"(?i)(?<=[\d\s{])([ap])\.?\s?m\.?(?![a-z])")
# What may follow an answer without being part of it: "for all x", "where C is a constant", "(ways)".
_REMARK = re.compile(
    r"(?<=\S)[,;\s]*(?:\\q?quad\s*)?(?:\\(?:text|mbox|textrm|mathrm)\s*\{[\s,(]*"
    r"(?:for (?:all|every|any|each|some)|where)\b.*|(?:\\q?quad\s*)?\\forall\b.*|\\text\s*\{\s*\([a-z ]{2,30}\)\s*\})$",
    re.DOTALL,
)
_OVER = re.compile(r"\{([^{}]*)\\(over|choose)(?![a-zA-Z])([^{}]*)\}")
_BASE = re.compile(r"^\(?(\w+)\)?\s*(?:\\text\s*\{\s*\(?(?:in )?base[ -]?(\w+)\)?\s*\}|_\{?(\d+)\}?)$")
# {x | x < 5}: the condition.
_BUILDER = re.compile(
    r"(?:\\left)?\\\{\s*[a-z]\s*(?:\\in\s*\\(?:mathbb|mathbf)\{?\s*R\}?\s*)?"
    r"(?::|\||\\mid|\\vert|\\colon|\\text\{\s*:\s*\})\s*(.*?)(?:\\right)?\\\}"
)
_ROW_HEIGHT = re.compile(r"(?<=\\\\)\s*\[\s*-?[\d.]+\s*(?:pt|em|ex|mm|cm|mu)\s*\]")
_LEADS_TO = re.compile(r"\\(?:implies|(?:Long)?(?:R|Leftr)ightarrow|Longleftrightarrow|iff|therefore)(?![a-zA-Z])")
_STATED = re.compile(r"[=<>]|\\(?:le|ge|in|text)(?![a-zA-Z])")
_LIBRARY = re.compile(r"(?<![\w.\\])(?:np|numpy|math|sympy|sp)\.(?=[a-z]{2})")
_MODULO = re.compile(
    r"\(?\s*(?:\\(?:pmod|bmod|mod)|\\(?:text|mathrm|operatorname)\s*\{\s*\(?mod(?:ulo)?\s*\}|\bmod(?:ulo)?\b)"
    r"(?:\s|\\ )*\{?(\d+)\}?\s*\)?$"
)
_POSITIVE = re.compile(r"\\mathbb\s*\{?R\}?\s*(?:[\^_]\{?\+\}?|_\{\s*>\s*0\s*\})")
# Derivatives: Newton's, Leibniz's and Lagrange's notation, of one letter by x or t.
_LETTER = r"(?:\\[a-zA-Z]+|[a-zA-Z])"
_DERIVATIVE = re.compile(
    rf"\\frac\s*\{{\s*d\s*(?P<leibniz>{_LETTER})\s*\}}\s*\{{\s*d\s*[xt]\s*\}}"
    rf"|\\frac\s*\{{\s*d\^\{{?2\}}?\s*(?P<twice>{_LETTER})\s*\}}\s*\{{\s*d\s*[xt]\s*\^\{{?2\}}?\s*\}}"
    rf"|(?<![a-zA-Z\\])d(?P<slashed>[a-zA-Z])\s?/\s?d[xt](?![a-zA-Z])"
    rf"|\\(?P<dots>d?dot)(?![a-zA-Z])\s*(?:\{{\s*(?P<newton>{_LETTER})\s*\}}|(?P<bare>{_LETTER}))"
)
_PRIMES = re.compile(r"\^\s*(?:\{\s*((?:\\prime\s*)+)\}|(\\prime)(?![a-zA-Z]))")
_HTML = re.compile(r"</?(?:b|i|u|em|strong|p|br|span|div|code|sub|center)\s*/?>")


def closing(text: str, start: int) -> int | None:
    """Where the brace opened at ``start`` closes, None if it never does."""
    depth, i = 0, start
    while i < len(text):
        c = text[i]
        if c == "\\":
            i += 2
            continue
        if c == "{":
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                return i
        i += 1
    return None


def _script(match: re.Match[str]) -> str:
    run = match[0]
    if run[0] in _SUPER:
        return "^{" + "".join(_SUPER[c] for c in run) + "}"
    return "_{" + "".join(_SUB[c] for c in run) + "}"


def plain_unicode(text: str) -> str:
    """Unicode mathematics as LaTeX: roots, powers, fractions, signs, Greek letters, full-width characters."""
    if text.isascii():
        return "".join(c if c.isprintable() else " " for c in text)
    text = _SCRIPTS.sub(_script, text).translate(_TABLE)
    text = unicodedata.normalize("NFKC", text).translate(_TABLE)
    return "".join(c if c.isprintable() else " " for c in text if unicodedata.category(c) != "Cf")


def unwrapped(text: str) -> str:
    """Without what stands around the whole answer: mathematics marks, bold, boxes, braces, a final stop."""
    while True:
        before = text
        text = text.strip().rstrip(".,;:?").strip()
        text = text.removesuffix("\\").rstrip() if text.endswith("\\") and not text.endswith("\\\\") else text
        for left, right in _WRAPPERS:
            inside = text[len(left) : -len(right)]
            if len(text) > len(left + right) and text.startswith(left) and text.endswith(right) and left not in inside:
                if right == "$" and inside.endswith("\\"):
                    continue
                text = inside
        box = _BOXES.match(text)
        opened = box.end() if box else 0
        if text[opened : opened + 1] == "{" and closing(text, opened) == len(text) - 1:
            text = text[opened + 1 : -1]
        if text == before:
            return text


def _renamed(match: re.Match[str]) -> str:
    name = match[0][1:]
    if name.startswith("leq"):
        return r"\le"
    if name.startswith("geq"):
        return r"\ge"
    return _NAMES.get(name, " ")


def _derivative(match: re.Match[str]) -> str:
    letter = next(match[k] for k in ("leibniz", "twice", "slashed", "newton", "bare") if match[k])
    return f" {letter}{chr(39) * (2 if match['twice'] or match['dots'] == 'ddot' else 1)} "


def _concluded(text: str) -> str:
    """What a chain of statements leads to; an arrow between what are no statements is left."""
    *before, last = _LEADS_TO.split(text)
    stated = bool(before) and (not before[-1].strip() or _STATED.search(before[-1]))
    return last if stated and last.strip() else text


@lru_cache(maxsize=4_096)  # an answer is looked at by several rules, and a gold answer by many samples
def tidy(text: str) -> str:
    """The one spelling of an answer.

    Raises:
        Unreadable: longer than any answer.
    """
    if len(text) > LONGEST:
        raise Unreadable(f"longer than {LONGEST} characters")
    text = _HTML.sub(" ", plain_unicode(text))
    text = re.sub(r"(?<=[\w)}])\*\*(?=[\w({-])", "^", text) if "**" in text else text  # Python's power
    text = _MODULO.sub(r"\\pmod{\1}", text) if "mod" in text else text
    text = _LIBRARY.sub("", text) if "." in text else text
    text = _ROW_HEIGHT.sub("", _concluded(text)) if "\\" in text else text
    text = _HALF.sub(r" \1m", text)
    text = _BASE.sub(lambda m: f"{m[1]}_{{{m[2] or m[3]}}}", text)
    text = _REMARK.sub("", text)
    text = _POSITIVE.sub(r"(0,\\infty)", text)
    if builder := _BUILDER.fullmatch(text.strip()):
        text = builder[1]
    if (aligned := _ALIGNED.sub(" ", text)) != text:
        text = unwrapped(aligned.replace("&", " "))
    text = _OVER.sub(lambda m: rf"\{'frac' if m[2] == 'over' else 'binom'}{{{m[1]}}}{{{m[3]}}}", text)
    text = _RENAMED.sub(_renamed, text)
    text = _PRIMES.sub(lambda m: "'" * m[0].count("prime"), _DERIVATIVE.sub(_derivative, text))
    text = _THOUSANDS.sub("", text)
    text = _SPACES.sub(" ", text)
    text = _GROUPS.sub(lambda m: m[0].replace(" ", ""), text)
    text = re.sub(r"(?<!\\)\$", " ", text).replace("**", " ") if "$" in text or "**" in text else text
    return unwrapped(" ".join(text.split()))
