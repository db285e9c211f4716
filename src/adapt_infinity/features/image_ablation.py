"""Image ablation: a sample's tokens with its images and, where the probe asks for it, without them, encoded once.

Encoding is slow because of the processor's checks and not because of the tokenizer. So the text without images goes
only through the chat template and the tokenizer. If its tokens equal those of the whole conversation minus the tokens
that only images bring, then the answers are the same tokens, too, and no second encoding is needed. This is checked for
every sample. Where it does not hold (for example, because words on both sides of an image merge without it), the
sample is encoded in full. One thing is assumed: the processor does nothing to text that its tokenizer does not do. The
first samples of a model show whether this is true.
"""

import logging

import torch

from adapt_infinity.data.pictures import Pictures
from adapt_infinity.data.sample import Sample
from adapt_infinity.model.checkpoint import Reader, Vlm
from adapt_infinity.model.prompts import Encoded, chat_messages, encode, end_tokens

log = logging.getLogger(__name__)

# the sample, and the same without its images: None where it has none, or where that is not asked for
EncodedPair = tuple[Encoded, Encoded | None]
CHECKED_SAMPLES = 4  # derived encodings that are compared with a full encoding before the others are trusted
PATIENCE = 16  # failures minus successes after which every sample is encoded in full


class ImageAblationEncoder:
    """Encodes samples in pairs, and learns from the first ones which tokens the model's images bring."""

    def __init__(self, reader: Reader | Vlm, pictures: Pictures, ablate: bool = True) -> None:
        """`ablate`: whether samples are also encoded without their images."""
        self._reader, self._pictures, self._ablate = reader, pictures, ablate
        self._image_tokens: set[int] = set()  # tokens that were seen with images and not without
        self._unchecked, self._patience = CHECKED_SAMPLES, PATIENCE

    def encode_pair(self, sample: Sample) -> EncodedPair:
        """The sample's tokens with its images and, if asked for, without. `ValueError`: see `prompts.encode`."""
        whole = encode(self._reader, sample, self._pictures)
        ablate = self._ablate and bool(sample.images)
        return whole, self._without_images(whole, sample.without_images()) if ablate else None

    def _without_images(self, whole: Encoded, text_only: Sample) -> Encoded:
        derived = self._derive(whole, text_only) if self._patience else None
        if derived is not None and not self._unchecked:
            self._patience = min(PATIENCE, self._patience + 1)
            return derived
        full = encode(self._reader, text_only, self._pictures)
        if self._patience:
            self._learn(whole, derived, full)
        return full

    def _learn(self, whole: Encoded, derived: Encoded | None, full: Encoded) -> None:
        """Compare with a full encoding: which tokens images bring, and whether derived encodings can be trusted."""
        if derived is None:
            self._image_tokens |= set(whole.input_ids.tolist()) - set(full.input_ids.tolist())
            self._patience -= 1
        elif _equal(derived, full):
            self._unchecked -= 1
        else:
            self._patience = 0
        if not self._patience:
            log.info("every sample is encoded a second time, because its text has other tokens without its images")

    def _derive(self, whole: Encoded, text_only: Sample) -> Encoded | None:
        """The conversation without its image tokens; None where it may differ from what `encode` would give."""
        is_image = torch.isin(whole.input_ids, torch.tensor(sorted(self._image_tokens), dtype=torch.int64))
        if (is_image & whole.answers).any() or (is_image[1:] & whole.answers[:-1]).any():
            return None  # an image within an answer, or between an answer and its end
        remaining = whole.input_ids[~is_image]
        tokens = self._tokenize(text_only)
        # the second form: `encode` appends an end token where the template has none
        if remaining.tolist() not in (tokens, [*tokens, end_tokens(self._reader)[0]]):
            return None
        return Encoded(whole.sample_id, remaining, whole.answers[~is_image], {})

    def _tokenize(self, text_only: Sample) -> list[int]:
        """The tokens of a conversation without images, tokenized as transformers' processors do it."""
        processor = self._reader.processor
        text = processor.apply_chat_template(chat_messages(text_only, self._pictures), tokenize=False)
        begin = processor.tokenizer.bos_token
        add_special = begin is None or not text.startswith(begin)
        return list(processor.tokenizer(text, add_special_tokens=add_special)["input_ids"])


def _equal(derived: Encoded, full: Encoded) -> bool:
    """Whether two encodings are equal. A derived one has no `extras`, so the full one must have none, too."""
    tokens, answers = torch.equal(derived.input_ids, full.input_ids), torch.equal(derived.answers, full.answers)
    return tokens and answers and not full.extras
