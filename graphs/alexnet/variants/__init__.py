"""One file for each AlexNet: its table, where it comes from, and what was wrong with it there."""
