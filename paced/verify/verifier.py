"""The verifier: it finds a response's answer, compares it with the gold answer, and says what came of it.

Most answers are decided in the calling process, by exact and bounded arithmetic; the rest by worker processes with
limits on time and memory, started when the first such answer comes.
"""

import re
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple, Self

from paced.config.catalog import VerifierRecord, resolved
from paced.config.extensions import find, source
from paced.tiny.world import working
from paced.verify.extraction.choices import listed
from paced.verify.extraction.extract import NoAnswer, extract
from paced.verify.extraction.golds import plain_gold
from paced.verify.grammar.nodes import Number, Text
from paced.verify.grammar.notation import LONGEST
from paced.verify.grammar.parse import read
from paced.verify.references import own_number
from paced.verify.rules.asked import no_answer, rounded_as_asked, with_asked_unit, with_asked_value
from paced.verify.rules.decision import Decision, Undecided
from paced.verify.rules.equality import BoundedEngine
from paced.verify.rules.judge import Case, judge
from paced.verify.workers.pool import Graded, Pool

Outcome = Literal["correct", "wrong", "unknown"]
_MOST_WORDS = 4  # of a gold answer that is no mathematics
_STEM = 5  # characters of a word that are looked for
_SAID = "The answer is ${}$."  # as a model would say it


class Sample(NamedTuple):
    """A response to grade, of a problem from ``source``; ``finish`` is empty where nobody knows how it ended.

    ``verifier`` names what grades it; where it is empty, that is the source's own.
    """

    source: str
    response: str
    gold: str
    question: str = ""
    finish: str = ""
    verifier: str = ""


class Verdict(NamedTuple):
    """Does a response answer its problem, and how that was found.

    ``extracted`` is the part of the response that was compared, None when there was none; ``where`` says in words where
    it stands. ``reason`` names the rule that decided, ``worker`` says whether a worker process did, and ``seconds`` how
    long it took.
    """

    outcome: Outcome
    extracted: str | None
    reason: str = ""
    seconds: float = 0.0
    where: str = ""
    worker: bool = False


Provisional = tuple[Verdict, Case | Graded | None]
"""A verdict, and what a worker has to decide, if one has."""


def written_working(sample: Sample) -> Provisional:
    """The tiny world: the whole working must be right, because its last number alone can be guessed."""
    try:
        expected = working(sample.question)
    except ValueError:
        return Verdict("wrong", sample.response, "no prompt of this world"), None
    right = sample.response == expected == sample.gold
    return Verdict("correct" if right else "wrong", sample.response, "the whole working"), None


def mathematics(sample: Sample) -> Provisional:
    """Everything else: the response's final answer against the gold answer."""
    if not sample.gold.strip():
        return Verdict("wrong", None, "the gold answer is empty"), None
    found = extract(sample.response, sample.finish == "stop", sample.question)
    if isinstance(found, NoAnswer):
        return Verdict("wrong", None, found.reason), None
    verdict = Verdict("unknown", found.text[:LONGEST], where=found.where)
    gold = plain_gold(sample.gold)
    if len(found.parts) == 1:
        if fault := no_answer(found.text, gold, sample.question):
            return verdict._replace(outcome="wrong", reason=fault), None
        found = found._replace(parts=(rounded_as_asked(found.text, sample.question),))
        gold = with_asked_unit(gold, found.text, sample.question)
        gold = with_asked_value(gold, found.text, sample.question)
    case = Case(found.parts, gold, listed(sample.question))
    try:
        decision = judge(case, BoundedEngine())
    except Undecided:
        return verdict._replace(worker=True), case
    return verdict._replace(outcome=_outcome(decision), reason=decision.rule), None


def _outcome(decision: Decision | None) -> Outcome:
    return "unknown" if decision is None else "correct" if decision.correct else "wrong"


def verifier_of(sample: Sample) -> str:
    """The verifier that grades a sample: its own, or that of its source."""
    return sample.verifier or source(sample.source).verifier


