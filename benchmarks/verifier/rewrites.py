"""Equivalent rewrites and near misses of gold answers, by category; each label is true by construction.

A rewriter gets a gold answer (already taken apart by a narrow pattern of its own, never by the verifier) and returns
(gold, answer, is it right) triples. Numbers are computed with Fraction and whole numbers here, not with paced.verify.
"""

import random
import re
from collections.abc import Callable
from fractions import Fraction
from math import comb, factorial

Triple = tuple[str, str, bool]
Draw = random.Random
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
SMALL = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def _digits(n: int, zero: str) -> str:
    return "".join(chr(ord(zero) + int(c)) if c.isdigit() else c for c in str(n))


def integers(gold: str, draw: Draw) -> list[Triple]:
    if not re.fullmatch(r"-?\d{1,9}", gold):
        return []
    n = int(gold)
    comma = f"{n:,}"
    right = [
        comma,
        comma.replace(",", "{,}"),
        comma.replace(",", r"\,"),
        comma.replace(",", r",\!"),
        f"{n}.0",
        f"{n}.00",
        rf"\frac{{{2 * n}}}{{2}}",
        rf"{n}\text{{ units}}",
        f"x = {n}",
        rf"\text{{{n}}}",
        rf"\mathbf{{{n}}}",
        rf"\boldsymbol{{{n}}}",
        _digits(n, "０"),
        f"{n}.",
        rf"{{{n}}}",
        rf"\displaystyle {n}",
        f"{n} ",
        rf"\left({n}\right)",
        rf"N = {n}",
        rf"{n - 7} + 7 = {n}",
        rf"3 \cdot {n} - 2 \cdot {n}",
        str(n).replace("-", "−"),
        rf"\mathrm{{{n}}}",
        f"n={n}",
    ]
    if 0 <= n <= 12:
        right += [SMALL[n], rf"\text{{{SMALL[n]}}}"]
    if n and n % 1000 == 0:
        zeros = len(str(n)) - len(str(n).rstrip("0"))
        head = str(n)[: -zeros or None]
        right += [
            rf"{head} \times 10^{{{zeros}}}",
            rf"{head} \cdot 10^{zeros}",
            f"{head}e{zeros}",
            f"{head}×10^{zeros}",
        ]
    wrong = [
        str(n + 1),
        str(n - 1),
        f"{n}.5",
        rf"\frac{{{n}}}{{3}}" if n else "3",
        f"{n}, {n + 1}",
        rf"{n} \text{{ or }} {n + 2}",
        f"{n}{n}" if n > 0 else "77",
        rf"\frac{{{2 * n + 1}}}{{2}}",
        rf"{n}\pi" if n else r"\pi",
        f"({n}, {n})",
        f"{n} + x",
        f"x > {n}",
        rf"{n}i" if n else "i",
        f"{n}.01",
        f"[{n}, {n + 5})",
        rf"\pm {n}" if n else r"\pm 1",
        f"{n} + 1",
        rf"{n} \pm 1",
        rf"\text{{not }} {n}",
        "",
        rf"\{{{n}, {n + 3}\}}",
    ]
    if n:
        wrong += [str(-n), f"{n}0", rf"\frac{{1}}{{{n + 1}}}", f"{n / 10:g}" if n % 10 else str(n // 10)]
    if abs(n) > 1:
        wrong += [f"{n}^2" if n > 0 else f"({n})^2", rf"\sqrt{{{abs(n)}}}"]
    text = str(abs(n))
    if len(text) > 2 and text[0] != text[1] and text[1] != "0":
        wrong.append(gold.replace(text, text[1] + text[0] + text[2:]))
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def fractions(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"(-?)\\d?t?frac\{?(\d+)\}?\{(\d+)\}", gold) or re.fullmatch(r"(-?)(\d+)/(\d+)", gold)
    if not match or not int(match[3]):
        return []
    sign, a, b = match[1], int(match[2]), int(match[3])
    k = draw.randint(2, 9)
    right = [
        rf"{sign}\dfrac{{{a}}}{{{b}}}",
        rf"{sign}\tfrac{{{a}}}{{{b}}}",
        f"{sign}{a}/{b}",
        rf"{sign}\frac{{{a * k}}}{{{b * k}}}",
        rf"\frac{{{sign}{a}}}{{{b}}}",
        rf"x = {sign}\frac{{{a}}}{{{b}}}",
        rf"{sign}\frac{{ {a} }}{{ {b} }}",
        rf"\left({sign}\frac{{{a}}}{{{b}}}\right)",
        rf"{sign}\frac{{{a}}}{{{b}}}\text{{ units}}",
        rf"{sign}{a} \div {b}",
        rf"{sign}{a} \cdot \frac{{1}}{{{b}}}",
        f"{sign}{a} / {b}",
    ]
    if a < 10 and b < 10:
        right += [rf"{sign}\frac{a}{b}", rf"{sign}\frac {a}{b}", rf"{sign}\frac{{{a}}}{b}"]
    if a > b and a % b:
        right += [rf"{sign}{a // b}\frac{{{a % b}}}{{{b}}}", f"{sign}{a // b} {a % b}/{b}"]
    if not 10**6 % b:
        exact = f"{a / b:.9f}".rstrip("0")
        right += [
            sign + exact,
            sign + exact + "0",
            sign + (exact.removeprefix("0") if exact.startswith("0.") else exact),
        ]
    else:
        right += [f"{sign}{a // b}.\\overline{{{_period(a, b)}}}"] if b in (3, 9, 11, 7, 99) and a % b else []
    wrong = [
        rf"{sign}\frac{{{a + 1}}}{{{b}}}",
        rf"{sign}\frac{{{a}}}{{{b + 1}}}",
        rf"{sign}\frac{{{a}}}{{{b}}}\pi",
        rf"\frac{{{a}}}{{{b}}}, \frac{{{a + 1}}}{{{b}}}",
        rf"{'' if sign else '-'}\frac{{{a}}}{{{b}}}",
        f"{sign}{a}" if b > 1 else "0.5",
        rf"{sign}\frac{{{a}}}{{{b}}} + 1",
        rf"\frac{{\sqrt{{{a + 1}}}}}{{{b}}}" if Fraction(a + 1) != a * a or sign else "0.3",
        f"({a}, {b})",
        rf"\frac{{{a}x}}{{{b}}}",
    ]
    if a != b:
        wrong.append(rf"{sign}\frac{{{b}}}{{{a}}}" if a else "1")
    if 10**6 % b:
        wrong += [f"{sign}{a / b:.2f}", f"{sign}{a / b:.3f}", f"{sign}{a / b:.5f}"]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def _period(a: int, b: int) -> str:
    """The repeating digits of a/b for b coprime to 10."""
    digits, rest, first = "", a % b, a % b
    while True:
        rest *= 10
        digits += str(rest // b)
        rest %= b
        if rest == first:
            return digits


def decimals(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"(-?)(\d*)\.(\d*[1-9])", gold)
    if not match or len((match[2] + match[3]).strip("0")) < 2:
        return []
    value = Fraction(gold)
    step = Fraction(1, 10 ** len(match[3]))
    closer = value + step * Fraction(draw.randint(-4, 4), 10)
    right = [
        gold + "0",
        rf"\frac{{{value.numerator}}}{{{value.denominator}}}",
        rf"x = {gold}",
        rf"{gold}\text{{ units}}",
        rf"\approx {gold}",
        _decimal(closer, len(match[3]) + 1),
    ]
    wrong = [
        _decimal(value + step, len(match[3])),
        _decimal(value - step * 2, len(match[3])),
        _decimal(value * 10, len(match[3])),
        _decimal(-value, len(match[3])),
        _decimal(value + step * Fraction(7, 10), len(match[3]) + 1),
        gold[:-1].rstrip("."),
    ]
    if not gold[:-1].strip("-0."):
        wrong.pop()
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def _decimal(value: Fraction, places: int) -> str:
    scaled = round(abs(value) * 10**places)
    text = str(scaled).rjust(places + 1, "0")
    return ("-" if value < 0 else "") + text[:-places] + "." + text[-places:]


def surds(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"(\d+)\s*\\sqrt\s*\{?(\d+)\}?", gold)
    if not match or re.search(r"sqrt\s*\d\d", gold):
        return []
    c, d = int(match[1]), int(match[2])
    root = round(d**0.5)
    right = [
        rf"\sqrt{{{c * c * d}}}",
        rf"{c}√{d}",
        rf"{c} \cdot \sqrt{{{d}}}",
        rf"\sqrt{{{d}}} \cdot {c}",
        rf"\frac{{{c * d}}}{{\sqrt{{{d}}}}}",
        rf"{c}\cdot {d}^{{1/2}}",
        rf"{c}*sqrt({d})",
        rf"{c}\sqrt{{{d}}}\text{{ cm}}",
        rf"x = {c}\sqrt{{{d}}}",
        rf"\frac{{{2 * c}\sqrt{{{d}}}}}{{2}}",
        rf"{c}√({d})",
    ]
    wrong = [
        rf"{c + 1}\sqrt{{{d}}}",
        rf"{c}\sqrt{{{d + 1}}}",
        rf"-{c}\sqrt{{{d}}}",
        rf"\sqrt{{{c * d}}}" if c > 1 else "7",
        rf"{c * d}" if d != 1 and d != root * root else "0",
        rf"{c}\sqrt[3]{{{d}}}" if d > 1 else "0",
    ]
    if root * root != d:
        wrong += [f"{c * d**0.5:.2f}", f"{c * d**0.5:.4f}"]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def multiples_of_pi(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"(\d+)\s*\\pi", gold)
    if not match:
        return []
    a = int(match[1])
    right = [
        rf"\pi \cdot {a}",
        f"{a}π",
        rf"\frac{{{3 * a}\pi}}{{3}}",
        rf"{a} \pi \text{{ square units}}",
        f"{a} * pi",
        rf"A = {a}\pi",
        rf"{a}\cdot\pi",
        f"{a} π",
    ]
    wrong = [
        f"{a}",
        rf"{a}\pi^2",
        f"{a * 3.14159:.2f}",
        rf"{a + 1}\pi",
        rf"\frac{{{a}}}{{\pi}}",
        rf"-{a}\pi",
        rf"{a}+\pi",
        rf"{a * 22}/7",
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def tuples(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"\((-?\d+),\s*(-?\d+)\)", gold)
    if not match:
        return []
    a, b = int(match[1]), int(match[2])
    right = [
        f"({a}, {b})",
        rf"\left( {a} , {b} \right)",
        f"({a}.0, {b})",
        f"x = {a}, y = {b}",
        rf"(x, y) = ({a}, {b})",
        rf"\left({a},\,{b}\right)",
        f"({a},{b})".replace("-", "−"),
        rf"\bigl({a}, {b}\bigr)",
        rf"\left(\frac{{{2 * a}}}{{2}}, {b}\right)",
    ]
    wrong = [
        f"({a}, {b + 1})",
        f"({a + 1}, {b})",
        f"({a})",
        f"({a}, {b}, 0)",
        f"{a}",
        f"[{a}, {b}]",
        f"[{a}, {b})",
        f"({a}, {b}), ({b}, {a + 1})",
        f"({-a - 1}, {b})",
    ]
    if a != b:
        wrong += [f"({b}, {a})", f"({b}, {a})", f"x = {b}, y = {a}"]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def lists(gold: str, draw: Draw) -> list[Triple]:
    parts = [p.strip() for p in gold.strip("$").split(",")]
    if (
        not 2 <= len(parts) <= 8
        or len(set(parts)) != len(parts)
        or not all(re.fullmatch(r"-?\d{1,2}", p) for p in parts)
    ):
        return []
    shuffled = parts[:]
    draw.shuffle(shuffled)
    right = [
        ", ".join(shuffled),
        r"\{" + ", ".join(shuffled) + r"\}",
        ", ".join(shuffled[:-1]) + r" \text{ and } " + shuffled[-1],
        r" \text{ or } ".join(f"x = {p}" for p in shuffled),
        "x = " + ", ".join(shuffled),
        "; ".join(shuffled),
        ", ".join(f"x={p}" for p in shuffled),
        " and ".join(shuffled),
        rf"x \in \{{{', '.join(shuffled)}\}}",
    ]
    extra = str(max(int(p) for p in parts) + 3)
    wrong = [
        ", ".join([*shuffled, extra]),
        ", ".join([*shuffled[1:], extra]),
        ", ".join(shuffled[1:]),
        shuffled[0],
        r"\{" + ", ".join(shuffled[1:]) + r"\}",
        str(sum(int(p) for p in parts) + 100),
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def intervals(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"([\[(])(-?\d+|-\\infty),\s*(-?\d+|\\infty)([\])])", gold)
    if not match or (match[1] + match[4] == "()" and "infty" not in gold):
        return []
    left, a, b, right_bracket = match.groups()
    low = "" if "infty" in a else f"{a} {'<=' if left == '[' else '<'} x"
    if low and "infty" in b:
        inequality = [rf"x {'≥' if left == '[' else '>'} {a}", rf"x {chr(92)}ge {a}" if left == "[" else f"x > {a}"]
    elif not low and "infty" not in b:
        inequality = [rf"x {chr(92)}leq {b}" if right_bracket == "]" else rf"x < {b}"]
    elif low:
        inequality = [
            rf"{a} {chr(92) + 'le' if left == '[' else '<'} x {chr(92) + 'leq' if right_bracket == ']' else '<'} {b}"
        ]
    else:
        inequality = [r"\mathbb{R}"]
    right = [
        *inequality,
        *inequality,
        rf"x \in {gold}",
        rf"\left{left}{a}, {b}\right{right_bracket}",
        gold.replace(r"\infty", "∞"),
        f"{left} {a} , {b} {right_bracket}",
    ]
    flipped = {"[": "(", "(": "[", "]": ")", ")": "]"}
    wrong = []
    if "infty" not in a:
        wrong += [f"{flipped[left]}{a},{b}{right_bracket}", f"{left}{int(a) + 1},{b}{right_bracket}", a]
    if "infty" not in b:
        wrong += [f"{left}{a},{b}{flipped[right_bracket]}", f"{left}{a},{int(b) + 1}{right_bracket}", b]
    if not wrong:
        return []
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def unions(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"\(-\\infty,\s*(-?\d+)\)\s*\\cup\s*\((-?\d+),\s*\\infty\)", gold)
    if not match:
        return []
    a, b = int(match[1]), int(match[2])
    right = [
        rf"(-\infty, {a}) \cup ({b}, \infty)",
        f"(-∞, {a}) ∪ ({b}, ∞)",
        rf"({b}, \infty) \cup (-\infty, {a})",
        rf"x < {a} \text{{ or }} x > {b}",
        rf"x \in (-\infty, {a}) \cup ({b}, +\infty)",
    ]
    wrong = [
        rf"(-\infty, {a}] \cup [{b}, \infty)",
        rf"(-\infty, {a})",
        rf"({b}, \infty)",
        rf"(-\infty, {a + 1}) \cup ({b + 1}, \infty)",
        f"x > {b}",
        r"(-\infty, \infty)",
    ]
    if a == b:
        right += [rf"x \neq {a}", rf"\mathbb{{R}} \setminus \{{{a}\}}"]
        wrong += [rf"x \neq {a + 1}"]
    else:
        wrong += [rf"x \neq {a}", f"({a}, {b})"]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def _rows(rows: list[list[str]], suffix: str = "") -> str:
    return r" \\ ".join(" & ".join(x + suffix for x in r) for r in rows)


def matrices(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"\s*\\begin\{pmatrix\}(.*)\\end\{pmatrix\}\s*", gold, re.DOTALL)
    rows = [[x.strip() for x in r.split("&")] for r in re.split(r"\\\\", match[1])] if match else []
    if not rows or not all(re.fullmatch(r"-?\d+", x) for r in rows for x in r):
        return []
    body = _rows(rows)
    tight = r"\\".join("&".join(r) for r in rows)
    right = [
        rf"\begin{{bmatrix}} {body} \end{{bmatrix}}",
        rf"\begin{{pmatrix}}{tight}\end{{pmatrix}}",
        rf"\left(\begin{{array}}{{{'c' * len(rows[0])}}} {body} \end{{array}}\right)",
        rf"\begin{{pmatrix}} {_rows(rows, '.0')} \end{{pmatrix}}",
        rf"A = \begin{{pmatrix}} {body} \end{{pmatrix}}",
    ]
    changed = [r[:] for r in rows]
    i, j = draw.randrange(len(rows)), draw.randrange(len(rows[0]))
    changed[i][j] = str(int(changed[i][j]) + draw.choice([-1, 1, 2]))
    wrong = [
        rf"\begin{{pmatrix}} {_rows(changed)} \end{{pmatrix}}",
        rows[0][0],
        rf"\begin{{pmatrix}} {body} \\ {' & '.join(rows[0])} \end{{pmatrix}}",
    ]
    if len(rows[0]) == 1:
        right += ["(" + ", ".join(r[0] for r in rows) + ")", r"\langle " + ", ".join(r[0] for r in rows) + r" \rangle"]
    transposed = [list(c) for c in zip(*rows, strict=True)]
    if len(rows) == len(rows[0]) and transposed != rows:
        wrong.append(rf"\begin{{pmatrix}} {_rows(transposed)} \end{{pmatrix}}")
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def lines(_: str, draw: Draw) -> list[Triple]:
    m, b, k = draw.choice([-5, -3, -2, 2, 3, 4, 7]), draw.choice([-9, -4, -1, 1, 5, 8]), draw.choice([2, 3, -1])
    gold = f"y = {m}x {b:+d}"
    right = [
        f"{m}x {b:+d} = y",
        f"y {-m:+d}x = {b}",
        f"{k}y = {k * m}x {k * b:+d}",
        f"{m}x - y {b:+d} = 0",
        f"f(x) = {m}x {b:+d}",
        f"{m}x {b:+d}",
        f"y={m}x{b:+d}",
    ]
    wrong = [
        f"y = {m}x {-b:+d}",
        f"y = {-m}x {b:+d}",
        f"y = {m + 1}x {b:+d}",
        f"x = {m}y {b:+d}",
        f"{m}x + y {b:+d} = 0",
        f"y = {m}x",
        f"y < {m}x {b:+d}",
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def polynomials(_: str, draw: Draw) -> list[Triple]:
    a, p, q = draw.choice([1, 1, 2, 3]), draw.randint(-9, 9), draw.randint(1, 9)
    c1, c0 = a * (p + q), a * p * q
    gold = f"{a if a > 1 else ''}x^2 {c1:+d}x {c0:+d}"
    lead = a if a > 1 else ""
    right = [
        f"{lead}(x {p:+d})(x {q:+d})",
        f"{lead}(x {q:+d})(x {p:+d})",
        f"{c0} {c1:+d}x {'+' + str(a)}x^2",
        f"{lead}x^{{2}} {c1:+d} x {c0:+d}",
        f"{lead}x² {c1:+d}x {c0:+d}",
        f"x({lead}x {c1:+d}) {c0:+d}",
        f"f(x) = {gold}",
        rf"\frac{{{2 * a}x^2 {2 * c1:+d}x {2 * c0:+d}}}{{2}}",
    ]
    wrong = [
        f"{lead}x^2 {c1 + 1:+d}x {c0:+d}",
        f"{lead}x^2 {c1:+d}x {c0 + 1:+d}",
        f"{a + 1}x^2 {c1:+d}x {c0:+d}",
        f"{lead}x^3 {c1:+d}x {c0:+d}",
        f"{lead}(x {p:+d})(x {q + 1:+d})",
        f"{lead}y^2 {c1:+d}y {c0:+d}",
        f"{a + c1 + c0}",
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def percents(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"(\d+)\s*\\%", gold)
    if not match:
        return []
    p = int(match[1])
    right = [f"{p}%", rf"{p}\%", str(p), rf"{p} \text{{ percent}}", rf"{p}\,\%", f"{p} percent", f"{p}.0\\%"]
    wrong = [f"{p + 1}%", rf"{p / 10:g}\%", str(p + 1), rf"{100 * p}\%", rf"-{p}\%", rf"{p}.5\%"]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def degrees(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"(\d+)\^\{?\\circ\}?", gold)
    if not match:
        return []
    d = int(match[1])
    right = [
        str(d),
        rf"{d}^\circ",
        rf"{d}^{{\circ}}",
        f"{d}°",
        rf"{d}\text{{ degrees}}",
        rf"{d} \degree",
        rf"\theta = {d}^\circ",
        f"{d} degrees",
        rf"\angle ABC = {d}^\circ",
    ]
    wrong = [
        rf"{d + 1}^\circ",
        rf"{180 - d if d != 90 else 45}^\circ",
        rf"{d}.5^\circ",
        rf"{d} \pi",
        rf"-{d}^\circ",
        rf"{d + 10}",
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def money(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"\\\$\s?(\d+)\.(\d\d)", gold)
    if not match:
        return []
    cents = int(match[1] + match[2])
    amount = f"{match[1]}.{match[2]}"
    right = [
        rf"\${amount}",
        f"${amount}",
        amount,
        rf"{amount} \text{{ dollars}}",
        f"{amount} dollars",
        f"{cents} cents",
        rf"\$ {amount}",
        rf"\text{{\${amount}}}",
        f"{amount} USD",
    ]
    wrong = [
        rf"\${(cents + 1) // 100}.{(cents + 1) % 100:02d}",
        f"{amount} cents",
        f"{cents}",
        rf"\${int(match[1]) + 1}.{match[2]}",
        f"-{amount}",
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def measured(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(
        r"(\d+)\\?,?\s*\\(?:text|mbox)\{\s*(cm|km|feet|miles|inches|hours|minutes|meters|pounds)\s*\}", gold
    )
    if not match:
        return []
    n, u = int(match[1]), match[2]
    long = {"cm": "centimeters", "km": "kilometers"}.get(u, u)
    short = {
        "feet": "ft",
        "inches": "in",
        "hours": "hr",
        "minutes": "min",
        "meters": "m",
        "pounds": "lb",
        "miles": "mi",
    }.get(u, u)
    other = {
        "cm": "m",
        "km": "m",
        "feet": "inches",
        "miles": "km",
        "inches": "feet",
        "hours": "minutes",
        "minutes": "hours",
        "meters": "cm",
        "pounds": "ounces",
    }[u]
    right = [
        str(n),
        rf"{n}\text{{ {long}}}",
        f"{n} {long}",
        rf"{n}\,\mathrm{{{short}}}",
        rf"{n}\text{{ {u}}}",
        rf"{n}~\text{{{short}}}",
        f"{n}.0 {u}",
        rf"{n} \mbox{{ {u}}}",
        rf"\text{{{n} {u}}}",
    ]
    wrong = [rf"{n}\text{{ {other}}}", rf"{n + 1}\text{{ {u}}}", f"{n * 10} {u}", str(n + 2), rf"{n}.5\text{{ {u}}}"]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def times(_: str, draw: Draw) -> list[Triple]:
    h, m, half = draw.randint(1, 11), draw.randint(10, 59), draw.choice("ap")
    other = "a" if half == "p" else "p"
    gold = draw.choice([rf"{h}\!:\!{m} \text{{ {half}.m.}}", rf"\text{{{h}:{m} {half}.m.}}", f"{h}:{m} {half}m"])
    right = [
        f"{h}:{m} {half}.m.",
        f"{h}:{m} {half.upper()}M",
        rf"{h}:{m} \text{{ {half}m}}",
        rf"\text{{{h}:{m} {half.upper()}M}}",
        f"{h}:{m}{half}m",
        f"{h + (12 if half == 'p' else 0)}:{m}",
        rf"{h}\!:\!{m}\text{{ {half}.m.}}",
    ]
    wrong = [
        f"{h}:{m} {other}m",
        rf"{h}:{m}\text{{ {other}.m.}}",
        f"{h}:{m - 1} {half}m",
        f"{h + 1}:{m} {half}m",
        f"{h}.{m}",
        f"{h}",
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def bases(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"(\d+)_\{?(\d+)\}?", gold)
    if not match or set(match[1]) == {"1"} or len(match[1]) < 2:
        return []
    digits, base = match[1], int(match[2])
    value = int(digits, base)
    right = [
        f"{digits}_{{{base}}}",
        f"{digits}_{base}" if base < 10 else f"{digits}_{{{base}}}",
        digits,
        rf"{digits}_{{\text{{{base}}}}}",
        rf"\text{{{digits}}}_{{{base}}}",
    ]
    wrong = [f"{digits}0_{{{base}}}", f"{digits}_{{{base + 1}}}", str(int(digits) + 1) + f"_{{{base}}}"]
    if base != 10:
        wrong += [str(value), f"{value}_{{10}}"]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def words(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"\\(?:text|mbox)\{([A-Z][a-z]{2,})\}", gold)
    if not match:
        return []
    w = match[1]
    others = [d for d in [*DAYS, "Evelyn", "Dana", "Navin", "August"] if d != w]
    right = [
        w,
        rf"\text{{{w}}}",
        rf"\textbf{{{w}}}",
        w.lower(),
        rf"\mathrm{{{w}}}",
        rf"\text{{ {w} }}",
        rf"\text{{{w}.}}",
    ]
    other = draw.choice(others)
    wrong = [other, rf"\text{{{other}}}", "1", rf"\text{{{w} and {other}}}", rf"\text{{not {w}}}", w[0]]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def letters(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"(?:\\text\{)?\(?([A-E])\)?\}?", gold)
    if not match:
        return []
    a = match[1]
    b = draw.choice([x for x in "ABCDE" if x != a])
    forms = [
        r"\text{{({0})}}",
        r"\textbf{{({0})}}",
        "({0})",
        "{0}",
        "{0}.",
        r"\text{{{0}}}",
        "({0}) 12",
        r"\textbf{{({0})}} 12",
        "{0}. 12",
        r"\mathrm{{({0})}}",
        r"\text{{({0}) }} 7",
        "{0})",
    ]
    return [(gold, draw.choice(forms).format(a), True), (gold, draw.choice([*forms, "{0}, " + a]).format(b), False)]


def plus_minus(_: str, draw: Draw) -> list[Triple]:
    a, b = draw.randint(1, 9), draw.choice([2, 3, 5, 6, 7])
    gold = rf"{a} \pm \sqrt{{{b}}}"
    right = [
        rf"{a} + \sqrt{{{b}}}, {a} - \sqrt{{{b}}}",
        rf"{a} - \sqrt{{{b}}} \text{{ and }} {a} + \sqrt{{{b}}}",
        f"{a} ± √{b}",
        rf"x = {a} \pm \sqrt{{{b}}}",
        rf"\{{{a}+\sqrt{{{b}}}, {a}-\sqrt{{{b}}}\}}",
        rf"\frac{{{2 * a} \pm 2\sqrt{{{b}}}}}{{2}}",
        rf"\frac{{{2 * a} \pm \sqrt{{{4 * b}}}}}{{2}}",
    ]
    wrong = [
        rf"{a} + \sqrt{{{b}}}",
        rf"{a} - \sqrt{{{b}}}",
        rf"{a + 1} \pm \sqrt{{{b}}}",
        rf"{a} \pm \sqrt{{{b + 6}}}",
        rf"-{a} \pm \sqrt{{{b}}}",
        rf"\pm \sqrt{{{b}}}",
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def scientific(gold: str, draw: Draw) -> list[Triple]:
    match = re.fullmatch(r"(\d)\.(\d+)e(-?\d+)", gold)
    if not match:
        return []
    m, e = f"{match[1]}.{match[2]}", int(match[3])
    right = [
        rf"{m} \times 10^{{{e}}}",
        f"{m}×10^{{{e}}}",
        rf"{m} \cdot 10^{{{e}}}",
        f"{m}e{e}",
        f"{m}E{e}",
        rf"{m}\times10^{{{e}}}\text{{ cm}}",
        f"{match[1]}{match[2]} \\times 10^{{{e - len(match[2])}}}",
        f"{m}*10^{{{e}}}",
    ]
    wrong = [
        rf"{m} \times 10^{{{e + 1}}}",
        rf"{m} \times 10^{{{-e if e else 5}}}",
        m,
        rf"{int(match[1]) + 1}.{match[2]} \times 10^{{{e}}}",
        rf"-{m} \times 10^{{{e}}}",
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def ratios(_: str, draw: Draw) -> list[Triple]:
    a, b = draw.choice([(1, 2), (3, 5), (2, 3), (5, 6), (1, 4), (3, 1)])
    gold = f"{a}:{b}"
    right = [
        f"{a}:{b}",
        f"{a} : {b}",
        rf"\frac{{{a}}}{{{b}}}",
        f"{2 * a}:{2 * b}",
        f"{a} to {b}",
        rf"{a} \text{{ to }} {b}",
        f"{a}/{b}",
    ]
    wrong = [f"{b}:{a}", f"{a + 1}:{b}", f"{a}:{b + 1}", f"{a + b}", rf"\frac{{{b}}}{{{a}}}", f"{a}:{b}:1"]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


# Held out: no rule of the verifier was changed because of these categories.


def complex_numbers(_: str, draw: Draw) -> list[Triple]:
    a, b = draw.randint(-9, 9), draw.choice([-7, -3, -2, 2, 4, 5])
    gold = f"{a} {b:+d}i"
    right = [
        f"{b}i {a:+d}",
        f"{a} {b:+d} i",
        rf"{a} {b:+d}\mathrm{{i}}",
        f"z = {a} {b:+d}i",
        rf"\frac{{{2 * a} {2 * b:+d}i}}{{2}}",
        f"i({b} {-a:+d}i)",
    ]
    wrong = [
        f"{a} {-b:+d}i",
        f"{a} {b + 1:+d}i",
        f"{a + 1} {b:+d}i",
        f"{a} {b:+d}",
        f"{b} {a:+d}i" if a != b else "0",
        f"{a}",
        rf"{a} \pm {abs(b)}i",
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def powers(_: str, draw: Draw) -> list[Triple]:
    b, e = draw.choice([2, 3, 5, 6]), draw.randint(3, 12)
    gold = str(b**e)
    right = [
        f"{b}^{{{e}}}",
        rf"{b} \cdot {b}^{{{e - 1}}}",
        f"{b**e:,}",
        f"{b}^{e}",
        rf"\sqrt{{{b}^{{{2 * e}}}}}",
        rf"{b}^{{{e + 2}}} / {b * b}",
        f"{b}**{e}",
    ]
    wrong = [
        f"{b}^{{{e + 1}}}",
        f"{b + 1}^{{{e}}}",
        rf"{b} \cdot {e}" if b * e != b**e else "3",
        f"{e}^{{{b}}}" if e**b != b**e else "3",
        rf"{b}^{{-{e}}}",
        rf"{b}^{{{e}}} - 1",
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def counting(_: str, draw: Draw) -> list[Triple]:
    n, k = draw.randint(5, 12), draw.randint(2, 4)
    gold = str(comb(n, k))
    right = [
        rf"\binom{{{n}}}{{{k}}}",
        rf"\dbinom{{{n}}}{{{k}}}",
        rf"\frac{{{n}!}}{{{k}! \cdot {n - k}!}}",
        rf"\frac{{{n}!}}{{{k}!{n - k}!}}",
        rf"\binom{{{n}}}{{{n - k}}}",
        rf"\binom{{{n}}}{{{k}}} = {gold}",
        rf"\frac{{{factorial(n)}}}{{{factorial(k) * factorial(n - k)}}}",
    ]
    wrong = [
        rf"\binom{{{n + 1}}}{{{k}}}",
        rf"\frac{{{n}!}}{{{n - k}!}}",
        rf"{k}!",
        rf"\binom{{{n}}}{{{k}}} - 1",
        rf"\frac{{{n}}}{{{k}}}",
        rf"\binom{{{n}}}{{{k}}} = {int(gold) + 1}",
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def logarithms(_: str, draw: Draw) -> list[Triple]:
    b, k = draw.choice([2, 3, 5]), draw.randint(2, 6)
    gold = draw.choice([str(k), rf"\log_{{{b}}} {b**k}"])
    right = [
        rf"\log_{{{b}}} {b**k}",
        rf"\log_{b}({b**k})",
        rf"\frac{{\ln {b**k}}}{{\ln {b}}}",
        str(k),
        rf"\frac{{\log {b**k}}}{{\log {b}}}",
        rf"{k}\log_{b} {b}",
    ]
    wrong = [rf"\log_{{{b}}} {b**k + 1}", rf"\ln {b**k}", str(k + 1), rf"\log_{{{b**k}}} {b}", rf"\log_{{{b}}} {k}"]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def trigonometry(_: str, draw: Draw) -> list[Triple]:
    gold, right, wrong = draw.choice(
        [
            (
                r"\frac{\sqrt{3}}{2}",
                [r"\sin 60^\circ", r"\cos\frac{\pi}{6}", r"\frac{3}{2\sqrt{3}}", r"\sin(\pi/3)"],
                [r"\sin 30^\circ", "0.866", r"\cos\frac{\pi}{3}", r"\frac{\sqrt{3}}{3}"],
            ),
            (
                r"\cos^2 x",
                [r"1-\sin^2 x", r"(\cos x)^2", r"\cos^{2}(x)", r"\frac{1+\cos 2x}{2}"],
                [r"\cos x^2", r"1+\sin^2 x", r"\sin^2 x", r"\cos 2x"],
            ),
            (
                r"\tan x",
                [r"\frac{\sin x}{\cos x}", r"\tan(x)", r"\frac{1}{\cot x}"],
                [r"\frac{\cos x}{\sin x}", r"\tan^2 x", r"-\tan x", r"\tan 2x"],
            ),
            (
                r"2 \sin x \cos x",
                [r"\sin 2x", r"\sin(2x)", r"2\cos x\sin x"],
                [r"\sin x \cos x", r"2 \sin x", r"\cos 2x", r"2\sin(x\cos x)"],
            ),
        ]
    )
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def expressions(_: str, draw: Draw) -> list[Triple]:
    gold, right, wrong = draw.choice(
        [
            (
                r"\frac{n(n+1)}{2}",
                [r"\frac{n^2+n}{2}", r"\binom{n+1}{2}", r"\frac12 n(n+1)", r"n(n+1)/2", r"\frac{n^2}{2}+\frac{n}{2}"],
                [r"\frac{n(n-1)}{2}", r"\binom{n}{2}", r"\frac{n^2+1}{2}", r"n(n+1)"],
            ),
            (
                r"2^{n}-n-1",
                [r"2^n - (n+1)", r"-n-1+2^n", r"2 \cdot 2^{n-1} - n - 1", r"2^n-1-n"],
                [r"2^{n-1}-n-1", r"2^n-n+1", r"n^2-n-1", r"2^n-n"],
            ),
            (
                r"\frac{1}{a+b}",
                [r"(a+b)^{-1}", r"\frac{1}{b+a}", r"\frac{a}{a^2+ab}", r"1/(a+b)"],
                [r"\frac1a+\frac1b", r"1/a+b", r"\frac{1}{a-b}", r"a+b"],
            ),
            (
                r"e^{2t}-e^{-t}",
                [r"\exp(2t)-\exp(-t)", r"e^{2t}-\frac{1}{e^{t}}", r"\frac{e^{3t}-1}{e^t}", r"-e^{-t}+e^{2t}"],
                [r"e^{2t}+e^{-t}", r"e^{2t}-e^{t}", r"e^{t}", r"2e^{t}-e^{-t}"],
            ),
            (
                r"\left\lfloor \frac{n}{2} \right\rfloor",
                [r"\lfloor n/2 \rfloor", r"\lfloor 0.5 n \rfloor", r"\lceil \frac{n-1}{2} \rceil"],
                [r"\lceil n/2 \rceil", r"\frac{n}{2}", r"\lfloor n/2 \rfloor + 1", r"\lfloor n/3 \rfloor"],
            ),
        ]
    )
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def circles(_: str, draw: Draw) -> list[Triple]:
    a, b, r = draw.choice([-4, -2, 1, 3, 5]), draw.choice([-3, -1, 2, 6]), draw.randint(2, 9)
    gold = f"(x {-a:+d})^2 + (y {-b:+d})^2 = {r * r}"
    c = a * a + b * b - r * r
    right = [
        f"x^2 + y^2 {-2 * a:+d}x {-2 * b:+d}y {c:+d} = 0",
        f"(y {-b:+d})^2 + (x {-a:+d})^2 = {r}^2",
        f"{r * r} = (x {-a:+d})^{{2}} + (y {-b:+d})^{{2}}",
        f"3(x {-a:+d})^2 + 3(y {-b:+d})^2 = {3 * r * r}",
        rf"\frac{{(x {-a:+d})^2}}{{{r * r}}} + \frac{{(y {-b:+d})^2}}{{{r * r}}} = 1",
    ]
    wrong = [
        f"(x {a:+d})^2 + (y {-b:+d})^2 = {r * r}",
        f"(x {-a:+d})^2 + (y {-b:+d})^2 = {r}",
        f"(x {-a:+d})^2 - (y {-b:+d})^2 = {r * r}",
        f"x^2 + y^2 {-2 * a:+d}x {-2 * b:+d}y {c + 1:+d} = 0",
        f"(x {-a:+d})^2 + (y {-b:+d})^2",
        str(r * r),
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def surd_pairs(_: str, draw: Draw) -> list[Triple]:
    a, b, d = draw.randint(1, 9), draw.randint(2, 5), draw.choice([2, 3, 5, 7])
    gold = rf"{a} + {b}\sqrt{{{d}}}, {a} - {b}\sqrt{{{d}}}"
    right = [
        rf"{a} \pm {b}\sqrt{{{d}}}",
        rf"{a} - \sqrt{{{b * b * d}}}, {a} + \sqrt{{{b * b * d}}}",
        rf"x = {a} - {b}\sqrt{{{d}}} \quad \text{{or}} \quad x = {a} + {b}\sqrt{{{d}}}",
        rf"\left\{{ {a} - {b}\sqrt{{{d}}}, {a} + {b}\sqrt{{{d}}} \right\}}",
        rf"\frac{{{2 * a} \pm \sqrt{{{4 * b * b * d}}}}}{{2}}",
    ]
    wrong = [
        rf"{a} + {b}\sqrt{{{d}}}",
        rf"{a} \pm {b + 1}\sqrt{{{d}}}",
        rf"({a} + {b}\sqrt{{{d}}})({a} - {b}\sqrt{{{d}}})",
        rf"{a} + {b}\sqrt{{{d}}}, {a} + {b}\sqrt{{{d}}}",
        rf"-{a} \pm {b}\sqrt{{{d}}}",
        f"{a + b * d**0.5:.3f}, {a - b * d**0.5:.3f}",
    ]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


def speeds(_: str, draw: Draw) -> list[Triple]:
    v = draw.randint(11, 99)
    gold = draw.choice([rf"{v}\text{{ miles per hour}}", str(v), rf"{v} \text{{ mph}}"])
    right = [
        rf"{v} \text{{ mph}}",
        f"{v} miles per hour",
        rf"{v}\,\text{{mi/h}}",
        rf"{v}\ \frac{{\text{{miles}}}}{{\text{{hour}}}}",
        str(v),
        rf"v = {v}",
        rf"{v} \text{{ miles}}/\text{{hour}}",
    ]
    wrong = [rf"{v + 1} \text{{ mph}}", f"{v * 60} miles per hour", f"-{v}", rf"{v}.5 \text{{ mph}}", f"{v} or {v + 5}"]
    return [(gold, draw.choice(right), True), (gold, draw.choice(wrong), False)]


CATEGORIES: dict[str, Callable[[str, Draw], list[Triple]]] = {
    "integers": integers,
    "fractions": fractions,
    "decimals": decimals,
    "surds": surds,
    "multiples of pi": multiples_of_pi,
    "tuples": tuples,
    "lists": lists,
    "intervals": intervals,
    "unions": unions,
    "matrices": matrices,
    "lines": lines,
    "polynomials": polynomials,
    "percents": percents,
    "degrees": degrees,
    "money": money,
    "measured": measured,
    "times": times,
    "bases": bases,
    "words": words,
    "letters": letters,
    "plus-minus": plus_minus,
    "scientific": scientific,
    "ratios": ratios,
}
HELD_OUT: dict[str, Callable[[str, Draw], list[Triple]]] = {
    "complex numbers": complex_numbers,
    "powers": powers,
    "counting": counting,
    "logarithms": logarithms,
    "trigonometry": trigonometry,
    "expressions": expressions,
    "circles": circles,
    "surd pairs": surd_pairs,
    "speeds": speeds,
}
