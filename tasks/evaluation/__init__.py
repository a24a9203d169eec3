"""Systems side by side: respond, score, compare, audit, publish."""
