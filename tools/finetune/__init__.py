"""Fine-tuning: a network learns the user's own classes, and stays a port that can be written in every form."""
