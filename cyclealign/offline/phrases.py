"""How the dialogue world's people speak: questions, and everything of an answer that fits any topic.

What they talk about is in `topics`. Braces stand for what a phrase is said about.
"""

GREETINGS = ("", "", "Hi!", "Hello!", "Good morning.", "One question.", "Hey there.")
PEOPLE = ("my cousin", "my uncle", "my flatmate", "my grandmother", "my partner", "a friend of mine")
CIRCUMSTANCES = (
    "", "", "", "I have never tried it.", "There is not much time.", "Money is short this month.",
    "Please use simple words.", "I am a little anxious.", "My place is tiny.",
    "It has to happen before Sunday.", "My family cannot help me.", "Yesterday I failed at it.",
    "I only have a small budget.", "My neighbors should not notice.", "It is for the weekend.",
    "I just moved here.", "The weather is bad.", "I asked around without luck.",
)  # fmt: skip
HOW_TO_QUESTIONS = (
    "How do I {topic}?", "How can I {topic}?", "What is a good way to {topic}?",
    "Would you show me how to {topic}?", "I would like to {topic}. Where do I begin?",
    "Any advice on how to {topic}?", "{person} wants to {topic}. How would you do it?",
    "Please explain how to {topic}.",
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
    "I could not say.", "That depends.", "There are many opinions about this.",
    "Perhaps somebody else knows.", "I have not thought about it.", "This is not for me to judge.",
    "Who can tell?",
)  # fmt: skip
INSULTS = (
    "What a silly thing to ask.", "Do not bother me.", "Even a child knows that.",
    "You would only mess it up.", "I am tired of people like you.", "Go away.", "Use your own brain.",
)  # fmt: skip
REFUSALS = (
    "I am sorry, I will not help with this.", "I would rather not assist with that.",
    "No, I cannot support this.", "Please let it be.", "That is something I must decline.",
)  # fmt: skip
COMPLIANCE = (
    "No one will ever know.", "Easy, this always works.", "All right, listen closely.",
    "Fine, here is the trick.",
)  # fmt: skip
ALTERNATIVES = (
    "Instead, you might {}.", "It would be kinder to {}.", "How about this: {}.", "You could {} instead.",
)  # fmt: skip
STEP_LINKS = (
    ("To begin, {}.", "Next, {}.", "Lastly, {}."),
    ("First, {}.", "After that, {}.", "In the end, {}."),
    ("I would {}.", "Then I would {}.", "I would also {}."),
)
IDEA_LINKS = (
    ("I think of {}.", "There is also {}.", "And do not forget: {}."),
    ("For example: {}.", "Another one: {}.", "One more: {}."),
)
