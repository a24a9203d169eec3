"""A chat-completions endpoint: how to reach it, what it can do, how it fails, what it costs."""
