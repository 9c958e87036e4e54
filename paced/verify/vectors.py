"""Vectors and points as they are also written: by unit vectors, with a name."""

from fractions import Fraction

from paced.verify.nodes import Node
from paced.verify.units import Unit


def without_name(node: Node) -> Node:
    """``P(3, 4)`` as the pair."""
    if node[0] == "f" and len(node[1]) == 1 and node[1].isupper() and node[2][0] == "list":
        return ("seq", "(", node[2][1], ")")
    return node


def size_of(node: Node) -> int:
    return len(node[2]) if node[0] == "seq" else len(node[1])


def components(node: Node, size: int) -> Node | None:
    """The vector that ``2i - 3j + k`` writes with unit vectors, None for anything else."""
    units = [("c", "i"), ("v", "j"), ("v", "k")]
    hats = {("v", f"{mark}{letter}"): u for u in units for mark in ("hat", "vec", "widehat") for letter in u[1]}
    used: set[Node] = set()

    def at(n: Node, one: Node) -> Node:
        n = hats.get(n, n)
        if n in units:
            used.add(n)
            return ("n", Fraction(int(n == one)), "")
        return tuple(at(x, one) if isinstance(x, tuple) and not isinstance(x, Unit) else x for x in n)

    entries = tuple(at(node, one) for one in units[:size])
    return ("seq", "(", entries, ")") if len(used) > 1 and used <= set(units[:size]) else None
