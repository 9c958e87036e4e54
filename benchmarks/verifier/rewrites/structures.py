"""Several parts in a frame: tuples, lists, intervals, matrices, equations of lines, polynomials."""

import re

from benchmarks.verifier.rewrites.base import Draw, Triple


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
