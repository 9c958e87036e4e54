"""The verifier: rules by kind of answer, right and near miss; golds; the labelled pairs."""

from pathlib import Path

import pytest
from harness import need

from paced.verify import Sample, Verifier

ROOT = Path(__file__).parents[2]


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
    "power of one letter": ("ab^2", ["b^2a", r"a\cdot b^2"], ["(ab)^2", "a^2b^2", "a^2b"]),
    "power to one letter": ("a^nb^n", ["(ab)^n", "b^na^n"], ["a^{nb^n}"]),
    "index of one letter": ("a_nx^n", ["a_{n}x^{n}", "x^na_n"], ["a_{nx^n}", "a_n"]),
    "the letter e": ("7p+4e", ["4e+7p"], ["4e+7", "7e+4p"]),
    "a letter with an index": (
        r"\frac{1}{3}E_{1}+\frac{2}{3}E_{2}",
        [r"\frac{E_1 + 2E_2}{3}"],
        [r"\frac{E_2+2E_1}{3}"],
    ),
    "over": (r"\frac{3}{4}", [r"{3 \over 4}"], [r"{4 \over 3}"]),
    "a number of millions": ("1500000", [r"1.5\text{ million}", r"1.5\text{ million people}"], [r"1.5\text{ billion}"]),
    "cents": (r"5.4\text{ cents}", ["5.4¢", r"\$0.054"], ["54¢"]),
    "modulo": ("25", [r"25 \pmod{37}", r"n \equiv 25 \pmod{37}"], [r"12 \pmod{37}"]),
    "named in words": (
        "0.75",
        [r"P(\text{both red}) = \frac34", r"\text{Area} = 0.75", r"\#\text{ways} = 0.75", r"\max = 0.75"],
        [r"P(\text{both red}) = \frac14", r"\text{not } x = 0.75"],
    ),
    "remark": (
        "f(x)=2x+1",
        [r"f(x) = 2x+1 \text{ for all } x", r"2x+1 \text{ (expanded)}"],
        [r"2x \text{ for all } x"],
    ),
    "layout": ("42", [r"\begin{array}{c} 42 \end{array}"], [r"\begin{array}{c} 42 \\\\ 1 \end{array}"]),
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
    "range with a hole": (r"(0,9) \cup (9,36)", [r"0<x<36,\ x\neq 9"], [r"0<x<36", r"0<x<36, x \ne 8"]),
    "set by a condition": (
        r"(-\infty,2]\cup[5,\infty)",
        [r"\{x \mid x \le 2 \text{ or } x \ge 5\}", r"\{x \in \mathbb{R} : x \le 2 \text{ or } x \ge 5\}"],
        [r"\{x \mid x \le 2\}", r"\{2, 5\}"],
    ),
    "a point and a range": (
        r"\{-1\} \cup [0,7)",
        [r"x = -1 \text{ or } 0 \le x < 7"],
        [r"x = 1 \text{ or } 0 \le x < 7"],
    ),
    "a phrase": ("It falls", ["it falls", r"\text{It falls}"], ["It floats", "It"]),
    "number in two words": ("36", ["thirty-six"], ["thirty-seven", "thirty"]),
    "positive numbers": (r"(0,\infty)", [r"\mathbb{R}^+", r"\mathbb{R}_{>0}", "x > 0"], [r"\mathbb{R}", r"x \ge 0"]),
    "share of something": ("75", [r"75\% \text{ of the class}"], [r"25\% \text{ of the class}"]),
    "both bounds": ("[1,5]", [r"x \ge 1, x \le 5", r"x \ge 1 \text{ and } x \le 5"], [r"x \le 1, x \ge 5"]),
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
    "several names": ("a=2, b=3", ["b=3, a=2", "(2,3)"], ["a=3, b=2", "a=2", "(3,2)"]),
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
    "unit vectors": (
        r"\begin{pmatrix} 1 \\ -3 \\ 2 \end{pmatrix}",
        [r"\mathbf{i}-3\mathbf{j}+2\mathbf{k}", r"\hat{i} - 3\hat{j} + 2\hat{k}"],
        [r"\mathbf{i}+3\mathbf{j}+2\mathbf{k}", r"\mathbf{i}-3\mathbf{j}"],
    ),
    "named point": ("(3,4)", ["P(3, 4)", "P = (3,4)"], ["P(4, 3)"]),
    "matrix": (
        r"\begin{pmatrix} 1/5 & 4/5 \\ 0 & 1 \end{pmatrix}",
        [r"\frac15\begin{bmatrix} 1 & 4 \\ 0 & 5 \end{bmatrix}"],
        [r"\begin{pmatrix} 1/5 & 0 \\ 4/5 & 1 \end{pmatrix}"],
    ),
    "percent": (r"10\%", ["10%", "10", "0.1", r"10\text{ percent}"], ["11%", r"0.1\%", "100", "1"]),
    "degrees": (r"336^\circ", ["336", "336°", r"336\text{ degrees}"], ["24", r"335^\circ"]),
    "radians": (r"\frac{\pi}{2}", [r"90^\circ"], ["90", r"45^\circ"]),
    "money": (r"\$0.50", ["$0.50", "0.5", "50 cents", r"0.50\text{ dollars}"], ["50", "0.05", "5 cents"]),
    "upright letters": (
        "50",
        [r"50\ \mathrm{N}", r"50\,\mathrm{m/s}", r"50\ \mathrm{kg\cdot m/s}", r"5 \times 10^{1} \text{ m}"],
        ["50N", r"50^2\,\mathrm{N}"],
    ),
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
    "derivative": (
        r"m \frac{d v}{d t}+b v=f",
        [r"m\dot{v} + bv = f", r"mv' + bv = f", r"m v^{\prime} = f - b v"],
        [r"m\dot{v} - bv = f", r"m\ddot{v} + bv = f", r"mv + bv = f"],
    ),
    "second derivative": (r"\ddot{x} = -x", [r"\frac{d^2x}{dt^2} = -x", "x'' + x = 0"], [r"\frac{dx}{dt} = -x"]),
    "no derivative": (r"\frac{x}{t}", [r"\frac{2x}{2t}"], [r"\frac{dx}{dt}"]),
    "fraction as ratio": (r"\frac{1}{10}", ["1:10", r"\text{1 to 10}"], ["10:1", "1:10 p.m."]),
    "ratio": ("3:5", ["6:10", r"\frac35", "3 to 5"], ["5:3", "3:5:1", "3"]),
    "base": (
        "21_8",
        ["21_{8}", "21", r"21_{\text{eight}}", "(21)_8", r"21\text{ (base 8)}", r"21\text{ base 8}"],
        ["21_9", "17", "17_{10}", "12_8", r"21\text{ (base 9)}"],
    ),
    "word": (r"\text{Evelyn}", ["Evelyn", r"\textbf{Evelyn}", "evelyn"], ["Angela", r"\text{not Evelyn}", "E"]),
    "word in a sentence": (
        r"\text{ellipse}",
        [r"\text{The graph is an ellipse}", r"\text{an ellipse}"],
        [r"\text{The graph is not an ellipse}", r"\text{The graph is an ellipse or a circle}"],
    ),
    "what is odd": (r"\text{odd}", [r"\text{odd function}"], [r"\text{even function}", r"\text{odd man}"]),
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
    "name of any form": (
        "15",
        [r"\min f(x) = 15", r"f(x)_{\min} = 15", r"\gcd(n+7, 2n+1) = 15", r"\lim_{x \to 0} f(x) = 15"],
        [r"\min f(x) = 16", r"12 \text{ when } x = 15", r"x \ge 3 \text{ if } y = 15"],
    ),
    "what leads to it": (
        "265",
        [r"\frac{m}{n} = \frac{49}{216} \implies m+n = 265", "⇒ 265"],
        [r"265 = n \implies n = 5"],
    ),
    "names in order": ("-3,0", ["b = -3, c = 0", "c = 0, b = -3", "0, -3"], ["b = 0, c = -3"]),
    "list without blanks": (r"60^\circ, 120^\circ", ["60,120"], ["60,121", "60120"]),
    "column": (
        r"\begin{pmatrix} -2 \\ -14 \end{pmatrix}",
        ["[-2, -14]^T", r"\begin{pmatrix} -2 \\[4pt] -14 \end{pmatrix}", r"\begin{bmatrix}-2 & -14\end{bmatrix}^\top"],
        ["[-14, -2]^T"],
    ),
    "residues": ("333", [r"333\ (\mathrm{mod}\ 1000)", "333 (mod 1000)"], ["334 (mod 1000)"]),
    "library": ("np.arcsin(10/13)", [r"\arcsin\frac{1}{1.3}", r"\sin^{-1}(10/13)"], [r"\arccos\frac{10}{13}"]),
    "rounded beside exact": (r"b=\frac{1}{49}", [r"\frac{1}{49} \approx 0.0204"], [r"\frac{1}{48} \approx 0.0208"]),
    "rate": (r"5.4\text{ cents}", [r"5.4\text{ cents per minute}"], [r"5.4\text{ dollars}"]),
    "speed": (r"90\text{ km/h}", [r"25\text{ m/s}", r"90\text{ kilometers per hour}"], [r"90\text{ m/s}"]),
    "degrees in radians": (r"4^\circ", [r"\frac{\pi}{45}\text{ radians}"], [r"4\text{ radians}"]),
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


@pytest.mark.parametrize(
    ("gold", "answer", "question", "outcome"),
    [
        ("42", r"42\text{ feet}", "What is the perimeter, in inches?", "wrong"),
        ("42", r"3.5\text{ feet}", "What is the perimeter, in inches?", "correct"),
        ("42", r"42\text{ feet}", "It is 3 feet wide. What is the perimeter?", "correct"),
        ("864", r"6\text{ ft}^2", "What is the area in square inches?", "correct"),
        ("9", r"9\text{ feet}", "He walks four miles, then six miles. How far is he?", "wrong"),
        ("1.45", r"145\text{ cents}", r"A pencil and a pen cost $\$2.50$. And two?", "correct"),
        ("0.1", r"0.1\text{ km/s}", "Give the speed in meters per second.", "wrong"),
    ],
)
def test_the_unit_that_the_question_asks_for(
    verifier: Verifier, gold: str, answer: str, question: str, outcome: str
) -> None:
    assert verifier.grade([Sample("math", rf"\boxed{{{answer}}}", gold, question)])[0].outcome == outcome


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
