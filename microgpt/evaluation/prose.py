"""A little prose about the world, to see how a model does on text of another domain than its own."""

_TEXT = """\
A river begins as a trickle between stones, high up where the snow stays until June. On its way down it
takes in hundreds of streams, and by the time it reaches the plain nobody could say which drop came from
which slope. There it slows, drops its sand, and wanders: every flood cuts one bend and leaves another.

Bread needs four things and patience. Flour and water alone will ferment if they are left for a week, for
the yeast is in the grain and in the air; salt keeps it from going too fast. What the baker really works
with is time: a cold dough overnight tastes of more than a warm one after an hour.

The first clocks had no hands. They rang a bell to call people to prayer, and it took another century until
somebody thought that the hour might also be shown. The minute hand came later still, for the old mechanisms
lost a quarter of an hour a day and would only have lied more precisely.

Most of the stars that can be seen without a telescope are larger and brighter than the sun. That says
nothing about stars in general: the common ones are small, red and faint, and not one of them is visible to
the naked eye. What is easy to see is seldom what there is most of.

When the harbour froze in the winter of that year, the town learned how much of its life had come by sea.
Coal ran short within a fortnight, lemons vanished, and the price of paper doubled. The newspaper shrank to
a single sheet, on which the editor apologised for everything that he could not print.

Bees tell each other where the flowers are by dancing. The angle of the dance to the vertical is the angle
of the flight to the sun, and its length is the distance. In the dark of the hive nobody sees it; the others
follow with their feelers, and then fly out to a place that they have never been to.

A bridge is always moving. It grows in the afternoon and shrinks at night, it sinks a finger's breadth under
a train, and in a storm it sways like a tree. Engineers do not prevent this; they leave room for it, in
joints and rollers that hardly anybody who crosses ever notices.

The law was meant to protect tenants from being put out in winter. Its effect in the first years was that
contracts began to end in October. A commission was appointed, which heard ninety witnesses, wrote four
hundred pages, and proposed to change one word.

Glass is made of sand, but sand alone melts only at a heat that no wood fire reaches. Ash from plants that
grow near the sea brings that down by several hundred degrees. Whoever found this out lived by a coast,
cooked on the beach, and looked closely at what was left when the fire had died.

To measure the height of the tower they waited until a stick of one metre threw a shadow of one metre. At
that moment the shadow of the tower was as long as the tower was high, and could be paced out on the grass.
Nothing else about the problem had changed; they had only chosen when to ask.

An orchestra tunes to the oboe, not because it is the most exact of instruments but because it can hardly be
tuned at all. Strings can be tightened and brass drawn out, and so everybody else gives way. Musicians say
that the same rule holds for families.

In the valley they still speak of the summer without rain. The wells went dry one after the other, from the
hill downwards, and the last one belonged to a widow whom few had greeted before. She let everybody draw
from it, at any hour, and asked only that they close the gate because of the hens.
"""

PROSE = tuple(" ".join(paragraph.split()) for paragraph in _TEXT.split("\n\n"))
