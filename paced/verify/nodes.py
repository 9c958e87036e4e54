"""The structure of an answer.

Nodes are tuples, the first item naming the kind.
Numbers: ``n`` (value, as written), ``v`` name, ``c`` constant (pi, e, i, inf), ``+`` and ``*`` (parts),
``^`` (base, exponent), ``f`` (name, arguments), ``pm`` (sign), ``based`` (digits, base).
Answers: ``list`` (items, joined by), ``set`` (items), ``seq`` (open, items, close), ``matrix`` (rows), ``cup`` (parts),
``minus`` (set, set), ``rel`` (sides and signs in turn), ``colon`` (parts, am or pm), ``unit`` (node, unit),
``text`` (words).
"""

from fractions import Fraction
from typing import Any

from paced.verify.notation import Unreadable

Node = tuple[Any, ...]

WORDY = '"'  # begins a name that is words: \text{Length} = 5
PLAIN_EXPRESSIONS = ("n", "v", "c", "+", "*", "^", "f")
EXPRESSIONS = ("n", "v", "c", "+", "*", "^", "f", "pm", "unit", "based")


def number(text: str, exponent: int = 0) -> Node:
    digits = text.replace(",", "").rstrip(".")
    value = Fraction(digits if not digits.startswith(".") else "0" + digits)
    written = digits + (f"e{exponent}" if exponent else "")
    return ("n", value * Fraction(10) ** exponent, written if "." in digits or exponent else "")


def letter(name: str) -> Node:
    return ("c", name) if name in ("e", "i") else ("v", name)


def signed(sign: str | None, node: Node) -> Node:
    if sign in (None, "+"):
        return node
    if sign == "-":
        if node[0] == "n":
            return ("n", -node[1], "-" + node[2] if node[2] else "")
        if node[0] == "unit":
            return ("unit", signed(sign, node[1]), node[2])
        if node[0] == "based":
            return ("based", "-" + node[1], node[2])
        return product([("n", Fraction(-1), ""), node])
    return product([("pm", 1 if sign == r"\pm" else -1), node])


def transposed(node: Node) -> Node:
    """Of a matrix; a vector is the same written as a row."""
    if node[0] == "matrix":
        return ("matrix", tuple(zip(*node[1], strict=True)))
    return ("seq", "(", node[2], ")")


def product(parts: list[Node]) -> Node:
    """A product; scalars go into a matrix, units stay outside."""
    measures = [p[2] for p in parts if p[0] == "unit"]
    parts = [p[1] if p[0] == "unit" else p for p in parts]
    arrays = [p for p in parts if p[0] in ("matrix", "seq")]
    if len(arrays) > 1 or any(p[0] not in (*EXPRESSIONS, "matrix", "seq") for p in parts) or len(measures) > 1:
        raise Unreadable("a product of what are no numbers")
    if arrays:
        scale = [p for p in parts if p is not arrays[0]]
        if arrays[0][0] == "seq":
            opened, items, closed = arrays[0][1:]
            if (opened, closed) != ("(", ")"):
                raise Unreadable("a product with an interval")
            return ("seq", opened, tuple(product([*scale, x]) for x in items), closed)
        return ("matrix", tuple(tuple(product([*scale, x]) for x in row) for row in arrays[0][1]))
    node = ("*", tuple(parts))
    return ("unit", node, measures[0]) if measures else node


def spoken(node: Any) -> str:
    """A structure as a person reads it."""
    if not isinstance(node, tuple):
        return str(node)
    match node[:1]:
        case ("n",):
            return str(node[1])
        case ("v",) | ("c",):
            return str(node[1])
        case ("text",):
            return f"words {node[1]!r}"
        case ("+",):
            return "(" + " + ".join(spoken(p) for p in node[1]) + ")"
        case ("*",):
            return " * ".join(spoken(p) for p in node[1])
        case ("^",):
            return f"{spoken(node[1])}^{spoken(node[2])}"
        case ("unit",):
            return f"{spoken(node[1])} [{node[2].words or node[2].dimension}]"
        case ("list",):
            return "list " + ", ".join(spoken(p) for p in node[1])
        case ("set",):
            return "set {" + ", ".join(spoken(p) for p in node[1]) + "}"
        case ("seq",):
            return node[1] + ", ".join(spoken(p) for p in node[2]) + node[3]
        case ("based",):
            return f"{node[1]} in base {node[2]}"
        case _:
            return f"{node[0]}(" + ", ".join(spoken(p) for p in node[1:]) + ")"
