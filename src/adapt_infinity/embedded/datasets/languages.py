"""Second arrival: Chinese questions with Chinese answers, and translations without a picture.

<image> 圆形是什么颜色?                  红色
<image> 红色的是什么形状?                圆形
<image> 描述这张图。                     红色的圆形,蓝色的方形
In Chinese: red circle, blue square      红色的圆形,蓝色的方形
"""

import numpy as np

from adapt_infinity.embedded.datasets import primitives
from adapt_infinity.embedded.sample_specs import Question, SampleSpec, Skill, fill_question
from adapt_infinity.embedded.scenes import Scene, draw_scene

ABOUT = "Second arrival: Chinese questions with Chinese answers, and translations that need no picture."

SKILLS = {
    "zh_colour": Skill(share=0.32, grader="exact", about="Chinese: the colour of a shape"),
    "zh_shape": Skill(share=0.24, grader="exact", about="Chinese: the shape of a colour"),
    "zh_list": Skill(share=0.16, grader="anls", about="Chinese: short captions"),
    "translate": Skill(share=0.18, grader="exact", about="language only: short captions put into Chinese"),
    "zh_count": Skill(share=0.04, grader="exact", about="Chinese: how many shapes", rare=True),
}
RECURRING = {"count": 0.03, "place": 0.03}

COLOUR = dict(
    zip(
        ("red", "green", "blue", "yellow", "purple", "black"),
        ("红色", "绿色", "蓝色", "黄色", "紫色", "黑色"),
        strict=True,
    )
)
SHAPE = {"circle": "圆形", "square": "方形", "triangle": "三角形", "cross": "十字", "ring": "圆环"}
NUMBER = ("零", "一个", "两个", "三个", "四个", "五个")


def in_chinese(scene: Scene) -> str:
    """A Chinese caption of a scene, such as "红色的圆形,蓝色的方形"."""
    return ",".join(f"{COLOUR[thing.colour]}的{SHAPE[thing.shape]}" for thing in scene.things)


def draw(skill: str, split: str, rng: np.random.Generator) -> SampleSpec:
    """Draw one sample of a skill of `SKILLS` or `RECURRING`: its content, without pixels."""
    if skill in primitives.SKILLS:
        return primitives.draw(skill, split, rng)
    low, high = {"translate": (2, 2), "zh_count": (1, 4)}.get(skill, (1, 2))
    scene = draw_scene(rng, low, high)
    thing = scene.things[int(rng.integers(len(scene.things)))]
    match skill:
        case "zh_colour":
            wordings = ("{}是什么颜色?", "请说出{}的颜色。")
            return SampleSpec((scene,), (fill_question(wordings, SHAPE[thing.shape], COLOUR[thing.colour]),))
        case "zh_shape":
            wordings = ("{}的是什么形状?", "请说出{}的形状。")
            return SampleSpec((scene,), (fill_question(wordings, COLOUR[thing.colour], SHAPE[thing.shape]),))
        case "zh_list":
            return SampleSpec((scene,), (Question(("描述这张图。", "图中有什么?"), in_chinese(scene)),))
        case "translate":
            caption = ", ".join(thing.name for thing in scene.things)
            return SampleSpec(
                (), (Question((f"In Chinese: {caption}", f"Translate into Chinese: {caption}"), in_chinese(scene)),)
            )
        case "zh_count":
            return SampleSpec((scene,), (Question(("有几个图形?", "请数一数图形。"), NUMBER[len(scene.things)]),))
    raise AssertionError(skill)
