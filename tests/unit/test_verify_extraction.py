"""The verifier: where in a response its answer stands; several answers; multiple choice."""

import pytest

from paced.verify import Sample, Verifier
from paced.verify.extraction.choices import label, listed
from paced.verify.extraction.extract import Answer, extract


def graded(verifier: Verifier, response: str, gold: str, question: str = "") -> str:
    return verifier.grade([Sample("math", response, gold, question)])[0].outcome


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
    ("She makes $18 (9 eggs × $2 per egg) daily.", "$18"),
    ("He needs to pay 8 × $5 + 8 × $3 = $40 + $24 = $64.", "$64"),
    ("5 * 7 = 35\nTom has 35 pens in 5 boxes.", "35"),
    ("Eliza earns $400 + $60 = $460. So Eliza's earnings for the week are $460.", "$460"),
    ("It would take 6 trips (5 full trips and 1 partial).", "6"),
    ("So 15 is the answer.", "15"),
    ("This gives 5, which is the final answer. The rest is easy.", "5"),
    ("Therefore, **15 students** did not go.", "15 students"),
    ("So 60 days later it will be a Saturday.", "a Saturday"),
    ("The ratio is 2 to 3.", "2 to 3"),
    (
        "#### 3\nBut I forgot the way back, so that he needs twice as many hours and some more.\nThe answer is 6.",
        "6",
    ),
    ("∴ x = 42", "x = 42"),
    ("This gives $x=42$. $\\blacksquare$", "x=42"),
    ("This gives $x=42$. QED", "x=42"),
    ("Thus the value is: **42**\n\n---\n\nLet me know if you'd like a different way!", "42"),
    ("\\[ 40+20+100=160 \\] minutes", r" 40+20+100=160 \text{minutes}"),
    ("The answer is \\boxed{7}.<|im_end|>\n<|im_start|>user\nAnd 3+8?<|im_end|>\n\\boxed{11}", "7"),
    ("The answer is 7.<|endoftext|>Human: compute 8+9\n\nAssistant: The answer is 17.", "7"),
    ("The answer is boxed{5}.", "5"),
    (r"The sum is $\boxed{3}$, then $3\cdot 4 = 12$, so the product is $\boxed{12}$.", "12"),
    ("B", "B"),
    ("B. 23", "B. 23"),
    ("Option B", "Option B"),
    ("The correct choice is **(B)** because the others fail in 2 of 3 cases.", "(B)"),
    ("I would go with B.", "B"),
    ("A is wrong, since 21 is 3 times 7. So it is C.", "C"),
    ("Option C is correct.", "C"),
    ("The answer is (B) not pure.", "(B) not pure"),
    ("The answer is B. It cannot be done in 3 days.", "B"),
    ("C is the right answer.", "C"),
    ("Paris", "Paris"),
    ("Therefore $f(x) = x^2$ for all real $x$.", "f(x) = x^2"),
    ("So the vertex is at (2, 3).", "(2, 3)"),
    ("Ans: 100", "100"),
    ("= 100", "100"),
    ("John ate 3 - 2 = **1 more hot dog** than Luke.", "1"),
    ("The number of positive $n$ for which Bob wins is **809**.", "809"),
    ("So there are 2 possible values for $B$.", "2"),
    ("So there are two possible values for $B$.", "two"),
    ("The chance is $\\frac{49}{216}$, so $m+n = 49+216 = 265$.", "m+n = 49+216 = 265"),
    ("$p = 83$ and $q = 79$ and $p + q = 162$.", "p + q = 162"),
    ("There are 12 boys and 6 girls, making a total of 18 kids.", "18"),
    ("15% of 210 is 31.5, which rounds to 32.", "32"),
    ("Since $A+B+C = 180$, we have $x = 180 - 53 - 81 = 46$.", "x = 180 - 53 - 81 = 46"),
    ("In all, 247 classes visited the Science Center last week.", "247"),
    ("$A = 12$ sq. units", "A = 12"),
    ("0.52 × 7.35 = 3.822", "0.52 × 7.35 = 3.822"),
    ("7 kittens\nTotal kittens = 7 + 21 + 12 = 40", "40"),
    ("So $\\binom{31}{28}$ is equal to 28 x 27 = 656.", "28 x 27 = 656"),
    ("The value of $f(3)$ is -27.", "-27"),
    ("Girls: 120. Scouts: 80. Not in the scouts: 120 - 80 = 40 girls.", "40 girls"),
    ("**Answer:** $8, 32, 44,$ and $80$.", "8, 32, 44,, 80"),
]


@pytest.mark.parametrize(("response", "answer"), STATED)
def test_where_the_answer_stands(response: str, answer: str) -> None:
    found = extract(response)
    assert isinstance(found, Answer)
    assert found.text.strip(" .$") == answer.strip(" .$")


def test_an_answer_without_a_stop_counts_if_the_model_ended() -> None:
    response = "40 + 80 = 120\nShe spent $120 in 3 days"
    assert not isinstance(extract(response), Answer)
    assert extract(response, finished=True) == Answer(("$120",), "the last sentence")


