"""What stands in brackets: sets, tuples, intervals, absolute values, matrices."""

from paced.verify.nodes import Node
from paced.verify.notation import Unreadable
from paced.verify.stream import Stream

_CLOSERS = {"(": ")", "[": "]", r"\{": r"\}", r"\langle": r"\rangle"}


class Brackets(Stream):
    """The part of the grammar that opens and closes."""

    def bars(self) -> Node:
        self.brackets += 1
        inside = self.items(("|",))
        self.brackets -= 1
        self.expect("|")
        return inside

    def bracket(self, opened: str) -> Node:
        before, self.brackets = self.brackets, self.brackets + 1
        if opened == r"\{" and self.accept(r"\}"):
            self.brackets = before
            return ("set", ())
        closers = (_CLOSERS[opened],) if opened in (r"\{", r"\langle") else (")", "]")
        if self._one_number():
            self.brackets = 0
        inside = self.items(closers)
        self.brackets = before
        closed = self.accept(*closers)
        if closed is None:
            raise Unreadable(f"{opened!r} is not closed")
        several = inside[0] == "list" and inside[2] == ","
        parts = inside[1] if several else (inside,)
        if opened == r"\{":
            return ("set", parts)
        if opened == r"\langle":
            return ("seq", "(", parts, ")")
        if not several and (opened, closed) in (("(", ")"), ("[", "]")):
            return inside
        return ("seq", opened, parts, closed)

    def _one_number(self) -> bool:
        """Is what follows arithmetic, so that a comma in a number parts thousands: ``(1,000 + 5)``?"""
        ahead, seen = 0, False
        while (token := self.peek(ahead)).text not in (")", "]", "") and ahead < 12:
            seen = seen or (token.text in ("+", "-", "*", r"\times", r"\cdot", "/") and ahead > 0)
            if token.text in (",", "(", "["):
                return False
            ahead += 1
        return seen

    def matrix(self) -> Node:
        kind = self.plain_group()
        if kind not in ("pmatrix", "bmatrix", "matrix", "array", "Bmatrix", "smallmatrix"):
            raise Unreadable(f"environment {kind}")
        if kind == "array" and self.peek().text == "{":
            self.plain_group()
        rows: list[list[Node]] = [[]]
        before, self.brackets = self.brackets, 1
        while not self.accept(r"\end"):
            if self.accept("&"):
                continue
            if self.accept("\\\\", r"\cr"):
                rows.append([])
                continue
            if self.accept(r"\hline"):
                continue
            rows[-1].append(self.item())
        self.brackets = before
        self.plain_group()
        rows = [r for r in rows if r]
        if not rows or len({len(r) for r in rows}) != 1:
            raise Unreadable("rows of different length")
        if len(rows) == len(rows[0]) == 1:  # a layout, no matrix
            return rows[0][0]
        return ("matrix", tuple(tuple(r) for r in rows))
