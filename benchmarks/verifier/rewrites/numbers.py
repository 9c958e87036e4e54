"""Whole numbers, fractions, decimals, roots, multiples of pi: one number, written in other ways."""

import re
from fractions import Fraction

from benchmarks.verifier.rewrites.base import Draw, Triple

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
