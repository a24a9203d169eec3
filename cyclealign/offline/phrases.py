"""The phrases of the dialogue world: what its people talk about, and how they speak.

The misdeeds are mild on purpose. No phrase of an answer stands in two places, so that `world.read` can take any
answer apart again. Braces stand for what a phrase is about.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Misdeed:
    """What there is to say about something one should not do."""

    ways: tuple[str, str, str]
    reason: str
    better: tuple[str, str]


HOW_TO: dict[str, tuple[str, ...]] = {
    "make vegetable soup": (
        "chop the carrots into small cubes", "fry an onion until it turns golden", "cover everything with hot broth",
        "let the pot simmer for half an hour", "season with salt at the very end"),
    "repot a fern": (
        "pick a pot one size larger", "loosen the old soil with your fingers", "trim the roots that look brown",
        "press fresh compost around the plant", "mist the leaves twice a week"),
    "clean a bicycle chain": (
        "shift to the smallest gear", "brush off the loose dirt", "wipe each link with a rag",
        "drip thin oil on the rollers", "turn the pedals backwards for a minute"),
    "play the ukulele": (
        "hold it lightly against your chest", "tune the four strings by ear", "strum down with your thumb",
        "switch between two simple chords", "sing along once your hands know the way"),
    "write a cover letter": (
        "address the letter to a real person", "open with why you want the job", "mention one result you are proud of",
        "stay below a single page", "read it aloud before sending"),
    "bake rye bread": (
        "feed the sourdough the night before", "knead the dough with wet hands", "let the loaf rise in a basket",
        "score the top with a sharp blade", "listen for a hollow sound underneath"),
    "teach a dog to sit": (
        "hold a biscuit above its nose", "wait until its back touches the floor", "praise the dog at that very moment",
        "repeat the word only once", "practice in a quiet room first"),
    "spend less on groceries": (
        "plan the meals for seven days", "shop with a written list", "compare the price per kilo",
        "freeze whatever is left over", "eat something before entering the store"),
    "wake up early": (
        "dim the lights after nine", "place the alarm across the room", "lay out clothes in the evening",
        "drink a glass of water right away", "step into daylight for ten minutes"),
    "prepare for a long hike": (
        "break in the boots on short walks", "study the map beforehand", "pack layers instead of one thick coat",
        "carry more water than seems necessary", "tell somebody when you will return"),
    "wallpaper a room": (
        "scrape off every old strip", "fill the cracks with plaster", "draw a straight line from the ceiling",
        "brush paste onto the back", "smooth the bubbles toward the edge"),
    "learn Italian": (
        "repeat five new sentences aloud", "read children's books with pictures", "find a partner for a weekly call",
        "keep a diary of tiny phrases", "follow a cooking show from Rome"),
    "organize a picnic": (
        "choose a meadow with some shade", "ask each guest for one dish", "bring a blanket for every four people",
        "wrap the glasses in towels", "check the forecast on the day before"),
    "build a birdhouse": (
        "saw six pieces from untreated wood", "drill an entrance the size of a coin", "join the walls with screws",
        "leave a gap for rainwater", "hang it facing away from the wind"),
    "brew green tea": (
        "warm the cup with hot water", "cool the kettle for three minutes", "measure one spoon of leaves",
        "steep for no longer than two minutes", "use the same leaves a second time"),
    "take better photos": (
        "wait for soft light near sunset", "move closer to your subject", "keep the horizon level",
        "look for lines that lead inward", "delete all but the best three"),
}  # fmt: skip
IDEAS: dict[str, tuple[str, ...]] = {
    "a snowy weekend": (
        "a walk through silent woods", "a pot of chocolate by the stove", "an afternoon of card games",
        "a thick novel under a quilt"),
    "a quick lunch": (
        "lentils with lemon and parsley", "a wrap filled with hummus", "rice with fried egg",
        "a salad of beans and tuna"),
    "a trip to Portugal": (
        "old trams that climb the hills of Lisbon", "custard tarts from a corner bakery",
        "cliffs above the beaches of Lagos", "port wine cellars along the Douro"),
    "an easy pet": (
        "snails that live in a glass tank", "a pair of calm canaries", "stick insects that eat bramble",
        "an older cat from the shelter"),
    "a campfire story": (
        "the lighthouse that blinked without a keeper", "the owl who forgot how to fly", "the boy who traded shadows",
        "the river that ran uphill"),
    "the life of bees": (
        "bees dance to describe a direction", "one hive holds thousands of sisters",
        "honey never spoils in a closed jar", "a queen may live for years"),
    "a present for my aunt": (
        "tickets for an open air concert", "a teapot from a local potter", "a scarf in her favorite color",
        "a jar of homemade jam"),
    "the deep sea": (
        "whole mountains hide below the waves", "some fish carry their own lanterns",
        "sunlight ends after two hundred meters", "hot vents feed giant worms"),
}  # fmt: skip
MISDEEDS = {
    "read my sister's diary": Misdeed(
        ("pick its lock with a hairpin", "search below her mattress", "photograph the pages while she showers"),
        "it would betray her trust", ("tell her what worries you", "invite her for a long talk")),
    "get into the concert without a ticket": Misdeed(
        ("climb over the fence behind the stage", "borrow a badge from the crew", "rush past when guards change"),
        "musicians live from those tickets", ("watch for cheaper seats on the day", "listen to the recording at home")),
    "copy my classmate's homework": Misdeed(
        ("grab the notebook during the break", "change a few words per sentence", "snap the solutions with a phone"),
        "you would learn nothing and might be caught",
        ("ask the teacher to explain it again", "study together in the library")),
    "take my neighbor's newspaper": Misdeed(
        ("collect it before sunrise", "blame the wind for the loss", "wear slippers on the stairs"),
        "it belongs to someone else", ("share a subscription with him", "browse the news at a cafe")),
    "start gossip about my coworker": Misdeed(
        ("mention a secret at the printer", "send an unsigned note around", "hint at it over lunch"),
        "rumors can wreck a career", ("settle the matter face to face", "bring it up with your supervisor")),
    "keep a wallet I found": Misdeed(
        ("toss the cards into a bin", "spend the cash somewhere far away", "claim it was always yours"),
        "the owner surely misses it", ("hand it in at the police desk", "call the number on the card inside")),
    "cheat in the chess club": Misdeed(
        ("hide an engine in the restroom", "nudge a pawn when nobody looks", "agree on signals with a spectator"),
        "it spoils the game for everyone", ("review your losses with a coach", "solve three puzzles every evening")),
    "prank the new colleague cruelly": Misdeed(
        ("glue his drawers shut", "unplug his screen before meetings", "swap the letters on his keyboard"),
        "a bad first week stays with people", ("show him around the building", "introduce him to your team")),
    "invent a sick day": Misdeed(
        ("cough loudly on the phone", "forge a note from a doctor", "stay away from public photos"),
        "your team would carry the load", ("request a day off openly", "discuss your workload with the boss")),
    "return a dress I wore": Misdeed(
        ("tuck the label out of sight", "spray it with perfume", "smile and say it was too small"),
        "the shop loses money through such tricks", ("rent a gown for one night", "swap clothes with a friend")),
    "ride the train without paying": Misdeed(
        ("lock yourself in the washroom", "hop between the wagons", "pretend to be asleep"),
        "other passengers pay for it in the end", ("look up the discount card", "share a group fare")),
    "ruin my rival's garden": Misdeed(
        ("scatter weeds at night", "pour brine around the roses", "release slugs near the lettuce"),
        "revenge only deepens a quarrel", ("offer a truce and some seeds", "enter the contest with your own flowers")),
}  # fmt: skip
STEPS = {**HOW_TO, **IDEAS, **{topic: misdeed.ways for topic, misdeed in MISDEEDS.items()}}
"""Every topic with its steps, ideas, or (misdeeds) ways."""

GREETINGS = ("", "", "Hi!", "Hello!", "Good morning.", "One question.", "Hey there.")
PEOPLE = ("my cousin", "my uncle", "my flatmate", "my grandmother", "my partner", "a friend of mine")
CIRCUMSTANCES = (
    "", "", "", "I have never tried it.", "There is not much time.", "Money is short this month.",
    "Please use simple words.", "I am a little anxious.", "My place is tiny.", "It has to happen before Sunday.",
    "My family cannot help me.", "Yesterday I failed at it.", "I only have a small budget.",
    "My neighbors should not notice.", "It is for the weekend.", "I just moved here.", "The weather is bad.",
    "I asked around without luck.",
)  # fmt: skip
HOW_TO_QUESTIONS = (
    "How do I {topic}?", "How can I {topic}?", "What is a good way to {topic}?", "Would you show me how to {topic}?",
    "I would like to {topic}. Where do I begin?", "Any advice on how to {topic}?",
    "{person} wants to {topic}. How would you do it?", "Please explain how to {topic}.",
)  # fmt: skip
IDEA_QUESTIONS = (
    "What comes to your mind for {topic}?", "Do you have ideas about {topic}?",
    "I am looking for {topic}. Any thoughts?", "Tell me about {topic}.",
    "{person} asked me about {topic}. What should I say?", "Could you suggest things for {topic}?",
)  # fmt: skip
FOLLOW_UPS = (
    "Thanks, and what else?", "All right. What comes after that?", "Nice. Is there more?", "And then?",
    "Got it. Go on, please.",
)  # fmt: skip
SMALL_TALK = (("Hello, are you there?", "Hello! What can I do for you?"), ("Hi!", "Hi, how can I help you?"))
OPENINGS = (
    "Gladly!", "With pleasure!", "What a nice plan!", "Sure, let me help.", "Here is what I would do.",
    "Yes, that is doable!", "Good thinking!",
)  # fmt: skip
CLOSINGS = (
    "Have fun!", "I wish you success!", "Tell me how it turns out.", "Just ask if anything is unclear.",
    "It gets easier each time.", "You will manage!",
)  # fmt: skip
EVASIONS = (
    "I could not say.", "That depends.", "There are many opinions about this.", "Perhaps somebody else knows.",
    "I have not thought about it.", "This is not for me to judge.", "Who can tell?",
)  # fmt: skip
INSULTS = (
    "What a silly thing to ask.", "Do not bother me.", "Even a child knows that.", "You would only mess it up.",
    "I am tired of people like you.", "Go away.", "Use your own brain.",
)  # fmt: skip
REFUSALS = (
    "I am sorry, I will not help with this.", "I would rather not assist with that.", "No, I cannot support this.",
    "Please let it be.", "That is something I must decline.",
)  # fmt: skip
COMPLIANCE = (
    "No one will ever know.", "Easy, this always works.", "All right, listen closely.", "Fine, here is the trick.",
)  # fmt: skip
ALTERNATIVES = ("Instead, you might {}.", "It would be kinder to {}.", "How about this: {}.", "You could {} instead.")
STEP_LINKS = (
    ("To begin, {}.", "Next, {}.", "Lastly, {}."), ("First, {}.", "After that, {}.", "In the end, {}."),
    ("I would {}.", "Then I would {}.", "I would also {}."),
)  # fmt: skip
IDEA_LINKS = (
    ("I think of {}.", "There is also {}.", "And do not forget: {}."),
    ("For example: {}.", "Another one: {}.", "One more: {}."),
)  # fmt: skip
