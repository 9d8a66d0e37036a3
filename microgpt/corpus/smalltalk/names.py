"""An open set of first names: real ones, and thousands put together from syllables.

There are far too many to learn by heart, so a model has to learn to copy a name out of the conversation.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

from microgpt.corpus.smalltalk.draw import Draw, is_held_out, listed

REAL = listed(
    "Ada Adam Agnes Alan Alice Amina Amir Amy Anders Andrea Anita Anna Anton Astrid Aziz Ben Bella Boris "
    "Bruno Carla Carlos Cecil Chen Clara Colin Cora Daisy Dan Daria David Diana Diego Dora Edith Edgar "
    "Elena Elias Ella Elsa Emil Emma Eric Esther Eva Fatima Felix Fiona Frank Freya George Gina Greta "
    "Gustav Hana Hannah Harold Harry Heidi Helen Henry Hugo Ida Igor Ines Ingrid Irene Isaac Ivan Jack "
    "Jana Jason Jenny Johan Jonas Julia Karen Karim Kate Kenji Kira Klaus Lars Laura Leila Leon Lena Liam "
    "Linda Lisa Louis Lucas Lucy Magda Malik Marco Maria Martin Mary Maya Milan Mina Miriam Nadia Nathan "
    "Nelly Nico Nina Noah Nora Olga Oliver Omar Oscar Paolo Paula Peter Petra Priya Quentin Rachel Rafael "
    "Rania Ravi Robert Rosa Ruth Samir Sandra Sara Simon Sofia Stefan Susan Tamara Tanya Tariq Theo "
    "Thomas Tina Tom Ursula Vera Victor Viola Walter Wendy Yara Yusuf Zoe"
)
STARTS = listed(
    "Al An Ar Bel Bra Ca Da Do El Em Fa Fi Ga Ha Il Jo Ka Ki La Le Lo Lu Ma Mi Mo Na No Or Pa Ra Ro Sa Ta "
    "Ti Va Wil Yo Za Zo"
)
MIDDLES = listed("la li ma na ra ri ro sa va vi")
ENDS = listed(
    "bel da dan dor fin ga kin la lan len lia lin lo mar mi na nel nia nor ra ran ric rin ro sa sel sha "
    "son ta tan tor va vin wen"
)
# Put together by chance, but words in their own right.
NOT_NAMES = frozenset(
    listed(
        "Arsa Arsel Arson Caga Canal Casa Cava Data Donor Final Finally Gala Gator Halo Kilo Label Lava "
        "Mania Manila Manor Mason Mina Minor Motor Nada Nasa Nova Para Raga Roman Rota Rotor Saga Salami "
        "Salon Satan Senor Solo Sonar Tata Titan Torso Vagina Villain Wilson Yoda Yoga"
    )
)


def _built(draw: Draw) -> str:
    start, end = draw.pick(STARTS), draw.pick(ENDS)
    return start + (draw.pick(MIDDLES) if draw.chance(35) else "") + end


def _clumsy(name: str) -> bool:
    """Doubled or clashing letters where syllables meet, or an existing word."""
    low = name.lower()
    doubled = any(a == b for a, b in pairwise(low) if a not in "ln")
    syllable_twice = any(low[i : i + 2] == low[i + 2 : i + 4] for i in range(len(low) - 3))
    return name in NOT_NAMES or doubled or syllable_twice


@lru_cache(maxsize=1 << 15)
def is_usable(name: str) -> bool:
    """Whether a name that was put together reads as one."""
    return not _clumsy(name)


def person(draw: Draw) -> str:
    """A first name on the draw's side of the held-out line."""
    while True:
        name = draw.pick(REAL) if draw.chance(12) else _built(draw)
        if is_held_out(f"name|{name}") == draw.held_out and is_usable(name):
            return name


def people(draw: Draw, n: int) -> list[str]:
    """`n` names that start with different letters."""
    chosen: list[str] = []
    while len(chosen) < n:
        name = person(draw)
        if all(name[0] != other[0] for other in chosen):
            chosen.append(name)
    return chosen
