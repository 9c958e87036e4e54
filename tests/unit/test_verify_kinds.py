"""The verifier: kinds of answers that were once judged wrongly, each with right answers and near misses."""

import pytest

from paced.verify import Sample, Verifier

# (gold, answers in a box that are right, near misses)
BOXED: dict[str, tuple[str, list[str], list[str]]] = {
    "corners of absolute values": ("|x-100|", ["|100-x|", r"\sqrt{(x-100)^2}"], ["100-x", "x-100", "|x+100|"]),
    "corners of roots of squares": (r"\sqrt{(x-3)^2}", ["|x-3|", r"\sqrt{x^2-6x+9}"], ["3-x", "x-3"]),
    "floor and ceiling": (
        r"\lceil \frac{n}{2} \rceil",
        [r"\lfloor \frac{n+1}{2} \rfloor"],
        [r"\frac n2", r"\lfloor \frac n2 \rfloor"],
    ),
    "steps of any number": (r"\lfloor y^2 \rfloor", [r"\lfloor y \cdot y \rfloor"], ["y^2", r"\lceil y^2 \rceil"]),
    "large values": (
        r"(5+2\sqrt6)^{50}",
        [r"(49+20\sqrt6)^{25}"],
        [r"(5+2\sqrt6)^{50}+(5-2\sqrt6)^{50}", r"(5+2\sqrt6)^{51}"],
    ),
    "values that are close": (r"10^{20}", [r"\sqrt{10^{40}}"], [r"\sqrt{10^{40}+1}"]),
    "tiny values": ("e^{-200}", [r"\frac{1}{e^{200}}"], ["2e^{-200}", "e^{-201}", "0"]),
    "tiny values times pi": (r"2^{-300}\pi", [r"\frac{\pi}{2^{300}}"], [r"2^{-301}\pi"]),
    "contradicting chains": ("5", ["10-5=5", "x=2+3=5", r"\frac{20}{4}=5"], ["6=5", "10-4=5", "1=2=3=4=5"]),
    "contradicting approximation": ("0.33", [r"\frac13 \approx 0.33"], [r"7 \approx 0.33"]),
    "remainder as an operation": ("n", ["n"], [r"n \bmod 10", r"n \bmod 2"]),
    "congruences": (r"n \equiv 2 \pmod{3}", [r"n \equiv 5 \pmod 3", r"n \equiv -1 \pmod 3"], [r"n \equiv 1 \pmod 3"]),
    "temperatures": (
        r"20^\circ\text{C}",
        [r"68^\circ\text{F}", r"20\text{ degrees Celsius}", "20"],
        [r"20^\circ\text{F}", r"20\text{ degrees Fahrenheit}"],
    ),
    "repeating decimals": (
        r"\frac{1}{6}",
        [r"0.1\dot{6}", "0.1(6)", r"0.1\overline{6}"],
        [r"0.\dot{1}\dot{6}", "0.16"],
    ),
    "measure words": ("12", ["12个", "１２個", "12 只"], ["12万", "12倍", "12以上"]),
    "spaced bold digits": ("17", [r"\mathbf{1 7}", r"11+6=\mathbf{1 7}"], [r"\mathbf{1 6}"]),
    "functions of several": (r"\max(a,b)", [r"\max\{b,a\}"], [r"\min\{a,b\}", r"\max\{a,c\}"]),
    "conjugates": (r"\overline{3+4i}", ["3-4i"], ["3+4i", "-3+4i"]),
    "digits of a base": ("1F_{16}", ["1F", "1f_{16}"], ["31", "1E"]),
    "binomial as an array": (
        r"\binom{30}{2}",
        [r"\left(\begin{array}{c}30\\2\end{array}\right)", "435", "C_{30}^2", "^{30}C_2", "_{30}C_2"],
        [r"\left(\begin{array}{c}30\\3\end{array}\right)", "C_{30}^3", r"\begin{pmatrix}30\\2\end{pmatrix}"],
    ),
    "colours, sizes, labels": (
        "13",
        [
            r"\color{red}{13}",
            r"\textcolor{blue}{13}",
            r"\Large 13",
            r"13\tag{1}",
            r"13\label{eq}",
            r"13~\square",
            "13\\\\",
        ],
        [r"\color{red}{31}", r"\tag{13} 1"],
    ),
    "cis": (r"\frac12+\frac{\sqrt3}{2}i", [r"\text{cis } 60^\circ"], [r"\text{cis } 30^\circ"]),
    "tg and ctg": (r"\cot x", [r"\text{ctg } x", r"\frac{1}{\operatorname{tg} x}"], [r"\operatorname{tg} x"]),
    "degrees in a sum": (r"\cos x", [r"\sin(90^\circ-x)"], [r"\sin(45^\circ-x)"]),
    "double factorial, Gamma": ("120", [r"\Gamma(6)", "5!"], [r"\Gamma(5)", "5!!"]),
    "durations": (
        r"1\text{ hour } 30\text{ minutes}",
        [r"90\text{ min}", r"1.5\text{ hours}"],
        [r"1\text{ hour } 20\text{ minutes}", r"130\text{ min}"],
    ),
    "feet and inches": (r"66\text{ inches}", [r"5\text{ft}\,6\text{in}"], [r"6\text{ft}\,5\text{in}"]),
    "minutes of arc": (r"60.5^\circ", ["60^\\circ 30'"], ["60^\\circ 15'"]),
    "dozens": ("24", [r"2\text{ dozen}"], [r"3\text{ dozen}"]),
    "money": ("9500", [r"\text{Rs. }9500", "USD 9500", "€9500", "9500 €"], ["USD 95000"]),
    "a point in braces": ("9.5", ["9{.}5"], ["95"]),
    "dates": (r"\text{January 5}", [r"\text{Jan. 5}", r"\text{5 January}", r"\text{January 5th}"], [r"\text{Jan. 6}"]),
    "noon": ("12:00 p.m.", ["noon"], ["midnight"]),
    "open ends": ("(0,1)", ["]0,1[", r"\Big\{x | 0<x<1\Big\}"], ["[0,1]", "]0,1]"]),
    "not equal": (r"x \neq 0", ["x != 0", r"\text{all real numbers except } 0"], ["x != 1", "x = 0"]),
    "named tuples": ("(p,q)=(3,2)", ["p=3, q=2", "(q,p)=(2,3)", "(3,2)"], ["(2,3)", "(q,p)=(3,2)", "p=2, q=3"]),
    "several named tuples": ("p=5,q=2;p=7,q=2", ["(5,2),(7,2)"], ["(2,5),(2,7)", "(5,2)"]),
    "systems": ("(1,2)", [r"\begin{cases} x=1 \\ y=2\end{cases}"], [r"\begin{cases} x=2 \\ y=1\end{cases}"]),
    "labelled values": ("18, 14", [r"\text{Alice: } 18, \text{Bob: } 14"], [r"\text{Alice: } 18, \text{Bob: } 15"]),
    "letters without commas": ("A, B, D", ["ABD"], ["ABC", "AB"]),
    "words before a number": ("12", [r"\text{Therefore, }12"], [r"\text{not }12", r"\text{at least }12"]),
    "signs in words or braces": ("-5", ["{-}5", r"\text{negative } 5", "minus 5"], ["5"]),
    "scientific rounding": (r"6.02 \times 10^{23}", [r"6.022 \times 10^{23}"], [r"6.03 \times 10^{23}", "6.02"]),
    "renamed index": (
        r"\sum_{k=0}^{n-1} F_k F_{n-k-1}",
        [r"\sum_{i=0}^{n-1} F_i F_{n-i-1}"],
        [r"\sum_{i=0}^{n} F_i F_{n-i-1}"],
    ),
    "free constants": (
        r"f(x)=kx \text{ for any constant } k",
        [r"f(x)=cx, c \in \mathbb{R}"],
        [r"f(x)=cx^2, c \in \mathbb{R}"],
    ),
    "whole multiples": (r"x = k\pi", [r"n\pi"], [r"2n\pi", r"n\pi+1"]),
    "ellipsis": (r"1, 2, \ldots, n", [r"1, 2, 3, \ldots, n"], [r"1, 2, 4, \ldots, n", r"1, 2, \ldots, m"]),
    "unit vectors": (r"3\hat{i}-2\hat{j}", [r"\langle 3,-2\rangle"], [r"\langle -2,3\rangle"]),
    "infinity in words": (r"\infty", [r"\text{infinite}", r"\text{infinitely many}"], [r"\text{finite}", r"-\infty"]),
    "kinds of numbers": (r"\text{all odd } n", [r"n \text{ odd}", r"\text{all odd integers}"], [r"n \text{ even}"]),
    "does not exist": (r"\text{does not exist}", [r"\text{DNE}"], [r"\text{exists}", "0"]),
    "yes with more words": ("yes", [r"\text{Yes, it is possible}"], [r"\text{No, it is impossible}"]),
    "long lists": (
        ", ".join(map(str, range(80, 0, -1))),
        [", ".join(map(str, range(1, 81)))],
        [", ".join(map(str, range(2, 82)))],
    ),
    "long lists of pairs": (
        ", ".join(f"({i},{i + 1})" for i in range(80)),
        [", ".join(f"({i},{i + 1})" for i in reversed(range(80)))],
        [", ".join(f"({i + 1},{i})" for i in range(80))],
    ),
    "a JSON list": ('["169"]', ["169"], ["196"]),
    "a labelled gold": ("A. 169", ["169"], ["196"]),
    "a gold behind a heading": ("Step.\n#### 169", ["169"], ["196"]),
    "a gold in a sentence": (r"\text{The maximum value is } 12", ["12"], ["21"]),
    "repeated with other words": ("12", ["12, 12"], [r"12 \text{ girls and } 12 \text{ boys}"]),
    "compound left sides": ("|AB|=5", ["5"], ["6", "|AC|=5"]),
}


