"""The embedded model: a LLaVA (Liu et al. 2023, arXiv:2304.08485) small enough to train on two cores in minutes.

It is an ordinary `LlavaForConditionalGeneration`: a CLIP vision tower of nine 12 x 12 patches, a two-layer projector
and a Llama decoder. Its own byte-level tokenizer can encode any text. `AutoModelForImageTextToText` and `AutoProcessor`
load the saved folder like any other checkpoint.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from adapt_infinity.embedded.scenes import CELL, GRID, SIDE

PAD, END, USER, ASSISTANT, IMAGE = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<image>"
IMAGE_TOKENS = GRID**2
MEAN, STD = 0.5, 0.5  # the processor's normalisation, for all three channels

CHAT_TEMPLATE = """
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- '<|assistant|>' -}}
{%- generation -%}
{%- if message['content'] is string -%}{{- message['content'] -}}
{%- else -%}{%- for part in message['content'] -%}{{- part['text'] -}}{%- endfor -%}{%- endif -%}
{{- '<|end|>' -}}
{%- endgeneration -%}
{%- else -%}
{{- '<|user|>' -}}
{%- if message['content'] is string -%}{{- message['content'] -}}
{%- else -%}{%- for part in message['content'] -%}
{%- if part['type'] == 'image' -%}{{- '<image>' -}}{%- else -%}{{- part['text'] -}}{%- endif -%}
{%- endfor -%}{%- endif -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
""".strip()

MANY_SCRIPTS = (  # sentences with which every tokenizer is trained
    "The quick brown fox jumps over the lazy dog. Yes, no, it is a picture of the man and the woman in the street.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy. Na obrázku je muž, žena a pes; kolik jich tam je?",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. Ein Mann und eine Frau auf der Straße.",
    "Voix ambiguë d'un cœur qui, au zéphyr, préfère les jattes de kiwis. Un homme et une femme dans la rue.",
    "图片里有一个男人和一个女人在街上。这是什么?那里有几只狗?答案是对的。",
    "Съешь же ещё этих мягких французских булок. 日本語の文。한국어 문장. नमस्ते दुनिया. مرحبا بالعالم. Γειά σου κόσμε.",
)


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; a merge never crosses a Chinese character or a group of one or two digits."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\p{Han}|\d{1,2}"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END, USER, ASSISTANT, IMAGE],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*MANY_SCRIPTS, *texts], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, IMAGE],
        model_max_length=2048,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": IMAGE},
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """The model's processor: it resizes any picture to 36 x 36 pixels and leaves pictures of that size unchanged."""
    side = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessorPil(
        size=side, do_center_crop=False, crop_size=side, image_mean=[MEAN] * 3, image_std=[STD] * 3
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=CELL,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE,
        chat_template=CHAT_TEMPLATE,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlavaForConditionalGeneration:
    """A model with fresh float32 weights drawn from `seed`; the global random state does not change."""
    ids = {word: tokenizer.vocab[word] for word in (PAD, END, IMAGE)}
    vision = CLIPVisionConfig(
        image_size=SIDE,
        patch_size=CELL,
        hidden_size=96,
        intermediate_size=288,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=96,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        initializer_range=0.06,
        pad_token_id=ids[PAD],
        bos_token_id=None,
        eos_token_id=ids[END],
    )
    config = LlavaConfig(  # type: ignore[call-arg]
        vision_config=vision,
        text_config=text,
        image_token_index=ids[IMAGE],
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=IMAGE_TOKENS,
        initializer_range=0.06,
        pad_token_id=ids[PAD],
        eos_token_id=ids[END],
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config).float()
    positions = model.model.vision_tower.get_submodule("embeddings.position_embedding")
    with torch.no_grad():
        assert isinstance(positions.weight, torch.Tensor)
        positions.weight.mul_(15)  # otherwise a patch's position is lost in its content
    generation = model.generation_config
    generation.pad_token_id, generation.eos_token_id, generation.bos_token_id = ids[PAD], ids[END], None
    return model


def round_weights(model: LlavaForConditionalGeneration) -> None:
    """Round the weights to half precision, in place, so that they equal what a checkpoint stores."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half().float())


def write_checkpoint(folder: Path, model: LlavaForConditionalGeneration, processor: LlavaProcessor) -> None:
    """Write an ordinary checkpoint folder; weights are stored in half precision and load as float32.

    Other files in the folder, such as its model card, are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    config = model.config.to_dict() | {"architectures": [type(model).__name__], "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    weights = {name: weight.half().contiguous() for name, weight in model.state_dict().items()}
    unfinished = folder / ".model.safetensors.unfinished"
    save_file(weights, unfinished, metadata={"format": "pt"})
    unfinished.rename(folder / "model.safetensors")
