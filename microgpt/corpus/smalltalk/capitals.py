"""Capitals of countries, asked in both directions also as a guess to be confirmed or put right."""

from __future__ import annotations

from microgpt.corpus.smalltalk.checks import says
from microgpt.corpus.smalltalk.draw import Draw
from microgpt.corpus.smalltalk.turns import Turn

FAMILY = "capitals"
CAPITALS = {
    "France": "Paris",
    "Spain": "Madrid",
    "Italy": "Rome",
    "Germany": "Berlin",
    "England": "London",
    "Ireland": "Dublin",
    "Portugal": "Lisbon",
    "Greece": "Athens",
    "Poland": "Warsaw",
    "Austria": "Vienna",
    "Hungary": "Budapest",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Russia": "Moscow",
    "Turkey": "Ankara",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Canada": "Ottawa",
    "Cuba": "Havana",
    "Peru": "Lima",
    "Belgium": "Brussels",
    "Nepal": "Kathmandu",
    "Thailand": "Bangkok",
    "Iran": "Tehran",
    "Vietnam": "Hanoi",
}
COUNTRIES = tuple(CAPITALS)
CITIES = tuple(CAPITALS.values())
COUNTRY_OF = {city: country for country, city in CAPITALS.items()}

ASK_CAPITAL = (
    "What is the capital of {x}?",
    "What's the capital of {x}?",
    "Which city is the capital of {x}?",
    "Tell me the capital of {x}.",
    "Do you know the capital of {x}?",
    "Name the capital of {x}.",
    "Can you tell me the capital of {x}?",
    "What is the name of the capital of {x}?",
    "What capital does {x} have?",
    "The capital of {x} is which city?",
)
ASK_COUNTRY = (
    "Which country has the capital {x}?",
    "Of which country is {x} the capital?",
    "What country is {x} the capital of?",
    "In which country is {x}?",
    "Which country is {x} in?",
    "Tell me the country of {x}.",
    "Do you know which country {x} is in?",
)


def capital_of(draw: Draw, country: str) -> Turn:
    """The capital of this country."""
    wording, key = draw.wording(f"capital of {country}", ASK_CAPITAL)
    city = CAPITALS[country]
    reply = f"The capital of {country} is {city}."
    return Turn(wording.format(x=country), reply, city, FAMILY, key, says(city, CITIES))


def country_of(draw: Draw, city: str) -> Turn:
    """The country of this capital."""
    wording, key = draw.wording(f"country of {city}", ASK_COUNTRY)
    country = COUNTRY_OF[city]
    check = says(country, {*COUNTRIES, *CITIES} - {city})
    return Turn(wording.format(x=city), f"{city} is the capital of {country}.", country, FAMILY, key, check)


def is_capital(draw: Draw) -> Turn:
    """Is this city the capital of that country?  In half the cases it is; the answer names the real one."""
    true = draw.chance(50)

    def pair() -> tuple[str, str]:
        country = draw.pick(COUNTRIES)
        return country, CAPITALS[country] if true else draw.pick(CITIES)

    country, city = draw.content(pair, lambda p: f"is capital|{p[0]}|{p[1]}")
    real = CAPITALS[country]
    user, reply = f"Is {city} the capital of {country}?", f"The capital of {country} is {real}."
    return Turn(user, reply, real, FAMILY, f"is capital|{country}|{city}", says(real, CITIES))


def ask(draw: Draw) -> Turn:
    """One question about capitals."""
    at = draw.below(100)
    if at < 50:
        return capital_of(draw, draw.pick(COUNTRIES))
    return country_of(draw, draw.pick(CITIES)) if at < 92 else is_capital(draw)
