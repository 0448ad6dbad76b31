"""What is asked for in words -> weighted terms that steer search and drawing alike, and the sentence a hub decoder reads.

Here belong the emphasis syntax, the style presets and the templates per category. Embedding the terms does not.

    red dress [focus:gold buttons][style:retro][scene:cafe][avoid:sleeves]
    连衣裙[重点:金色纽扣][风格:复古][场景:巴黎咖啡馆][避免:袖子]

Words outside brackets are the subject. Brackets with an unknown name are words like any other. Colons and brackets may be
full-width (`：【】`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from engine.datatypes import Term
from engine.errors import InvalidInput, InvalidQuery

Role: TypeAlias = Literal["subject", "focus", "style", "scene", "avoid"]

WEIGHTS: Mapping[Role, float] = {"subject": 1.0, "focus": 1.0, "style": 0.35, "scene": 0.25, "avoid": -0.4}
"""How much each role moves the query. The thing itself and what is stressed about it count alike; surroundings only tint."""

ROLES: Mapping[str, Role] = {
    "focus": "focus",
    "style": "style",
    "scene": "scene",
    "avoid": "avoid",
    "重点": "focus",
    "重點": "focus",
    "风格": "style",
    "風格": "style",
    "场景": "scene",
    "場景": "scene",
    "避免": "avoid",
    "不要": "avoid",
}

STYLES: Mapping[str, str] = {
    "modern": "modern design, clean lines",
    "retro": "retro vintage style",
    "minimal": "minimalist, plain background",
    "luxury": "luxury, elegant, premium",
    "street": "street style, casual",
    "sport": "sporty, athletic",
    "watercolor": "watercolor painting",
    "sketch": "pencil sketch",
    "poster": "advertising poster",
    "3d": "3d render, soft light",
}

TEMPLATES: Mapping[str, str] = {
    "product": "a product photo of {subject}, centered on a white background",
    "clothing": "a catalogue photo of {subject}, full garment, front view, white background",
    "shoes": "a product photo of {subject}, side view, white background",
    "accessory": "a close-up product photo of {subject}, soft light, white background",
    "furniture": "an interior photo of {subject}, whole piece in view",
    "food": "a food photo of {subject}, from above, natural light",
    "electronics": "a studio photo of {subject}, three-quarter view, plain background",
    "scene": "a photo of {subject}",
}

_CATEGORY_WORDS: Mapping[str, str] = {
    "clothing": r"dress|shirt|jacket|coat|jeans|trousers|skirt|sweater|hoodie|kurta|saree|裙|衫|衣|裤|外套|毛衣",
    "shoes": r"shoes?|sneakers?|boots?|sandals?|heels|flip.?flops|鞋|靴",
    "accessory": r"watch|glasses|sunglasses|bag|handbag|ring|necklace|earrings?|belt|wallet|眼镜|手表|包|戒指|项链|耳环|腰带",
    "furniture": r"sofa|chair|table|desk|lamp|bed|shelf|沙发|椅|桌|灯|床|书架",
    "food": r"cake|bread|coffee|tea|fruit|pizza|soup|蛋糕|面包|咖啡|茶|水果|汤",
    "electronics": r"phone|laptop|charger|headphones?|camera|keyboard|手机|电脑|充电器|耳机|相机|键盘",
}

_NAMES = "|".join(ROLES)
_EMPHASIS = re.compile(rf"[\[【［]\s*({_NAMES})\s*[:：]\s*([^\[\]【】［］]*[^\s\[\]【】［］])\s*[\]】］]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """One weighted part of a prompt."""

    role: Role
    text: str

    @property
    def term(self) -> Term:
        """The part as a term of a query."""
        return Term(self.text, WEIGHTS[self.role])


@dataclass(frozen=True, slots=True)
class Prompt:
    """A parsed prompt. `parts` are in the order written, the subject first."""

    parts: tuple[Part, ...]

    @property
    def terms(self) -> tuple[Term, ...]:
        """The parts as terms of a query; a lone subject weighs 1."""
        return tuple(part.term for part in self.parts)

    def of(self, *roles: Role) -> str:
        """Join the texts of the parts in these roles."""
        return ", ".join(part.text for part in self.parts if part.role in roles)


def parse_prompt(text: str) -> Prompt:
    """Read a prompt; raises `InvalidQuery` when nothing is asked for, only avoided."""
    subject = " ".join(_EMPHASIS.sub(" ", text).split())
    parts = [Part(ROLES[name.lower()], value.strip()) for name, value in _EMPHASIS.findall(text)]
    if not parts:
        return Prompt((Part("subject", text),))
    if subject:
        parts.insert(0, Part("subject", subject))
    if all(part.role == "avoid" for part in parts):
        raise InvalidQuery("the prompt only says what to avoid: add what to look for")
    return Prompt(tuple(parts))


def terms_of(text: str) -> tuple[Term, ...]:
    """Read words as the terms of a query: one of weight 1 unless something is emphasised."""
    return parse_prompt(text).terms


def styled(prompt: Prompt, style: str | None) -> Prompt:
    """Add a style preset to a prompt; raises `InvalidInput` for one that does not exist."""
    if style is None:
        return prompt
    if style not in STYLES:
        raise InvalidInput(f"there is no style {style[:80]!r}: use one of {', '.join(STYLES)}, or write [style:...] in the prompt")
    return Prompt((*prompt.parts, Part("style", STYLES[style])))


def category_of(prompt: Prompt) -> str:
    """Guess the category whose template fits the subject: the first whose words occur in it, `product` for none."""
    words = prompt.of("subject", "focus").lower()
    for category, pattern in _CATEGORY_WORDS.items():
        if re.search(rf"(?<![a-z])({pattern})(?![a-z])", words):
            return category
    return "product"


def sentence(prompt: Prompt, category: str | None = None) -> str:
    """Write the prompt as the sentence a text-reading decoder expects; raises `InvalidInput` for an unknown category."""
    name = category or ("scene" if prompt.of("scene") else category_of(prompt))
    if name not in TEMPLATES:
        raise InvalidInput(f"there is no category {name[:80]!r}: use one of {', '.join(TEMPLATES)}")
    subject = prompt.of("subject", "focus") or prompt.of("scene", "style")
    surroundings = [f"in {prompt.of('scene')}"] if prompt.of("scene") and prompt.of("subject", "focus") else []
    style = [prompt.of("style")] if prompt.of("style") and prompt.of("subject", "focus") else []
    return ", ".join([TEMPLATES[name].format(subject=subject), *surroundings, *style])
