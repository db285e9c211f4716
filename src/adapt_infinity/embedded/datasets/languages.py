"""Second arrival: Chinese questions with Chinese answers, and translations that need no picture.

<image> 圆形是什么颜色?                  红色
<image> 红色的是什么形状?                圆形
<image> 描述这张图。                     红色的圆形,蓝色的方形
In Chinese: red circle, blue square      红色的圆形,蓝色的方形
"""

import numpy as np

from adapt_infinity.embedded.datasets import primitives
from adapt_infinity.embedded.sample_specs import Ask, Idea, Skill
from adapt_infinity.embedded.scenes import Scene, draw_scene

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
    """A caption such as "红色的圆形,蓝色的方形"."""
    return ",".join(f"{COLOUR[thing.colour]}的{SHAPE[thing.shape]}" for thing in scene.things)


def draw(skill: str, fold: str, rng: np.random.Generator) -> Idea:
    """One idea of a skill of `SKILLS` or `RECURRING`."""
    if skill in primitives.SKILLS:
        return primitives.draw(skill, fold, rng)
    low, high = {"translate": (2, 2), "zh_count": (1, 4)}.get(skill, (1, 2))
    scene = draw_scene(rng, low, high)
    thing = scene.things[int(rng.integers(len(scene.things)))]
    match skill:
        case "zh_colour":
            words = ("{}是什么颜色?", "请说出{}的颜色。")
            return Idea((scene,), (Ask(tuple(w.format(SHAPE[thing.shape]) for w in words), COLOUR[thing.colour]),))
        case "zh_shape":
            words = ("{}的是什么形状?", "请说出{}的形状。")
            return Idea((scene,), (Ask(tuple(w.format(COLOUR[thing.colour]) for w in words), SHAPE[thing.shape]),))
        case "zh_list":
            return Idea((scene,), (Ask(("描述这张图。", "图中有什么?"), in_chinese(scene)),))
        case "translate":
            said = ", ".join(thing.name for thing in scene.things)
            return Idea((), (Ask((f"In Chinese: {said}", f"Translate into Chinese: {said}"), in_chinese(scene)),))
        case "zh_count":
            return Idea((scene,), (Ask(("有几个图形?", "请数一数图形。"), NUMBER[len(scene.things)]),))
    raise AssertionError(skill)
