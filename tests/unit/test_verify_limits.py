"""The verifier: hostile answers, limits on time and memory, worker processes and their ends."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from paced.errors import VerifierError
from paced.verify import Sample, Verdict, Verifier
from paced.verify.verifier import mathematics
from paced.verify.workers import pool, worker

ROOT = Path(__file__).parents[2]


def graded(verifier: Verifier, response: str, gold: str) -> Verdict:
    return verifier.grade([Sample("math", response, gold)])[0]


MEGA = 1_000_000
HOSTILE = {
    "power tower": r"\boxed{9^{9^{9^{9}}}}",
    "factorials": r"\boxed{((100!)!)!}",
    "large factorial": r"\boxed{(10^9)!}",
    "huge exponent": r"\boxed{1.0000001^{10^{15}}}",
    "huge power": r"\boxed{(x+1)^{100000}}",
    "digits": "\\boxed{" + "9" * MEGA + "}",
    "digits of an answer": "The answer is " + "9" * MEGA,
    "digits to a power": "\\boxed{" + "9" * 900 + "^{" + "9" * 900 + "}}",
    "brackets": "\\boxed{" + "(" * 900 + "1" + ")" * 900 + "}",
    "fractions": "\\boxed{" + r"\frac{1}{" * 300 + "2" + "}" * 300 + "}",
    "roots": "\\boxed{" + r"\sqrt{1+" * 35 + "2" + "}" * 35 + "}",
    "root of many digits": r"\boxed{\sqrt[1000000]{" + "7" * 1000 + "}}",
    "sine of a large number": r"\boxed{\tan(10^{100})}",
    "code": "```python\nwhile True: pass\n```\n\\boxed{exec('while 1: pass')}",
    "import": "\\boxed{__import__('os').system('sleep 30')}",
    "NUL": "\x00" * MEGA,
    "NUL in a box": "\\boxed{1\x002}",
    "unbalanced": "\\boxed{}}}}}{{{{\\frac{",
    "boxes never closed": "\\boxed{" * (MEGA // 7),
    "boxes": "\\boxed{1}" * (MEGA // 9),
    "dollars": "$ $" * (MEGA // 3),
    "braces": "{" * MEGA,
    "backslashes": "\\" * MEGA,
    "spaces": "answer is" + " " * MEGA,
    "stars": "**Answer:" + "*" * MEGA,
    "hashes": "#### " * (MEGA // 5),
    "answers": "answer is " * (MEGA // 10),
    "an answer far away": "answer" + " a" * MEGA,
    "display marks": "\\[" * (MEGA // 2),
    "numbers": "1.2.3." * (MEGA // 6),
    "signs": "\\boxed{" + "-" * 1900 + "1}",
    "carets": "\\boxed{" + "2^" * 600 + "2}",
    "bars": "\\boxed{" + "|" * 1900 + "}",
    "exotic": "\\boxed{" + "\u202e\u200b\ufeff①Ⅷ²½" * 200 + "}",
    "surrogate": "\\boxed{\ud800}",
    "relations": "\\boxed{" + "x=" * 900 + "1}",
    "long list": "\\boxed{" + ",".join(rf"\sqrt{{{i}}}+1" for i in range(100)) + "}",
    "sum": r"\boxed{\sum_{k=1}^{10^{10}} \frac{1}{k}}",
    "limit": r"\boxed{\lim_{n\to\infty} n!^{n!^{n!}}}",
    "large polynomial": "\\boxed{" + "(x+y+1)" * 100 + "}",
}


@pytest.mark.slow
def test_hostile_answers(verifier: Verifier) -> None:
    """Each within two seconds of processor time, none accepted, the process alive and small afterwards."""
    import resource

    verifier.grade([Sample("math", r"\boxed{\frac{(2n)!}{n!n!}}", r"\binom{2n}{n}")])  # a worker is running
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of all children this process ever had
    slow: list[tuple[str, float]] = []
    for number, (name, response) in enumerate(HOSTILE.items()):
        [working] = verifier._pool._workers
        times = psutil.Process(working.process.pid).cpu_times
        used, theirs = time.process_time(), sum(times()[:4])
        verdict = graded(verifier, response, ("6", r"\frac{x}{2}+\sqrt{2}")[number % 2])
        assert verdict.outcome in ("wrong", "unknown"), (name, verdict)
        assert verdict.reason, name
        assert time.process_time() - used < 1, name
        if (seconds := sum(times()[:4]) - theirs) > 2:
            slow.append((name, seconds))
    assert not slow
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert after == before or after * (1 if sys.platform == "darwin" else 1024) < worker.MEMORY_BYTES
    assert graded(verifier, r"\boxed{\frac{(2n)!}{n!n!}}", r"\binom{2n}{n}").outcome == "correct"


def rules_of_a_worker(decided: str, cases: list[float], limits: str = "") -> list[str]:
    """What a worker says of cases that a stand-in decides."""
    program = (
        f"import sys, time; from paced.verify.workers import worker; {limits}\n"
        f"worker.decided = lambda case: {{'correct': True, 'rule': {decided}}}\n"
        f"sys.stdin = {list(map(str, cases))}; worker.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    return [json.loads(line)["rule"] for line in done.stdout.splitlines()[1:]]


def test_memory_is_limited() -> None:
    assert rules_of_a_worker("str(len(bytes(1 << 30)))", [0, 0]) == ["the verifier process died"] * 2


@pytest.mark.slow
def test_time_is_the_cases_own_and_not_that_of_a_busy_machine() -> None:
    used = "time.sleep(case) if case else sum(iter(int, 1))"  # waits so long; 0: works without end
    limits = "worker.CPU_SECONDS, worker.WALL_SECONDS = 0.3, 3"
    assert rules_of_a_worker(f"str({used})", [1, 0, 60], limits) == [
        "None", "took longer than 0.3 s of processor time", "took longer than 3 s"
    ]  # fmt: skip


UNDECIDED = Sample("math", r"\boxed{\frac{(2n)!}{n!n!}}", r"\binom{2n}{n}")


def test_no_worker_is_started_for_what_cheap_rules_decide() -> None:
    with Verifier(2) as verifier:
        assert verifier.grade([Sample("math", r"\boxed{\frac{2}{4}}", "0.5")] * 3)[0].outcome == "correct"
        assert not verifier._pool._workers


@pytest.mark.slow
def test_a_killed_worker_costs_one_verdict() -> None:
    with Verifier(1) as verifier:
        assert verifier.grade([UNDECIDED])[0].outcome == "correct"
        tower = Sample("math", r"\boxed{\sum_{k=1}^{10^{10}} k^{k^k}}", r"\sum_{k=1}^{10^{10}} k^{k^{k+1}}")
        first = verifier._pool._workers[0].process.pid
        killer = subprocess.Popen([sys.executable, "-c", f"import os, time; time.sleep(0.5); os.kill({first}, 9)"])
        verdicts = verifier.grade([tower, *[UNDECIDED] * 5])
        killer.wait()
        assert sum(v.outcome == "unknown" for v in verdicts) <= 1
        assert [v.outcome for v in verdicts[1:]].count("correct") >= 4
        pid = verifier._pool._workers[0].process.pid
        os.kill(pid, signal.SIGKILL)
        verifier._pool._workers[0].process.wait()
        assert [v.outcome for v in verifier.grade([UNDECIDED] * 3)] == ["correct"] * 3
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_no_process_is_left_when_the_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from paced.verify import Sample, Verifier; v = Verifier(1);"
        r"v.grade([Sample('math', r'\boxed{\frac{(2n)!}{n!n!}}', r'\binom{2n}{n}')]);"
        "pathlib.Path(sys.argv[1]).write_text(str(v._pool._workers[0].process.pid));"
        r"[v.grade([Sample('math', r'\boxed{9^{9^{9^{9}}}+x}', 'x+1')]) for _ in range(1000)]"
    )
    note = tmp_path / "pid"
    parent = subprocess.Popen([sys.executable, "-c", program, str(note)], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not (note.exists() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    pid = int(note.read_text())
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(pid)


def test_workers_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.sys, "executable", "/nowhere/python")
    with Verifier(1) as verifier, pytest.raises(VerifierError, match="no verifier process can be started"):
        verifier.grade([UNDECIDED])
    monkeypatch.setattr(pool.sys, "executable", "/bin/false")
    with Verifier(1) as verifier, pytest.raises(VerifierError, match="ended while it started"):
        verifier.grade([UNDECIDED])


PIECES = [
    *r"\frac \sqrt \boxed \text \begin{pmatrix} \end{pmatrix} \left( \right) { } ( ) [ ] | ^ _ = < , ; : ! ' %".split(),
    *r"$ & \\ \pm \cdot / - + . 5 0 12 5. .5 1e9 x i e π ² 个 ½ € \infty \bmod \pmod \cup \in \ldots \overline".split(),
    *r"\dot \max \log_ \sin \lfloor \rfloor \binom \circ minutes degrees C and or not Answer: #### <think>".split(),
    *("</think>", "٣", "noon", "at least", "the answer is", "# Answer\n", "\n\n", "<|im_end|>", "\ud800", "A.", "(B)"),
    *(r"\money{", "**"),
]


def test_no_answer_raises() -> None:
    """Random answers, golds and questions out of pieces that the grammar and the extraction look for."""
    draw = random.Random(20)

    def text() -> str:
        return draw.choice(["", " "]).join(draw.choices(PIECES, k=draw.randint(1, 12)))

    for _ in range(4_000):
        answer = text()
        gold = draw.choice([answer, text()])
        response = draw.choice([answer, f"\\boxed{{{answer}}}", f"The answer is {answer}.", f"So ${answer}$."])
        mathematics(Sample("math", response, gold, draw.choice(["", f"Find ${answer}$.", text()]), "stop"))


@pytest.mark.parametrize("answer", [r"0^{-1/2}", r"\frac 5. x", r"7\bmod{D2}", r"(x688.81)^{582}+\sqrt{(x+1)^{582}}"])
def test_answers_that_have_no_value_are_not_right(verifier: Verifier, answer: str) -> None:
    assert verifier.grade([Sample("math", rf"\boxed{{{answer}}}", "5")])[0].outcome != "correct"
