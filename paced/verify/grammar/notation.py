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
    "€": r"\money{EUR}", "£": r"\money{GBP}", "₹": r"\money{INR}", "¥": r"\money{CNY}", "₩": r"\money{KRW}",
    "¢": r"\text{ cents}",
    "Δ": r"\Delta ", "Γ": r"\Gamma ", "Ω": r"\Omega ", "∣": "|",
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
    r"(?:\\left|\\[bB]igg?l?)?\\\{\s*[a-z]\s*(?:\\in\s*\\(?:mathbb|mathbf)\{?\s*R\}?\s*)?"
    r"(?::|\||\\mid|\\vert|\\colon|\\text\{\s*:\s*\})\s*(.*?)(?:\\right|\\[bB]igg?r?)?\\\}"
)
_ROW_HEIGHT = re.compile(r"(?<=\\\\)\s*\[\s*-?[\d.]+\s*(?:pt|em|ex|mm|cm|mu)\s*\]")
_LEADS_TO = re.compile(r"\\(?:implies|(?:Long)?(?:R|Leftr)ightarrow|Longleftrightarrow|iff|therefore)(?![a-zA-Z])")
_STATED = re.compile(r"[=<>]|\\(?:le|ge|in|text)(?![a-zA-Z])")
_LIBRARY = re.compile(r"(?<![\w.\\])(?:np|numpy|math|sympy|sp)\.(?=[a-z]{2})")
_MODULO = re.compile(
    r"(?P<operator>(?<=[\w)}\s])\s*(?:\\bmod|\bmod)(?:\s|\\ )*\{?(\d+)\}?\s*$)"
    r"|\(?\s*(?:\\(?:pmod|bmod|mod)|\\(?:text|mathrm|operatorname)\s*\{\s*\(?mod(?:ulo)?\s*\}|\bmod(?:ulo)?\b)"
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
# What stands beside or around an answer and says nothing: colours, sizes, labels, signs of an end.
_DECORATION = re.compile(
    r"\\(?:tag\*?|label|ref|footnote|textcolor|color)\s*\{[^{}]*\}"
    r"|\\(?:tiny|scriptsize|footnotesize|small|normalsize|large|Large|LARGE|huge|Huge|boldmath)(?![a-zA-Z])"
    r"|\\(?:square|blacksquare|Box|qed|qedsymbol|checkmark)(?![a-zA-Z])[\s}$]*$|(?:\\\\\s*)+$"
)
_SPACED_DIGITS = re.compile(
    r"\\(?:mathbf|mathrm|boldsymbol|bm|textbf|text)\s*\{\s*(-?)\s*(\d(?: [\d.])+)\s*\}"
)  # \mathbf{1 7}
# Combinations and arrangements: ^{10}C_3, {}_{10}C_{3}, C_{10}^3, \mathrm{C}_{10}^{3}.
_CHOOSE = re.compile(
    r"(?:\{\s*\})?[\^_]\s*\{?(\w+)\}?\s*(?:\\(?:mathrm|text|rm)\s*\{?\s*)?C\}?\s*_\s*\{?(\w+)\}?"
    r"|(?<![A-Za-z\\])(?:\\(?:mathrm|text|rm)\s*\{?\s*)?C\}?\s*_\s*\{?(\d+)\}?\s*\^\s*\{?(\d+)\}?"
)
_LONE = re.compile(r"\{([-+.])\}")  # {-}5, 9{.}5
_DOTTED = re.compile(r"(\d*\.\d*)\\dot\s*\{?(\d)\}?(?:(\d*)\\dot\s*\{?(\d)\}?)?")  # 0.1\dot{6}
_PERIOD = re.compile(r"(-?\d+\.\d*)\((\d{1,12})\)")  # 0.1(6)
_OPEN_ENDS = re.compile(r"([\[\]])([^\[\]()]+,[^\[\]()]+)([\[\]])")  # ]0,1[
_CASES = re.compile(r"\\begin\s*\{cases\}([^&]*?)\\end\s*\{cases\}")
_UNEQUAL = re.compile(r"(?<=\s)!=|(?<=(?<![A-Za-z])[a-hp-z])!=")
_PARTS = re.compile(r"\(?(?:([a-h])|(i{1,3}|iv))\)\s+")  # (a) 5 (b) 7
_LABEL = re.compile(
    r"\\text\s*\{\s*([A-Z][A-Za-z ']*):\s*\}\s*(?=[-\d$\\])"
    r"|(?:^|(?<=,\s))([A-Z][a-z]+):\s*(?=\$?-?[\d.]+(?:,\s|$))"
)
_MONEY = re.compile(r"(?<![A-Za-z{])(?:\\text\s*\{\s*)?(USD|US\\?\$|EUR|GBP|INR|JPY|CNY|RMB|KRW|Rs)\.?\s*\}?\s*(?=\d)")
_CHOICE_BEHIND = re.compile(r"(?<=[\d}])\s*\\text\s*\{\s*\([A-J]\)\s*\}$")
_REALS_WITHOUT = re.compile(
    r"(?:\\text\s*\{\s*)?all real (?:numbers|values)(?: of \$?[a-z]\$?)? (?:except|other than|besides)(?: for)?\s*\}?"
    r"(?: \$?[a-z]\$? = )?\s*(\S.*)",
    re.IGNORECASE,
)
_SIGN = re.compile(r"^(?:\\text\s*\{\s*)?(?:negative|minus)\s*\}?\s*(?=\\?[$\d]|\\frac|\\sqrt)", re.IGNORECASE)
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


def _without_decoration(text: str) -> str:
    """Without what says nothing, and with unusual spellings of numbers and sets written in the usual way."""
    if "\\" in text:
        text = _SPACED_DIGITS.sub(lambda m: m[1] + m[2].replace(" ", ""), _DECORATION.sub(" ", text))
        text = _DOTTED.sub(lambda m: rf"{m[1]}\overline{{{m[2]}{m[3] or ''}{m[4] or ''}}}", text)
        text = _CHOICE_BEHIND.sub("", text)
    if "C" in text and "_" in text:
        text = _CHOOSE.sub(lambda m: rf"\binom{{{m[1] or m[3]}}}{{{m[2] or m[4]}}}", text)
    if "cases" in text:
        text = _CASES.sub(lambda m: ", ".join(r for r in m[1].split("\\\\") if r.strip()), text)
    text = _LONE.sub(r"\1", text) if "{" in text else text
    if period := _PERIOD.fullmatch(text.strip(" $")):
        text = rf"{period[1]}\overline{{{period[2]}}}"
    if "[" in text and "]" in text:
        text = _OPEN_ENDS.sub(lambda m: f"{'(' if m[1] == ']' else '['}{m[2]}{')' if m[3] == '[' else ']'}", text)
    text = _UNEQUAL.sub(r"\\ne ", text) if "!=" in text else text
    text = text if text.isdigit() else _MONEY.sub(lambda m: rf"\money{{{m[1].replace(chr(92), '')}}} ", text)
    text = _LABEL.sub(lambda m: rf"\text{{{m[1] or m[2]}}}=", text) if ":" in text else text
    text = _SIGN.sub("-", text.strip())
    if without := _REALS_WITHOUT.fullmatch(text):
        text = rf"\mathbb{{R}}\setminus\{{{without[1].strip('$')}\}}"
    return _parts(text)


def _parts(text: str) -> str:
    """The answers to the parts of a question, ``(a) 5 (b) 7``, as a list."""
    marks = list(_PARTS.finditer(text)) if text.startswith(("(a)", "(i)", "a)", "i)")) else []
    letters = [m[1] or m[2] for m in marks]
    if len(marks) < 2 or letters not in (list("abcdefgh")[: len(marks)], ["i", "ii", "iii", "iv"][: len(marks)]):
        return text
    ends = [m.start() for m in marks[1:]] + [len(text)]
    return ", ".join(text[m.end() : end].strip(" ,;") for m, end in zip(marks, ends, strict=True))


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
    if "mod" in text:
        text = _MODULO.sub(lambda m: rf"\bmod{{{m[2]}}}" if m["operator"] else rf"\pmod{{{m[3]}}}", text)
    text = _without_decoration(text)
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
