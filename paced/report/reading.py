"""The page of samples in the report: problems with answers, as HTML without scripts or outside assets."""

from collections.abc import Sequence
from html import escape

from paced.report.examples import Example, ReadResponse
from paced.report.tables import percent

LONGEST = 2000  # characters of a text that are shown
READ = (
    "Training problems of the first seed and the last arm, from those the student never solves to those it always "
    "does: the teacher's answer, and the student's own before and after training. A problem of weight 0 has no answer "
    "of the teacher, and an arm without stage 2 draws no responses to training problems after it is trained."
)
TONES = {"correct": "good", "wrong": "bad"}


def reading(found: Sequence[Example]) -> str:
    """The section, "" without examples; the first problem is open."""
    if not found:
        return ""
    problems = "\n".join(problem(example, opened=not number) for number, example in enumerate(found))
    return f'<h2>Samples</h2><p class="read">{escape(READ)}</p>\n{problems}'


def problem(example: Example, opened: bool) -> str:
    first = example.question.strip().partition("\n")[0]
    line = f"pass rate {percent(example.pass_rate)}%, weight {example.weight:.3g}: {cut(first, 90)}"
    blocks = [text("question", example.question), text("gold", example.gold)]
    for title, answers in (("teacher", example.teacher), ("before", example.before), ("after", example.after)):
        blocks += [response(title, answer) for answer in answers]
    return (
        f"<details class=\"sample\"{' open' if opened else ''}><summary>{escape(line)}</summary>"
        f'<dl>{"".join(blocks)}</dl></details>'
    )


def text(title: str, content: str) -> str:
    return f"<dt>{title}</dt><dd>{escape(cut(content, LONGEST))}</dd>"


def response(title: str, answer: ReadResponse) -> str:
    verdict = f'<span class="{TONES.get(answer.verdict, "soft")}">{escape(answer.verdict)}</span>'
    short = ", cut off" if answer.cut else ""
    return f"<dt>{title}<br>{verdict}{short}</dt><dd>{escape(cut(answer.text, LONGEST))}</dd>"


def cut(content: str, longest: int) -> str:
    """A text, or its beginning and how much of it is left out."""
    left = len(content) - longest
    return content if left <= 0 else f"{content[:longest]} ... ({left:,} more characters)"
