"""What a run leaves: a student that plain transformers loads."""

from pathlib import Path

import torch
from harness import Finished
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig


def final_student(run: Finished) -> Path:
    return Path(run.stages["two_stage/0/train_reverse_1"]["path"]) / "model"


def test_the_student_is_a_plain_folder(first_run: Finished) -> None:
    folder = final_student(first_run)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert GenerationConfig.from_pretrained(folder).eos_token_id == tokenizer.eos_token_id
    assert {p.suffix for p in folder.iterdir()} <= {".json", ".jinja", ".safetensors"}
    text = tokenizer.apply_chat_template([{"role": "user", "content": "75+6="}], tokenize=False)
    assert text == "75+6="
    batch = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        answer = model.generate(**batch, max_new_tokens=56, do_sample=False)[0, batch["input_ids"].shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True) == "+6=81;#81"