def test_of_several_numbers_the_one_that_the_question_does_not_have() -> None:
    response, question = "Kylar needs to pay $64 for 16 glasses.", "Kylar wants 16 glasses. How much is it?"
    assert not isinstance(extract(response), Answer)
    assert extract(response, question=question) == Answer(("$64",), "the last sentence")
    assert not isinstance(extract(response, question="How much are some glasses?"), Answer)


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
        "5 is not the right number.",
        "It would take 5 trips and 1 partial, i.e. 6 hours for 9 trips.",
        r"\boxed{",
        r"\boxed{}",
        "#### Step 4: Conclusion\nWe are",
        "The answer is",
        "Now we add the bonus of $150 to the others:\n\n(150 + 30) + 150",
        "It is not so that 2 + 3 gives 6: 5 does.",
    ],
)
def test_no_answer_is_picked_out_of(response: str) -> None:
    assert not isinstance(extract(response), Answer)


@pytest.mark.parametrize(
    ("response", "gold", "outcome"),
    [
        (r"\boxed{1} \boxed{2} \boxed{3}", "3", "wrong"),
        (r"Maybe \boxed{1}. Or it might be \boxed{3}.", "3", "wrong"),
        ("Answer: \\boxed{1}\nAnswer: \\boxed{2}", "2", "wrong"),
        (r"The answer is 3 or 4", "3", "wrong"),
        ("#### 12\n\n#### 13", "13", "wrong"),
        ("So, the answer is 4 hours.\n\nThe final answer is 4 + 2 = 6 hours.", "6", "correct"),
        ("The final answer is 4.\n\nThe final answer is 6.", "6", "wrong"),
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
    assert graded(verifier, response, gold) == outcome


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
        ("(C) -1", "C", "", "correct"),
        ("(B) -1", "C", "", "wrong"),
        ("(C)-1", "C", "", "wrong"),
        ("(i) and (iii)", "C", "Which?\n(A) (i)\n(B) (ii)\n(C) (i) and (iii)", "correct"),
        ("(i)", "C", "Which?\n(A) (i)\n(B) (ii)\n(C) (i) and (iii)", "wrong"),
        ("(A)", "12", "", "wrong"),
    ],
)
def test_multiple_choice(verifier: Verifier, answer: str, gold: str, question: str, outcome: str) -> None:
    assert graded(verifier, f"\\boxed{{{answer}}}", gold, question) == outcome


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        ("Neither act is wrong, so **D. Not wrong, Not wrong**.", "correct"),
        ("What remains: (D) Not wrong, not wrong.", "correct"),
        ("Neither act is wrong, so **A. Wrong, Wrong**.", "wrong"),
        ("It is surely not D. Not wrong, Not wrong.", "wrong"),
        ("It is A. Wrong, Wrong or D. Not wrong, Not wrong.", "wrong"),
        ("Scenario D. It is wrong.", "wrong"),
    ],
)
def test_a_choice_named_in_the_last_line(verifier: Verifier, response: str, outcome: str) -> None:
    question = "Which?\nA. Wrong, Wrong\nB. Wrong, Not wrong\nC. Not wrong, Wrong\nD. Not wrong, Not wrong"
    assert graded(verifier, response, "D", question) == outcome


@pytest.mark.parametrize(
    ("response", "gold", "question", "outcome"),
    [
        ("The given expression is (u+4)(u-1) - (u-3)(u+6).", "14", "Simplify $(u+4)(u-1) - (u-3)(u+6)$.", "wrong"),
        ("The given expression is (u+4)(u-1) - (u-3)(u+6) = 14.", "14", "Simplify $(u+4)(u-1)-(u-3)(u+6)$.", "correct"),
        (r"\boxed{\binom{5}{2}}", "10", r"Compute $\dbinom{5}{2}$.", "wrong"),
        (r"\boxed{x^2+3x+2}", "(x+1)(x+2)", "Factor $x^2+3x+2$.", "wrong"),
        (r"\boxed{x^2+3x+2}", "x^2 + 3x + 2", "Find $f(x)$, if $f(x) = x^2+3x+2$.", "correct"),
        (r"\boxed{2\sqrt{3}}", r"\sqrt{12}", r"One side is $2\sqrt{3}$. What is the other?", "correct"),
        (r"\boxed{\frac{1}{2}}", "0.5", r"Evaluate $\frac{1}{2}$.", "correct"),
    ],
)
def test_the_expression_to_be_worked_out_is_no_answer(
    verifier: Verifier, response: str, gold: str, question: str, outcome: str
) -> None:
    assert graded(verifier, response, gold, question) == outcome


def test_choices_of_a_question() -> None:
    assert listed(QUESTION) == {"A": "10", "B": "12", "C": r"\frac{1}{2}"}
    assert listed("Find $f(A)$ and (B).") == {}
    assert label("C = 12") is None
    assert label("A + B") is None
