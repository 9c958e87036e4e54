"""Names that may be chosen freely: indices of sums, constants of families of solutions, the order of named values."""

import re

from paced.verify.grammar.nodes import Bracketed, Constant, List, Node, Product, Relation, Variable, walk, with_children

_INDEX = re.compile(r"\\(?:sum|prod|bigcup|bigcap|int|lim)(?:\\limits)?_\{?([a-zA-Z])(?==|\\in|<|\\le|\\to|\\geq?|>)")
_LETTER = re.compile(r"\\[a-zA-Z]+|[a-zA-Z]")
# A letter that is said to stand for any constant or any whole number.
_DECLARED = re.compile(
    r"(?:constants?|integers?|real numbers?|numbers?)\s*\}?\s*\$?\s*([a-zA-Z])(?![a-zA-Z])"
    r"|(?<![a-zA-Z\\])([a-zA-Z])\s*\\in\s*\\(?:mathbb|mathbf|Bbb)\s*\{?\s*[RZNQC]"
    r"|(?<![a-zA-Z\\])\$?([a-zA-Z])\$?\s*(?:\\text\s*\{)?\s*(?:is|are|being)\s+(?:an?\s+)?(?:any\s+|arbitrary\s+)?"
    r"(?:real\s+)?(?:constants?|integers?|whole)"
)
_FOR_WHOLE_NUMBERS = set("klmnptz")


def with_index_of(answer: str, gold: str) -> str:
    """An answer, squeezed, with the index of its sum renamed to the gold's, if each has one and it is free there."""
    given, expected = set(_INDEX.findall(answer)), set(_INDEX.findall(gold))
    if len(given) != 1 or len(expected) != 1 or given == expected:
        return answer
    [old], [new] = given, expected
    if new in _LETTER.findall(answer):
        return answer
    return _LETTER.sub(lambda m: new if m[0] == old else m[0], answer)


def with_constant_of(a: Node, g: Node, answer: str, gold: str) -> Node:
    """An answer with its free constant renamed to the gold's: ``n pi`` is ``k pi``, ``cx`` is ``kx`` for any k.

    Both must say that the letter is free, or use it as whole multiples of pi.
    """
    old, new = _free_letter(a, answer), _free_letter(g, gold)
    if old is None or new is None or old == new or Variable(new) in set(walk(a)):
        return a

    def renamed(node: Node) -> Node:
        return Variable(new) if node == Variable(old) else with_children(node, renamed)

    return renamed(a)


def _free_letter(node: Node, text: str) -> str | None:
    declared = {next(filter(None, groups)) for groups in _DECLARED.findall(text)}
    if len(declared) == 1:
        return declared.pop()
    periodic = {
        factor.name
        for product in walk(node)
        if isinstance(product, Product) and any(Constant("pi") in set(walk(f)) for f in product.factors)
        for factor in product.factors
        if isinstance(factor, Variable) and factor.name in _FOR_WHOLE_NUMBERS
    }
    return periodic.pop() if len(periodic) == 1 else None


def without_declaration(node: Node) -> Node:
    """A list without items that only say of a letter that it is any number: ``f(x) = cx, c \\in R``."""
    if not isinstance(node, List):
        return node
    kept = tuple(
        i for i in node.items if not (isinstance(i, Relation) and i.signs == ("in",) and i is not node.items[0])
    )
    return kept[0] if len(kept) == 1 else List(kept, node.joined)


def with_named_values(node: Node) -> Node:
    """``(p, q) = (3, 2)`` as ``p = 3, q = 2``; and ``p = 5, q = 2; p = 7, q = 2`` as two pairs."""
    match node:
        case Relation((Bracketed(_, names), Bracketed(_, values)), ("=",)) if len(names) == len(values):
            if all(isinstance(n, Variable) for n in names):
                return List(tuple(Relation((n, v), ("=",)) for n, v in zip(names, values, strict=True)))
            return node
        case List(items):
            return _in_groups(items) or node
        case _:
            return node


def _in_groups(items: tuple[Node, ...]) -> Node | None:
    names = [i.sides[0] for i in items if isinstance(i, Relation) and i.signs == ("=",)]
    size = len(set(names))
    if len(names) != len(items) or not 1 < size < len(names) or len(names) % size:
        return None
    groups = [items[i : i + size] for i in range(0, len(items), size)]
    if any([i.sides[0] for i in group if isinstance(i, Relation)] != names[:size] for group in groups):
        return None
    values = [tuple(i.sides[-1] for i in group if isinstance(i, Relation)) for group in groups]
    return List(tuple(Bracketed("(", v, ")") for v in values))


def letters_apart(node: Node, other: Node) -> Node:
    """``ABD`` as A, B, D where the other side is a list of capital letters."""
    match node, other:
        case Variable(name), List(items) if len(name) == len(items) and name.isalpha() and name.isupper():
            single = all(isinstance(i, Variable) and len(i.name) == 1 and i.name.isupper() for i in items)
            return List(tuple(Variable(c) for c in name)) if single else node
        case _:
            return node
