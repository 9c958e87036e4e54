"""Whether a benchmark is found behind the instructions that training files put around its questions.

    python -m benchmarks.containment DATA

DATA is a folder with the files below. MATH-500 is taken as a training file behind each of eight wrappers, and held
against itself as a benchmark: all 500 must be dropped. Then training files of other origin are held against it, as
they are and behind each wrapper: what is dropped because of a wrapper alone is printed, and of three benchmarks what is
dropped only because a short question stands in a longer one. More than 1 in 1,000 would be too much.
"""

import argparse
from pathlib import Path

from paced.config import Data, Decontamination
from paced.data.decontamination import WORD, Index
from paced.data.layouts import read

WRAPPERS = {
    "step by step": "{}\nPlease reason step by step, and put your final answer within \\boxed{{}}.",
    "Problem:": "Problem: {}",
    "a number": "12. {}",
    "Eurus": "{}\n\nPresent the answer in LaTex format: \\boxed{{Your answer}}",
    "guru": "{} Please output the final answer within \\boxed{{}}.",
    "DAPO": "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\nRemember to put your "
    'answer on its own line after "Answer:".',
    "verl's GSM8K": '{} Let\'s think step by step and output the final answer after "####".',
    "a chat template": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    "<|im_start|>assistant\n",
}
TRAINING = {
    "gsm8k_train.jsonl": "gsm8k", "math_train.parquet": "math", "dapo_math_17k.parquet": "math",
    "dsr_sub_train.parquet": "math",
}  # fmt: skip
BENCHMARKS = {"math500_test.jsonl": "math", "math_test.jsonl": "math", "mmlu_test.parquet": "mmlu"}


def questions(path: Path, source: str) -> list[str]:
    return [p.question for p in read(Data(source=source, path=str(path)), path) if p.question]


def found(index: Index, texts: list[str]) -> set[int]:
    """The places of the texts that hold a problem of the index."""
    return {i for i, text in enumerate(texts) if next(iter(index.find(text)), None)}


def by_short_ones(benchmark: list[str], training: list[str], rule: Decontamination) -> list[tuple[str, str]]:
    """What is dropped only because a short question stands inside of it: both texts."""
    whole, apart = (Index({"": benchmark}, rule.words, rule.share) for _ in range(2))
    apart.short.clear()
    dropped = sorted(found(whole, training) - found(apart, training))
    return [(benchmark[next(iter(whole.find(training[i]))).problem], training[i]) for i in dropped]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--show", action="store_true", help="print what is dropped because of short questions")
    arguments = parser.parse_args()
    rule = Decontamination()
    benchmarks, training = (
        {name: questions(arguments.data / name, source) for name, source in files.items()}
        for files in (BENCHMARKS, TRAINING)
    )
    math500 = benchmarks["math500_test.jsonl"]
    index = Index({"MATH-500": math500}, rule.words, rule.share)
    plain = {name: found(index, texts) for name, texts in training.items()}
    print(f"{'MATH-500':16} {'dropped':>11}  {'of ' + ', '.join(training)} besides")
    for name, wrapper in WRAPPERS.items():
        dropped = len(found(index, [wrapper.format(q) for q in math500]))
        more = [len(found(index, [wrapper.format(q) for q in texts]) - plain[t]) for t, texts in training.items()]
        print(f"{name:16} {dropped:>4} of {len(math500)}  {', '.join(map(str, more))}", flush=True)
    total = sum(map(len, training.values()))
    print(f"\n{'benchmark':20} {'problems':>8} {'short':>6}  dropped because of these, of {total:,} training problems")
    for name, texts in benchmarks.items():
        short = sum(len(WORD.findall(q)) < rule.words for q in texts)
        dropped = [pair for t in training.values() for pair in by_short_ones(texts, t, rule)]
        print(f"{name:20} {len(texts):>8} {short:>6}  {len(dropped)}", flush=True)
        for question, text in dropped if arguments.show else ():
            print(f"    {question[:80]!r} in {text[:160]!r}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