class Verifier:
    """Grades samples in batches; a context manager, because it may hold worker processes."""

    def __init__(self, processes: int = 2):
        self._pool = Pool(processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    def grade(self, samples: Sequence[Sample]) -> list[Verdict]:
        """Verdicts in order.

        A sample that failed is unknown, never wrong (method section 1). One cut by the token limit is wrong: whatever
        stands in the middle of an unfinished response is not its answer.

        Raises:
            VerifierError: worker processes cannot start.
            ConfigError: there is no verifier of a sample's name.
        """
        verdicts: list[Verdict] = []
        cases: dict[int, Case | Graded] = {}
        for index, sample in enumerate(samples):
            began = time.perf_counter()
            verdict, case = _first_step(sample)
            if case:
                cases[index] = case
            verdicts.append(verdict._replace(seconds=time.perf_counter() - began))
        for index, judgement in zip(cases, self._pool.judge(list(cases.values())), strict=True):
            v = verdicts[index]
            verdicts[index] = v._replace(
                outcome=_outcome(judgement.decision), reason=judgement.reason, seconds=v.seconds + judgement.seconds
            )
        return verdicts

    def grade_golds(self, samples: Sequence[Sample]) -> list[Verdict]:
        """Grade gold answers as if they were responses: a gold its own verifier rejects would make all samples wrong.

        A sample's response is the reference solution, if there is one. A gold passes if it is accepted in each way that
        a model would write it, if it is no words that stand neither in question nor in solution, and if the solution's
        own answer, where that is a plain number, would be accepted too. One that only its very words would match is
        rejected.
        """
        statements = [_statements(sample) for sample in samples]
        graded = iter(self.grade([response for responses in statements for response in responses]))
        verdicts: list[Verdict] = []
        for sample, responses in zip(samples, statements, strict=True):
            found = [next(graded) for _ in responses]
            fault = _fault(sample)
            failed = next((v for v in found if v.outcome != "correct"), found[0])
            verdicts.append(Verdict("wrong", None, fault) if fault else failed)
        return verdicts


def _fault(sample: Sample) -> str | None:
    """Why no response could be graded against a gold answer, None if some could."""
    if verifier_of(sample) != "mathematics":
        return None
    node = read(plain_gold(sample.gold))
    if isinstance(node, Text) and not any(c.isalnum() for c in node.words):
        return "nothing to compare with"
    if source(sample.source).numbers and not isinstance(node, Number):
        return "no number"
    if isinstance(node, Text) and (len(node.words.split()) > _MOST_WORDS or "\\" in node.words or "=" in node.words):
        return "neither mathematics that can be read nor a few words"
    if isinstance(node, Text) and sample.response and not _said_in(node.words, f"{sample.question} {sample.response}"):
        return "words that stand neither in the question nor in the solution"
    return None


def _said_in(gold: str, text: str) -> bool:
    """Whether the words of a gold answer stand in a text, whatever their endings."""
    text = text.lower()
    return all(word[:_STEM] in text for word in re.findall(r"[^\W\d_]+", gold.lower()))


def _statements(sample: Sample) -> list[Sample]:
    """Responses that a gold answer must accept: itself, as a model would say it, and what its solution comes to."""
    responses = [gold_response(sample)]
    if verifier_of(sample) == "mathematics":
        responses.append(_SAID.format(plain_gold(sample.gold).strip().strip("$")))
        if own := own_number(sample.response, sample.question):
            responses.append(f"\\boxed{{{own}}}")
    return [sample._replace(response=response, finish="stop") for response in responses]


def gold_response(sample: Sample) -> str:
    """A response that states the gold answer."""
    gold = plain_gold(sample.gold) if verifier_of(sample) == "mathematics" else sample.gold
    return find("verifier", verifier_of(sample)).states.format(gold)


def _first_step(sample: Sample) -> Provisional:
    """What the calling process says of a sample."""
    if sample.finish == "error":
        return Verdict("unknown", None, "the sample failed"), None
    if sample.finish == "length":
        return Verdict("wrong", None, "cut by the token limit"), None
    name = verifier_of(sample)
    record: VerifierRecord = find("verifier", name)
    if record.in_process:
        try:
            return resolved(record.function)(sample)
        except Exception as error:  # what one answer can cost is one verdict, not the run
            return Verdict("unknown", None, f"{type(error).__name__} in the grammar or the rules"), None
    verdict = Verdict("unknown", sample.response[:LONGEST], where="the whole response", worker=True)
    return verdict, Graded(name, sample.response, sample.gold, sample.question)