@pytest.mark.parametrize("kind", BOXED)
def test_kinds_of_answers_in_boxes(verifier: Verifier, kind: str) -> None:
    gold, right, near = BOXED[kind]
    samples = [Sample("math", f"So $\\boxed{{{a}}}$.", gold) for a in (*right, *near)]
    accepted = [v.outcome == "correct" for v in verifier.grade(samples)]
    expected = [True] * len(right) + [False] * len(near)
    assert [s.response for s, a, e in zip(samples, accepted, expected, strict=True) if a != e] == []


CHOICES = "Which of these is prime?\n(A) 4\n(B) 9\n(C) 7\n(D) 8"
ROWS = "We have \\begin{align*}\na &= 2 \\cdot 3\\cdot 7 \\\\\n&= 42.\n\\end{align*}"

# (gold, question, responses that are right, near misses)
RESPONSES: dict[str, tuple[str, str, list[str], list[str]]] = {
    "an earlier answer sentence": (
        "42",
        "",
        [
            "The answer is 6 times 7.\n\n**Answer:** 42",
            "We know the answer is positive.\n\n# Answer\n\n42",
            "This answer is consistent.\n\n#### 42",
            "Hence the answer is below:\n\n**Final Answer**\n\n42",
            "The answer is 6 times 7.\n\nSo we get 42.",
        ],
        ["The answer is 42.\n\n# Answer\n\n41"],
    ),
    "display environments": ("42", "Find a.", [ROWS, ROWS.replace("align*", "align")], [ROWS.replace("42", "41")]),
    "money and what it is for": (
        "42",
        "",
        ["He makes $6*$7=$42 a week", "So he pays $30+$12=$42 a month", "so 30+12 = 42 students will be leaving early"],
        ["He makes $6*$7=$41 a week", "He makes 6*7 = 42 and"],
    ),
    "closing sentences": (
        "42",
        "Find the minimum.",
        [
            "The minimum, 42, is attained at $x=3$.",
            "So $6x=252$ and $x=42$.",
            "So it's 2 more than 40, i.e. 42.",
        ],
        ["The minimum, 3, is attained at $x=42$."],
    ),
    "parts of an answer": ("5, 7", "", ["Answer: (a) 5 (b) 7"], ["Answer: (a) 5 (b) 8"]),
    "thinking marks": (
        "5",
        "",
        [
            "[THINK]maybe \\boxed{7}[/THINK]The answer is \\boxed{5}.",
            "<thought>\nmaybe \\boxed{7}\n</thought>\n\nThe answer is \\boxed{5}.",
            "<seed:think>maybe 7</seed:think>\\boxed{5}",
            "<reasoning>\\boxed{7}</reasoning>\\boxed{5}",
            "<|channel|>analysis<|message|>maybe 7<|end|><|start|>assistant"
            "<|channel|>final<|message|>It is \\boxed{5}.<|return|>",
        ],
        ["[THINK]The answer is \\boxed{5}.", "<|channel|>analysis<|message|>\\boxed{5}", "<thought>\\boxed{5}"],
    ),
    "next problems and turns": (
        "5",
        "",
        [
            "The answer is 5.\n\nProblem: Find x.\nSolution: The answer is 9.",
            "#### 5\n\nQuestion: How many?\nAnswer: 3\n#### 3",
            "The answer is 5. <|im_start|>user\nThe answer is 9.",
        ],
        ["The answer is 9.\n\nProblem: Find x.\nSolution: The answer is 5."],
    ),
    "an empty or unclosed last box": (
        "18",
        "",
        ["The answer goes into \\boxed{}: \\boxed{18}"],
        ["So \\boxed{18}. Checking gives \\boxed{}", "So \\boxed{18}. Checking again gives \\boxed{19 and"],
    ),
    "taken back behind the box": (
        "42",
        "",
        ["$\\boxed{41}$ is wrong; the correct answer is 42."],
        ["$\\boxed{42}$ is wrong; the correct answer is 41."],
    ),
    "text around a choice": (
        "C",
        CHOICES,
        [
            "Answer: C, not B",
            "answer - C",
            "\\boxed{C\\ (7)}",
            "\\boxed{\\text{Answer: C}}",
            "We get \\boxed{E = 3} for it.\n\nThe correct option is C.",
            "因此选 C。",
            "正确选项为(C)。",
            "Die richtige Antwort ist C.",
            '```json\n{"answer": "C"}\n```',
        ],
        ["Answer: B, not C", "\\boxed{C\\ (9)}", "因此不选 C。", '{"answer": "B"}'],
    ),
    "other languages and tags": (
        "42",
        "",
        ["答えは42です。", "La respuesta es 42.", "<final_answer>42</final_answer>", '{"answer": 42}'],
        ["答えは41です。", "<final_answer>41</final_answer>"],
    ),
    "words that change a number": (
        "5",
        "Find the value.",
        ["The answer is 5.", "The answer is about 5.", "The answer is equal to 5.", "The answer is 5 apples."],
        [
            f"The answer {words}."
            for words in (
                "is less than 5", "is at least 5", "is no more than 5", "is twice 5", "is half of 5", "is 5 squared",
                "is 5 and a half", "is minus 5", "is negative 5", "is 5 hundred", "is 5 times 7", "is anything but 5",
                "is 5 less than 12", "can't be 5", "is found in section 5", "is approximately $5$ times larger",
            )
        ],
    ),
    "signs in words": ("-5", "", ["The answer is minus 5.", "The answer is negative 5."], ["The answer is 5."]),
    "the question's statements": (
        "40",
        r"If $\angle ACB = 40^\circ$, how much is the angle $\angle CMD$ in degrees?",
        [r"\boxed{40^\circ}", r"\boxed{\angle CMD = 40^\circ}"],
        [r"\boxed{\angle ACB = 40^\circ}"],
    ),
    "the question's repeating decimal": (
        r"\frac{8}{45}",
        r"Express $0.1\overline{7}$ as a common fraction.",
        [r"\boxed{\frac{8}{45}}", r"\boxed{\frac{16}{90}}"],
        [r"\boxed{0.1\overline{7}}"],
    ),
    "the question's fraction, in Chinese": (
        r"\frac72",
        r"计算 $\frac{91}{26}$ 的最简形式。",
        [r"\boxed{\frac72}", r"\boxed{3.5}"],
        [r"\boxed{\frac{91}{26}}"],
    ),
    "the question's number in prose": (
        r"3.46223\times10^3",
        "Express 3462.23 in scientific notation.",
        [r"\boxed{3.46223\times 10^3}"],
        [r"\boxed{3462.23}"],
    ),
    "the question's plain formula": (
        r"4\sqrt2",
        "Simplify sqrt(32).",
        [r"\boxed{4\sqrt2}", r"\boxed{2\sqrt 8}"],
        [r"\boxed{\sqrt{32}}"],
    ),
    "rounding as asked": (
        "2.7",
        "What is $2.74$ rounded to the nearest tenth?",
        [r"\boxed{2.7}", r"\boxed{2.74 \approx 2.7}"],
        [r"\boxed{2.74}", r"\boxed{2.8}"],
    ),
    "a share for a number": ("42", "How many apples are there?", [r"\boxed{42}"], [r"\boxed{42\%}"]),
    "the equation of a curve": (
        "(x-1)^2+(y+3)^2=9",
        "What figure do the points form?",
        [r"\boxed{(y+3)^2+(x-1)^2=9}"],
        [r"\boxed{9}", "So the total is 9."],
    ),
    "a compound value of the coordinates": (
        "x^2+y^2=7",
        "Find x^2+y^2.",
        [r"\boxed{7}", r"\boxed{x^2+y^2=7}"],
        [r"\boxed{8}"],
    ),
    "an equation is asked for": (
        "x+y=7",
        "Give the equation of the line.",
        [r"\boxed{y=7-x}"],
        [r"\boxed{7}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", RESPONSES)
def test_kinds_of_responses(verifier: Verifier, kind: str) -> None:
    gold, question, right, near = RESPONSES[kind]
    samples = [Sample("math", r, gold, question) for r in (*right, *near)]
    accepted = [v.outcome == "correct" for v in verifier.grade(samples)]
    expected = [True] * len(right) + [False] * len(near)
    assert [s.response for s, a, e in zip(samples, accepted, expected, strict=True) if a != e] == []
