"""Models of Hugging Face's with small random weights, by their real configurations, and a tokenizer of their own."""

from __future__ import annotations

from functools import cache
from pydoc_data.topics import topics
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MarianConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    T5Config,
)

TEXT = topics["with"]
PAIRS = {
    "The statement ends here.": "Die Anweisung endet hier.",
    "A context manager is an object.": "Ein Kontextmanager ist ein Objekt.",
    "The block is entered.": "Der Block wird betreten.",
}
WIDE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
WIDE |= {"num_key_value_heads": 2, "max_position_embeddings": 256}
CAUSAL = {
    "llama": (LlamaConfig, WIDE),
    "qwen3": (Qwen3Config, WIDE | {"head_dim": 8}),
    "mistral": (MistralConfig, WIDE | {"sliding_window": 64}),
    "gemma2": (Gemma2Config, WIDE | {"head_dim": 8}),  # its logits are capped after the output embedding
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 256}),
}
HALVES = {"encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
HALVES |= {"decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 64}
SEQ2SEQ = {
    "t5": (T5Config, {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}),
    "marian": (MarianConfig, {"d_model": 32, "max_position_embeddings": 64, "init_std": 0.3, **HALVES}),
}


@cache
def tokenizer(ends: bool = False, words: int = 500) -> Any:
    """Byte-level BPE; one that `ends` closes every text, as those of models with an encoder do."""
    found = Tokenizer(models.BPE())
    found.pre_tokenizer, found.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    found.train_from_iterator(
        [TEXT, *PAIRS, *PAIRS.values()],
        trainers.BpeTrainer(
            vocab_size=words, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )  # fmt: skip
    if ends:
        found.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    names = {"pad_token": "<pad>", "eos_token": "</s>"} | ({} if ends else {"bos_token": "<s>"})
    return PreTrainedTokenizerFast(tokenizer_object=found, **names)


def model(kind: str, **other: Any) -> Any:
    """A model of this family, the same at every call."""
    torch.manual_seed(0)
    numbers = {"vocab_size": len(tokenizer()), "pad_token_id": 0, "eos_token_id": 2}
    if kind in SEQ2SEQ:
        config, sizes = SEQ2SEQ[kind]
        made = config(**numbers, **sizes, decoder_start_token_id=0, **other)
        return AutoModelForSeq2SeqLM.from_config(made).eval()
    config, sizes = CAUSAL[kind]
    return AutoModelForCausalLM.from_config(config(**numbers, bos_token_id=1, **sizes, **other)).eval()
