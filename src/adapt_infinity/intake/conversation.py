"""Checks and repairs of one conversation, and the hash of its questions.

A conversation is repaired only where there is no doubt about what was meant; the list of repairs is at the head of
`reading.py`. Each repair is recorded with the sample.
"""

import hashlib
import string

from adapt_infinity.data.sample import IMAGE

_ASCII_SEPARATORS = (string.punctuation + string.whitespace).encode()  # not part of words
_SEPARATORS = dict.fromkeys(map(ord, _ASCII_SEPARATORS.decode() + "，。！？：；、（）「」“”‘’…¿¡"))


def check_or_repair(
    turns: list[dict[str, str]], pictures: int, max_text: int
) -> tuple[list[dict[str, str]], list[str]]:
    """The turns, repaired where necessary, and the repairs in words; `ValueError` when no repair helps.

    `pictures` is the number of the conversation's pictures, `max_text` the largest number of characters.
    """
    try:
        check_conversation(turns, pictures, max_text)
    except ValueError:
        repaired, repairs = repair(turns, pictures)
        check_conversation(repaired, pictures, max_text)
        return repaired, repairs
    return turns, []


def repair(turns: list[dict[str, str]], pictures: int) -> tuple[list[dict[str, str]], list[str]]:
    """The turns after all safe repairs, and the repairs in words; `ValueError` when no question has an answer.

    `turns` is not changed.
    """
    repairs = []
    if any(turn["role"] == "system" for turn in turns):
        turns = _join_system(turns)
        repairs.append("system prompt put before its question")
    first = next((index for index, turn in enumerate(turns) if turn["role"] == "user"), len(turns))
    last = len(turns) - (turns[-1]["role"] == "user" if turns else 0)
    if first >= last:
        raise ValueError("no question is followed by an answer: turns do not alternate between user and assistant")
    if first > 0:
        repairs.append("answer without a question removed")
    if last < len(turns):
        repairs.append("question without an answer removed")
    turns = turns[first:last]
    if not pictures:
        return turns, repairs
    placeholders = [turn["text"].count(IMAGE) for turn in turns]
    if sum(placeholders) == 0:
        turns = [{**turns[0], "text": f"{IMAGE}\n" * pictures + turns[0]["text"]}, *turns[1:]]
        repairs.append("pictures put before the first question")
    elif pictures == 1 and len(turns) > 2 and placeholders == [int(turn["role"] == "user") for turn in turns]:
        rest = [{**turn, "text": turn["text"].replace(IMAGE, "").strip()} for turn in turns[1:]]
        turns = [turns[0], *rest]
        repairs.append("repeated placeholder removed")
    return turns, repairs


def check_conversation(turns: list[dict[str, str]], pictures: int, max_text: int) -> None:
    """`ValueError` for a conversation that no model can be trained on.

    Turns must alternate from user to assistant and have text of at most `max_text` characters in all; only questions
    hold image placeholders, and exactly one per picture.
    """
    if not turns or len(turns) % 2:
        raise ValueError("turns do not alternate between user and assistant, ending with an answer")
    placeholders = length = 0
    for index, turn in enumerate(turns):
        text, answer = turn["text"], index % 2 == 1
        if turn["role"] != ("assistant" if answer else "user"):
            raise ValueError("turns do not alternate between user and assistant, ending with an answer")
        if not text or text.isspace():
            raise ValueError(f"{'an answer' if answer else 'a question'} is empty")
        count = text.count(IMAGE)
        if answer and count:
            raise ValueError("an answer contains an image placeholder")
        placeholders += count
        length += len(text)
        if not text.isascii():
            check_unicode(text)
    if placeholders != pictures:
        raise ValueError(f"{placeholders} image placeholders but {pictures} pictures")
    if length > max_text:
        raise ValueError(f"{length} characters of text, intake.max_text is {max_text}")


def question_hash(turns: list[dict[str, str]]) -> int:
    """A 63-bit hash of the questions' words. Case, white space, punctuation and placeholders make no difference."""
    text = " ".join([turn["text"] for turn in turns if turn["role"] == "user"]).replace(IMAGE, "")
    encoded = text.encode()
    if text.isascii():  # faster, with the same result
        words = encoded.lower().translate(None, _ASCII_SEPARATORS)
    else:
        words = text.casefold().translate(_SEPARATORS).encode()
    return int.from_bytes(hashlib.blake2b(words or encoded, digest_size=8).digest(), "big") >> 1


def check_unicode(text: str) -> None:
    """`ValueError` when the text holds half of a surrogate pair, which UTF-8 cannot encode."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("the text is not valid Unicode") from error


def _join_system(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """The turns, with each system prompt before the question that follows it. A prompt that none follows is dropped."""
    joined: list[dict[str, str]] = []
    prompt = ""
    for turn in turns:
        if turn["role"] == "system":
            prompt += turn["text"].strip() + "\n"
        elif turn["role"] == "user" and prompt.strip():
            joined.append({"role": "user", "text": prompt + turn["text"]})
            prompt = ""
        else:
            joined.append(turn)
    return joined
