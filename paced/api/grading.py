"""Does a response answer its problem? Imports no torch."""

from typing import Literal

from paced.verify import Sample, Verdict, Verifier

__all__ = ["Sample", "Verdict", "Verifier", "grade"]


def grade(
    response: str, gold: str, *, question: str = "", finish: Literal["", "stop", "length", "error"] = ""
) -> Verdict:
    r"""Grade one response of a mathematics problem against its gold answer.

    docs/verifier.md states what counts as equal. For many responses, ``with Verifier() as v: v.grade(samples)`` is
    faster: hard comparisons need a worker process, which it starts once for all.

        >>> grade("So the answer is \\boxed{\\frac{1}{2}}.", "0.5").outcome
        'correct'

    Args:
        response: what the model wrote; its final answer is looked for.
        gold: the right answer, as mathematics or LaTeX.
        question: the problem's text, if known: it decides about choices and units that are asked for.
        finish: how the response ended, if known. ``length`` (cut off) is wrong, ``error`` is unknown.

    Returns:
        the verdict: ``outcome`` (correct, wrong or unknown), ``extracted`` (the text that was compared), ``reason``,
        ``seconds``. Unknown means that nobody could decide; do not count it as wrong.

    Raises:
        VerifierError: a worker process was needed and cannot start.
    """
    with Verifier(1) as verifier:
        return verifier.grade([Sample("", response, gold, question, finish)])[0]
