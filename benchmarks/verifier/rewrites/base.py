"""What the rewriters share."""

import random

Triple = tuple[str, str, bool]  # gold, answer, is it right
Draw = random.Random
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
