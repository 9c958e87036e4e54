"""The verifier: rules by kind of answer, right and near miss; where an answer stands; limits; worker processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import need

from paced.errors import VerifierError
from paced.verify import Sample, Verdict, Verifier, pool, worker
from paced.verify.choices import label, listed
from paced.verify.extract import Found, extract

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def verifier() -> "object":
    with Verifier(1) as one:
        yield one


def graded(verifier: Verifier, response: str, gold: str, question: str = "") -> Verdict:
    return verifier.grade([Sample("math", response, gold, question)])[0]


# (gold, answers that are right, near misses)
ANSWERS: dict[str, tuple[str, list[str], list[str]]] = {
    "integer": (
        "1234",
        [
            "1,234",
            "1{,}234",
            r"1\,234",
            r"1,\!234",
            "1 234",
            "+1234",
            "1234.0",
            "01234",
            "１２３４",
            r"\text{1234}",
            "x = 1234",
            r"\frac{2468}{2}",
            r"1.234 \times 10^3",
            "1.234e3",
            r"1234\text{ apples}",
            r"1234^{\text{th}}",
            "2000 - 766 = 1234",
        ],
        [
            "1235",
            "-1234",
            "1234.5",
            "1,2,3,4",
            "12,34",
            "1234 or 1235",
            "12340",
            r"\pm 1234",
            r"1234\pi",
            r"1234^2",
            "x > 1234",
            r"\text{not } 1234",
            r"1234\text{ or more}",
            r"\text{at least } 1234",
            "",
            "1.234",
        ],
    ),
    "fraction": (
        r"\frac{1}{3}",
        [
            r"\dfrac13",
            r"\tfrac{1}3",
            "1/3",
            r"\frac{-2}{-6}",
            "⅓",
            r"0.\overline{3}",
            r"1 \div 3",
            r"3^{-1}",
            r"x=\frac{1}{3}",
        ],
        ["0.33", "0.3333333333", r"\frac{3}{1}", r"-\frac13", r"33\%", "1,3", "(1,3)", r"\frac{1}{3}\pi"],
    ),
    "mixed number": (
        r"3\frac{1}{8}",
        ["25/8", "3 1/8", "3.125", "3⅛", r"\frac{25}{8}"],
        ["3/8", "3.12", "31/8", r"8\frac13"],
    ),
    "rounded": (
        "8.25",
        ["8.25", "8.246", r"2\sqrt{17}", r"\frac{33}{4}", "8.250", r"\approx 8.25"],
        ["8.2", "8.24", "8", "8.256", "82.5"],
    ),
    "exact with a point": ("27.0", ["27", "27.00", r"\frac{54}{2}"], ["27.04", "26.96", "28"]),
    "one digit": ("0.5", ["1/2", ".5", "0.50"], ["0.51", "0.46", "5"]),
    "leading zeros": ("025", ["25", "025", "25.0"], ["0.25", "52", "250"]),
    "root": (
        r"2\sqrt{3}",
        ["√12", "2√3", r"\sqrt3 \cdot 2", r"\frac{6}{\sqrt{3}}", "2*sqrt(3)"],
        ["3.46", r"3\sqrt2", r"\sqrt{6}", r"2\sqrt[3]{3}"],
    ),
    "nested root": (r"\frac{\sqrt{2+\sqrt{3}}}{2}", [r"\frac{\sqrt6+\sqrt2}{4}"], [r"\frac{\sqrt6-\sqrt2}{4}"]),
    "large": ("2^{2008}-2", [r"2(2^{2007}-1)", r"-2+4^{1004}"], ["2^{2008}", "2^{2007}-2", "2^{2008}-3"]),
    "tiny difference": (r"\frac{1}{2004!}", [r"\frac{2005}{2005!}"], [r"\frac{1}{2006!}", "0"]),
    "polynomial": ("x^2+3x+2", ["(x+1)(x+2)", "2+3x+x²", "f(x)=x^2+3x+2"], ["x^2+3x-2", "y^2+3y+2", "(x+1)(x+3)", "6"]),
    "expression": (r"\frac{n(n+1)}{2}", [r"\binom{n+1}{2}", r"\frac{n^2+n}{2}"], [r"\binom{n}{2}", "n(n+1)"]),
    "absolute value": ("|x|", [r"\sqrt{x^2}"], ["x", "-x"]),
    "complex": ("2-3i", ["-3i+2", r"\frac{13}{2+3i}"], ["2+3i", "2", "3-2i"]),
    "equation": (
        "y = 2x + 1",
        ["2x+1=y", "2x - y + 1 = 0", "2x+1", "4x - 2y = -2"],
        ["y = 2x - 1", "x = 2y + 1", "y > 2x + 1"],
    ),
    "value of a name": ("x = 5", ["5", "x=5", "5 = x"], ["y = 5", "x = 6", "x > 5"]),
    "chain": ("5", ["x = 2 + 3 = 5", "a + b = 5"], ["5 + 1 = 6", "x \\ne 5"]),
    "function": ("f(x)=2x", ["f(n) = 2n", "2x", "y = 2x"], ["f(x)=2", "g(x)=2x", "f(n)=2x+1"]),
    "plane": (r"x + y - z + 1 = 0", ["z = x + y + 1", "-2x - 2y + 2z = 2"], ["x + y - z - 1 = 0", "x + y + z + 1 = 0"]),
    "inequality": (r"k \ge 2", [r"[2, \infty)", r"2 \leq k", "k≥2"], ["k > 2", r"k \le 2", r"(2, \infty)", "2"]),
    "general inequality": (r"s^2 \le 8r^2", [r"8r^2 \geq s^2", r"2s^2 \le 16 r^2"], [r"s^2 \ge 8r^2", "s^2 < 8r^2"]),
    "interval": ("[2,12)", [r"2 \le x < 12", r"x \in [2, 12)"], ["(2,12)", "[2,12]", "[2,13)", "(2,12]"]),
    "union": (
        r"(-\infty,3)\cup(3,\infty)",
        [r"x \neq 3", r"(3,∞) ∪ (-∞,3)", r"\mathbb{R}\setminus\{3\}", r"x<3 \text{ or } x>3"],
        [r"(-\infty,3]\cup[3,\infty)", r"x \neq 2", r"\mathbb{R}", "x > 3"],
    ),
    "list": (
        "1, -2",
        ["-2, 1", r"\{1,-2\}", r"1 \text{ and } -2", r"x=1 \text{ or } x=-2", "x = -2, 1", "1; -2"],
        ["1", "1, 2", "1, -2, 3", "-1"],
    ),
    "several names": ("a=2, b=3", ["b=3, a=2", "(2,3)"], ["a=3, b=2", "a=2"]),
    "plus-minus": (
        r"1 \pm \sqrt{5}",
        [r"1-\sqrt5, 1+\sqrt5", "1±√5", r"\frac{2\pm\sqrt{20}}{2}"],
        [r"1+\sqrt{5}", r"\pm\sqrt5", r"5\pm 1"],
    ),
    "set": (r"\{4,5,7\}", [r"\{7,4,5\}", "4,5,7", r"\{4,5,7,7\}"], [r"\{4,5\}", "(4,5)", r"\{4,5,8\}"]),
    "pair": (
        "(2,-1)",
        [r"\left(2, -1\right)", "2, -1", "x=2, y=-1", "(x,y)=(2,-1)"],
        ["(-1,2)", "-1, 2", "[2,-1]", "(2,-1,0)", "2"],
    ),
    "pairs": ("(1,2),(3,4)", ["(3,4),(1,2)", r"\{(1,2),(3,4)\}"], ["(1,2)", "(2,1),(3,4)", "(1,2,3,4)"]),
    "large coordinates": ("(100,101)", ["(100, 101)"], ["100101", "(101,100)"]),
    "vector": (
        r"\begin{pmatrix} 6 \\ -17 \end{pmatrix}",
        ["(6,-17)", r"\begin{bmatrix}6\\-17\end{bmatrix}", r"\langle 6, -17\rangle"],
        [r"\begin{pmatrix} 6 & -17 \end{pmatrix}", "(-17,6)", "(6,17)"],
    ),
    "matrix": (
        r"\begin{pmatrix} 1/5 & 4/5 \\ 0 & 1 \end{pmatrix}",
        [r"\frac15\begin{bmatrix} 1 & 4 \\ 0 & 5 \end{bmatrix}"],
        [r"\begin{pmatrix} 1/5 & 0 \\ 4/5 & 1 \end{pmatrix}"],
    ),
    "percent": (r"10\%", ["10%", "10", "0.1", r"10\text{ percent}"], ["11%", r"0.1\%", "100", "1"]),
    "degrees": (r"336^\circ", ["336", "336°", r"336\text{ degrees}"], ["24", r"335^\circ"]),
    "radians": (r"\frac{\pi}{2}", [r"90^\circ"], ["90", r"45^\circ"]),
    "money": (r"\$0.50", ["$0.50", "0.5", "50 cents", r"0.50\text{ dollars}"], ["50", "0.05", "5 cents"]),
    "unit": (
        r"10\text{ cm}",
        ["10", "10 cm", r"10\,\mathrm{cm}", r"0.1\text{ m}", "100 mm"],
        [r"10\text{ m}", "11 cm", r"10\text{ cm}^2"],
    ),
    "unit in the answer": (
        "12",
        [r"12\text{ square units}", "12 dollars", r"12\text{ ways}"],
        ["120 cm", r"12\text{ or }13"],
    ),
    "time": (
        r"\text{4:30 p.m.}",
        ["4:30 PM", "4:30", "16:30", r"4\!:\!30\text{ p.m.}"],
        ["4:30 am", "4:31 pm", "5:30", "4.5"],
    ),
    "ratio": ("3:5", ["6:10", r"\frac35", "3 to 5"], ["5:3", "3:5:1", "3"]),
    "base": ("21_8", ["21_{8}", "21", r"21_{\text{eight}}"], ["21_9", "17", "17_{10}", "12_8"]),
    "word": (r"\text{Evelyn}", ["Evelyn", r"\textbf{Evelyn}", "evelyn"], ["Angela", r"\text{not Evelyn}", "E"]),
    "number word": (r"\mbox{four}", ["4", "four", r"\text{Four}"], ["5", "five", "forty"]),
    "code": ("CBAD", ["CBAD", r"\text{CBAD}"], ["ABCD", "CBA"]),
    "letters": (r"\text{A, B}", ["B, A", r"\text{A and B}", "A,B"], ["A", "A, C", "A, B, C"]),
    "no solution": (r"\emptyset", [r"\{\}", r"\text{No solution}"], ["0", "1", r"\{0\}"]),
    "scientific": ("4.5e33", [r"4.5 \times 10^{33}", "4.5×10^33", "4.48e33"], ["4.5e32", "4.5", r"4 \times 10^{33}"]),
    "spellings": (r"\frac{1}{2} \text{ OR } 0.5", ["1/2", "0.5"], ["1/3"]),
    "trigonometry": (r"\cos^2 x", [r"1-\sin^2 x", r"\frac{1+\cos 2x}{2}"], [r"\cos x^2", r"\sin^2 x", r"1+\sin^2 x"]),
    "logarithm": ("3", [r"\log_2 8", r"\frac{\ln 8}{\ln 2}"], [r"\ln 8", r"\log_8 2"]),
    "outside the grammar": (
        r"\sum_{k=1}^{n} k^2",
        [r"\sum_{k=1}^n k^2"],
        [r"\sum_{k=1}^{m} k^2", r"\prod_{k=1}^{n} a_k", "n"],
    ),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_kinds_of_answers(verifier: Verifier, kind: str) -> None:
    gold, right, wrong = ANSWERS[kind]
    samples = [Sample("math", f"So $\\boxed{{{a}}}$.", gold) for a in (gold, *right, *wrong)]
    verdicts = verifier.grade(samples)
    expected = ["correct"] * (1 + len(right)) + ["wrong"] * len(wrong)
    failed = [(s.response, v) for s, v, e in zip(samples, verdicts, expected, strict=True) if v.outcome != e]
    assert not failed
    assert all(v.reason for v in verdicts)


STATED = [
    (r"So \boxed{5}.", "5"),
    (r"\boxed{\frac{\sqrt{2}}{2}}", r"\frac{\sqrt{2}}{2}"),
    (r"\[ \boxed{ 5 } \] done", "5"),
    (r"\boxed 5", "5"),
    (r"\fbox{5}", "5"),
    (r"\boxed{3}. Wait, that is wrong: \boxed{4}", "4"),
    (
        "\\boxed{3} is the length of the first side, and from it we find the others by the law of cosines: \\boxed{4}",
        "4",
    ),
    (r"the answer goes into \boxed{}: \boxed{5}", "5"),
    (r"\boxed{\frac{1}{2}$ is not closed", r"\frac{1}{2}"),
    ("1 + 1\n#### 42", "42"),
    ("#### $1,234\nin 3 steps", "$1,234"),
    ("The answer is 42.", "42"),
    ("The answer is: 42. I needed 3 steps", "42"),
    ("Final Answer: The final answer is $5$. I hope it is correct.", "$5$"),
    ("**Final Answer:** $18 after 2 days", "$18"),
    ("the ANSWER is **$0.50** for 2", "$0.50"),
    ("# Answer\n5", "5"),
    ("## Final Answer\n\n$x = 5$", "$x = 5$"),
    ("**Answer:** 5", "5"),
    ("**Answer: 5 cm**", "5 cm"),
    ("Answer: 3:45 p.m.", "3:45 p.m."),
    ("答案：5", "5"),
    ("Adding up, she has **72** clips in April and May.", "72"),
    ("She has 42 apples.", "42"),
    ("It costs $42.00!", "$42.00"),
    ("Hence\n$$x = \\frac{3}{4}.$$", r"x = \frac{3}{4}."),
    ("so 16-3-4=9.", "16-3-4=9."),
    ("<think>\\boxed{1}</think> The answer is 6.", "6"),
    ("<answer>6</answer>", "6"),
]


@pytest.mark.parametrize(("response", "answer"), STATED)
def test_where_the_answer_stands(response: str, answer: str) -> None:
    found = extract(response)
    assert isinstance(found, Found)
    assert found.text.strip(" .$") == answer.strip(" .$")


@pytest.mark.parametrize(
    "response",
    [
        "",
        "I cannot solve this.",
        "then 3x + 4 = 12, so x = 8/3 and",
        "First we have 16 - 3 = 13 and then 13 - 4",
        "<think>The answer is \\boxed{5}.",
        "<think>\\boxed{5}</think>",
        "The answer is not 5.",
        "They need 5 hours to drive 300 miles.",
        r"\boxed{",
        r"\boxed{}",
        "#### Step 4: Conclusion\nWe are",
        "The answer is",
    ],
)
def test_no_answer_is_picked_out_of(response: str) -> None:
    assert not isinstance(extract(response), Found)


@pytest.mark.parametrize(
    ("response", "gold", "outcome"),
    [
        (r"\boxed{1} \boxed{2} \boxed{3}", "3", "wrong"),
        (r"Maybe \boxed{1}. Or it might be \boxed{3}.", "3", "wrong"),
        ("Answer: \\boxed{1}\nAnswer: \\boxed{2}", "2", "wrong"),
        (r"The answer is 3 or 4", "3", "wrong"),
        ("#### 12\n\n#### 13", "13", "wrong"),
        (r"$x = \boxed{3}$ and $y = \boxed{5}$", "(3,5)", "correct"),
        (r"\boxed{3}, \boxed{5}", "5, 3", "correct"),
        (r"\boxed{\frac12} = \boxed{0.5}", "0.5", "correct"),
        (
            "".join(
                f"Then the next step of the long proof of this statement gives us \\boxed{{{i}}}. " for i in range(9)
            ),
            "8",
            "wrong",
        ),
    ],
)
def test_several_answers(verifier: Verifier, response: str, gold: str, outcome: str) -> None:
    assert graded(verifier, response, gold).outcome == outcome


QUESTION = r"Which? $\textbf{(A)}\ 10 \qquad \textbf{(B)}\ 12 \qquad \textbf{(C)}\ \frac{1}{2}$"


@pytest.mark.parametrize(
    ("answer", "gold", "question", "outcome"),
    [
        *[
            (a, "C", "", "correct")
            for a in ("C", "(C)", r"\textbf{(C)}", r"\text{C}", "C. 12", r"\text{(C) } 12", "Option C")
        ],
        *[(a, "C", "", "wrong") for a in ("B", "(B)", "B. 12", "C, B", "12")],
        ("0.5", "C", QUESTION, "correct"),
        ("12", "C", QUESTION, "wrong"),
        ("(B)", "12", QUESTION, "correct"),
        ("(A)", "12", QUESTION, "wrong"),
        ("(A)", "12", "", "wrong"),
    ],
)
def test_multiple_choice(verifier: Verifier, answer: str, gold: str, question: str, outcome: str) -> None:
    assert graded(verifier, f"\\boxed{{{answer}}}", gold, question).outcome == outcome


def test_choices_of_a_question() -> None:
    assert listed(QUESTION) == {"A": "10", "B": "12", "C": r"\frac{1}{2}"}
    assert listed("Find $f(A)$ and (B).") == {}
    assert label("C = 12") is None
    assert label("A + B") is None


@pytest.mark.parametrize(("source", "response"), [("gsm8k", "#### 42"), ("tiny", "+6=81;#81")])
def test_failed_is_unknown_and_cut_is_wrong(verifier: Verifier, source: str, response: str) -> None:
    gold, question = ("42", "") if source == "gsm8k" else (response, "75+6=")
    samples = [Sample(source, response, gold, question, finish) for finish in ("stop", "length", "error")]
    verdicts = verifier.grade(samples)
    assert [v.outcome for v in verdicts] == ["correct", "wrong", "unknown"]
    assert [v.extracted for v in verdicts[1:]] == [None, None]
    assert verifier.grade_golds(samples[:1])[0].outcome == "correct"


@pytest.mark.parametrize(
    ("source", "gold"),
    [
        ("gsm8k", ""),
        ("gsm8k", "many"),
        ("gsm8k", "1/2"),
        ("gsm8k", "10%"),
        ("gsm8k", "4 apples"),
        ("gsm8k", "1e3.5"),
        ("math", ""),
        ("math", r"\frac{1}{2"),
        ("math", "f(x) = ax + b, where b is any whole number"),
        ("math", r"\div"),
        ("math", "?"),
    ],
)
def test_golds_that_are_refused(verifier: Verifier, source: str, gold: str) -> None:
    assert verifier.grade_golds([Sample(source, "", gold)])[0].outcome == "wrong"


@pytest.mark.parametrize("gold", ["0", "-3", "1,000", "$5", "0.25", ".5", "-0.5", "27.0", "025"])
def test_golds_that_are_numbers(verifier: Verifier, gold: str) -> None:
    assert verifier.grade_golds([Sample("table", "", gold)])[0].outcome == "correct"


def test_the_whole_working_counts(verifier: Verifier) -> None:
    question, answer = "50+92+30=", "+92=42;+30=72;#72"

    def outcome(response: str, gold: str = answer, asked: str = question) -> str:
        return verifier.grade([Sample("tiny", response, gold, asked)])[0].outcome

    assert outcome(answer) == "correct"
    for response in ("#72", "+92=41;+30=72;#72", "+92=42;+30=72;#73", answer + " ", answer + "+", answer[:-1], ""):
        assert outcome(response) == "wrong"
    assert outcome("#1", "#1", "no prompt of this world") == "wrong"
    assert outcome("#72", "#72") == "wrong"  # a wrong gold is found before it is used
    assert outcome("#efgggg", "#efgggg", "geggfg>") == "correct"


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


def test_hostile_answers(verifier: Verifier) -> None:
    """Each within two seconds, none accepted, the process alive and small afterwards."""
    import resource

    verifier.grade([Sample("math", r"\boxed{\frac{(2n)!}{n!n!}}", r"\binom{2n}{n}")])  # a worker is running
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of all children this process ever had
    slow: list[tuple[str, float]] = []
    for number, (name, response) in enumerate(HOSTILE.items()):
        used = time.process_time()
        verdict = graded(verifier, response, ("6", r"\frac{x}{2}+\sqrt{2}")[number % 2])
        assert verdict.outcome in ("wrong", "unknown"), (name, verdict)
        assert verdict.reason, name
        assert time.process_time() - used < 1, name
        if verdict.seconds > 2:
            slow.append((name, verdict.seconds))
    assert not slow
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert after == before or after * (1 if sys.platform == "darwin" else 1024) < worker.MEMORY
    assert graded(verifier, r"\boxed{\frac{(2n)!}{n!n!}}", r"\binom{2n}{n}").outcome == "correct"


def test_memory_is_limited() -> None:
    program = (
        "from paced.verify import worker;"
        "worker.decided = lambda case: {'correct': True, 'rule': str(len(bytes(1 << 30)))};"
        "import sys; sys.stdin = ['{}', '{}']; worker.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert [json.loads(line)["rule"] for line in done.stdout.splitlines()[1:]] == ["the verifier process died"] * 2


UNDECIDED = Sample("math", r"\boxed{\frac{(2n)!}{n!n!}}", r"\binom{2n}{n}")


def test_no_worker_is_started_for_what_cheap_rules_decide() -> None:
    with Verifier(2) as verifier:
        assert verifier.grade([Sample("math", r"\boxed{\frac{2}{4}}", "0.5")] * 3)[0].outcome == "correct"
        assert not verifier._pool._workers


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


def test_the_labelled_pairs(verifier: Verifier) -> None:
    """A small draw of the benchmark, whose labels are made without the verifier (benchmarks/verifier)."""
    data = ROOT.parent / "shared" / "data"
    need((data / "math_test.jsonl").exists(), f"the original data sets are not in {data}")
    from benchmarks.verifier.pairs import make

    for held_out in (False, True):
        pairs = make(data, seed=11, each=8, held_out=held_out)
        verdicts = verifier.grade([Sample("", p["response"], p["gold"], p.get("question", "")) for p in pairs])
        wrong = [(p, v) for p, v in zip(pairs, verdicts, strict=True) if v.outcome != p["label"]]
        assert len(wrong) <= 0.005 * len(pairs), wrong
        assert not [p for p, v in wrong if v.outcome == "correct"]
