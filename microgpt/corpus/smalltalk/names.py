"""First names: training makes up such as nobody bears, held-out text has real ones and others like them.

A model that learns names by heart knows only those.  Here no name of training is worth knowing: there is no
end of them, of random letters and of syllables, with accents, hyphens and capitals inside, so all that helps
is to copy them out of the conversation, letter by letter.  Every word of them holds an odd pair of letters,
which no real first name has; that keeps all real names out of training, those too that nobody thought of.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from itertools import pairwise

from microgpt.corpus.smalltalk.capitals import CAPITALS
from microgpt.corpus.smalltalk.draw import Draw, listed
from microgpt.corpus.smalltalk.spelling import WORDS

# First letter of the odd pairs -> the second ones.
ODD_PAIRS = {
    "b": "cfgmpqvxz",
    "c": "fwx",
    "d": "pqx",
    "f": "mpqvwx",
    "g": "pqx",
    "h": "x",
    "j": "bfgpqx",
    "k": "fqxz",
    "m": "q",
    "n": "x",
    "p": "dfgqvxz",
    "q": "bcdfghjklnprvwxyz",
    "s": "x",
    "t": "pq",
    "v": "mpqtwx",
    "w": "bcdgpqvxz",
    "x": "bcdgjkmnpqv",
    "z": "fqx",
}
ODD = tuple(first + second for first, seconds in ODD_PAIRS.items() for second in seconds)
LETTERS = "abcdefghijklmnopqrstuvwxyz"
FOREIGN = (
    "áàâäãåāăąæçćčďđðéèêëēėęěğģíìîïīįıķļľłñńňņóòôöõøőœřśšşșťțþúùûüūůűųýÿžźżəơưạảấầậắẻẽếềểệỉịọỏốồộớờợụủứừữỳỹ"
)
SINGLE = listed("b c d f g h j k l m n p r s t v w y z")
CLUSTERS = listed("br ch cl dr fr gr kh kr ph pr qu sh st str th tr")
VOWELS, LONG_VOWELS = listed("a e i o u"), listed("y ai au ee ei ia ie io oo ou")
CLOSES = listed("l m n r s t d k v x z ch ll nd nn rd rt th")
KINDS = (  # of syllables: how they start, their vowels, how they end
    ((SINGLE, VOWELS, ("",)), 45),
    ((SINGLE, VOWELS, CLOSES), 20),
    ((("",), VOWELS, CLOSES), 15),
    ((CLUSTERS, VOWELS, ("",)), 10),
    ((SINGLE, LONG_VOWELS, ("",)), 10),
)
KNOWN = (*WORDS, *map(str.lower, CAPITALS), *map(str.lower, CAPITALS.values()))  # names may begin like these
REAL = listed(
    "Aaliyah Abigail Ada Adam Adrián Agnes Agnieszka Ahmed Aiko Alan Alejandro Aleksandr Alessandro "
    "Alexander Alice Alicia Amadou Amélie Amina Amir Amy Ana-Lucía Anaïs Anders Andrea Andrew Ángel Anita "
    "Anja Anna Anne-Marie Anthony Antoine Anton Arjun Arthur Astrid Audrey Ayşe Aziz Barbara Beatriz "
    "Bella Benjamin Bernd Björn Bogdan Boris Brian Bruno Camille Carla Carlos Caroline Catherine Cecil "
    "Charles Charlotte Chen Chiara Chinedu Chloé Christian Christopher Clara Claude Colin Cora Cristina "
    "Damian Dan Daniel Daria David Deborah Deepak Diana Diego Dimitri Dmitry Dominik Dora Dorothy Eduardo "
    "Edith Edgar Eleanor Elena Elias Elif Elizabeth Ella Elsa Emil Emily Emma Emre Eric Esther Ethan Eva "
    "Evelyn Fabian Fatima Fatou Felix Fernanda Finn Fiona Florian François Françoise Frank Freya "
    "Friedrich Gabriel Gabriela George Georgina Gérard Gerhard Gina Giovanni Giulia Gonzalo Greta "
    "Grzegorz Guillaume Gustav Hamid Hana Hannah Hans-Peter Harold Harry Heidi Helen Helena Henrik Henry "
    "Hiroshi Hugo Ibrahim Ida Ifeoma Igor Imogen Inès Ingrid Irene Isaac Isabella Ivan Jack Jacqueline "
    "Jakub James Jana Jan-Erik Jason Javier Jean-Luc Jean-Pierre Jennifer Jessica Joanna João Johan "
    "Johannes Jonas José Joseph Joshua Julia Julie-Anne Jürgen Kamala Karen Karim Karl-Heinz Kate "
    "Katarzyna Katharina Kateřina Kenji Kevin Khadija Kimberly Kira Klaus Kofi Krzysztof Kwame Lars Laura "
    "Layla Leila Lena Leon Léonie Liam Linda Lisa Lorenzo Louis Louise Lucas Lucía Lucy Ludmila Ludwig "
    "Luka Łukasz Mackenzie Madison Magda Magdalena Mai Malik Mamadou Manuel Marcin Marco Margaret Maria "
    "Marie-Claire Marina Marlena Martin Mary Matthew Matthias Maximilian Maya Mehmet Mei Melissa Mia "
    "Michael Michelle Miguel Mikhail Milan Min-jun Mina Miriam Mohamed Mónica Nadia Natalie Natasha "
    "Nathan Nelly Ngozi Niamh Nicholas Nico Nicole Nikolai Nina Noah Noor Nora Núria Ólafur Olga Oliver "
    "Olivia Olumide Omar Oscar Øyvind Pablo Paolo Patricia Patrick Paula Pavel Pedro Penelope Peter Petra "
    "Philippe Piotr Priya Quentin Rachel Rafael Raj Rania Raúl Ravi Rebecca Renée René Ricardo Richard "
    "Robert Roberto Rodrigo Rohan Ronald Rosa Roxanne Ruth Ryan Sabine Sakura Salma Samantha Samir Samuel "
    "Sandra Sara Sarah Scarlett Sebastian Sébastien Selma Sergei Shanice Siddharth Simon Siobhán Sofia "
    "Søren Sophia Stanisław Stefan Stéphane Stephen Sunita Susan Sven Svetlana Takashi Tamara Tanya Tariq "
    "Tatiana Theo Theodore Theresa Thiago Thomas Tina Tobi Tobias Tom Tomás Tomasz Tuğba Umar Ursula "
    "Valentina Vanessa Vera Victor Victoria Viktor Viola Vincent Vladimir Walter Wanjiru Wendy Wilhelm "
    "William Wojciech Xavier Ximena Yara Yasmin Yolanda Youssef Yuki Yusuf Zainab Zofia Zoe Zoë Zoltán "
    "Zuzana Þóra Đorđe Željko Şebnem İbrahim"
) + listed(
    "Mary Ann/Juan Carlos/María José/Ana Paula/Anna Lena/Jean Paul/Maria Luisa/Hans Georg/Luis Miguel", "/"
)


def folded(text: str) -> str:
    """Lower case without accents."""
    return "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))


@lru_cache(maxsize=1 << 15)
def is_odd(word: str) -> bool:
    """Whether a word has a pair of letters that no real first name has."""
    return any(a + b in ODD for a, b in pairwise(folded(word)))


def capital(word: str) -> str:
    """The word with its first letter in capitals and the others as they are."""
    return word[:1].upper() + word[1:]


def _part(draw: Draw, by_letter: bool) -> str:
    """Some letters, or some syllables."""
    if by_letter:
        return "".join(draw.pick(LETTERS) for _ in range(draw.below(4)))
    return "".join(_syllable(draw) for _ in range(draw.weighted(((0, 20), (1, 60), (2, 20)))))


def _syllable(draw: Draw) -> str:
    return "".join(draw.pick(letters) for letters in draw.weighted(KINDS))


def _accented(draw: Draw, part: str) -> str:
    """The part with about a third of its letters put in for others, of any language."""
    return "".join(draw.pick(FOREIGN) if draw.chance(35) else letter for letter in part)


def _beginning(draw: Draw) -> str:
    """The first letters of a word that means something else."""
    return draw.pick(KNOWN)[: draw.between(2, 6)]


def odd_word(draw: Draw) -> str:
    """One word of a name for training."""
    by_letter = draw.chance(40)
    parts = _beginning(draw) if draw.chance(15) else _part(draw, by_letter), _part(draw, by_letter)
    if draw.chance(20):
        parts = _accented(draw, parts[0]), _accented(draw, parts[1])
    if draw.chance(4):
        return capital(parts[0]) + capital(draw.pick(ODD)) + parts[1]
    return capital(parts[0] + draw.pick(ODD) + parts[1])


def plain_word(draw: Draw) -> str:
    """One word of a name as it could be real."""
    while True:
        word = "".join(_syllable(draw) for _ in range(draw.between(2, 3)))
        if not is_odd(word) and len(word) <= 9:
            return capital(_accented(draw, word) if draw.chance(10) else word)


def person(draw: Draw) -> str:
    """A first name: of training, or on the held-out side a real one or one like them."""
    if draw.held_out and draw.chance(70):
        return draw.pick(REAL)
    word = plain_word if draw.held_out else odd_word
    join = draw.weighted((("", 88), ("-", 5), (" ", 5), ("'", 2)))
    return word(draw) + join + word(draw) if join else word(draw)


def people(draw: Draw, n: int) -> list[str]:
    """`n` names that start with different letters."""
    chosen: list[str] = []
    while len(chosen) < n:
        name = person(draw)
        if all(name[0] != other[0] for other in chosen):
            chosen.append(name)
    return chosen
