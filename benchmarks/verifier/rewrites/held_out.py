"""Held out: no rule of the verifier was changed because of these categories."""

from math import comb, factorial

from benchmarks.verifier.rewrites.base import Draw, Triple


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
