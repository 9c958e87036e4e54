"""Numbers with a unit or a notation of their own, and words."""

import re

from benchmarks.verifier.rewrites.base import DAYS, Draw, Triple


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
