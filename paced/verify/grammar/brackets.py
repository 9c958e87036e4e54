"""What stands in brackets: sets, tuples, intervals, absolute values, matrices."""

from paced.verify.grammar.nodes import Bracketed, List, Matrix, Node, Set
from paced.verify.grammar.notation import Unreadable
from paced.verify.grammar.stream import Stream

_CLOSERS = {"(": ")", "[": "]", r"\{": r"\}", r"\langle": r"\rangle"}
_ENVIRONMENTS = ("pmatrix", "bmatrix", "matrix", "array", "Bmatrix", "smallmatrix")
_OPERATORS = ("+", "-", "*", r"\times", r"\cdot", "/")
_LONGEST_SUM = 12  # tokens in brackets that are looked at to see whether they are one number


class Brackets(Stream):
    """The part of the grammar that opens and closes."""

    def bars(self) -> Node:
        """The inside of ``|...|``, whose first bar has been taken."""
        self.brackets += 1
        inside = self.items(("|",))
        self.brackets -= 1
        self.expect("|")
        return inside

    def bracket(self, opened: str) -> Node:
        """A set, a tuple, an interval, or an expression in brackets; the bracket ``opened`` has been taken."""
        before, self.brackets = self.brackets, self.brackets + 1
        if opened == r"\{" and self.accept(r"\}"):
            self.brackets = before
            return Set(())
        closers = (_CLOSERS[opened],) if opened in (r"\{", r"\langle") else (")", "]")
        if self._one_number():
            self.brackets = 0
        inside = self.items(closers)
        self.brackets = before
        closed = self.accept(*closers)
        if closed is None:
            raise Unreadable(f"{opened!r} is not closed")
        match inside:
            case List(items, ","):
                several = True
            case _:
                several, items = False, (inside,)
        if opened == r"\{":
            return Set(items)
        if opened == r"\langle":
            return Bracketed("(", items, ")")
        if not several and (opened, closed) in (("(", ")"), ("[", "]")):
            return inside
        return Bracketed(opened, items, closed)

    def _one_number(self) -> bool:
        """Is what follows arithmetic, so that a comma in a number separates thousands: ``(1,000 + 5)``?"""
        ahead, computed = 0, False
        while (token := self.peek(ahead)).text not in (")", "]", "") and ahead < _LONGEST_SUM:
            computed = computed or (token.text in _OPERATORS and ahead > 0)
            if token.text in (",", "(", "["):
                return False
            ahead += 1
        return computed

    def matrix(self) -> Node:
        """A matrix, whose ``\\begin`` has been taken; an environment with one entry is a layout of that entry."""
        kind = self.plain_group()
        if kind not in _ENVIRONMENTS:
            raise Unreadable(f"environment {kind}")
        if kind == "array" and self.peek().text == "{":
            self.plain_group()
        before, self.brackets = self.brackets, 1
        rows = self._rows()
        self.brackets = before
        self.plain_group()
        if not rows or len({len(r) for r in rows}) != 1:
            raise Unreadable("rows of different length")
        if len(rows) == len(rows[0]) == 1:
            return rows[0][0]
        return Matrix(tuple(tuple(r) for r in rows))

    def _rows(self) -> list[list[Node]]:
        rows: list[list[Node]] = [[]]
        while not self.accept(r"\end"):
            if self.accept("&", r"\hline"):
                continue
            if self.accept("\\\\", r"\cr"):
                rows.append([])
                continue
            rows[-1].append(self.item())
        return [r for r in rows if r]
