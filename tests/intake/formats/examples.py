"""One raw record of every format in its published layout, and the conversations that it must be parsed to."""

import base64
from typing import Any

from adapt_infinity.intake.formats import Conversation

DOT = b"\x89PNG, say"
DOT64 = base64.b64encode(DOT).decode()
TEN = ["nokia", "toshiba", *["nokia"] * 8]


def talk(question: str, answer: str, *more: str) -> list[dict[str, str]]:
    said = [question, answer, *more]
    return [{"role": ("user", "assistant")[n % 2], "text": text} for n, text in enumerate(said)]


def people(answers: list[str]) -> list[dict[str, Any]]:
    return [{"answer": one, "answer_confidence": "yes", "answer_id": n} for n, one in enumerate(answers, start=1)]


# format → raw record, options, expected conversations
EXAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any], list[Conversation]]] = {
    "llava": (
        {
            "id": "000000033471",
            "image": "coco/train2017/000000033471.jpg",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat colours are the bus?"},
                {"from": "gpt", "value": "White and red."},
            ],
        },
        {},
        [
            Conversation(
                "000000033471",
                "",
                ["coco/train2017/000000033471.jpg"],
                talk("<image>\nWhat colours are the bus?", "White and red."),
            )
        ],
    ),
    "m3it": (
        {
            "instruction": "Answer the question.",
            "inputs": "Who waits?",
            "image_base64_str": [DOT64, DOT64],
            "outputs": "A man.",
        },
        {},
        [Conversation("", "", [DOT, DOT], talk("<image>\n<image>\nAnswer the question.\nWho waits?", "A man."))],
    ),
    "minigpt4": (
        {"image_id": "2", "caption": "The image shows a red barn."},
        {},
        [
            Conversation(
                "2",
                "",
                ["image/2.jpg"],
                talk("<image>\nPlease give a thorough account of this picture.", "The image shows a red barn."),
            )
        ],
    ),
    "mantis": (
        {
            "id": "nlvr2_0",
            "images": [{"bytes": None, "path": "nlvr2/0.png"}, {"bytes": DOT, "path": "1.png"}],
            "conversation": [
                {"role": "user", "content": "<image> <image> Are both dogs asleep?"},
                {"role": "assistant", "content": "No."},
            ],
            "source": "nlvr2",
        },
        {"skill": "source"},
        [Conversation("nlvr2_0", "nlvr2", ["nlvr2/0.png", DOT], talk("<image> <image> Are both dogs asleep?", "No."))],
    ),
    "lamm": (
        {
            "id": "000000033471",
            "image": "coco_images/000000033471.jpg",
            "conversations": [
                {"from": "human", "value": "What is it?"},
                {"from": "gpt", "value": "A bus."},
                {"from": "human", "value": "Sure?"},
                {"from": "gpt", "value": "Yes."},
            ],
            "task_type": "conversation",
            "src_dataset": "coco2017",
        },
        {},
        [
            Conversation(
                "000000033471",
                "conversation",
                ["coco_images/000000033471.jpg"],
                talk("<image>\nWhat is it?", "A bus.", "Sure?", "Yes."),
            )
        ],
    ),
    "vision_flan": (
        {
            "id": "VQAv2+weather_0",
            "image": "VQAv2+weather_0.jpg",
            "conversations": [
                {"from": "human", "value": "<image>\nIs it raining?"},
                {"from": "gpt", "value": "no"},
            ],
            "task_name": "VQAv2+weather",
        },
        {},
        [
            Conversation(
                "VQAv2+weather_0", "VQAv2+weather", ["VQAv2+weather_0.jpg"], talk("<image>\nIs it raining?", "no")
            )
        ],
    ),
    "hugging_face": (
        {
            "questionId": 7,
            "picture": {"bytes": DOT, "path": None},
            "question": "What colour?",
            "answers": ["red", "dark red"],
            "kind": "colour",
        },
        {"id": "questionId", "image": "picture", "answer": "answers", "skill": "kind", "hint": "One word."},
        [Conversation("7", "colour", [DOT], talk("<image>\nWhat colour?\nOne word.", "red"), ["red", "dark red"])],
    ),
    "chat": (
        {
            "id": "1",
            "task": "caption",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "First "},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{DOT64}"}},
                        {"type": "text", "text": ", then "},
                        {"type": "image_url", "image_url": {"url": "https://example.org/a.jpg", "detail": "low"}},
                        {"type": "input_image", "image_url": "b.jpg"},
                        {"type": "image", "image": "c.jpg"},
                        {"type": "text", "text": ":\n what?"},
                    ],
                },
                {"role": "assistant", "content": "A bus."},
            ],
        },
        {},
        [
            Conversation(
                "1",
                "caption",
                [DOT, "https://example.org/a.jpg", "b.jpg", "c.jpg"],
                talk("First <image>, then <image><image><image>:\n what?", "A bus."),
            )
        ],
    ),
    "sharegpt": (
        {
            "conversations": [
                {"from": "human", "value": "<image>Who are they?"},
                {"from": "gpt", "value": "Two players."},
            ],
            "system": "Be brief.",
            "images": ["photos/1.jpg"],
        },
        {},
        [
            Conversation(
                "",
                "",
                ["photos/1.jpg"],
                [{"role": "system", "text": "Be brief."}, *talk("<image>Who are they?", "Two players.")],
            )
        ],
    ),
    "vqav2": (
        {
            "question_type": "what is this",
            "multiple_choice_answer": "nokia",
            "answers": people(TEN),
            "image_id": 458752,
            "answer_type": "other",
            "question_id": 458752000,
            "question": "What is this?",
        },
        {"hint": "A word or two."},
        [
            Conversation(
                "458752000",
                "",
                ["train2014/COCO_train2014_000000458752.jpg"],
                talk("<image>\nWhat is this?\nA word or two.", "nokia"),
                TEN,
            )
        ],
    ),
    "textvqa": (
        {
            "question": "which brand is it?",
            "image_id": "0054c91397f2fe05",
            "image_classes": ["Belt"],
            "question_id": 0,
            "answers": TEN,
            "set_name": "train",
        },
        {},
        [
            Conversation(
                "0", "", ["train_images/0054c91397f2fe05.jpg"], talk("<image>\nwhich brand is it?", "nokia"), TEN
            )
        ],
    ),
    "textcaps": (
        {
            "image_id": "c8cce87ba2b3a3c8",
            "set_name": "train",
            "caption_id": 19,
            "caption_str": "Ink.",
            "reference_strs": ["A bottle.", "Ink."],
        },
        {"question": "Caption?"},
        [
            Conversation(
                "19",
                "",
                ["train_images/c8cce87ba2b3a3c8.jpg"],
                talk("<image>\nCaption?", "Ink."),
                ["A bottle.", "Ink."],
            )
        ],
    ),
    "vizwiz": (
        {
            "image": "VizWiz_train_00000000.jpg",
            "question": "Name this?",
            "answers": people(["basil", "basil leaves", "basil leaves"]),
            "answer_type": "other",
            "answerable": 1,
        },
        {},
        [
            Conversation(
                "VizWiz_train_00000000.jpg",
                "",
                ["train/VizWiz_train_00000000.jpg"],
                talk("<image>\nName this?", "basil leaves"),
                ["basil", "basil leaves", "basil leaves"],
            )
        ],
    ),
    "ocr_vqa": (
        {
            "key": "0123",
            "value": {
                "questions": ["Who wrote this?", "Title?"],
                "answers": ["A. Writer", "Calendar"],
                "split": 1,
                "imageURL": "http://ecx.images-amazon.com/images/I/51.gif",
                "title": "Calendar",
                "genre": "Calendars",
            },
        },
        {},
        [
            Conversation("0123_0", "", ["images/0123.gif"], talk("<image>\nWho wrote this?", "A. Writer")),
            Conversation("0123_1", "", ["images/0123.gif"], talk("<image>\nTitle?", "Calendar")),
        ],
    ),
    "gqa": (
        {
            "key": "02930152",
            "value": {
                "imageId": "2354786",
                "question": "Is the sky dark?",
                "answer": "yes",
                "fullAnswer": "Yes, the sky is dark.",
                "isBalanced": True,
                "types": {"structural": "verify"},
            },
        },
        {},
        [Conversation("02930152", "", ["images/2354786.jpg"], talk("<image>\nIs the sky dark?", "yes"))],
    ),
    "flickr30k": (
        {
            "filename": "1000092795.jpg",
            "imgid": 0,
            "sentids": [0, 1],
            "split": "train",
            "sentences": [
                {"tokens": ["two"], "raw": "Two men.", "imgid": 0, "sentid": 0},
                {"tokens": ["friends"], "raw": "Friends.", "imgid": 0, "sentid": 1},
            ],
        },
        {"question": "Say."},
        [
            Conversation("0_0", "", ["flickr30k-images/1000092795.jpg"], talk("<image>\nSay.", "Two men.")),
            Conversation("0_1", "", ["flickr30k-images/1000092795.jpg"], talk("<image>\nSay.", "Friends.")),
        ],
    ),
}
